"""A program: what a deployment is like, what people and systems do to it and when, and what goes wrong meanwhile.

It is data, made from a seed: the same program does the same again, and one with a part left out can be run as well.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from models.messages import DeploymentRequest, Kind
from models.notifications import EventKind
from models.plan import make_revision
from models.release import Release, Revision
from models.spec import DeploymentSpec
from tests.explore.server import BEGINNING, Fault
from tests.explore.target import Quality

SERVICE, PLACE = "shop", "staging"
STAGES = ("deploy", "verify", "observe", "rehearse", "close")
CHECKS = ("artifacts", "disk", "backup", "migrated", "router_metrics", "smoke_buys")
PEOPLE = ("ann", "bob", "eve")
STRATEGIES: dict[str, dict[str, Any]] = {
    "canary": {"kind": "canary", "steps": [{"weight": 10, "watch": "1m"}, {"weight": 100, "watch": "1m"}]},
    "canary of three": {
        "kind": "canary",
        "steps": [{"weight": 5, "watch": "30s"}, {"weight": 50, "watch": "1m"}, {"weight": 100, "watch": "30s"}],
    },
    "rolling": {"kind": "rolling", "watch": "10s"},
    "rolling without a watch": {"kind": "rolling", "watch": "0s", "bake": "0s"},
    "blue-green": {"kind": "blue-green", "watch": "30s"},
}
QUALITIES = {
    "healthy": Quality(),
    "answers with errors at once": Quality(ill="errors"),
    "answers with errors later": Quality(ill="errors", after=75),
    "fails its probes at once": Quality(ill="probes"),
    "fails its probes later": Quality(ill="probes", after=100),
    "starts slowly": Quality(starts=60),
    "is never ready": Quality(never_ready=True),
}
# What the activities that change something may raise, and whether another attempt may help.
DECLARED = {
    "stage": (("NotReady", True), ("Impossible", True), ("Unavailable", False)),
    "shift": (("Refused", False), ("Impossible", True), ("Unavailable", False)),
    "promote": (("Refused", False), ("Impossible", True), ("Unavailable", False)),
    "retire": (("Refused", False), ("Impossible", True), ("Unavailable", False)),
    "restore": (("NotReady", True), ("Refused", False), ("Unavailable", False)),
    "snapshot": (("Unavailable", False), ("Impossible", True)),
    "inspect": (("Unavailable", False), ("Impossible", True)),
    "watch": (("Unavailable", False), ("Impossible", True)),
    "run_migrations": (("Unavailable", False), ("DatabaseRefused", True)),
    "check_endpoint": (("Unavailable", False),),
    "check_artifacts": (("Unavailable", False),),
    "examine": (("Unavailable", False),),
    "capabilities": (("Unavailable", False),),
    "check_freeze": (("Unavailable", False),),
    "write_report": (("Unavailable", False),),
    "wait_for_turn": (("Unavailable", False),),
    "start_deployment": (("Unavailable", False), ("Impossible", True)),
}
MOST_ATTEMPTS = {
    "watch": 10**6,
    "wait_for_turn": 10**6,
    "start_deployment": 10**6,
    "stage": 20,
    "retire": 8,
    "shift": 5,
}


@dataclass(frozen=True)
class Step:
    """Somebody does something.

    Attributes:
        event: after so many things have happened to the workflows, or
        wait: when a person is waited for, so many times, or
        answer: with the answer of a watch, the so many-th; both 0: `event` counts.
        delay: seconds after that.
    """

    do: str
    event: int = 0
    wait: int = 0
    answer: int = 0
    delay: float = 0.0
    by: str = "ann"
    update: bool = True
    plan: str = ""
    again: bool = False
    seconds: float = 0.0
    number: int = 0

    def __str__(self) -> str:
        when = f"when a person is waited for ({self.wait})" if self.wait else f"after event {self.event}"
        when = f"with the answer of watch {self.answer}" if self.answer else when
        when += f" + {self.delay:.1f} s" if self.delay else ""
        how = "" if self.do not in MESSAGES else " by an update" if self.update else " by a signal"
        plan = f" for {self.plan} plan" if self.plan else ""
        twice = ", twice" if self.again else ""
        seconds = f" for {self.seconds:.0f} s" if self.seconds else ""
        return f"{when}: {self.by if self.do in SAYS else 'the world'}: {self.do}{plan}{seconds}{how}{twice}"


MESSAGES = ("approve", "reject", "hold", "resume", "rollback", "retry", "skip", "take-over")
SAYS = (*MESSAGES, "cancel", "terminate", "deploy", "roll back", "enqueue", "supersede", "withdraw", "rubbish")
SYSTEMS = ("worker dies", "worker freezes", "evict", "stable is hurt", "candidate is hurt", "candidate's instance dies")


# What is done often stands here often.
DEEDS = tuple(
    "hold,hold,resume,resume,rollback,rollback,cancel,cancel,approve,approve,reject,retry,skip,take-over,terminate,"
    "deploy,roll back,enqueue,supersede,withdraw,rubbish,worker dies,worker dies,worker freezes,evict,stable is hurt,"
    "candidate is hurt,candidate's instance dies".split(",")
)


@dataclass(frozen=True)
class Program:
    """One program.

    Attributes:
        helper: what somebody does who waits for nothing else: approves, resumes, and decides on failed rollbacks.
        faults: (activity, running number) → what goes wrong with each of its attempts, the first one first.
        second: what the second version is like.
    """

    seed: str
    strategy: str = "canary"
    instances: int = 2
    rehearse: bool = False
    approvals: tuple[str, ...] = ()
    approvers: tuple[str, ...] = ()
    expires: float = 3600.0
    inconclusive: str = "hold"
    freeze: str = ""
    break_glass: bool = False
    migrations: int = 0
    smoke: bool = False
    receivers: bool = False
    first: bool = False
    kind: Kind = Kind.DEPLOY
    queued: bool = False
    quality: str = "healthy"
    second: str = "healthy"
    rate: float = 50.0
    blind: tuple[int, ...] = ()
    early: tuple[int, ...] = ()
    verdicts: tuple[str, ...] = ()
    helper: tuple[str, ...] = ("approve", "resume", "retry", "skip")
    steps: tuple[Step, ...] = ()
    faults: tuple[tuple[str, int, tuple[Fault, ...]], ...] = ()

    def spec(self, version: str) -> DeploymentSpec:
        """What is deployed, as a person would have written it."""
        strategy = {**STRATEGIES[self.strategy], "judge": {"on_inconclusive": self.inconclusive}, "deadline": "2m"}
        preflight: dict[str, Any] = {}
        receivers = [{"name": "chat", "kind": "apprise", "to": "env:CHAT", "when": list(EventKind)}]
        if self.migrations:
            database = {"secret": "env:SHOP_DB"}
            preflight = {
                "backup": {"database": database},
                "migrations": {"tool": "dbmate", "database": database, "try": False},
            }
        return DeploymentSpec.model_validate(
            {
                "service": SERVICE,
                "target": PLACE,
                "release": {"version": version},
                "platform": {
                    "kind": "local",
                    "run": ["python3", "app.py"],
                    "listen": "127.0.0.1:8080",
                    "instances": self.instances,
                },
                "strategy": {**strategy, "hold": {"expires": f"{self.expires:.0f}s"}},
                "preflight": preflight,
                "approvals": {
                    "before": list(self.approvals),
                    "by": list(self.approvers),
                    "expires": f"{self.expires:.0f}s",
                },
                "rehearse": {"enabled": self.rehearse},
                "verify": {"smoke": [{"name": "buys", "request": {"path": "/"}}] if self.smoke else []},
                "notify": {"receivers": receivers if self.receivers else []},
                "freeze": [_window(self.freeze)] if self.freeze else [],
            }
        )

    def request(self, version: str = "1.1.0", by: str = "ann", kind: Kind | None = None) -> DeploymentRequest:
        """What the workflow is started with."""
        glass = "a hotfix" if self.break_glass and self.freeze else ""
        return DeploymentRequest(spec=self.spec(version), kind=kind or self.kind, by=by, break_glass=glass)

    def old_revision(self, version: str) -> Revision:
        """One that was deployed before."""
        return make_revision(
            self.spec(version), Release(service=SERVICE, version=version), run_id=f"old{version}xxxxxx"
        )

    def size(self) -> int:
        """How much there is to read in its story."""
        return len(self.steps) + sum(len(faults) for _, _, faults in self.faults)

    def told(self) -> list[str]:
        """What is special about it, in words."""
        said = [f"{self.strategy}, {self.instances} instances"]
        said += ["nothing serves before"] if self.first else []
        said += [f"a {self.kind}"] if self.kind is not Kind.DEPLOY else []
        said += ["somebody is notified"] if self.receivers else []
        said += ["queued"] if self.queued else []
        said += ["with a rehearsal"] if self.rehearse else []
        said += [f"approvals before {', '.join(self.approvals)}"] if self.approvals else []
        said += [f"by {', '.join(self.approvers)}"] if self.approvers else []
        said += [f"a freeze: {self.freeze}{', glass broken' if self.break_glass else ''}"] if self.freeze else []
        said += [f"{self.migrations} migrations"] if self.migrations else []
        said += [f"the candidate {self.quality}"] if self.quality != "healthy" else []
        said += [f"the second one {self.second}"] if self.second != "healthy" else []
        said += ["nobody uses the service"] if not self.rate else []
        said += [f"watches {', '.join(map(str, self.blind))} cannot read the router"] if self.blind else []
        said += [f"watches {', '.join(map(str, self.early))} answer early"] if self.early else []
        said += [f"{name} does not pass" for name in self.verdicts]
        said += [f"where nobody else decides: {', '.join(self.helper) or 'nobody does'}"]
        lines = ["; ".join(said), *(str(step) for step in self.steps)]
        for name, call, faults in self.faults:
            for number, fault in enumerate(faults, start=1):
                final = ", for good" if fault.final else ""
                how = f"raises {fault.error}{final}" if fault.how == "fail" else _HOW[fault.how].format(fault.seconds)
                lines.append(f"{name} {call}, attempt {number}, at its wait {fault.at}: {how}")
        return lines


_HOW = {
    "die": "its worker dies",
    "freeze": "its worker freezes for {:.0f} s and goes on then",
    "slow": "takes {:.0f} s longer",
}


def _window(freeze: str) -> dict[str, Any]:
    begins, lasts = {"now": (-60, 7200), "soon": (90, 3600), "over": (-7200, 60), "in a moment": (1.0, 5400)}[freeze]
    begin = BEGINNING + timedelta(seconds=begins)
    end = begin + timedelta(seconds=lasts)
    return {"from": f"{begin:%Y-%m-%d %H:%M:%S}", "until": f"{end:%Y-%m-%d %H:%M:%S}", "reason": "the sale"}


# Making programs.


def make_program(seed: str) -> Program:
    """The program of a seed."""
    dice = random.Random(f"program {seed}")  # noqa: S311  it is to be the same again
    calm = dice.random() < 0.25
    quality = dice.choice([*["healthy"] * 6, *QUALITIES])
    program = Program(
        seed=seed,
        strategy=dice.choice(list(STRATEGIES)),
        instances=dice.choice((1, 2, 2, 3)),
        rehearse=dice.random() < 0.5,
        approvals=tuple(stage for stage in STAGES if dice.random() < 0.15),
        approvers=dice.choice(((), (), ("ann", "bob"))),
        expires=dice.choice((600.0, 3600.0, 86400.0)),
        inconclusive=dice.choice(("hold", "hold", "rollback")),
        freeze=dice.choice(("", "", "", "", "", "", "now", "soon", "in a moment")),
        break_glass=dice.random() < 0.5,
        migrations=dice.choice((0, 0, 0, 1, 2)),
        smoke=dice.random() < 0.3,
        first=dice.random() < 0.1,
        kind=Kind.ROLLBACK if dice.random() < 0.07 else Kind.DEPLOY,
        queued=dice.random() < 0.25,
        quality=quality,
        second=dice.choice(["healthy", "healthy", *QUALITIES]),
        rate=0.0 if dice.random() < 0.1 else 50.0,
        blind=tuple(n for n in range(1, 4) if dice.random() < 0.04),
        verdicts=(dice.choice(CHECKS),) if dice.random() < 0.05 else (),
        helper=dice.choice(
            (
                ("approve", "resume", "retry", "skip"),
                ("approve", "resume", "retry", "retry", "retry", "take-over"),
                ("approve", "skip"),
                ("approve", "resume", "skip"),
                ("reject", "resume", "retry"),
                ("resume", "take-over"),
            )
        ),
    )
    if program.first and program.kind is Kind.ROLLBACK:
        program = replace(program, kind=Kind.DEPLOY)
    steps = [*_steps(dice, 0 if calm else dice.choice((1, 1, 2, 2, 3, 4, 6))), *_opinions(dice, program)]
    if steps and dice.random() < 0.4:  # several at once: what comes in one task is heard in one
        steps += _beside(dice, dice.choice(steps))
    steps.sort(key=lambda step: step.event)
    faults = tuple(_faults(dice, 0 if calm else dice.choice((0, 0, 1, 1, 2, 3))))
    program = replace(program, steps=tuple(steps), faults=faults, receivers=dice.random() < 0.3)
    answers = () if calm else tuple(_with_an_answer(dice))
    early = tuple(
        n for n in range(1, 6) if dice.random() < (0.6 if any(each.answer == n for each in answers) else 0.04)
    )
    return replace(program, steps=(*program.steps, *answers), early=early)


def _steps(dice: random.Random, count: int) -> Iterator[Step]:
    for _ in range(count):
        do = dice.choice(DEEDS)
        wait = dice.choice((0, 0, 0, 1, 2, 3))
        yield Step(
            do=do,
            event=0 if wait else int(dice.choice((dice.triangular(1, 160, 60), dice.uniform(1, 110)))),
            wait=wait,
            delay=dice.choice((0.0, 0.0, 0.05, 0.5, 3.0, 20.0, 45.0)) * dice.random(),
            by=dice.choice(PEOPLE),
            update=dice.random() < 0.5,
            plan=dice.choice(("", "", "the right", "another")) if do in ("approve", "reject") else "",
            again=dice.random() < 0.2,
            seconds=dice.choice((1.0, 5.0, 30.0, 120.0)) if do in SYSTEMS and do != "evict" else 0.0,
            number=dice.randrange(5),
        )
        if do == "hold" and dice.random() < 0.5:
            yield Step(
                do=dice.choice(("resume", "rollback", "cancel")),
                wait=1,
                delay=dice.choice((0.1, 2.0, 15.0, 200.0)) * dice.random(),
                by=dice.choice(PEOPLE),
                update=dice.random() < 0.5,
            )


def _beside(dice: random.Random, step: Step) -> list[Step]:
    """Others who speak at the same moment."""
    deeds = [
        dice.choice((*MESSAGES, "cancel", "evict", "rubbish", "worker dies")) for _ in range(dice.choice((1, 1, 2)))
    ]
    seconds = {"worker dies": 3.0}
    return [
        replace(step, do=do, by=dice.choice(PEOPLE), update=dice.random() < 0.5, plan="", seconds=seconds.get(do, 0.0))
        for do in deeds
    ]


def _with_an_answer(dice: random.Random) -> Iterator[Step]:
    """What somebody says in the moment in which a watch answers: the workflow hears both in one task."""
    if dice.random() < 0.2:
        do = dice.choice(("approve", "approve", "reject", "hold", "resume", "resume", "rollback", "cancel"))
        yield Step(do=do, answer=dice.choice((1, 2, 2, 3, 3, 4)), by=dice.choice(PEOPLE), update=dice.random() < 0.5)


def _opinions(dice: random.Random, program: Program) -> Iterator[Step]:
    """Who is asked for an approval says something, now and then about another plan."""
    for number, _ in enumerate(program.approvals, start=1):
        if dice.random() < 0.4:
            yield Step(
                do=dice.choice(("approve", "approve", "approve", "reject")),
                wait=number,
                delay=dice.choice((0.0, 1.0, 10.0)) * dice.random(),
                by=dice.choice(PEOPLE),
                update=dice.random() < 0.5,
                plan=dice.choice(("", "the right", "another", "another")),
                again=dice.random() < 0.2,
            )


def _faults(dice: random.Random, count: int) -> Iterator[tuple[str, int, tuple[Fault, ...]]]:
    seen = set()
    for _ in range(count):
        name = dice.choice((*DECLARED, "stage", "shift", "shift", "retire", "restore", "promote", "watch", "watch"))
        call = dice.choice((1, 1, 2, 2, 3, 4))
        if (name, call) in seen:
            continue
        seen.add((name, call))
        yield name, call, tuple(_attempts(dice, name))


def _attempts(dice: random.Random, name: str) -> Iterator[Fault]:
    persistent = dice.random() < 0.08 and MOST_ATTEMPTS.get(name, 5) <= 20
    count = MOST_ATTEMPTS.get(name, 5) + 15 if persistent else dice.choice((1, 1, 1, 2))
    how = dice.choice(("fail", "die", "die", "freeze", "slow"))
    if persistent:
        error, final = next(each for each in DECLARED[name] if not each[1])
        yield from (Fault(0, "fail", error, final) for _ in range(count))
        return
    for _ in range(count):
        error, final = dice.choice(DECLARED[name])
        if final and dice.random() < 0.7:
            error, final = "Unavailable", False
        # Temporal refuses a start before there is a run.
        at = 0 if final and name == "start_deployment" else dice.choice((0, 1, 1, 2, 2, 3, 4, 5, 9))
        seconds = {"freeze": dice.choice((3.0, 10.0, 60.0, 400.0)), "slow": dice.choice((1.0, 10.0, 100.0))}.get(how, 0)
        yield Fault(at, how, error, final, seconds)


@dataclass
class Smaller:
    """Programs that are smaller than one by one part; whoever finds that one still fails goes on from there."""

    program: Program
    tried: int = field(default=0)

    def __iter__(self) -> Iterator[Program]:
        program = self.program
        plain = Program(seed=program.seed)
        for number in range(len(program.steps)):
            yield replace(program, steps=program.steps[:number] + program.steps[number + 1 :])
        for number in range(len(program.faults)):
            yield replace(program, faults=program.faults[:number] + program.faults[number + 1 :])
        for number, (name, call, faults) in enumerate(program.faults):
            if len(faults) > 1:
                fewer = (name, call, faults[:-1])
                yield replace(program, faults=(*program.faults[:number], fewer, *program.faults[number + 1 :]))
        for key in vars(plain):
            if key not in ("seed", "steps", "faults") and getattr(program, key) != getattr(plain, key):
                yield replace(program, **{key: getattr(plain, key)})
        for number, step in enumerate(program.steps):
            for simpler in (replace(step, again=False), replace(step, delay=0.0), replace(step, plan="")):
                if simpler != step:
                    yield replace(program, steps=(*program.steps[:number], simpler, *program.steps[number + 1 :]))

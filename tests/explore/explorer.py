"""Runs a program, finds what is wrong, makes the program smaller, and tells its story."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from models.messages import Approval, Kind, Request, Resolution, Way
from models.names import queue_id, workflow_id
from models.preflight.queueing import Entry, ExitKind, QueueState, QueueView, Withdrawal
from models.verdict import Verdict
from tests.explore.invariants import Finding, Invariants, Message
from tests.explore.program import PLACE, QUALITIES, SERVICE, Program, Smaller, Step, make_program
from tests.explore.sdk import WorkflowTaskFailed
from tests.explore.server import Activity, Diverged, Run, Server, Update
from tests.explore.target import Target
from tests.explore.world import World
from workflows import wire_names
from workflows.deployment import DeploymentWorkflow
from workflows.notifications import NotificationsWorkflow
from workflows.queueing import QueueWorkflow

DEPLOYMENT, QUEUE = workflow_id(SERVICE, PLACE), queue_id(SERVICE, PLACE)
BOUND = timedelta(days=20)
RUBBISH: tuple[tuple[str, tuple[Any, ...]], ...] = (
    (wire_names.APPROVE, ({"by": 7},)),
    (wire_names.RESOLVE, ("take-over",)),
    (wire_names.RESUME, ()),
    (wire_names.REJECT, ({"by": "ann"}, {"by": "bob"})),
    ("what is this", ({"by": "ann"},)),
)


@dataclass
class Result:
    """What came of a program."""

    program: Program
    findings: list[Finding]
    story: list[str]
    steps: int
    endings: list[str] = field(default_factory=list)

    @property
    def rules(self) -> set[int]:
        return {each.rule for each in self.findings}


class Exploration:
    """One program in one world."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.story: list[str] = []
        faults = {(name, call): list(each) for name, call, each in program.faults}
        self.server = Server(program.seed, lambda attempt: self.world.perform(attempt), faults)
        self.target = Target(now=lambda: self.server.now, rate=program.rate)
        self.world = World(
            self.server,
            self.target,
            verdicts=dict.fromkeys(program.verdicts, Verdict.FAIL),
            blind=frozenset(program.blind),
            early=frozenset(program.early),
            migrations=tuple(f"00{number + 1}_adds" for number in range(program.migrations)),
        )
        self.server.kinds = {wire_names.NOTIFICATIONS_WORKFLOW: NotificationsWorkflow}
        self.rules = Invariants(program, self.server, self.target)
        self._events = 0
        self._waits = 0
        self._answers = 0
        self._waiting: dict[str, str] = {}
        self._left = list(program.steps)
        self._ways: dict[str, int] = {}
        self._versions = 1
        self._tickets: dict[str, str] = {}
        self._updates = 0
        self._connect()

    def _connect(self) -> None:
        self.target.qualities = {"1.1.0": QUALITIES[self.program.quality]}
        self.target.qualities |= {f"1.{n}.0": QUALITIES[self.program.second] for n in range(2, 20)}
        self.target.changed = self.server.wake
        self.target.looks_on = lambda what, _: self._tell(f"    {what}")
        self.world.answered = self.rules.answered
        hooks = self.server.hooks
        hooks.tell = self._tell
        hooks.scheduled = self._scheduled
        hooks.resolved = lambda activity, how: self._resolved(activity, how)
        hooks.closed = self.rules.closed
        hooks.updated = self._updated
        hooks.happened = self._happened

    def _tell(self, line: str) -> None:
        self.story.append(f"{self.server.now:%d %H:%M:%S}.{self.server.now.microsecond // 1000:03d}  {line}")

    def _scheduled(self, activity: Activity, beside: list[Activity]) -> None:
        if activity.type not in _QUIET:
            self._tell(f"  {activity} is scheduled")
        self.rules.scheduled(activity, beside)

    def _resolved(self, activity: Activity, how: str) -> None:
        if how != "completed":
            self._tell(f"  {activity} ends: {how}")
        elif activity.type == "watch":
            self._answers += 1
            for step in [each for each in self._left if each.answer and each.answer <= self._answers]:
                self._plan(step)

    def _updated(self, run: Run, name: str, message: Any, update: Update) -> None:
        if run.defn is DeploymentWorkflow:
            do = str(message.way) if isinstance(message, Resolution) else name
            self.rules.messages.append(Message(run, do, message.by, update, getattr(message, "plan", "")))

    # Running it.

    def run(self) -> Result:
        """Everything, to the end."""
        if not self.program.first:
            self.target.serve(self.program.old_revision("0.9.0"))
            self.target.serve(self.program.old_revision("1.0.0"))
        try:
            self._begin()
            self._to_the_end()
        except WorkflowTaskFailed as error:
            self.rules.found(1, f"the workflow's task fails: {error}")
        except Diverged as error:
            self.rules.found(10, str(error))
        endings = [f"{run.status} {run.attributes.get(wire_names.OUTCOME_KEY.name, '')}" for run in self.server.runs]
        for run in self.server.runs:
            self.server.evict(run)
        return Result(self.program, self.rules.findings, self.story, self.server.steps, endings)

    def _begin(self) -> None:
        if self.program.queued:
            self._enqueue("ann", supersede=False)
        else:
            self.server.start(DeploymentWorkflow, DEPLOYMENT, self.program.request())

    def _to_the_end(self) -> None:
        ended: set[str] = set()

        def over() -> bool:
            for run in self.server.runs:
                if not run.running and run.run_id not in ended:
                    ended.add(run.run_id)
                    if run.defn is DeploymentWorkflow:
                        self.rules.ended(run)
            return bool(self.rules.findings) or all(not run.running for run in self.server.runs)

        self.server.run_until(over, self.server.now + BOUND)
        if self.rules.findings:
            return
        hanging = [
            f"{run.workflow_id} ({self._waiting.get(run.run_id, '')})" for run in self.server.runs if run.running
        ]
        if hanging:
            self.rules.found(1, f"after {BOUND.days} days it has not ended: {', '.join(hanging)}")
            return
        self._nothing_comes_late()
        self._queue_was_fair()

    def _nothing_comes_late(self) -> None:
        before = self.target.look()
        runs = len(self.server.runs)
        self.server.run_until(lambda: False, self.server.now + timedelta(hours=2))
        if len(self.server.runs) == runs and self.target.look() != before:
            terminated = any(run.status == "terminated" for run in self.server.runs)
            if not terminated:
                self.rules.found(7, "after the end, a late attempt has changed the target")

    def _queue_was_fair(self) -> None:
        for run in self.server.runs:
            if run.defn is not QueueWorkflow or run.status != "completed":
                continue
            try:
                self.server.replay(run).evict()
            except Diverged as error:
                self.rules.found(10, str(error))
            view = self.server.query(run, wire_names.WAITING, QueueView)
            for left in view.left:
                started = [each for each in self.server.runs if each.memo.get("ticket") == left.ticket]
                wanted = 1 if left.how is ExitKind.STARTED else 0
                if len(started) != wanted:
                    self.rules.found(1, f"{left.version} left the queue as {left.how}, started {len(started)} times")

    # What people and systems do.

    def _happened(self, _what: str) -> None:
        self._events += 1
        for step in [each for each in self._left if not each.wait and not each.answer and each.event <= self._events]:
            self._plan(step)
        for run in self.server.runs:
            if run.running:
                self.rules.compensations_in_order(run)
                self._look_after(run)

    def _plan(self, step: Step) -> None:
        self._left.remove(step)
        self.server.after(step.delay, lambda: self._do(step))

    def _look_after(self, run: Run) -> None:
        """Whoever is waited for: a step of the program, or the one who decides when nobody else does."""
        if run.instance is None or run.instance.workflow is None:
            return
        if run.defn is DeploymentWorkflow:
            waiting = run.instance.workflow._t.record.waiting_for
        elif run.defn is not QueueWorkflow:
            return
        else:
            doing = run.instance.workflow._doing
            waiting = doing if "withdraws what waits" in doing else ""
        if waiting == self._waiting.get(run.run_id, ""):
            return
        self._waiting[run.run_id] = waiting
        self.rules.waits(run, waits=bool(waiting))
        if not waiting:
            return
        self._tell(f"  waits for: {waiting[:150]}")
        self._waits += 1
        for step in [each for each in self._left if each.wait and each.wait <= self._waits]:
            self._plan(step)
        think = self.server.jitter(30, 90, "helper", run.run_id, self._waits)
        self.server.after(think, lambda: self._help(run, waiting))

    def _help(self, run: Run, waiting: str) -> None:
        if not run.running or self._waiting.get(run.run_id) != waiting:
            return
        if run.defn is QueueWorkflow:
            head = run.instance.workflow._waiting[:1] if run.instance is not None else []
            for entry in head:
                self._withdraw(run, entry.ticket, "helper")
            return
        if waiting.startswith("retry, skip"):
            ways = [each for each in self.program.helper if each in ("retry", "skip", "take-over")]
            number = self._ways[run.run_id] = self._ways.get(run.run_id, 0) + 1
            self._say(run, ways[number - 1] if number <= len(ways) else "take-over", "bob", update=True)
        elif waiting.startswith("approval"):
            for do in self.program.helper:
                if do in ("approve", "reject"):
                    self._say(run, do, "bob", update=True)
        elif "resume" in self.program.helper:
            self._say(run, "resume", "bob", update=True)
        self.server.after(120, lambda: self._help(run, waiting))

    def _do(self, step: Step) -> None:
        do, run = step.do, self.server.newest(DEPLOYMENT)
        if do in ("worker dies", "worker freezes"):
            self._tell(f"! the {do}; another one comes after {step.seconds:.0f} s")
            self.rules.outage += step.seconds + 5
            self.server.kill_worker(step.seconds, step.seconds * 3 if do == "worker freezes" else None)
        elif do == "evict":
            for each in self.server.runs:
                self.server.evict(each)
        elif do in ("stable is hurt", "candidate is hurt", "candidate's instance dies"):
            self._hurt(step)
        elif do in ("deploy", "roll back"):
            self._start_another(do, step.by)
        elif do in ("enqueue", "supersede"):
            self._enqueue(step.by, supersede=do == "supersede")
        elif do == "withdraw":
            self._withdraw_any(step)
        elif run is None or not run.running:
            return
        elif do == "terminate":
            self._tell(f"{step.by} terminates it")
            self.server.terminate(run)
        elif do == "cancel":
            self._cancel(run, step.by)
        elif do == "rubbish":
            self._rubbish(run, step.number)
        else:
            plan = self._plan_named(run, step.plan)
            for _ in range(2 if step.again else 1):
                self._say(run, do, step.by, update=step.update, plan=plan, same=step.again)
        if do == "terminate" and run is not None:
            self.rules.hurt.append("a deployment was terminated")

    def _plan_named(self, run: Run, plan: str) -> str:
        known = run.instance.workflow if run.instance is not None else None
        there = known._t._plan if known is not None else None
        return {"": "", "another": "f" * 16}.get(plan, there.id if there is not None else "0" * 16)

    def _say(self, run: Run, do: str, by: str, *, update: bool, plan: str = "", same: bool = False) -> None:
        message: Any = Request(by=by, reason=f"says {do}")
        name = do
        if do in ("approve", "reject"):
            message = Approval(by=by, reason=f"says {do}", plan=plan)
        elif do in ("retry", "skip", "take-over"):
            message, name = Resolution(way=Way(do), by=by, reason=f"says {do}"), wire_names.RESOLVE
        self._tell(f"{by} says {do}{f' for the plan {plan}' if plan else ''} {'(update)' if update else '(signal)'}")
        if not update:
            self.rules.messages.append(Message(run, do, by, plan=plan))
            self.server.signal(run, name, message)
            return
        if not same or not self._updates % 2:
            self._updates += 1
        id = f"{do}-{by}-{self._updates}" if not same else f"{do}-{by}-same"
        self.server.update(run, id, name, message)

    def _cancel(self, run: Run, by: str) -> None:
        self._tell(f"{by} cancels it")
        job_there = any(job.HasField("cancel_workflow") for task in run.recorded for job in task.jobs)
        if job_there or any(job.HasField("cancel_workflow") for job in run.pending):
            return  # the server passes one cancellation on
        self.rules.messages.append(Message(run, "a cancellation", by))
        self.server.cancel(run, f"{by} cancels")

    def _rubbish(self, run: Run, number: int) -> None:
        name, payload = RUBBISH[number % len(RUBBISH)]
        self._tell(f"somebody sends rubbish as {name}")
        if name in (wire_names.APPROVE, wire_names.RESOLVE, wire_names.RESUME, wire_names.REJECT):
            self.rules.messages.append(Message(run, name, "unknown"))
        self.server.signal(run, name, *payload)

    def _hurt(self, step: Step) -> None:
        stable = self.target.stable
        others = [id for id, kept in self.target.revisions.items() if id != stable and kept.living()]
        who = stable if step.do == "stable is hurt" else next(reversed(others), None)
        if who is None:
            return
        self.rules.hurt.append(f"{who} was hurt")
        self._tell(f"! {step.do}: {who}")
        if step.do == "candidate's instance dies":
            self.target.kill(who, 1)
        else:
            self.target.hurt(who, step.seconds)

    def _version(self) -> str:
        self._versions += 1
        return f"1.{self._versions}.0"

    def _start_another(self, do: str, by: str) -> None:
        newest = self.server.newest(DEPLOYMENT)
        if newest is not None and newest.running:
            self._tell(f"{by} wants to {do}, and is refused: one is under way")
            return
        kind = Kind.ROLLBACK if do == "roll back" else Kind.DEPLOY
        request = self.program.request(self._version(), by, kind)
        self.server.start(DeploymentWorkflow, DEPLOYMENT, request)

    def _enqueue(self, by: str, *, supersede: bool) -> None:
        version = self._version() if self._tickets or self.server.newest(DEPLOYMENT) else "1.1.0"
        ticket = f"{len(self._tickets) + 1:08x}"
        self._tickets[ticket] = version
        request = self.program.request(version, by, Kind.DEPLOY).model_dump(mode="json")
        entry = Entry(ticket=ticket, request=request, supersede=supersede)
        queue = self.server.newest(QUEUE)
        if queue is None or not queue.running:
            queue = self.server.start(QueueWorkflow, QUEUE, QueueState(service=SERVICE, target=PLACE))
        self._tell(f"{by} enqueues {version} (ticket {ticket}{', superseding' if supersede else ''})")
        self.server.signal(queue, wire_names.ENQUEUE, entry)

    def _withdraw_any(self, step: Step) -> None:
        queue = self.server.newest(QUEUE)
        if queue is not None and queue.running and self._tickets:
            tickets = list(self._tickets)
            self._withdraw(queue, tickets[step.number % len(tickets)], step.by)

    def _withdraw(self, queue: Run, ticket: str, by: str) -> None:
        self._updates += 1
        self._tell(f"{by} withdraws {ticket}")
        message = Withdrawal(ticket=ticket, by=by, reason="not now")
        self.server.update(queue, f"withdraw-{self._updates}", wire_names.WITHDRAW, message)


_QUIET = (
    "check_artifacts check_environment check_disk check_memory check_load check_descriptors check_address capabilities "
    "examine check_endpoint check_router_metrics write_report"
).split()


def explore(program: Program) -> Result:
    """Runs one program."""
    return Exploration(program).run()


def programs(seed: str, count: int, begin: int = 0) -> Iterator[Program]:
    """So many programs of a seed."""
    for number in range(begin, begin + count):
        yield make_program(f"{seed}.{number}")


def shrink(result: Result, most: int = 400) -> Result:
    """The smallest program found that still breaks one of the same rules."""
    tried, smaller = 0, True
    while smaller and tried < most:
        smaller = False
        for program in Smaller(result.program):
            tried += 1
            again = explore(program)
            if again.rules & result.rules:
                result, smaller = again, True
                break
            if tried >= most:
                break
    return result


def tell(result: Result) -> str:
    """The story of a program in plain words."""
    lines = [f"The program of the seed {result.program.seed}:", *(f"  {line}" for line in result.program.told()), ""]
    lines += ["What happened:", *(f"  {line}" for line in result.story), ""]
    lines += ["What is wrong:", *(f"  {finding}" for finding in result.findings)]
    return "\n".join(lines)

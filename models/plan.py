"""What a deployment is going to do, worked out before it does anything; approvals are bound to it."""

import hashlib
from datetime import timedelta
from typing import Any

from models.base import WireModel
from models.health import HealthSpec
from models.identity import identity_of
from models.release import Capabilities, Release, Revision, Snapshot
from models.spec import DeploymentSpec, JudgeSpec, OnInconclusive, Step, StrategyKind
from models.units import Duration
from models.verdict import CheckResult, Stage

CANARY_STEPS = (
    Step(weight=5, watch=timedelta(minutes=10)),
    Step(weight=25, watch=timedelta(minutes=5)),
    Step(weight=50, watch=timedelta(minutes=5)),
    Step(weight=75, watch=timedelta(minutes=5)),
    Step(weight=100, watch=timedelta(minutes=5)),
)
CANARY_MIN_REQUESTS = 10
ROLLING_WATCH = timedelta(seconds=10)
BLUE_GREEN_WATCH = timedelta(seconds=30)


class PlannedStep(WireModel):
    """One move, with the instances it needs.

    Attributes:
        weight: percent of the traffic that the candidate gets.
        candidate_instances: that are up before the move.
        stable_instances: that are kept after the watch has passed; never 0 before the bake is over.
        on_inconclusive: what follows when the watch saw too little; None: what follows the last one.
    """

    weight: int
    watch: Duration
    candidate_instances: int
    stable_instances: int
    on_inconclusive: OnInconclusive | None = None


class Plan(WireModel):
    """What will be done, in order.

    Attributes:
        id: sha256 over everything else; an approval names it.
        first: nothing serves yet: no split, no watch against stable, no rehearsal.
        alone: stable cannot serve: no split with it, no watch against it, no rehearsal; the candidate is the way out.
        approximate: what the platform can only do roughly, in sentences.
        changes: what is going to change on the platform, line by line, as far as the platform can tell.
        checks: what preflight found when the plan was asked for; no part of what is approved.
        against: what differs from the revision that serves, as lines of a diff; only where the plan was asked for.
        break_glass: why a freeze is set aside; who started it approves nothing then. Empty where none is.
        started_by: who that is.
    """

    id: str = ""
    service: str
    target: str
    version: str
    previous_version: str | None
    strategy: StrategyKind
    first: bool
    alone: bool = False
    steps: tuple[PlannedStep, ...]
    bake: Duration
    min_requests: int
    rehearse: bool
    approvals: tuple[Stage, ...]
    approvers: tuple[str, ...]
    digests: dict[str, str]
    config_hash: str
    exact: tuple[str, ...] = ()
    approximate: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    against: tuple[str, ...] = ()
    break_glass: str = ""
    started_by: str = ""

    def watched(self) -> timedelta:
        """How long the watches and the bake take together, when none is extended."""
        return sum((step.watch for step in self.steps), self.bake)


def config_hash(spec: DeploymentSpec) -> str:
    """sha256 over how the service is run and asked; secrets count as references."""
    text = spec.platform.model_dump_json() + spec.verify.endpoints.model_dump_json()
    if spec.verify.rule != HealthSpec().rule(None):
        # Counts only where it is used: what was hashed before there was such a rule keeps its hash.
        text += spec.verify.rule.model_dump_json()
    return hashlib.sha256(text.encode()).hexdigest()


def make_revision(spec: DeploymentSpec, release: Release, run_id: str) -> Revision:
    """The revision that a deployment's run brings in; a retried activity meets the same one again."""
    return Revision(
        id=f"{spec.release.version}-{run_id[-6:]}".lower().replace("+", "_"),
        release=release,
        platform=spec.platform,
        endpoints=spec.verify.endpoints,
        health=spec.verify.rule,
    )


def with_identity(revision: Revision, spec: DeploymentSpec) -> Revision:
    """The revision whose instances are told who they are, as far as the spec does not tell them."""
    if not spec.observe.identity:
        return revision
    sentry = spec.observe.sentry
    environment = (sentry and sentry.environment) or spec.target
    found = identity_of(spec.service, spec.release.version, spec.target, revision.id, environment)
    given = spec.platform.environment
    return revision.model_copy(update={"identity": {name: each for name, each in found.items() if name not in given}})


def make_plan(
    spec: DeploymentSpec,
    release: Release,
    able: Capabilities,
    snapshot: Snapshot,
    *,
    stable_serves: bool = True,
    changes: tuple[str, ...] = (),
    approvals: tuple[Stage, ...] = (),
) -> Plan:
    """Works out the steps of the spec's strategy on this platform, from what serves now; `approvals` are asked for
    beside those of the spec.
    """
    first = snapshot.stable is None
    wanted = spec.platform.instances
    alone = not first and not stable_serves
    steps = _at_once(wanted, snapshot.instances) if first or alone else _steps(spec, able, wanted, snapshot.instances)
    bake = spec.strategy.bake if spec.strategy.bake is not None else steps[-1].watch
    judged_by_answers = spec.strategy.kind is StrategyKind.CANARY and able.counts_requests
    default_minimum = CANARY_MIN_REQUESTS if judged_by_answers else 0
    minimum = spec.strategy.judge.min_requests
    plan = Plan(
        service=spec.service,
        target=spec.target,
        version=spec.release.version,
        previous_version=snapshot.stable.release.version if snapshot.stable else None,
        strategy=spec.strategy.kind,
        first=first,
        alone=alone,
        steps=steps,
        bake=timedelta(0) if first else bake,
        min_requests=default_minimum if minimum is None else minimum,
        rehearse=spec.rehearse.enabled and not first and not alone,
        approvals=(*(each for each in approvals if each not in spec.approval_stages()), *spec.approval_stages()),
        approvers=spec.approvals.by,
        digests=release.digests,
        config_hash=release.config_hash,
        exact=("weights are exact: the router divides the requests",) if able.exact_weights else (),
        approximate=able.notes,
        changes=changes,
    )
    return _identified(plan)


def with_break_glass(plan: Plan, started_by: str, reason: str) -> Plan:
    """The same plan, of somebody who sets a freeze aside: a second person approves it before its first effect."""
    approvals = (Stage.DEPLOY, *(stage for stage in plan.approvals if stage is not Stage.DEPLOY))
    changes = {"approvals": approvals, "break_glass": reason, "started_by": started_by}
    return _identified(plan.model_copy(update=changes))


def _identified(plan: Plan) -> Plan:
    # What is new counts only where it is used: a plan that was approved before an upgrade keeps its id.
    unused: dict[str, Any] = {} if plan.break_glass else {"break_glass": True, "started_by": True}
    if all(step.on_inconclusive is None for step in plan.steps):
        unused["steps"] = {"__all__": {"on_inconclusive"}}
    text = plan.model_dump_json(exclude={"id": True, "checks": True, "against": True, **unused})
    return plan.model_copy(update={"id": hashlib.sha256(text.encode()).hexdigest()[:16]})


def make_way_back(spec: DeploymentSpec, wanted: Revision, able: Capabilities, snapshot: Snapshot) -> Plan:
    """One step to a revision that has served before: no watch, no bake, no approval, no rehearsal."""
    count = wanted.platform.instances
    plan = make_plan(spec, wanted.release, able, snapshot)
    step = PlannedStep(weight=100, watch=timedelta(0), candidate_instances=count, stable_instances=snapshot.instances)
    changes = {
        "version": wanted.release.version,
        "steps": (step,),
        "bake": timedelta(0),
        "rehearse": False,
        "approvals": (),
    }
    return _identified(plan.model_copy(update=changes))


def _at_once(wanted: int, old: int) -> tuple[PlannedStep, ...]:
    return (PlannedStep(weight=100, watch=timedelta(0), candidate_instances=wanted, stable_instances=old),)


def _steps(spec: DeploymentSpec, able: Capabilities, wanted: int, old: int) -> tuple[PlannedStep, ...]:
    strategy = spec.strategy
    if strategy.kind is StrategyKind.ROLLING:
        return _rolling(wanted, old, ROLLING_WATCH if strategy.watch is None else strategy.watch, strategy.judge)
    if strategy.kind is StrategyKind.BLUE_GREEN:
        watch = BLUE_GREEN_WATCH if strategy.watch is None else strategy.watch
        moves: tuple[Step, ...] = (Step(weight=100, watch=watch),)
    else:
        moves = CANARY_STEPS if strategy.steps is None else strategy.steps
    last = max((number for number, move in enumerate(moves) if move.weight < 100), default=0)
    return tuple(
        PlannedStep(
            weight=move.weight,
            watch=move.watch,
            candidate_instances=wanted if able.exact_weights else by_ratio(move.weight, wanted, old),
            stable_instances=old,
            on_inconclusive=_policy(move.on_inconclusive, strategy.judge, strict=number >= last),
        )
        for number, move in enumerate(moves)
    )


def _policy(own: OnInconclusive | None, judge: JudgeSpec, *, strict: bool) -> OnInconclusive | None:
    """What follows a step that saw too little, where it is another thing than what follows the last one: of those that
    have stable beside them the last one does not continue, because nothing after it can see more.
    """
    policy = own or judge.on_inconclusive
    if policy is OnInconclusive.CONTINUE and strict:
        policy = OnInconclusive.HOLD
    return None if policy is judge.strict else policy


def by_ratio(weight: int, wanted: int, old: int) -> int:
    """How many candidate instances beside `old` ones come closest to a share of `weight` percent where each instance
    gets as many requests as any other. At least one; never more than `wanted`, so that big shares stay approximate:
    stable keeps all of its instances for the way back.
    """
    if weight == 100:
        return wanted
    return min(wanted, max(1, round(old * weight / (100 - weight))))


def _rolling(wanted: int, old: int, watch: timedelta, judge: JudgeSpec) -> tuple[PlannedStep, ...]:
    """Instance by instance: one comes up, gets its share, is watched, then one old one goes. The last old one stays
    warm until the bake is over, so that a rollback has somewhere to go at once.
    """
    return tuple(
        PlannedStep(
            weight=100 if up == wanted else round(100 * up / wanted),
            watch=watch,
            candidate_instances=up,
            stable_instances=max(1, old - round(old * up / wanted)),
            on_inconclusive=_policy(None, judge, strict=up >= wanted - 1),
        )
        for up in range(1, wanted + 1)
    )

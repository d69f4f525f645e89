"""A deployment told line by line, for pipelines: each line says something that was not so a moment ago."""

from collections.abc import Iterator

from cli.render.summary import (
    approvers,
    bad_checks,
    count,
    describe_check,
    describe_steps,
    ended_stage,
    headline,
    moment,
    printed_lines,
    short,
    ways_on,
    what_is_left,
)
from cli.render.terminal import clean
from models.outcome import Outcome
from models.report import DeploymentReport, Phase
from models.units import format_duration
from models.verdict import Stage


def narrate(before: DeploymentReport | None, now: DeploymentReport) -> Iterator[str]:
    """Yields what is new in `now`; everything that matters when there is no `before`."""
    if before is None or headline(before) != headline(now):
        yield headline(now)
    if now.plan is not None and (before is None or before.plan is None):
        yield from _plan(now)
    yield from _stages(before, now)
    yield from _moves(before, now)
    yield from _decisions(before, now)
    if now.failure is not None and (before is None or before.failure != now.failure):
        at = f" in {now.failure.stage}" if now.failure.stage else ""
        yield f"failed{at}: {now.failure.type}, priority {now.failure.priority}: {clean(now.failure.reason)}"
    yield from _phase(before, now)
    yield from _undone(before, now)
    if now.waiting_for and (before is None or (before.waiting_for, before.outcome) != (now.waiting_for, now.outcome)):
        yield from _waiting(now)


def _plan(now: DeploymentReport) -> Iterator[str]:
    assert now.plan is not None  # noqa: S101  asked by the caller
    bake = f", then {format_duration(now.plan.bake)} until the old revision goes" if now.plan.bake else ""
    yield f"plan {now.plan.id}: {describe_steps(now.plan)}{bake}"


def _stages(before: DeploymentReport | None, now: DeploymentReport) -> Iterator[str]:
    for stage in Stage:
        was = ended_stage(before, stage) if before else None
        result = ended_stage(now, stage)
        told = {c.name for r in before.stages if r.stage is stage for c in bad_checks(r)} if before else set()
        running = next((r for r in now.stages if r.stage is stage), None)
        for check in bad_checks(running) if running else ():
            if check.name not in told:
                yield f"{stage}: {describe_check(check)}"
                yield from (f"  {line}" for line in printed_lines(check))
        if result is not None and was is None:
            yield f"{stage}: {result.verdict}, {count(len(result.checks), 'check')}, {short(result.seconds)}"
    if now.stage is not None and now.phase is Phase.FORWARD and (before is None or before.stage is not now.stage):
        yield f"{now.stage}: started"


def _moves(before: DeploymentReport | None, now: DeploymentReport) -> Iterator[str]:
    if now.doing and (before is None or before.doing != now.doing):
        step = f"step {now.step} of {len(now.plan.steps)}: " if now.step and now.plan else ""
        until = f", until {moment(now.until)}" if now.until else ""
        stage = f"{now.stage}: {step}" if now.stage and now.phase is Phase.FORWARD else ""
        yield f"{stage}{clean(now.doing)}{until}"
    if now.split and (before is None or before.split is None or before.split.weights != now.split.weights):
        shares = ", ".join(f"{weight} % {clean(name)}" for name, weight in now.split.weights.items())
        yield f"traffic: {shares or 'nobody serves'}"


def _decisions(before: DeploymentReport | None, now: DeploymentReport) -> Iterator[str]:
    for decision in now.decisions[len(before.decisions) if before else 0 :]:
        reason = f": {clean(decision.reason)}" if decision.reason else ""
        yield f"{clean(decision.by)} decided at {moment(decision.at)}: {clean(decision.what)}{reason}"


def _phase(before: DeploymentReport | None, now: DeploymentReport) -> Iterator[str]:
    if before is not None and before.phase is now.phase:
        return
    if now.phase is Phase.ROLLING_BACK:
        yield "rolling back"
    if now.phase is Phase.ROLLBACK_FAILED:
        yield "the rollback has failed; left to do, next one first:"
        yield from (f"  {each}" for each in what_is_left(now))


def _undone(before: DeploymentReport | None, now: DeploymentReport) -> Iterator[str]:
    known = before.compensations if before else ()
    for i, each in enumerate(now.compensations):
        state = known[i].state if i < len(known) else "registered"
        if each.state not in (state, "registered"):
            yield f"undo {each.state}: {clean(each.what)}" + (f" ({clean(each.detail)})" if each.detail else "")
    for sentence in now.not_rolled_back[len(before.not_rolled_back) if before else 0 :]:
        yield f"not rolled back: {clean(sentence)}"


def _waiting(now: DeploymentReport) -> Iterator[str]:
    yield f"waiting for a person: {clean(now.waiting_for)}"
    if now.outcome is Outcome.AWAITING_APPROVAL and approvers(now):
        yield f"  may decide: {approvers(now)}"
    yield from (f"  {command}" for command in ways_on(now))

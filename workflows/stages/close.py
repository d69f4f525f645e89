"""The gates, the promotion, the bake, and the end of the old revision."""

from datetime import timedelta

from temporalio.exceptions import ActivityError

from models.gates import ask_gates, demand, opens
from models.messages import Kind
from models.outcome import FailureType
from models.units import format_duration
from models.verdict import CheckResult, Stage, Verdict
from workflows.approvals import pause_point
from workflows.failures import describe, fail
from workflows.stages.monitoring import follow_instances
from workflows.step_outcome import watch_to_a_verdict
from workflows.transaction import Transaction


async def close(t: Transaction) -> None:
    """Asks the gates, makes the candidate stable, watches it while the old one is still warm, and retires the old one.

    Raises:
        StageFailedError: a gate is closed, or the candidate failed while it was watched.
    """
    if t.request.kind is Kind.DEPLOY:
        _pass_gates(t)
    await pause_point(t)
    t.record.do(f"{t.candidate.id} becomes stable")
    # What a rollback leaves is left for good: asked for twice, it does not come back.
    await t.verbs.promote(t.candidate.id, withdraw=t.request.kind is Kind.ROLLBACK)
    t.record.add(CheckResult(name="promoted", verdict=Verdict.PASS, reason=f"{t.candidate.id} is stable"))
    await _bake(t)
    await pause_point(t)
    await _retire_the_old(t)


def _pass_gates(t: Transaction) -> None:
    gates = demand(ask_gates(t.record.stages), t.request.required_gates)
    t.record.add(*gates)
    closed = [check for check in gates if not opens(check.verdict)]
    if closed:
        said = "; ".join(f"{check.name} is {check.verdict}: {check.reason}" for check in closed)
        raise fail(FailureType.UNKNOWN, Stage.CLOSE, said)


async def _bake(t: Transaction) -> None:
    if t.plan.bake == timedelta(0):
        reason = "nothing to go back to" if t.first else "the plan bakes for 0s"
        t.record.add(CheckResult(name="bake", verdict=Verdict.SKIPPED, reason=reason))
        return
    inspection = await t.verbs.inspect(t.candidate, t.candidate.platform.instances)
    policy = t.spec.strategy.judge.strict
    await watch_to_a_verdict(t, "bake", t.plan.bake, inspection, min_requests=0, policy=policy)


async def _retire_the_old(t: Transaction) -> None:
    """What no longer serves goes. Should that fail, the new version serves all the same: it is said, not undone."""
    old = ([t.stable.id] if t.stable else []) + list(t.snapshot.leftovers)
    for revision in (each for each in old if each != t.candidate.id):
        longest = format_duration(t.spec.platform.drain)
        t.record.do(f"retire {revision}: it has up to {longest} to answer its last requests")
        try:
            retired = await t.verbs.retire(revision)
        except ActivityError as error:
            t.go_on()
            reason = f"{revision} still runs, without traffic; the next deployment removes it: {describe(error)}"
            t.record.add(CheckResult(name=f"retired_{revision}", verdict=Verdict.SKIPPED, reason=reason))
            continue
        reason = "its last requests were answered" if retired.drained else "drained for as long as the spec allows"
        reason = f"{revision}: {reason}, after a bake of {format_duration(t.plan.bake)}"
        t.record.add(
            CheckResult(name=f"retired_{revision}", verdict=Verdict.PASS, reason=reason, evidence=retired.evidence)
        )
    await follow_instances(t)

"""The rollback that is tried before it is needed: really back, really forth, under the users' traffic, measured."""

from temporalio import workflow

from models.gates import opens
from models.outcome import FailureType
from models.verdict import CheckResult, Stage, Verdict
from workflows.approvals import pause_point
from workflows.compensation import restore_and_verify
from workflows.failures import fail
from workflows.stages.monitoring import follow_instances
from workflows.stages.verify import is_new_version
from workflows.transaction import Transaction, judge_instances


async def rehearse(t: Transaction) -> None:
    """Goes back to the old version, verifies it, and brings the new one in again.

    Raises:
        StageFailedError: the old version is not healthy, so that going back would hurt; or a part of it did not work.
    """
    if not t.plan.rehearse or t.stable is None:
        reason = "the spec turns it off (rehearse.enabled)"
        if t.first:
            reason = "nothing to go back to: the first deployment"
        elif t.plan.alone:
            reason = "the old version cannot serve: there is nothing to go back to"
        t.record.add(CheckResult(name="rehearsal", verdict=Verdict.SKIPPED, reason=reason))
        return
    await pause_point(t)
    await _old_is_healthy(t)
    await _back(t)
    await _forth(t)


async def _old_is_healthy(t: Transaction) -> None:
    assert t.stable is not None  # noqa: S101  asked by the caller
    t.record.do("is there something to go back to?")
    inspection = await t.verbs.inspect(t.stable, t.plan.steps[-1].stable_instances)
    checks = judge_instances(inspection, t.stable)
    t.record.add(*(check.model_copy(update={"name": f"old_{check.name}"}) for check in checks))
    if any(not opens(check.verdict) for check in checks):
        raise fail(FailureType.REHEARSAL, Stage.REHEARSE, "refused: the old version is not healthy")


async def _back(t: Transaction) -> None:
    began = workflow.now()
    t.record.do("back to the old version")
    if t.stable is not None:
        # All of it, before any user comes back: this is no emergency, and a part of it may not carry the load.
        await t.verbs.stage(t.stable, t.snapshot.instances, workflow.now() + t.ready_within)
    await restore_and_verify(t)
    seconds = round((workflow.now() - began).total_seconds(), 3)
    t.record.measured = t.record.measured.model_copy(update={"rehearsal_back": seconds})
    t.record.add(_passed("rolled_back", f"{t.plan.previous_version} served again after {seconds:.1f} s", seconds))
    await t.verbs.retire(t.candidate.id)
    await follow_instances(t)


async def _forth(t: Transaction) -> None:
    began = workflow.now()
    t.record.do("the new version again")
    await t.verbs.stage(t.candidate, t.candidate.platform.instances, workflow.now() + t.ready_within)
    await follow_instances(t)
    t.record.split = await t.verbs.shift(t.candidate.id, t.stable.id if t.stable else None, 100)
    t.record.address = t.candidate.platform.address
    checks = await is_new_version(t)
    t.record.add(*(check.model_copy(update={"name": f"new_{check.name}"}) for check in checks))
    seconds = round((workflow.now() - began).total_seconds(), 3)
    t.record.measured = t.record.measured.model_copy(update={"rehearsal_forth": seconds})
    t.record.add(_passed("redeployed", f"{t.record.version} served again after {seconds:.1f} s", seconds))


def _passed(name: str, reason: str, seconds: float) -> CheckResult:
    return CheckResult(name=name, verdict=Verdict.PASS, reason=reason, seconds=seconds)

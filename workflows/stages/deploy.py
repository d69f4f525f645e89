"""Brings the candidate in, one step of the strategy after the other: up, a weight, a watch, and the old one down.

Rolling, blue-green and canary are the same loop over different steps (`models.plan`).
"""

from temporalio import workflow

from models.gates import SMOKE_PREFIX, opens
from models.outcome import FailureType
from models.plan import PlannedStep
from models.release import Inspection
from models.spec import StrategyKind
from models.units import format_duration
from models.verdict import CheckResult, Stage, Verdict
from workflows.approvals import pause_point
from workflows.compensation import register_undo
from workflows.failures import fail
from workflows.freezing import begin_unfrozen
from workflows.stages.database import backup_still_good, migrate, register_migrations
from workflows.stages.monitoring import follow_instances, register_monitoring, set_up_monitoring
from workflows.stages.preflight import still_as_planned
from workflows.stages.verify import smoke_tests
from workflows.step_outcome import watch_step
from workflows.transaction import ENDPOINTS, Transaction, judge_endpoints, judge_instances


async def deploy(t: Transaction) -> None:
    """Runs the strategy. Every effect has its undo registered before it begins."""
    await still_as_planned(t)
    await backup_still_good(t)
    await begin_unfrozen(t)
    register_migrations(t)
    register_monitoring(t)
    register_undo(t)
    await migrate(t)
    kept, inspection = t.snapshot.instances, None
    for number, step in enumerate(t.plan.steps, start=1):
        t.record.step = number
        await pause_point(t)
        if inspection is None or inspection.expected < step.candidate_instances:
            inspection = await _bring_up(t, step, first=number == 1)
            await (set_up_monitoring(t) if number == 1 else follow_instances(t))
        await _move(t, step)
        await watch_step(t, step, inspection)
        if t.stable is not None and step.stable_instances < kept:
            t.record.do(f"{step.stable_instances} of {kept} old instances are kept")
            await t.verbs.retire(t.stable.id, keep=step.stable_instances)
            await follow_instances(t)
            kept = step.stable_instances
    t.record.step = None


async def repair_traffic(t: Transaction) -> None:
    """For a rollback onto the revision that is stable already: a deployment that was terminated, without an undo, has
    left traffic elsewhere. There is nothing to bring in, and nothing to undo.
    """
    t.record.do(f"all of {t.candidate.id} and all traffic on it")
    t.record.split = await t.verbs.restore(t.snapshot, t.ready_within)
    await follow_instances(t)
    reason = f"all traffic is on {t.candidate.id}"
    t.record.add(CheckResult(name="restored", verdict=Verdict.PASS, reason=reason))


async def _bring_up(t: Transaction, step: PlannedStep, *, first: bool) -> Inspection:
    """The step's instances are up, and each of them has said which version it is, before users reach it."""
    t.record.do(f"bring up {step.candidate_instances} × {t.candidate.id}")
    staged = await t.verbs.stage(t.candidate, step.candidate_instances, workflow.now() + t.ready_within)
    checks = [*judge_instances(staged.inspection, t.candidate), *judge_endpoints(staged.inspection)]
    if first:
        evidence = {"seconds": round(staged.seconds, 3), "instances": len(staged.inspection.instances)}
        reason = "; ".join((f"{t.candidate.id} is up", *staged.notes))
        t.record.add(CheckResult(name="staged", verdict=Verdict.PASS, reason=reason, evidence=evidence))
        if t.plan.strategy is StrategyKind.BLUE_GREEN and not t.first and staged.preview:
            t.record.do("smoke tests on the preview address")
            checks += await smoke_tests(t, staged.preview[0])
    closed = [check for check in checks if not opens(check.verdict)]
    t.record.add(
        *(check.model_copy(update={"name": f"candidate_{check.name}"}) for check in (checks if first else closed))
    )
    if closed:
        raise fail(_kind_of(closed), Stage.DEPLOY, "; ".join(f"{check.name}: {check.reason}" for check in closed))
    return staged.inspection


def _kind_of(closed: list[CheckResult]) -> FailureType:
    """What is asked early fails as the same kind of failure as it would later."""
    if all(check.name.startswith(SMOKE_PREFIX) for check in closed):
        return FailureType.SMOKE
    return FailureType.HEALTH if all(check.name == ENDPOINTS for check in closed) else FailureType.DEPLOYMENT


async def _move(t: Transaction, step: PlannedStep) -> None:
    t.record.do(f"{step.weight} % to {t.candidate.id}")
    t.moved = True
    t.record.split = await t.verbs.shift(t.candidate.id, t.stable.id if t.stable else None, step.weight)
    t.record.do(f"{step.weight} % to {t.candidate.id}, watched for {format_duration(step.watch)}")

"""Everything that can be known before anything changes. A deployment that fails here has touched nothing."""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities import signatures
from models.checks import PreflightCheck
from models.gates import opens
from models.outcome import FailureType
from models.plan import config_hash, make_plan, make_revision, make_way_back
from models.release import Release, Snapshot
from models.verdict import CheckResult, Stage, Verdict
from workflows import options
from workflows.failing import fail
from workflows.transaction import Transaction

_CHECKS = {
    "artifacts": signatures.CHECK_ARTIFACTS,
    "environment": signatures.CHECK_ENVIRONMENT,
    "disk": signatures.CHECK_DISK,
    "memory": signatures.CHECK_MEMORY,
    "address": signatures.CHECK_ADDRESS,
}


async def preflight(t: Transaction) -> None:
    """Asks all checks side by side, then works out the plan and pins what was found into it."""
    t.record.do(f"{len(_CHECKS)} checks")
    question = PreflightCheck(spec=t.spec)
    answers, able, snapshot = await asyncio.gather(
        asyncio.gather(*(t.ask(each, question, options.QUICK_CHECK, name) for name, each in _CHECKS.items())),
        t.verbs.capabilities(),
        t.verbs.snapshot(),
    )
    stable_serves = await _stable_serves(t, snapshot)
    t.record.add(*answers, _no_conflict(), _snapshot_taken(snapshot, stable_serves=stable_serves))
    digests = next((answer.evidence.get("digests") for answer in answers if answer.name == "artifacts"), None)
    release = Release(
        service=t.spec.service,
        version=t.spec.release.version,
        digests=digests if isinstance(digests, dict) else {},
        config_hash=config_hash(t.spec),
        git_revision=t.spec.release.revision,
    )
    plan = make_plan(t.spec, release, able, snapshot, stable_serves=stable_serves)
    t.decided(snapshot, make_revision(t.spec, release, workflow.info().run_id), plan)


async def still_as_planned(t: Transaction) -> None:
    """After a person took their time to approve: the artifacts are the ones that the plan was made for.

    Raises:
        StageFailed: something changed since; nothing has been done yet.
    """
    if Stage.DEPLOY not in t.plan_approvals():
        return
    question = PreflightCheck(spec=t.spec, expected=t.plan.digests)
    answer = await t.ask(signatures.CHECK_ARTIFACTS, question, options.QUICK_CHECK, "artifacts_as_planned")
    t.record.add(answer)
    if not opens(answer.verdict):
        raise fail(FailureType.PREFLIGHT, Stage.DEPLOY, answer.reason)


async def find_way_back(t: Transaction) -> None:
    """For a rollback after the end: back to stable when a terminated deployment left traffic elsewhere, else to the
    release before stable. Nothing else is asked: an emergency waits for no check that it does not need.
    """
    able, snapshot = await asyncio.gather(t.verbs.capabilities(), t.verbs.snapshot())
    astray = [each for each in snapshot.leftovers if snapshot.weights.get(each)]
    wanted = snapshot.stable if astray else snapshot.previous
    t.record.add(_no_conflict(), _snapshot_taken(snapshot))
    if wanted is None:
        reason = "there is no earlier release on this target to go back to"
        t.record.add(CheckResult(name="way_back", verdict=Verdict.FAIL, reason=reason))
        return
    t.record.add(CheckResult(name="way_back", verdict=Verdict.PASS, reason=f"to {wanted.id}"))
    t.record.change_version(wanted.release.version)
    plan = make_way_back(t.spec, wanted, able, snapshot)
    t.decided(snapshot, wanted, plan)


def _no_conflict() -> CheckResult:
    return CheckResult(
        name="no_conflicting_deployment",
        verdict=Verdict.PASS,
        reason="this deployment holds the target: its workflow id is the lock",
        evidence={"workflow_id": workflow.info().workflow_id},
    )


async def _stable_serves(t: Transaction, snapshot: Snapshot) -> bool:
    """Whether any instance of stable is healthy; when it cannot be asked, it is treated as if."""
    if snapshot.stable is None:
        return False
    try:
        inspection = await t.verbs.inspect(snapshot.stable, snapshot.instances)
    except ActivityError:
        return True
    return any(instance.healthy for instance in inspection.instances)


def _snapshot_taken(snapshot: Snapshot, *, stable_serves: bool = True) -> CheckResult:
    stable = snapshot.stable
    reason = f"{stable.release.version} serves ({stable.id})" if stable else "nothing serves yet: the first deployment"
    if stable and not stable_serves:
        reason += "; none of its instances is healthy: all traffic goes to the new version at once, without a rehearsal"
    if snapshot.leftovers:
        reason += f"; left by a deployment that was terminated, removed at the end: {', '.join(snapshot.leftovers)}"
    return CheckResult(
        name="snapshot",
        verdict=Verdict.PASS,
        reason=reason,
        evidence={"weights": snapshot.weights, "instances": snapshot.instances, "generation": snapshot.generation},
    )

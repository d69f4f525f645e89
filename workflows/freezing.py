"""A freeze is asked about twice: before anything else, so that nobody approves in vain, and again at the very moment in
which the first effect would begin, because days may have passed with an approval or a hold.

What is under way when a freeze begins is finished; a rollback is never asked about it.
"""

from temporalio import workflow

from activities import activity_stubs
from models.messages import DeploymentRequest, Kind
from models.outcome import FailureType
from models.preflight.freezing import FREEZE, FreezeCheck
from models.verdict import CheckResult, Stage, Verdict
from workflows import options
from workflows.approvals import pause_point
from workflows.checks import ask
from workflows.failures import fail
from workflows.transaction import Transaction


async def ask_freeze(request: DeploymentRequest, *, planning: bool = False) -> CheckResult:
    """Is a freeze in force now? Asks nobody where the spec has none, as no spec had before there were freezes."""
    if not request.spec.freeze:
        reason = "no freeze windows are configured (freeze)"
        return CheckResult(name=FREEZE, verdict=Verdict.SKIPPED, reason=reason)
    question = FreezeCheck(
        windows=request.spec.freeze,
        at=workflow.now(),
        broken_by=request.by if request.break_glass else "",
        reason=request.break_glass,
        planning=planning,
    )
    return await ask(activity_stubs.CHECK_FREEZE, question, options.QUICK_CHECK, FREEZE)


async def begin_unfrozen(t: Transaction) -> None:
    """Returns when the first effect may begin: nobody holds the deployment, and no freeze is in force.

    Raises:
        StageFailedError: a freeze is in force, or it cannot be said; nothing has been done.
    """
    if t.request.kind is Kind.ROLLBACK or not t.spec.freeze:
        return
    t.record.do("is a freeze in force?")
    while True:
        await pause_point(t)
        found = await ask_freeze(t.request)
        if t.desk.holding is None:
            break
    t.record.add(found)
    if found.verdict is Verdict.FAIL:
        raise fail(FailureType.FROZEN, Stage.DEPLOY, found.reason)
    if found.verdict is Verdict.ERROR:
        raise fail(FailureType.PREFLIGHT, Stage.DEPLOY, found.reason)

"""Waiting for people: held between two moves, or for an approval. What has users is watched meanwhile."""

from collections.abc import Callable
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

from models.notifications import EventKind
from models.outcome import FailureType
from models.units import format_duration
from models.verdict import Stage
from workflows.concurrency import Tasks, sleep, wait_until
from workflows.failures import describe, fail
from workflows.message_handlers import AskedApproval
from workflows.transaction import Transaction
from workflows.watch import Watched

_GUARD_FOR = timedelta(hours=1)
_ASK_AGAIN = timedelta(seconds=10)


async def pause_point(t: Transaction) -> None:
    """Between two moves: goes on at once, or waits as long as somebody holds the deployment.

    Raises:
        StageFailedError: the candidate failed while it was held, or nobody came to let it go on.
    """
    t.go_on()
    if t.desk.holding is None:
        return
    holder, expires = t.desk.holding, t.spec.strategy.hold.expires
    t.record.waiting_for = f"resume or rollback; held by {holder.by}: {holder.reason or 'no reason given'}"
    t.record.do("held", until=workflow.now() + expires)
    t.announce(
        EventKind.HELD,
        f"{t.spec.service} {t.record.version} is held on {t.spec.target} until a person decides.",
        f"Held by {holder.by}: {holder.reason or 'no reason given'}",
        f"Rolled back when nobody decides within {format_duration(expires)}",
        commands=("resume NAME/TARGET", 'rollback NAME/TARGET --reason "..."'),
    )
    if not await _wait(t, lambda: t.desk.holding is None, expires, "held"):
        reason = f"held by {holder.by}, and nobody decided within {format_duration(expires)}"
        raise fail(FailureType.DEPLOYMENT, t.record.stage, reason)


async def approval(t: Transaction, stage: Stage) -> None:
    """Waits for a person's decision where the plan asks for one before this stage.

    Raises:
        StageFailedError: rejected, nobody decided in time, or the candidate failed meanwhile.
    """
    if stage not in t.plan_approvals():
        return
    t.go_on()
    expires = t.spec.approvals.expires
    allowed = ", ".join(t.plan.approvers) or "anybody"
    if t.plan.break_glass:
        allowed += f" but {t.plan.started_by}, who breaks the glass: {t.plan.break_glass}"
    t.desk.asked, t.desk.approved = AskedApproval(stage, t.plan.id), None
    t.record.waiting_for = f"approval of {t.record.version} before {stage}, plan {t.plan.id}, by {allowed}"
    t.record.waiting_for += t.named_in_approval if stage is Stage.DEPLOY else ""
    t.record.do("waits for approval", until=workflow.now() + expires)
    t.announce(
        EventKind.APPROVAL_NEEDED,
        f"{t.spec.service} {t.record.version} waits for an approval on {t.spec.target} before {stage}.",
        *_plan_summary(t),
        f"May decide: {allowed}",
        f"Counts as rejected when nobody decides within {format_duration(expires)}",
        commands=(
            f"approve NAME/TARGET --as NAME --plan {t.plan.id}",
            'reject NAME/TARGET --as NAME --reason "..."',
        ),
    )
    try:
        decided = await _wait(t, lambda: t.desk.approved is not None, expires, f"approval before {stage}")
    finally:
        t.desk.asked = None
    if not decided:
        raise fail(FailureType.REJECTED, stage, f"nobody approved it within {format_duration(expires)}")
    if not t.desk.approved:
        decision = t.desk.decisions[-1]
        raise fail(FailureType.REJECTED, stage, f"rejected by {decision.by}: {decision.reason or 'no reason given'}")


def _plan_summary(t: Transaction) -> tuple[str, ...]:
    steps = ", ".join(f"{step.weight} % for {format_duration(step.watch)}" for step in t.plan.steps)
    before = f"from {t.plan.previous_version} " if t.plan.previous_version else ""
    changes = (f"{len(t.plan.changes)} changes on the platform, in the plan",) if t.plan.changes else ()
    return (f"Plan {t.plan.id}: {t.plan.strategy} {before}to {t.record.version}: {steps}", *changes)


async def _wait(t: Transaction, decided: Callable[[], bool], longest: timedelta, summary: str) -> bool:
    """Waits until a person has decided; False when nobody did. The candidate is watched as soon as it has users.

    The watch has ended when this returns: whatever comes next may take the candidate's instances down.

    Raises:
        StageFailedError: the candidate failed meanwhile.
    """
    in_time, over = True, False
    async with Tasks() as tasks:
        guard = tasks.start(_guard(t, lambda: over)) if t.moved else None
        try:
            await wait_until(lambda: decided() or (guard is not None and guard.done()), longest, summary)
        except TimeoutError:
            in_time = False
        finally:
            over = True
            t.record.waiting_for = ""
            tasks.cancel()
        t.record.do("")
        t.go_on()
    t.go_on()
    return in_time


async def _guard(t: Transaction, over: Callable[[], bool]) -> None:
    """Watches the candidate until the wait is over: what is plainly broken loses its traffic also now.

    That it cannot be asked is no verdict on the candidate: it is asked again.
    """
    while not over():
        try:
            inspection = await t.verbs.inspect(t.candidate, t.plan.steps[-1].candidate_instances)
            await Watched(t, "meanwhile", inspection).until(_GUARD_FOR, min_requests=0, note="while a person decides")
        except ActivityError as error:
            workflow.logger.warning("the candidate could not be watched: %s", describe(error))
            await sleep(_ASK_AGAIN, "before the candidate is watched again")

"""The way back: what undoes a deployment, in which order, and what happens when an undo itself fails.

Traffic is moved first (`take_traffic_back`, or the watch that found the verdict); this does the rest and does it
thoroughly. Nothing here is given up silently: a failed undo waits for a person.
"""

from contextlib import suppress
from datetime import timedelta
from functools import partial

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

from models.gates import opens
from models.messages import Kind, Way
from models.notifications import EventKind
from models.outcome import Failure, FailureType, Outcome, classify
from models.report import Phase
from models.verdict import CheckResult, Verdict
from workflows.concurrency import sleep, wait_until
from workflows.failures import TakenOverError, describe, evidence_of
from workflows.saga import Compensation
from workflows.transaction import Transaction, judge_instances
from workflows.wire_names import OUTCOME_KEY

_LOOKS = 5
_BETWEEN_LOOKS = timedelta(seconds=1)


def register_undo(t: Transaction) -> None:
    """Registers what undoes the deploy stage and everything after it, before the first effect begins."""
    t.saga.register(f"the candidate {t.candidate.id}", partial(_remove_candidate, t))
    before = t.stable.id if t.stable else "nothing"
    t.saga.register(f"traffic, instances and configuration: back to {before}", partial(restore_and_verify, t))


async def take_traffic_back(t: Transaction) -> None:
    """All traffic to stable, now; everything slower comes after. Its failure is not the end: the undo does it again."""
    if not t.moved or t.stable is None or t.desk.rollback_at is None:
        return
    try:
        split = await t.verbs.take_traffic_away(t.candidate.id, t.stable.id)
    except ActivityError as error:
        workflow.logger.warning("the quick way back failed, the thorough one follows: %s", describe(error))
    else:
        t.record.moved_back(split, (split.seen - t.desk.rollback_at).total_seconds())


async def undo_everything(t: Transaction) -> Outcome:
    """Runs the compensations, last first, and says how the target was left."""
    t.desk.phase = Phase.ROLLING_BACK
    t.record.do("rolling back")
    undone = t.saga.open()
    try:
        for compensation in undone:
            await _undo(t, compensation)
        if any(each.state == "skipped" for each in undone):
            await _verify_old(t)
    except TakenOverError:
        return Outcome.ROLLBACK_FAILED
    except FailureError as error:
        t.record.not_rolled_back.append(describe(error))
        return Outcome.ROLLBACK_FAILED
    if undone:
        _say_what_stays(t)
    return Outcome.ROLLED_BACK


async def _undo(t: Transaction, compensation: Compensation) -> None:
    while True:
        compensation.state, compensation.detail = "running", ""
        t.record.do(f"undo: {compensation.what}")
        try:
            await compensation.undo()
        except FailureError as error:
            compensation.state, compensation.detail = "failed", f"{describe(error)}{_last_words(error)}"
            if await _person_decides(t, compensation) is Way.SKIP:
                return
        else:
            compensation.state = "done"
            t.record.show()
            return


def _last_words(error: BaseException) -> str:
    evidence = evidence_of(error)
    said = f"; it said last: {evidence['last_lines'][-1]}" if evidence.get("last_lines") else ""
    return f"{said}; its log is {evidence['log']}" if evidence.get("log") else said


async def _person_decides(t: Transaction, compensation: Compensation) -> Way:
    """Waits, for as long as it takes, for one of the three ways out.

    Raises:
        TakenOverError: a person does the rest by hand.
    """
    left = "; ".join(each.what for each in t.saga.open())
    t.desk.phase, t.desk.resolution = Phase.ROLLBACK_FAILED, None
    t.record.waiting_for = (
        f"retry, skip or take-over: {compensation.what} failed: {compensation.detail}. Left to undo: {left}"
    )
    t.record.failure = rollback_failed(t.record.failure, f"{compensation.what}: {compensation.detail}")
    workflow.upsert_search_attributes([OUTCOME_KEY.value_set(Outcome.ROLLBACK_FAILED)])
    t.record.do("the rollback failed and waits for a person")
    await _remind_until_resolved(t)
    resolution = t.desk.resolution
    assert resolution is not None  # noqa: S101  what was waited for
    t.record.waiting_for = ""
    if resolution.way is Way.TAKE_OVER:
        t.record.not_rolled_back.append(f"taken over by {resolution.by}, left to undo: {left}")
        raise TakenOverError
    t.desk.phase = Phase.ROLLING_BACK
    if resolution.way is Way.SKIP:
        compensation.state = "skipped"
        compensation.detail = f"{resolution.by}: {resolution.reason}; it had failed with: {compensation.detail}"
        t.record.not_rolled_back.append(f"{compensation.what} (skipped by {resolution.by}: {resolution.reason})")
    return resolution.way


async def _remind_until_resolved(t: Transaction) -> None:
    """Waits for a person, and tells the receivers again and again that one is needed."""
    told = 0
    while t.desk.resolution is None:
        t.announce(
            EventKind.ROLLBACK_FAILED,
            f"A person is needed: rolling back {t.spec.service} {t.record.version} on {t.spec.target} failed.",
            t.record.waiting_for,
            commands=(
                "resolve NAME/TARGET retry --as NAME",
                'resolve NAME/TARGET skip --as NAME --reason "..."',
                "resolve NAME/TARGET take-over --as NAME",
            ),
            reminder=told,
        )
        again_after, told = t.announcer.reminds_after(told), told + 1
        with suppress(TimeoutError):
            await wait_until(lambda: t.desk.resolution is not None, again_after, "until the receivers are reminded")


def rollback_failed(before: Failure | None, why: str) -> Failure:
    """The failure that calls a person: as urgent as can be. What a person asked for is no failure; this is."""
    asked_for = (FailureType.REQUESTED, FailureType.CANCELLED, FailureType.REJECTED)
    if before is None or before.type in asked_for:
        return classify(FailureType.ROLLBACK, before.stage if before else None, f"the rollback failed: {why}")
    reason = (
        before.reason if "; the rollback failed: " in before.reason else f"{before.reason}; the rollback failed: {why}"
    )
    return before.model_copy(update={"priority": 0, "requires_rollback": True, "reason": reason})


async def _remove_candidate(t: Transaction) -> None:
    await t.verbs.remove(t.candidate.id, forget=t.request.kind is Kind.DEPLOY)


async def restore_and_verify(t: Transaction) -> None:
    """Back to the snapshot, and a look at every old instance and through the front proxy.

    Raises:
        ActivityError: the platform could not restore it.
        ApplicationError: it says that it did, but what serves is not the old version.
    """
    t.record.split = await t.verbs.restore(t.snapshot, t.ready_within)
    if t.stable is not None:
        t.record.address = t.stable.platform.address
    await _verify_old(t)


async def _verify_old(t: Transaction) -> None:
    bad: list[CheckResult] = []
    for look in range(_LOOKS):
        if look:
            await sleep(_BETWEEN_LOOKS, "before another look at the old version")
        bad = [check for check in await _look(t) if not opens(check.verdict)]
        if not bad:
            return
    said = "; ".join(f"{check.name}: {check.reason}" for check in bad)
    raise ApplicationError(f"the old version does not serve as it did: {said}", type="NotVerified", non_retryable=True)


async def _look(t: Transaction) -> list[CheckResult]:
    now = await t.verbs.snapshot("what serves after the way back")
    wanted = {t.stable.id: 100} if t.stable else {}
    there = {name: weight for name, weight in now.weights.items() if weight}
    traffic = CheckResult(
        name="traffic",
        verdict=Verdict.PASS if there == wanted else Verdict.FAIL,
        reason=f"the traffic is divided {there}, not {wanted}",
    )
    if t.stable is None:
        return [traffic]
    inspection = await t.verbs.inspect(t.stable, t.snapshot.instances)
    front_door = await t.ask_endpoint("version", t.stable, "front_door_version")
    return [traffic, *judge_instances(inspection, t.stable), front_door]


def _say_what_stays(t: Transaction) -> None:
    for test in t.spec.verify.smoke if t.smoke_tested else ():
        if test.command is not None or (test.request is not None and test.request.method not in ("GET", "HEAD")):
            t.record.not_rolled_back.append(f"what the smoke test {test.name} changed")

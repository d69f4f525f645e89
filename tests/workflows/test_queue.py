"""Deployments of one target take turns: in their order, whatever became of the one before, and nobody is lost."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner

from models.messages import Kind
from models.names import workflow_id
from models.outcome import Outcome
from models.preflight.queueing import MOST_WAITING, Entry, ExitKind
from models.verdict import Verdict
from tests.workflows.conftest import ended, old_revision, status
from tests.workflows.turns import Ground, a_ground, ticket, working
from workflows import queueing, wire_names


@pytest.fixture
async def ground(real_server: WorkflowEnvironment) -> AsyncIterator[Ground]:
    ground = a_ground(real_server.client)
    async with working(ground):
        yield ground


@pytest.fixture
async def held(ground: Ground) -> WorkflowHandle[Any, Any]:
    """Given: 1.1.0 is under way and held by an inconclusive watch."""
    ground.target.watches = [Verdict.INCONCLUSIVE] * 2
    handle = await ground.deploy("1.1.0")
    await ground.stands(handle, Outcome.HELD)
    return handle


async def test_a_free_target_is_taken_at_once(ground: Ground) -> None:
    report = await ground.report(await ground.enqueue("1.1.0"))

    assert (report.outcome, report.version, report.by) == (Outcome.DEPLOYED, "1.1.0", "ann")


async def test_three_at_once_are_deployed_one_after_the_other_in_their_order(ground: Ground) -> None:
    tickets = [await ground.enqueue(version) for version in ("1.1.0", "1.2.0", "1.3.0")]

    reports = [await ground.report(each) for each in tickets]

    assert [(each.version, each.outcome) for each in reports] == [
        ("1.1.0", Outcome.DEPLOYED), ("1.2.0", Outcome.DEPLOYED), ("1.3.0", Outcome.DEPLOYED),
    ]  # fmt: skip
    assert await ground.runs() == [("1.1.0", "deployed"), ("1.2.0", "deployed"), ("1.3.0", "deployed")]
    assert all(one.ended and one.ended <= other.started for one, other in pairwise(reports))
    assert [each.previous_version for each in reports] == ["1.0.0", "1.1.0", "1.2.0"]


async def test_whoever_waits_sees_who_is_before_it(ground: Ground, held: WorkflowHandle[Any, Any]) -> None:
    first, second = await ground.enqueue("1.2.0", by="bob"), await ground.enqueue("1.3.0", by="eve")

    view = await ground.until(lambda view: view.doing and len(view.waiting) == 2)

    assert [(each.ticket, each.version, each.by) for each in view.waiting] == [
        (first, "1.2.0", "bob"), (second, "1.3.0", "eve"),
    ]  # fmt: skip
    assert view.doing == "the deployment before has to end"
    await held.execute_update(wire_names.RESUME, {"by": "ann"})
    assert (await ground.report(second)).outcome is Outcome.DEPLOYED


@pytest.mark.parametrize("end", ["rolled-back", "preflight-failed", "cancelled"])
async def test_one_that_waits_is_deployed_also_when_the_one_before_was_not(ground: Ground, end: str) -> None:
    first = await ground.enqueue("1.1.0", approvals={"before": ["close"]})
    if end == "preflight-failed":
        ground.target.verdicts["disk"] = Verdict.FAIL
    left = await ground.left(first)
    handle = ground.client.get_workflow_handle(workflow_id(ground.service, "staging"), run_id=left.run_id)
    if end == "preflight-failed":
        await ended(handle)
        ground.target.verdicts.clear()
    second = await ground.enqueue("1.2.0")
    if end == "rolled-back":
        await handle.signal(wire_names.ROLLBACK, {"by": "ann", "reason": "errors"})
    if end == "cancelled":
        await handle.cancel()

    assert (await ground.report(second)).outcome is Outcome.DEPLOYED
    assert (await status(handle)).outcome is not Outcome.DEPLOYED


async def test_a_direct_deployment_may_come_in_between_and_order_is_kept(
    ground: Ground, held: WorkflowHandle[Any, Any]
) -> None:
    second = await ground.enqueue("1.2.0")
    third = await ground.enqueue("1.3.0")
    await held.signal(wire_names.ROLLBACK, {"by": "ann"})
    await ended(held)
    direct = ""
    try:
        await ground.deploy("9.9.9")
        direct = "9.9.9"
    except Exception as error:  # whoever is quicker has it: both are right
        assert "already started" in str(error).lower()

    assert (await ground.report(second)).outcome is Outcome.DEPLOYED
    assert (await ground.report(third)).outcome is Outcome.DEPLOYED
    versions = [version for version, _ in await ground.runs()]
    assert [each for each in versions if each != direct] == ["1.1.0", "1.2.0", "1.3.0"]


async def test_one_that_is_withdrawn_is_never_started(ground: Ground, held: WorkflowHandle[Any, Any]) -> None:
    first, second = await ground.enqueue("1.2.0"), await ground.enqueue("1.3.0")
    await ground.until(lambda view: len(view.waiting) == 2)

    decision = await ground.withdraw(first, reason="a newer one is ready")

    assert (decision.what, decision.by, decision.reason) == ("withdraw 1.2.0", "bob", "a newer one is ready")
    left = await ground.left(first)
    assert (left.how, left.reason) == (ExitKind.WITHDRAWN, "withdrawn from the queue by bob: a newer one is ready")
    await held.execute_update(wire_names.RESUME, {"by": "ann"})
    assert (await ground.report(second)).outcome is Outcome.DEPLOYED
    assert [version for version, _ in await ground.runs()] == ["1.1.0", "1.3.0"]


async def test_what_cannot_be_withdrawn_is_refused_with_the_reason(
    ground: Ground, held: WorkflowHandle[Any, Any]
) -> None:
    first = await ground.enqueue("1.2.0")
    await ground.withdraw(first)

    for each, sentence in ((first, "it waits no more: withdrawn"), ("0" * 12, "no deployment with the ticket")):
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await ground.withdraw(each)
        assert sentence in str(refused.value.cause)
    await held.execute_update(wire_names.ROLLBACK, {"by": "ann"})


async def test_asked_twice_with_one_ticket_it_is_deployed_once(ground: Ground) -> None:
    entry = Entry(ticket=ticket(), request=ground.request("1.1.0").model_dump(mode="json"))
    await asyncio.gather(*(ground.send(entry) for _ in range(4)))

    assert (await ground.report(entry.ticket)).outcome is Outcome.DEPLOYED
    await ground.send(entry)
    last = await ground.enqueue("1.2.0")

    await ground.report(last)
    assert [version for version, _ in await ground.runs()] == ["1.1.0", "1.2.0"]


BROKEN: tuple[Any, ...] = (
    {"spec": {"service": "shop"}, "by": "ann"},
    {"spec": "shop", "by": 3},
    {"spec": {"release": [], "strategy": "canary"}},
    {},
)


@pytest.mark.parametrize("request_", BROKEN)
async def test_a_request_that_cannot_be_read_is_refused_and_stops_nobody(ground: Ground, request_: Any) -> None:
    broken = ticket()
    await ground.send({"ticket": broken, "request": request_})
    for nonsense in ("text", {"ticket": "../../x", "request": {}}, None, [1]):
        await ground.send(nonsense)
    good = await ground.enqueue("1.1.0")

    left = await ground.left(broken)

    assert left.how is ExitKind.REFUSED
    assert "the worker cannot read this request" in left.reason
    assert (await ground.report(good)).outcome is Outcome.DEPLOYED


async def test_a_request_for_another_target_is_refused(ground: Ground) -> None:
    stray = await ground.enqueue("1.1.0", service="other")

    left = await ground.left(stray)

    assert left.how is ExitKind.REFUSED and "it is for other/staging" in left.reason


async def test_a_queue_has_a_longest_length(ground: Ground, held: WorkflowHandle[Any, Any]) -> None:
    tickets = [await ground.enqueue(f"2.0.{n}") for n in range(MOST_WAITING + 1)]

    left = await ground.left(tickets[-1])

    assert left.how is ExitKind.REFUSED and "the queue is full" in left.reason
    assert len((await ground.view()).waiting) == MOST_WAITING
    await ground.waiting_room.terminate()
    await held.execute_update(wire_names.ROLLBACK, {"by": "ann"})


async def test_after_a_rollback_that_failed_the_queue_waits_for_a_person(
    ground: Ground, held: WorkflowHandle[Any, Any]
) -> None:
    waiting = await ground.enqueue("1.2.0")
    ground.target.refusing.add("restore")
    await held.signal(wire_names.ROLLBACK, {"by": "ann"})
    await ground.stands(held, Outcome.ROLLBACK_FAILED)
    ground.target.refusing.clear()
    await held.execute_update(wire_names.RESOLVE, {"way": "take-over", "by": "ann"})

    view = await ground.until(lambda view: "rollback-failed" in view.doing)
    assert [each.ticket for each in view.waiting] == [waiting]
    await asyncio.sleep(2)  # it must not begin by itself: nothing else can be waited for
    assert (await ground.view()).waiting

    # A person brings the target right: then it goes on by itself.
    assert (await ended(await ground.deploy("1.1.1"))).outcome is Outcome.DEPLOYED
    assert (await ground.report(waiting)).outcome is Outcome.DEPLOYED


async def test_after_a_deployment_that_was_terminated_half_way_the_queue_waits_for_a_person(
    ground: Ground, held: WorkflowHandle[Any, Any]
) -> None:
    waiting = await ground.enqueue("1.2.0")
    await ground.until(lambda view: view.doing)

    await held.terminate("by hand")

    view = await ground.until(lambda view: "cut short" in view.doing)
    assert "terminated" in view.doing and [each.ticket for each in view.waiting] == [waiting]
    # Even then a rollback is free: it takes the lock, and puts the target right.
    assert (await ended(await ground.deploy("0", kind=Kind.ROLLBACK))).outcome is Outcome.ROLLED_BACK
    assert (await ground.report(waiting)).outcome is Outcome.DEPLOYED


async def test_one_that_supersedes_has_the_older_one_rolled_back_first(
    ground: Ground, held: WorkflowHandle[Any, Any]
) -> None:
    newer = await ground.enqueue("1.2.0", supersede=True, by="bob")

    report = await ground.report(newer)

    assert (report.outcome, report.previous_version) == (Outcome.DEPLOYED, "1.0.0")
    older = await status(held)
    assert older.outcome is Outcome.ROLLED_BACK
    said = older.decisions[-1]
    assert (said.what, said.by) == ("rollback", "bob")
    assert f"superseded by 1.2.0, which bob deploys (ticket {newer})" in said.reason
    assert older.ended is not None and older.ended <= report.started


async def test_with_nothing_under_way_superseding_is_deploying(ground: Ground) -> None:
    assert (await ground.report(await ground.enqueue("1.1.0", supersede=True))).outcome is Outcome.DEPLOYED


async def test_of_two_that_supersede_at_once_the_later_one_is_deployed(
    ground: Ground, held: WorkflowHandle[Any, Any]
) -> None:
    ground.target.hook = slowly
    first = await ground.enqueue("1.2.0", supersede=True, by="bob")
    second = await ground.enqueue("1.3.0", supersede=True, by="eve")

    left = await ground.left(first)

    if left.how is ExitKind.REPLACED:
        assert "superseded by 1.3.0, which eve deploys" in left.reason
    else:  # it was quick enough to begin, and is rolled back for the other one
        assert (await ground.report(first)).outcome is Outcome.ROLLED_BACK
    assert (await ground.report(second)).outcome is Outcome.DEPLOYED
    assert (await status(held)).outcome is Outcome.ROLLED_BACK
    assert len([each for each in (await status(held)).decisions if each.what == "rollback"]) == 1


async def slowly(name: str, _: int) -> None:
    if name == "restore":
        for _ in range(10):
            await asyncio.sleep(0.1)


async def test_one_that_superseded_can_be_superseded(ground: Ground, held: WorkflowHandle[Any, Any]) -> None:
    second = await ground.enqueue("1.2.0", supersede=True, approvals={"before": ["close"]})
    await ground.left(second)

    third = await ground.enqueue("1.3.0", supersede=True)

    assert (await ground.report(third)).outcome is Outcome.DEPLOYED
    assert await ground.runs() == [("1.1.0", "rolled-back"), ("1.2.0", "rolled-back"), ("1.3.0", "deployed")]


async def test_those_who_wait_keep_their_turn_behind_one_that_supersedes(
    ground: Ground, held: WorkflowHandle[Any, Any]
) -> None:
    waits = await ground.enqueue("1.2.0")
    await ground.until(lambda view: view.doing)

    supersedes = await ground.enqueue("1.3.0", supersede=True)

    assert (await ground.report(supersedes)).outcome is Outcome.DEPLOYED
    assert (await ground.report(waits)).outcome is Outcome.DEPLOYED
    assert [version for version, _ in await ground.runs()] == ["1.1.0", "1.3.0", "1.2.0"]


async def test_when_the_older_one_cannot_be_rolled_back_nothing_is_started(
    ground: Ground, held: WorkflowHandle[Any, Any]
) -> None:
    ground.target.refusing.add("restore")

    newer = await ground.enqueue("1.2.0", supersede=True)

    left = await ground.left(newer)
    assert left.how is ExitKind.STOPPED
    assert left.reason == "its rollback has failed and waits for a person; nothing was started"
    assert (await status(held)).outcome is Outcome.ROLLBACK_FAILED
    ground.target.refusing.clear()
    await held.execute_update(wire_names.RESOLVE, {"way": "retry", "by": "ann"})
    await ended(held)
    assert [version for version, _ in await ground.runs()] == ["1.1.0"]


async def test_an_emergency_rollback_is_never_superseded(ground: Ground) -> None:
    ground.target.previous = old_revision("0.9.0")
    ground.target.hook = slow_stage
    emergency = await ground.deploy("0", kind=Kind.ROLLBACK)

    newer = await ground.enqueue("1.2.0", supersede=True)

    report = await ground.report(newer)
    assert (await status(emergency)).outcome is Outcome.ROLLED_BACK
    assert (report.outcome, report.previous_version) == (Outcome.DEPLOYED, "0.9.0")


async def slow_stage(name: str, _: int) -> None:
    if name == "stage":
        await asyncio.sleep(1.5)


async def test_a_freeze_that_begins_while_it_waits_counts_when_its_turn_comes(
    ground: Ground, held: WorkflowHandle[Any, Any]
) -> None:
    freeze = [{"cron": "* * * * *", "for": "1d", "reason": "the books are closed"}]
    frozen, after = await ground.enqueue("1.2.0", freeze=freeze), await ground.enqueue("1.3.0")

    await held.execute_update(wire_names.RESUME, {"by": "ann"})

    assert (await ground.report(frozen)).outcome is Outcome.FROZEN
    assert (await ground.report(after)).outcome is Outcome.DEPLOYED


async def test_it_survives_a_worker_that_goes_and_one_that_comes(real_server: WorkflowEnvironment) -> None:
    ground = a_ground(real_server.client)
    async with working(ground):
        first = await ground.enqueue("1.1.0", approvals={"before": ["close"]})
        left = await ground.left(first)
        second = await ground.enqueue("1.2.0")
        await ground.until(lambda view: view.doing)
    third = await ground.enqueue("1.3.0")  # while no worker is there
    handle = ground.client.get_workflow_handle(workflow_id(ground.service, "staging"), run_id=left.run_id)
    await handle.signal(wire_names.ROLLBACK, {"by": "ann"})

    async with working(ground):
        assert (await ground.report(second)).outcome is Outcome.DEPLOYED
        assert (await ground.report(third)).outcome is Outcome.DEPLOYED

    assert await count_runs(ground) == 3


async def count_runs(ground: Ground) -> int:
    query = f"WorkflowId = '{workflow_id(ground.service, 'staging')}'"
    return len([run async for run in ground.client.list_workflows(query)])


async def test_a_queue_whose_history_has_grown_goes_on_in_a_new_run(
    real_server: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queueing, "_LONGEST_HISTORY", 25)
    ground = a_ground(real_server.client)
    ground.target.watches = [Verdict.INCONCLUSIVE] * 2
    async with working(ground, UnsandboxedWorkflowRunner()):
        held = await ground.deploy("1.1.0")
        await ground.stands(held, Outcome.HELD)
        gone, second, third = [await ground.enqueue(version) for version in ("9.9.9", "1.2.0", "1.3.0")]
        first_run = (await ground.waiting_room.describe()).run_id
        await ground.withdraw(gone)
        superseding = [await ground.enqueue("1.4.0", supersede=True, approvals={"before": ["close"]})]
        await ground.left(superseding[0])
        superseding.append(await ground.enqueue("1.5.0", supersede=True))

        assert (await ground.report(superseding[1])).outcome is Outcome.DEPLOYED
        assert (await ground.report(second)).outcome is Outcome.DEPLOYED
        assert (await ground.report(third)).outcome is Outcome.DEPLOYED

        assert (await ground.waiting_room.describe()).run_id != first_run
        assert (await ground.left(gone)).how is ExitKind.WITHDRAWN
        assert [version for version, _ in await ground.runs()] == ["1.1.0", "1.4.0", "1.5.0", "1.2.0", "1.3.0"]

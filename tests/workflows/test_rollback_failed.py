"""An undo that does not work waits, loudly, for a person: retry, skip with a reason, or take over."""

import asyncio
from typing import Any

from temporalio.client import WorkflowHandle

from models.outcome import FailureType, Outcome
from models.report import Phase
from models.verdict import Verdict
from tests.workflows.conftest import (
    Bench,
    assert_fully_old,
    ended,
    make_spec,
    status,
)
from tests.workflows.test_people import refused, start
from workflows import wire_names


async def broken_rollback(bench: Bench) -> WorkflowHandle[Any, Any]:
    bench.target.verdicts["health"] = Verdict.FAIL
    bench.target.breaking["restore"] = -1
    handle = await start(bench, make_spec(rehearse={"enabled": False}), Outcome.ROLLBACK_FAILED)
    report = await status(handle)
    assert report.phase is Phase.ROLLBACK_FAILED
    assert "restore is broken" in report.waiting_for
    assert [each.state for each in report.compensations] == ["registered", "failed"]
    return handle


async def test_a_rollback_that_failed_is_tried_again(bench: Bench) -> None:
    handle = await broken_rollback(bench)

    bench.target.breaking.clear()
    await handle.execute_update(wire_names.RESOLVE, {"way": "retry", "by": "ops"})

    assert (await ended(handle)).outcome is Outcome.ROLLED_BACK
    assert_fully_old(bench.target)


async def test_an_undo_is_skipped_with_a_reason_only_and_what_is_left_is_verified(bench: Bench) -> None:
    handle = await broken_rollback(bench)
    assert "needs a reason" in await refused(handle, wire_names.RESOLVE, {"way": "skip", "by": "ops"})

    stable = bench.target.stable
    assert stable is not None
    bench.target.weights = {stable.id: 100}  # put right by hand
    await handle.execute_update(wire_names.RESOLVE, {"way": "skip", "by": "ops", "reason": "by hand"})

    report = await ended(handle)
    assert report.outcome is Outcome.ROLLED_BACK
    assert any("by hand" in each for each in report.not_rolled_back)
    assert_fully_old(bench.target)


async def test_a_rollback_that_failed_can_be_taken_over(bench: Bench) -> None:
    handle = await broken_rollback(bench)

    await handle.execute_update(wire_names.RESOLVE, {"way": "take-over", "by": "ops"})

    report = await ended(handle)
    assert report.outcome is Outcome.ROLLBACK_FAILED
    assert any("taken over by ops" in each for each in report.not_rolled_back)
    assert "retire" not in bench.target.calls[bench.target.calls.index("restore") :]


async def test_a_failed_rollback_outlives_a_cancellation(bench: Bench) -> None:
    handle = await broken_rollback(bench)

    await handle.cancel()
    await asyncio.sleep(0.2)
    assert (await status(handle)).outcome is Outcome.ROLLBACK_FAILED

    bench.target.breaking.clear()
    await handle.signal(wire_names.RESOLVE, {"way": "retry", "by": "ops"})
    assert (await ended(handle)).outcome is Outcome.ROLLED_BACK
    assert_fully_old(bench.target)


async def test_a_skipped_undo_of_the_traffic_does_not_pass_for_a_rollback(bench: Bench) -> None:
    handle = await broken_rollback(bench)

    await handle.execute_update(wire_names.RESOLVE, {"way": "skip", "by": "ops", "reason": "believes it is fine"})
    await bench.until_doing("the rollback failed and waits for a person", handle)
    await handle.execute_update(wire_names.RESOLVE, {"way": "skip", "by": "ops", "reason": "still does"})

    report = await ended(handle)
    assert report.outcome is Outcome.ROLLBACK_FAILED
    assert any("the traffic is divided" in each for each in report.not_rolled_back)


async def test_a_failed_rollback_is_as_urgent_as_can_be(bench: Bench) -> None:
    handle = await broken_rollback(bench)

    failure = (await status(handle)).failure

    assert failure is not None
    assert (failure.type, failure.priority) == (FailureType.HEALTH, 0)
    assert "the rollback failed" in failure.reason
    await handle.execute_update(wire_names.RESOLVE, {"way": "take-over", "by": "ops"})
    assert (await ended(handle)).outcome is Outcome.ROLLBACK_FAILED

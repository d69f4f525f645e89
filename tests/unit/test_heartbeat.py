"""What an attempt says while it works, and what is left of what a program printed."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities import heartbeat
from activities.heartbeat import attempt, deadline_of_work, last_lines, waits_for
from activities.secrets.resolver import remember
from models.errors import NotReadyError
from workflows.failures import describe, evidence_of

UNTIL = datetime(2026, 5, 4, 9, 30, tzinfo=UTC)


async def test_an_attempt_says_in_its_beats_what_it_waits_for() -> None:
    beats: list[tuple[Any, ...]] = []
    told = asyncio.Event()
    environment = ActivityEnvironment()

    def beat(*details: Any) -> None:
        beats.append(details)
        if details:
            told.set()

    environment.on_heartbeat = beat

    async def work() -> None:
        async with attempt():
            await asyncio.to_thread(waits_for, "2 connections to end", UNTIL)
            await told.wait()

    await asyncio.wait_for(environment.run(work), 30)

    assert beats[-1] == ({"waits_for": "2 connections to end", "until": "2026-05-04T09:30:00+00:00"},)


async def test_an_attempt_that_loses_its_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "CANCELLED_AGAIN_AFTER", 0.1)
    environment, begun, lost = ActivityEnvironment(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with attempt():
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost.set()
            await asyncio.Event().wait()

    working = asyncio.create_task(environment.run(work))
    await begun.wait()
    environment.cancel()
    await asyncio.wait([working], timeout=30)

    assert lost.is_set()
    assert working.cancelled()


async def _deadline(beaten: list[Any], scheduled_ago: float, within: float) -> tuple[float, list[tuple[Any, ...]]]:
    """Seconds from now to the deadline of an attempt, and its beats."""
    now = datetime.now(UTC)
    asked, beats = now + timedelta(seconds=within - scheduled_ago), []
    environment, told = ActivityEnvironment(), asyncio.Event()
    scheduled = now - timedelta(seconds=scheduled_ago)
    environment.info = replace(environment.info, heartbeat_details=beaten, scheduled_time=scheduled)

    def beat(*details: Any) -> None:
        beats.append(details)
        told.set()

    environment.on_heartbeat = beat

    async def work() -> float:
        async with attempt():
            mine = deadline_of_work(asked)
            await told.wait()
            return (mine - now).total_seconds()

    return await asyncio.wait_for(environment.run(work), 30), beats


async def test_the_time_before_a_worker_was_there_is_not_taken_off_a_deadline() -> None:
    left, beats = await _deadline([], scheduled_ago=3600, within=120)
    assert left >= 120
    assert 100 < beats[-1][0]["seconds_left"] <= 120


@pytest.mark.parametrize("beaten", [{"seconds_left": 45.5}, {"seconds_left": 45.5, "waits_for": "something"}])
async def test_an_attempt_goes_on_with_what_the_one_before_had_left(beaten: Any) -> None:
    left, _ = await _deadline([beaten], scheduled_ago=3600, within=120)
    assert 45.5 <= left < 100


@pytest.mark.parametrize("beaten", ["x", None, {"seconds_left": "soon"}, {"waits_for": "something"}])
async def test_beats_of_another_release_leave_the_whole_time(beaten: Any) -> None:
    left, _ = await _deadline([beaten], scheduled_ago=0, within=120)
    assert left >= 120


def test_outside_of_an_attempt_a_deadline_is_what_was_asked() -> None:
    assert deadline_of_work(UNTIL) == UNTIL


def test_outside_of_an_attempt_nobody_is_told() -> None:
    waits_for("nothing", UNTIL)


async def test_what_a_program_printed_travels_as_lines_beside_the_sentence() -> None:
    async def work() -> None:
        async with attempt():
            raise NotReadyError("web.1 was started 3 times", "Traceback\n  File a\nBoom", "/logs/web.1.log")

    with pytest.raises(ApplicationError) as failed:
        await ActivityEnvironment().run(work)

    assert describe(failed.value) == "NotReady: web.1 was started 3 times"
    assert evidence_of(failed.value) == {"last_lines": ["Traceback", "  File a", "Boom"], "log": "/logs/web.1.log"}
    assert "Boom" in str(NotReadyError("web.1", "Boom"))


@pytest.mark.parametrize(
    ("printed", "kept"),
    [
        ("", ""),
        ("\n\none\n\n two \n\n", "one\n\n two"),
        ("first line\n" + "x" * 12, "x" * 12),
        ("a\nb\nc", "a\nb\nc"),
        ("y" * 30 + "END", "… " + "y" * 11 + "END"),
        ("it is hunter2-and-more", "it is ***"),
    ],
)
def test_last_lines_are_whole_bounded_and_scrubbed(printed: str, kept: str) -> None:
    remember("hunter2-and-more")

    assert last_lines(printed, 16) == kept
    assert len(last_lines(printed, 16)) <= 16

"""What an attempt says while it works, and what is left of what a program printed."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities import heartbeat
from activities.heartbeat import attempt, last_lines, waits_for
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

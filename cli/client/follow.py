"""Follows a deployment from outside: it goes on whether anybody watches or not.

The status query is asked a few times a second. The worker or the server may be away for a while; that is said once and
the asking goes on, because the deployment does too.
"""

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle

from cli.client.status import StatusUnavailableError, Waits, WatchSeen, look, report_of_closed, standing
from cli.exits import INTERRUPTED, CommandError
from models.outcome import EXIT_CODES, Outcome
from models.report import DeploymentReport, Phase

T = TypeVar("T")
EVERY = 0.4
CLOSES_WITHIN = 15.0
KNOWN_AGAIN_WITHIN = 30.0
TERMINATED = 143


class Viewer(Protocol):
    """Shows a deployment to somebody."""

    def update(self, report: DeploymentReport) -> None: ...

    def note(self, sentence: str) -> None: ...

    def watched(self, seen: WatchSeen | None) -> None: ...

    def waits(self, waits: Waits | None) -> None: ...

    def not_ready(self, lines: Sequence[str]) -> None: ...


@dataclass(frozen=True)
class Ending:
    """How the following ended: the last report seen, the exit code, and whether the reader left."""

    report: DeploymentReport | None
    code: int
    detached: bool = False
    waited_out: bool = False


class DetachedError(Exception):
    """The reader pressed Ctrl-C, or the pipeline was told to stop."""


async def follow(
    client: Client,
    handle: WorkflowHandle[Any, Any],
    viewer: Viewer,
    *,
    wait: timedelta | None = None,
    through_hold: bool = False,
) -> Ending:
    """Follows a run until it has ended, a person is needed, `wait` is over, or the reader leaves.

    Args:
        client: knows the run that may follow this one.
        handle: the run.
        viewer: shows what is seen.
        wait: None waits as long as it takes; an approval is waited for as well.
        through_hold: a rollback was asked for, so that an older hold is no reason to stop.
    """
    until = None if wait is None else time.monotonic() + wait.total_seconds()
    follower = _Follower(client, handle, viewer, through_hold)
    with leaving() as left:
        try:
            while True:
                code = await unless(left, follower.step())
                if code is not None:
                    return Ending(follower.report, code)
                if until is not None and time.monotonic() >= until:
                    return Ending(follower.report, _waited_out(follower.report), waited_out=True)
                pause = EVERY if until is None else max(0.0, min(EVERY, until - time.monotonic()))
                await unless(left, asyncio.sleep(pause))
        except DetachedError:
            return Ending(follower.report, left.code, detached=True)


def _waited_out(report: DeploymentReport | None) -> int:
    awaiting = report is not None and report.outcome is Outcome.AWAITING_APPROVAL
    return EXIT_CODES[Outcome.AWAITING_APPROVAL if awaiting else Outcome.RUNNING]


def needs_a_person(report: DeploymentReport, *, through_hold: bool) -> bool:
    """Says whether following makes no sense until somebody has decided; an approval is waited for."""
    if report.outcome is Outcome.ROLLBACK_FAILED:
        return True
    return report.outcome is Outcome.HELD and report.phase is Phase.FORWARD and not through_hold


class _Follower:
    def __init__(self, client: Client, handle: WorkflowHandle[Any, Any], viewer: Viewer, through_hold: bool) -> None:
        self._client = client
        self._handle = handle
        self._viewer = viewer
        self._through_hold = through_hold
        self._away = ""
        self._looks = 0
        self._unknown_since: float | None = None
        self._finished_since: float | None = None
        self.report: DeploymentReport | None = None

    async def step(self) -> int | None:
        """Looks once; returns the exit code when there is nothing more to wait for."""
        try:
            return await self._look()
        except StatusUnavailableError as failed:
            if failed.closed is not None:
                return await self._closed(failed.closed)
            self._is_away(failed)
            return None

    async def _look(self) -> int | None:
        report = await look(self._handle)
        if self._away:
            self._viewer.note(f"{self._away} answers again")
        self._away, self._unknown_since = "", None
        self.report = report
        self._viewer.update(report)
        self._looks += 1
        # A terminated workflow goes on answering its last status, so that Temporal is asked now and then as well.
        if report.phase is Phase.FINISHED or self._looks % 4 == 0:
            stands = await standing(self._handle)
            if stands.closed is not None:
                return await self._closed(stands.closed)
            self._viewer.watched(stands.watch)
            self._viewer.waits(stands.waits)
            self._viewer.not_ready(stands.not_ready)
        if report.phase is Phase.FINISHED:
            return self._overdue(report)
        return EXIT_CODES[report.outcome] if needs_a_person(report, through_hold=self._through_hold) else None

    def _is_away(self, failed: StatusUnavailableError) -> None:
        # A server that has just come back may not know for a moment what it has in its database.
        if failed.unknown:
            self._unknown_since = self._unknown_since or time.monotonic()
            if time.monotonic() - self._unknown_since > KNOWN_AGAIN_WITHIN:
                raise CommandError(str(failed), 1)
        if failed.who != self._away:
            self._away = failed.who
            self._viewer.note(f"{failed}; trying on, the deployment does not depend on this")

    def _overdue(self, report: DeploymentReport) -> int | None:
        """A finished deployment closes in a moment; if it does not, its outcome stands all the same."""
        self._finished_since = self._finished_since or time.monotonic()
        late = time.monotonic() - self._finished_since > CLOSES_WITHIN
        return EXIT_CODES[report.outcome] if late else None

    async def _closed(self, status: WorkflowExecutionStatus) -> int | None:
        if status is WorkflowExecutionStatus.CONTINUED_AS_NEW:
            # Somebody asked for a rollback in the moment in which it finished: that is how it really ends.
            self._handle = self._client.get_workflow_handle(self._handle.id)
            return None
        self.report = await report_of_closed(self._handle, status, self.report)
        self._viewer.update(self.report)
        return EXIT_CODES[self.report.outcome]


class Interruption(asyncio.Event):
    """Set when the reader has left; `code` is then the process's exit code."""

    code = INTERRUPTED

    def leave(self, code: int) -> None:
        self.code = code
        self.set()


@contextmanager
def leaving() -> Iterator[Interruption]:
    """Takes Ctrl-C and SIGTERM as leaving; more of them while leaving change nothing."""
    left = Interruption()
    loop = asyncio.get_running_loop()
    handlers: list[tuple[signal.Signals, Callable[[], None]]] = [
        (signal.SIGINT, lambda: left.leave(INTERRUPTED)),
        (signal.SIGTERM, lambda: left.leave(TERMINATED)),
    ]
    for number, handler in handlers:
        loop.add_signal_handler(number, handler)
    try:
        yield left
    finally:
        for number, _ in handlers:
            loop.remove_signal_handler(number)
            if left.is_set():
                signal.signal(number, signal.SIG_IGN)


async def unless(left: Interruption, work: Coroutine[Any, Any, T]) -> T:
    """Does the work, unless the reader has left or leaves meanwhile.

    Raises:
        DetachedError: the reader left.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(left.wait())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if left.is_set():
            raise DetachedError
        return task.result()
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)

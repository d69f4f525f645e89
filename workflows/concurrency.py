"""Runs work side by side so that nothing runs on after the `await` that owns it.

A task that is only asked to end may swallow the request: a cancelled activity arrives as an `ActivityError`, a
cancellation that meets a result is lost, `asyncio.gather` leaves the others running when one fails. A watcher that was
left behind so once judged a healthy release by instances that somebody else had stopped on purpose. So workflow code
starts no task of its own: it uses `Tasks`, or `run_to_completion`, it waits with `sleep` and `wait_until`, and
activities run through `platform_client.execute` (`tests/unit/test_workflow_rules.py` holds it to that).
"""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from temporalio import workflow

T = TypeVar("T")

_ENDED = "tasks-are-ended"
_BEGINS_NO_WAIT = "cancelled-begins-no-wait"


class Tasks:
    """A scope for tasks: when it is left, however it is left, all of them have ended.

    Left normally, it waits for all of them and raises the error of the first one that failed; the others are cancelled
    and waited for before that. Left by an error or a cancellation, all are cancelled and waited for.
    """

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []
        self._cancelled = False

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Starts `work`; its result can be read once the scope is left, or when it is done."""
        task = asyncio.create_task(work)
        self._tasks.append(task)
        return task

    def cancel(self) -> None:
        """Asks all tasks to end; leaving the scope waits until they have."""
        self._cancelled = True
        for task in self._tasks:
            if not task.done():
                task.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception | asyncio.CancelledError):
            return  # the workflow is thrown away with its tasks, by an eviction or a worker that ends: nothing can wait
        failed: BaseException | None = error
        if failed is None and not self._cancelled:
            try:
                failed = await self._first_error()
            except asyncio.CancelledError as cancelled:
                failed = cancelled
        if isinstance(failed, asyncio.CancelledError):
            self.cancel()
        await self._end()
        failed = failed or next((each for task in self._tasks if (each := _error_of(task)) is not None), None)
        if failed is not None and failed is not error:
            raise failed

    async def _first_error(self) -> BaseException | None:
        """The error of the first task that failed, as soon as it has; None when all have ended without one."""
        while True:
            failed = next((error for task in self._tasks if (error := _error_of(task)) is not None), None)
            left = [task for task in self._tasks if not task.done()]
            if failed is not None or not left:
                return failed
            await workflow.wait(left, return_when=asyncio.FIRST_EXCEPTION)

    async def _end(self) -> None:
        """Cancels what still runs and waits for it; a cancellation that arrives meanwhile is raised afterwards."""
        # A deployment that was begun before this rule goes on without it: its next commands came without waiting.
        if all(task.done() for task in self._tasks) or not workflow.patched(_ENDED):
            return
        self.cancel()
        cancelled: asyncio.CancelledError | None = None
        while left := [task for task in self._tasks if not task.done()]:
            try:
                await workflow.wait(left)
            except asyncio.CancelledError as error:
                cancelled = error
        for task in self._tasks:
            _error_of(task)  # has been looked at: what follows the first error is not reported as lost
        if cancelled is not None:
            raise cancelled


def _error_of(task: asyncio.Task[Any]) -> BaseException | None:
    return None if not task.done() or task.cancelled() else task.exception()


def is_being_cancelled() -> bool:
    """Whether the running task was asked to end, also when what it awaited has swallowed the request."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _begins_no_wait_when_cancelled() -> None:
    if is_being_cancelled() and workflow.patched(_BEGINS_NO_WAIT):
        raise asyncio.CancelledError


async def sleep(length: timedelta, summary: str) -> None:
    """Sleeps; a task that was asked to end does not begin to.

    An activity's answer that comes with the request to end swallows that request: what follows it must not wait.

    Args:
        length: how long.
        summary: what the Temporal UI shows for the timer.

    Raises:
        CancelledError: the running task was asked to end, now or before.
    """
    _begins_no_wait_when_cancelled()
    await workflow.sleep(length, summary=summary)


async def wait_until(condition: Callable[[], bool], at_most: timedelta | None = None, summary: str = "") -> None:
    """Waits until the condition is true; a task that was asked to end does not begin to (see `sleep`).

    Args:
        condition: asked after each change of the workflow.
        at_most: how long; None for as long as it takes.
        summary: what the Temporal UI shows for the timer of `at_most`.

    Raises:
        TimeoutError: the condition was not true in time.
        CancelledError: the running task was asked to end, now or before.
    """
    _begins_no_wait_when_cancelled()
    await workflow.wait_condition(condition, timeout=at_most, timeout_summary=summary or None)


async def run_to_completion(work: Coroutine[Any, Any, T], cancelled_again: Callable[[], None]) -> T:
    """Awaits `work` to its end also when the workflow is cancelled meanwhile, which is told to `cancelled_again`.

    A cancelled workflow receives its cancellation once, in whatever it happens to await; an `except Exception` misses
    it, and a plain `asyncio.shield` leaves a rollback half done when the cancellation arrives during the rollback.
    """
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.done():
                break
            cancelled_again()
    return task.result()

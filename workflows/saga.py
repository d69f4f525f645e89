"""Undoing what was done: registered before the effect, run last-in first-out, not interrupted, never silently given up.

A cancelled workflow receives its cancellation once, in whatever it happens to await; an `except Exception` misses it,
and a plain `asyncio.shield` leaves a rollback half done when the cancellation arrives during the rollback.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from models.report import Undone

T = TypeVar("T")


async def run_to_completion(work: Coroutine[Any, Any, T], cancelled_again: Callable[[], None]) -> T:
    """Awaits `work` to its end also when the workflow is cancelled meanwhile, which is told to `cancelled_again`."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.done():
                break
            cancelled_again()
    return task.result()


@dataclass
class Compensation:
    """The undo of one effect; a no-op when the effect never happened."""

    what: str
    undo: Callable[[], Awaitable[None]]
    state: str = "registered"
    detail: str = ""

    def shown(self) -> Undone:
        """As the report shows it."""
        return Undone(what=self.what, state=self.state, detail=self.detail)


@dataclass
class Saga:
    """The compensations of one deployment, in the order in which their effects were begun."""

    compensations: list[Compensation] = field(default_factory=list)

    def register(self, what: str, undo: Callable[[], Awaitable[None]]) -> None:
        """Registers the undo of an effect that is about to begin."""
        self.compensations.append(Compensation(what, undo))

    def open(self) -> list[Compensation]:
        """What is still to be undone, the last effect first."""
        return [each for each in reversed(self.compensations) if each.state not in ("done", "skipped")]

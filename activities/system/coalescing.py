"""Shares one answer among everybody who asks the same question at about the same time.

Answers come in order: a question is put only when the one before it has been answered, so that nobody is told
something older than what somebody else has been told before.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """One question, and its latest answer.

    Args:
        ask: puts the question.
        clock: seconds that only rise.
    """

    def __init__(self, ask: Callable[[], Awaitable[T]], clock: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._clock = ask, clock
        self._answer: tuple[float, T] | None = None
        self._asking: tuple[float, asyncio.Task[T]] | None = None
        self._not_before = float("-inf")
        self.used_at = clock()

    async def get(self, within: float) -> T:
        """An answer to a question that was put at most `within` seconds before this call; 0 asks anew.

        Raises:
            Exception: whatever the question raises, to everybody who waits for that answer.
        """
        self.used_at = self._clock()
        since = self.used_at - within
        while True:
            since = max(since, self._not_before)
            if self._answer is not None and self._answer[0] >= since:
                return self._answer[1]
            if self._asking is None or self._asking[1].done():
                self._asking = (self._clock(), asyncio.create_task(self._put()))
            began, asking = self._asking
            # Who is cancelled takes nothing from the others.
            if began >= since:
                found = await asyncio.shield(asking)
                if began >= self._not_before:
                    return found
            else:
                await asyncio.wait([asking])

    def latest(self) -> T | None:
        """The latest answer, however old; None when there is none. Good for a guess that is checked afterwards."""
        return self._answer[1] if self._answer is not None else None

    def renew(self) -> None:
        """What was asked until now is out of date: somebody has just changed what it is about."""
        self._not_before = self._clock()

    async def aclose(self) -> None:
        """End a question that is under way."""
        if self._asking is not None:
            self._asking[1].cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._asking[1]

    async def _put(self) -> T:
        began = self._clock()
        found = await self._ask()
        self._answer = (began, found)
        return found

"""Divides the requests that a cluster grants one client among three lanes, so that a rollback never waits for watches.

As in API priority and fairness, each lane has a share of the rate that nobody can take from it. What a lane leaves
unused is lent to the others, but only the upper half of what it has saved: the lower half is there at once when the
lane needs it. So a lane that asks without end gets everything that the others leave, and none is ever starved.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Lane(StrEnum):
    """What a request is for."""

    MOVE = "move"  # traffic moves, a restore, a rollback
    WORK = "work"  # everything else that a deployment does
    WATCH = "watch"  # reads of watches


# What most clusters grant one client, and then some for a burst of probes.
PER_SECOND = 50.0
BURST = 100.0
SHARES = {Lane.MOVE: 0.5, Lane.WORK: 0.3, Lane.WATCH: 0.2}
KEPT_BACK = 0.5


@dataclass
class _Bucket:
    rate: float
    burst: float
    tokens: float
    # Until then the server wants to hear nothing more from this lane.
    closed_until: float = float("-inf")
    # First come, first served.
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Throttle:
    """A bucket of tokens for each lane: one token per request.

    Args:
        rate: requests a second, of all lanes together.
        burst: how many may be saved, of all lanes together.
        clock: seconds that only rise.
        sleep: waits for that many seconds.
    """

    def __init__(
        self,
        rate: float = PER_SECOND,
        burst: float = BURST,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._at = clock()
        self._buckets = {lane: _Bucket(rate * part, burst * part, burst * part) for lane, part in SHARES.items()}

    async def take(self, lane: Lane) -> None:
        """Returns when one more request may be sent in this lane."""
        bucket = self._buckets[lane]
        async with bucket.turn:
            while (wait := self._take(bucket)) > 0:
                await self._sleep(wait)

    def close(self, lane: Lane, seconds: float) -> None:
        """Send nothing in this lane for so long: the server has said that it has too much to do."""
        bucket = self._buckets[lane]
        bucket.closed_until = max(bucket.closed_until, self._clock() + seconds)

    def _take(self, own: _Bucket) -> float:
        """Takes a token: 0; or the seconds after which there may be one."""
        now = self._clock()
        for bucket in self._buckets.values():
            bucket.tokens = min(bucket.burst, bucket.tokens + (now - self._at) * bucket.rate)
        self._at = now
        if now < own.closed_until:
            return own.closed_until - now
        waits = []
        for bucket in (own, *(bucket for bucket in self._buckets.values() if bucket is not own)):
            needed = 1 if bucket is own else bucket.burst * KEPT_BACK + 1
            # A rounding error must not make anybody wait once more, for nothing.
            if bucket.tokens >= needed - 1e-9:
                bucket.tokens -= 1
                return 0
            waits.append((min(needed, bucket.burst) - bucket.tokens) / bucket.rate)
        return max(min(waits), 1e-3)

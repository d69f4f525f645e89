"""What moves traffic never waits behind what watches, and what watches is never starved by what moves traffic."""

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from activities.platforms.kubernetes.lanes import BURST, PER_SECOND, SHARES, Lane, Throttle


class Clock:
    """Time that passes only when everybody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._number = itertools.count()

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._number), woken))
        await woken

    async def run(self, seconds: float) -> None:
        """Let so many seconds pass."""
        end = self.now + seconds
        while True:
            for _ in range(4):
                await asyncio.sleep(0)
            if not self._sleepers or self._sleepers[0][0] > end:
                break
            self.now, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
        self.now = end


class Cluster:
    """Counts what comes in each lane."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.throttle = Throttle(clock=self.clock.time, sleep=self.clock.sleep)
        self.came: Counter[Lane] = Counter()
        self._askers: list[asyncio.Task[None]] = []

    def flood(self, lane: Lane, askers: int = 8) -> None:
        """So many ask in this lane without a pause."""
        self._askers += [asyncio.create_task(self._ask(lane)) for _ in range(askers)]

    async def _ask(self, lane: Lane) -> None:
        while True:
            await self.throttle.take(lane)
            self.came[lane] += 1

    async def rates(self, seconds: float = 20) -> dict[Lane, float]:
        """Requests a second in each lane, from now on."""
        before = Counter(self.came)
        await self.clock.run(seconds)
        return {lane: (self.came[lane] - before[lane]) / seconds for lane in Lane}

    async def waits(self, lane: Lane, times: int) -> list[float]:
        """How long each of so many requests, sent at once, waits."""
        began, waited = self.clock.now, []

        async def one() -> None:
            await self.throttle.take(lane)
            waited.append(self.clock.now - began)

        asked = [asyncio.create_task(one()) for _ in range(times)]
        await self.clock.run(10)
        await asyncio.gather(*asked)
        return waited

    async def close(self) -> None:
        for asker in self._askers:
            asker.cancel()
        await asyncio.gather(*self._askers, return_exceptions=True)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    found = Cluster()
    yield found
    await found.close()


async def test_a_rollback_waits_for_nobody_however_many_watch(cluster: Cluster) -> None:
    cluster.flood(Lane.WATCH)
    cluster.flood(Lane.WORK)
    await cluster.clock.run(60)
    assert await cluster.waits(Lane.MOVE, 20) == [0.0] * 20


async def test_the_ones_after_it_wait_no_longer_than_their_own_share_takes(cluster: Cluster) -> None:
    cluster.flood(Lane.WATCH)
    cluster.flood(Lane.WORK)
    await cluster.clock.run(60)
    waited = await cluster.waits(Lane.MOVE, 100)
    own = PER_SECOND * SHARES[Lane.MOVE]
    assert max(waited) <= 100 / own


async def test_no_lane_is_starved_when_all_ask_without_end(cluster: Cluster) -> None:
    for lane in Lane:
        cluster.flood(lane)
    await cluster.clock.run(60)
    found = await cluster.rates()
    for lane in Lane:
        assert found[lane] == pytest.approx(PER_SECOND * SHARES[lane], rel=0.05)


@pytest.mark.parametrize("lane", list(Lane))
async def test_what_the_others_leave_is_had_by_who_asks(cluster: Cluster, lane: Lane) -> None:
    cluster.flood(lane)
    await cluster.clock.run(60)
    assert (await cluster.rates())[lane] == pytest.approx(PER_SECOND, rel=0.05)


async def test_all_together_never_ask_more_than_the_cluster_grants(cluster: Cluster) -> None:
    for lane in Lane:
        cluster.flood(lane)
    await cluster.clock.run(0)
    assert cluster.came.total() <= BURST
    await cluster.clock.run(10)
    assert cluster.came.total() <= BURST + 10 * PER_SECOND + 1


async def test_a_lane_that_the_server_sends_away_stays_away_and_the_others_do_not(cluster: Cluster) -> None:
    cluster.throttle.close(Lane.WATCH, 3.0)
    cluster.throttle.close(Lane.WATCH, 1.0)  # what was said before still holds
    began = cluster.clock.now
    watching = asyncio.create_task(cluster.throttle.take(Lane.WATCH))
    await cluster.throttle.take(Lane.MOVE)
    assert cluster.clock.now == began
    await cluster.clock.run(2.9)
    assert not watching.done()
    await cluster.clock.run(0.2)
    assert watching.done()


async def test_first_come_first_served_within_a_lane(cluster: Cluster) -> None:
    order: list[int] = []

    async def one(number: int) -> None:
        await cluster.throttle.take(Lane.WATCH)
        order.append(number)

    asked = [asyncio.create_task(one(number)) for number in range(300)]
    await cluster.clock.run(60)
    await asyncio.gather(*asked)
    assert order == list(range(300))

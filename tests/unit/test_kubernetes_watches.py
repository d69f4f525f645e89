"""Many watches of one namespace read together, decide on nothing stale, and never stand in the way of a rollback."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from activities.analysis.watch import Memory, Watch
from models.release import Fence
from models.verdict import Verdict
from models.watch import WatchOrder, WatchReport
from tests.support.fake_kubernetes import FENCE, NEW, OLD, WEIGHT, FakeKubernetes

MANY = 10
NEXT = Fence(epoch=FENCE.epoch, sequence=FENCE.sequence + 1)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[FakeKubernetes]:
    async with FakeKubernetes().serving(tmp_path) as found:
        yield found


Watching = Callable[[WatchOrder], asyncio.Task[WatchReport]]


@pytest.fixture
async def watch(cluster: FakeKubernetes) -> AsyncIterator[Watching]:
    """Watches as an activity does; none is left afterwards."""
    begun: list[asyncio.Task[WatchReport]] = []

    def begin(order: WatchOrder) -> asyncio.Task[WatchReport]:
        made = Watch(order, cluster.platform, Memory(watched_since=datetime.now(UTC)))
        begun.append(asyncio.create_task(made.run()))
        return begun[-1]

    yield begin
    for each in begun:
        each.cancel()
    await asyncio.gather(*begun, return_exceptions=True)


async def failing(cluster: FakeKubernetes, name: str, watching: asyncio.Task[WatchReport]) -> WatchReport:
    """Until its watch ends the candidate answers with errors only: more from one look at the gateway to the next."""
    while not watching.done():
        cluster.errors[name] = cluster.errors.get(name, 0) + 10
        await asyncio.wait([watching], timeout=0.2)
    return watching.result()


@pytest.mark.parametrize("count", [1, 10])
async def test_each_watch_costs_one_request_a_second_and_all_together_two(
    cluster: FakeKubernetes, watch: Watching, count: int
) -> None:
    for number in range(count):
        cluster.add(f"shop{number}")
    seconds = 6.0
    watches = [watch(cluster.watching(f"shop{number}", seconds)) for number in range(count)]
    # What each asks first: for its state, of each of its pods, and a note of the gateway that counts.
    async with asyncio.timeout(20):
        while cluster.asked["proxy"] < 2 * count or cluster.noted < count:  # noqa: ASYNC110  nothing tells
            await asyncio.sleep(0.05)
    before = cluster.asked.copy()
    began = time.monotonic()
    reports = await asyncio.gather(*watches)
    took = time.monotonic() - began
    assert {report.verdict for report in reports} == {Verdict.PASS}
    asked = cluster.asked - before
    of_api = asked.total() - asked["metrics"]
    # The last look of a watch is one more reading of each.
    assert of_api <= (2 + count) * (took + 1), asked


async def test_a_rollback_among_many_watches_waits_for_none_of_them(cluster: FakeKubernetes, watch: Watching) -> None:
    for number in range(MANY):
        cluster.add(f"shop{number}")
    for number in range(MANY):
        watch(cluster.watching(f"shop{number}", 60))
    await asyncio.sleep(2)
    for number in range(5):
        name = f"shop{number}"
        moving = asyncio.create_task(cluster.platform.shift(cluster.back(name)))
        began = time.monotonic()
        while cluster.weights(name) != {f"{name}-1-0-0": 100, f"{name}-1-1-0": 0}:
            # In one bucket with as many watches it took three seconds on a machine that had nothing else to do.
            assert time.monotonic() - began < 4, "the route was not written in time"
            await asyncio.sleep(0.005)
        assert (await moving).weights == {f"{OLD}-{name}": 100}


async def test_a_lane_that_is_sent_away_holds_up_no_rollback(cluster: FakeKubernetes, watch: Watching) -> None:
    cluster.add("shop")
    watch(cluster.watching("shop", 60))
    await asyncio.sleep(0.5)
    cluster.patience = {"proxy": 3}
    await asyncio.sleep(1.5)
    cluster.patience = {}
    began = time.monotonic()
    await cluster.platform.shift(cluster.back("shop"))
    assert time.monotonic() - began < 2


async def test_errors_that_one_gateway_counts_take_the_traffic_away(cluster: FakeKubernetes, watch: Watching) -> None:
    for name in ("good", "bad"):
        cluster.add(name)
    cluster.errors["bad"] = 0
    good, bad = (watch(cluster.watching(name, 60)) for name in ("good", "bad"))
    await asyncio.sleep(1)
    report = await asyncio.wait_for(failing(cluster, "bad", bad), 5)
    assert (report.verdict, report.stable_probed) == (Verdict.FAIL, True), report.reason
    assert cluster.weights("bad")["bad-1-0-0"] == 100
    assert not good.done()


async def test_a_cancellation_that_arrives_with_news_ends_the_watch(cluster: FakeKubernetes) -> None:
    cluster.add("shop")
    for turns in range(8):  # of the loop, between the news and the cancellation
        made = Watch(cluster.watching("shop", 60), cluster.platform, Memory(watched_since=datetime.now(UTC)))
        watching = asyncio.create_task(made.run())
        await asyncio.sleep(0.1)
        made._news.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        watching.cancel()
        await asyncio.wait([watching], timeout=5)
        assert watching.cancelled(), turns


async def test_a_stable_that_is_ill_is_given_nothing(cluster: FakeKubernetes, watch: Watching) -> None:
    cluster.add("shop")
    cluster.sick |= {"shop-1-0-0-0", "shop-1-0-0-1"}
    watching = watch(cluster.watching("shop", 60))
    report = await asyncio.wait_for(failing(cluster, "shop", watching), 10)
    assert (report.verdict, report.stable_probed, report.split) == (Verdict.FAIL, False, None)
    assert "is not healthy: no traffic was moved" in report.reason
    assert cluster.weights("shop")["shop-1-1-0"] == WEIGHT


async def test_a_pod_that_is_ill_is_found_although_the_well_ones_are_asked_in_turns(
    cluster: FakeKubernetes, watch: Watching
) -> None:
    cluster.add("shop")
    watching = watch(cluster.watching("shop", 60, probe_every="200ms"))
    await asyncio.sleep(1)
    cluster.sick.add("shop-1-1-0-1")
    report = await asyncio.wait_for(watching, 5)
    assert report.verdict is Verdict.FAIL
    assert "shop-1-1-0-1 failed 3 health probes in a row: /health answered 503" in report.reason


async def test_a_pod_that_has_gone_is_not_held_against_the_candidate(cluster: FakeKubernetes, watch: Watching) -> None:
    cluster.add("shop")
    watching = watch(cluster.watching("shop", 4, probe_every="100ms", failed_probes=3))
    await asyncio.sleep(1)
    cluster.remove_pod("shop-1-1-0-1")
    report = await watching
    assert report.verdict is Verdict.PASS, report.reason
    assert report.evidence["instances"] == 1


async def test_a_watch_sees_nothing_that_was_read_before_it_began(cluster: FakeKubernetes) -> None:
    cluster.add("shop")
    before = cluster.watching("shop", 60)
    assert (await cluster.platform.split(before)).weights[f"{NEW}-shop"] == WEIGHT
    cluster.divide("shop", {OLD: 50, NEW: 50})
    assert (await cluster.platform.split(before)).weights[f"{NEW}-shop"] == WEIGHT  # a second old, at most
    assert (await cluster.platform.split(cluster.watching("shop", 60, NEXT))).weights[f"{NEW}-shop"] == 50


async def test_a_watch_sees_what_this_worker_has_written(cluster: FakeKubernetes) -> None:
    cluster.add("shop")
    order = cluster.watching("shop", 60)
    assert (await cluster.platform.split(order)).weights[f"{NEW}-shop"] == WEIGHT
    await cluster.platform.shift(cluster.back("shop"))
    assert (await cluster.platform.split(order)).weights == {f"{OLD}-shop": 100}


async def test_an_account_that_may_not_list_routes_gets_them_one_by_one(cluster: FakeKubernetes) -> None:
    cluster.add("shop")
    cluster.forbidden = {"httproutes"}
    for _ in range(3):
        assert (await cluster.platform.split(cluster.watching("shop", 60))).weights[f"{NEW}-shop"] == WEIGHT
    assert cluster.asked["httproutes"] == 4


async def test_a_guess_that_is_wrong_moves_no_traffic_to_who_is_gone(cluster: FakeKubernetes, watch: Watching) -> None:
    cluster.add("shop")
    watching = watch(cluster.watching("shop", 1))
    await watching
    # Since a watch has read them last.
    cluster.remove_pod("shop-1-0-0-0")
    cluster.sick.add("shop-1-0-0-1")
    with pytest.raises(Exception, match="none of its instances is healthy"):
        await cluster.platform.shift(cluster.back("shop"))
    assert cluster.weights("shop")["shop-1-1-0"] == WEIGHT

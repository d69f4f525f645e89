"""A watch sees a bad candidate, moves the traffic itself, and is neither shortened nor blinded by dying."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.analysis.watch import WatchActivities
from models.release import Revision, Split
from models.spec import JudgeSpec
from models.verdict import Verdict
from models.watch import WatchOrder, WatchReport
from tests.harness.local import LocalHarness
from tests.harness.target import Target, soon, until

QUICK = JudgeSpec(probe_every=timedelta(milliseconds=200), min_errors=3)


@pytest.fixture(scope="module")
async def ground() -> AsyncIterator[LocalHarness]:
    found = LocalHarness()
    try:
        yield found
    finally:
        await found.aclose()


@pytest.fixture
async def target(ground: LocalHarness, tmp_path: Path) -> AsyncIterator[Target]:
    found = Target(ground, tmp_path)
    try:
        yield found
    finally:
        await found.wipe()


class Watching:
    """A candidate beside stable, with half of the traffic, and a watch over it."""

    def __init__(self, target: Target, old: Revision | None, new: Revision, split: Split) -> None:
        self.target, self.old, self.new, self.split = target, old, new, split
        self.beats: list[Any] = []

    @property
    def stable(self) -> Revision:
        assert self.old is not None
        return self.old

    def order(self, seconds: float, judge: JudgeSpec = QUICK, min_requests: int = 10, **fields: Any) -> WatchOrder:
        return self.target.order(
            WatchOrder,
            fields.pop("fence", None),
            candidate=self.new,
            stable=self.old,
            instances=1,
            judge=judge,
            min_requests=min_requests,
            began=self.split.counters,
            deadline=soon(seconds),
            **fields,
        )

    async def watch(self, order: WatchOrder, remembered: Any = None) -> WatchReport:
        environment = ActivityEnvironment()
        environment.on_heartbeat = lambda *details: self.beats.append(details)
        if remembered is not None:
            environment.info = replace(environment.info, heartbeat_details=[remembered])
        watch = WatchActivities({"local": self.target.platform}).watch
        return await environment.run(watch, order)


async def beside(target: Target, **environment: str) -> Watching:
    old = await target.live("1.0.0")
    new = target.revision("1.1.0", environment=environment)
    await target.stage(new)
    return Watching(target, old, new, await target.shift(new, old, 50))


async def test_a_good_candidate_passes_at_the_deadline_and_not_before(target: Target) -> None:
    watching = await beside(target)
    async with target.users(50):
        order = watching.order(2)
        report = await watching.watch(order)
    assert report.verdict is Verdict.PASS, report.reason
    assert order.deadline <= report.verdict_at < order.deadline + timedelta(seconds=3)
    assert report.evidence["candidate"]["requests"] >= 20
    assert report.evidence["candidate"]["errors"] == 0
    assert report.evidence["probes"] >= 3
    assert report.split is None
    assert (await target.split()).weights == {watching.new.id: 50, watching.stable.id: 50}


async def test_errors_take_the_traffic_away_at_once(target: Target) -> None:
    watching = await beside(target, APP_FAIL_SHARE="0.5")
    watched = asyncio.create_task(watching.watch(watching.order(60)))
    while not watched.done():
        await target.ask()
    report = await watched
    assert report.verdict is Verdict.FAIL
    assert "answers of the candidate were errors" in report.reason
    assert report.stable_probed is True
    assert report.split is not None
    assert report.split.weights == {watching.stable.id: 100}
    assert report.stable_at is not None
    assert timedelta(0) < report.stable_at - report.verdict_at < timedelta(seconds=2)
    assert await target.shares(20) == {"1.0.0": 100}


async def test_a_candidate_that_stops_answering_its_probes_fails(target: Target, tmp_path: Path) -> None:
    sick = tmp_path / "sick"
    watching = await beside(target, APP_SICK_IF=str(sick))
    sick.touch()
    report = await watching.watch(watching.order(60))
    assert report.verdict is Verdict.FAIL
    assert "failed 3 health probes in a row: /health answered 503" in report.reason
    assert (await target.split()).weights == {watching.stable.id: 100}


async def test_a_watch_whose_time_is_over_still_fails_a_candidate_that_does_not_answer(
    target: Target, tmp_path: Path
) -> None:
    """The worker was away until after the deadline: one probe convicts nobody, and is no pass either."""
    sick = tmp_path / "sick"
    watching = await beside(target, APP_SICK_IF=str(sick))
    sick.touch()
    report = await watching.watch(watching.order(-60, min_requests=0))
    assert report.verdict is Verdict.FAIL
    assert "failed 3 health probes in a row" in report.reason
    sick.unlink()
    assert (await watching.watch(watching.order(-60, min_requests=0))).verdict is Verdict.PASS


async def test_a_candidate_that_keeps_dying_fails_although_it_comes_back(target: Target) -> None:
    watching = await beside(target, APP_CRASH_AFTER_S="1.5")
    patient = QUICK.model_copy(update={"failed_probes": 1000})
    report = await watching.watch(watching.order(60, judge=patient))
    assert report.verdict is Verdict.FAIL
    assert "was restarted 2 times while it was watched" in report.reason


async def test_restarts_before_the_step_are_not_held_against_it(target: Target) -> None:
    watching = await beside(target)
    before = {f"{each.name}": 5 for each in (await target.inspect(watching.new)).instances}
    report = await watching.watch(watching.order(0.5, min_requests=0, restarts=before))
    assert report.verdict is Verdict.PASS
    assert report.evidence["restarts"] == {}


async def test_too_few_requests_are_inconclusive(target: Target) -> None:
    watching = await beside(target)
    report = await watching.watch(watching.order(0.5))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "10 needed to judge it" in report.reason


async def test_no_traffic_goes_to_a_stable_that_is_not_healthy(target: Target, tmp_path: Path) -> None:
    sick = tmp_path / "sick"
    old = await target.live("1.0.0", environment={"APP_SICK_IF": str(sick)})
    new = target.revision("1.1.0", environment={"APP_SICK_IF": str(sick)})
    await target.stage(new)
    watching = Watching(target, old, new, await target.shift(new, old, 50))
    sick.touch()
    report = await watching.watch(watching.order(60))
    assert report.verdict is Verdict.FAIL
    assert report.stable_probed is False
    assert report.split is None
    assert "is not healthy: no traffic was moved" in report.reason
    assert (await target.snapshot()).weights == {new.id: 50, old.id: 50}


async def test_nothing_is_moved_when_nothing_else_can_serve(target: Target, tmp_path: Path) -> None:
    sick = tmp_path / "sick"
    new = await target.live("1.0.0", environment={"APP_SICK_IF": str(sick)})
    watching = Watching(target, None, new, await target.split())
    sick.touch()
    report = await watching.watch(watching.order(60))
    assert report.verdict is Verdict.FAIL
    assert "nothing else can serve" in report.reason
    assert (await target.snapshot()).weights == {new.id: 100}


async def test_a_newer_deployment_moves_the_traffic_and_the_verdict_is_told_all_the_same(target: Target) -> None:
    watching = await beside(target, APP_FAIL_SHARE="1")
    older = target.fence()
    await target.shift(watching.new, watching.stable, 25)
    for _ in range(60):
        await target.ask()
    report = await watching.watch(watching.order(2, fence=older))
    assert report.verdict is Verdict.FAIL
    assert "a newer deployment controls traffic" in report.reason
    assert (await target.split()).weights == {watching.new.id: 25, watching.stable.id: 75}


async def test_a_retry_after_the_deadline_judges_what_was_counted(target: Target) -> None:
    good = await beside(target)
    for _ in range(40):
        await target.ask()
    report = await good.watch(good.order(-5))
    assert report.verdict is Verdict.PASS, report.reason
    assert report.evidence["candidate"]["requests"] == 20
    assert report.evidence["stable"]["requests"] == 20


async def test_a_retry_goes_on_with_the_probes_of_the_attempt_before(target: Target, tmp_path: Path) -> None:
    sick = tmp_path / "sick"
    watching = await beside(target, APP_SICK_IF=str(sick))
    slow = JudgeSpec(probe_every=timedelta(seconds=30), failed_probes=3)
    names = [each.name for each in (await target.inspect(watching.new)).instances]
    remembered = {"probes": 7, "failed_probes": dict.fromkeys(names, 2), "watched_since": soon(-60).isoformat()}
    sick.touch()
    report = await watching.watch(watching.order(60, judge=slow), remembered)
    assert report.verdict is Verdict.FAIL
    assert "failed 3 health probes in a row" in report.reason
    assert report.evidence["attempts"] == 2
    assert report.evidence["probes"] == 8
    assert report.evidence["seconds"] >= 60


async def test_what_an_attempt_hands_on_is_what_the_next_one_understands(target: Target) -> None:
    watching = await beside(target)
    await watching.watch(watching.order(1.2, min_requests=0))
    assert watching.beats
    report = await watching.watch(watching.order(0.3, min_requests=0), watching.beats[-1][0])
    assert report.evidence["attempts"] == 2
    assert report.evidence["probes"] > watching.beats[-1][0]["probes"] >= 1


async def test_a_killed_router_neither_fails_the_candidate_nor_loses_its_counts(target: Target) -> None:
    watching = await beside(target)
    watched = asyncio.create_task(watching.watch(watching.order(3)))
    for _ in range(30):
        await target.ask()
    counted = (await target.split()).counters[watching.new.id].requests
    await target.ground.kill_router(target.service)
    report = await watched
    assert report.verdict is Verdict.PASS, report.reason
    assert report.evidence["candidate"]["requests"] >= counted == 15


async def test_counters_that_cannot_be_read_are_an_error_and_no_failure(target: Target) -> None:
    watching = await beside(target)
    async with target.ground.hanging_router(target.service):
        report = await watching.watch(watching.order(0.5))
    assert report.verdict is Verdict.ERROR
    assert "counters are unknown" in report.reason
    assert (await target.snapshot()).weights == {watching.new.id: 50, watching.stable.id: 50}


async def test_a_watch_whose_users_were_answered_by_somebody_else_is_no_pass(target: Target) -> None:
    """A router that holds the candidate for ill leads users to stable; its weights say nothing of it."""
    old = await target.live("1.0.0")
    new = target.revision("1.1.0", environment={"APP_ILL_FOR": "Go-http-client"})
    await target.stage(new)
    watching = Watching(target, old, new, await target.shift(new, old, 100))
    async with target.users(40):
        report = await watching.watch(watching.order(8, weight=100, min_requests=0))
    assert report.verdict is Verdict.INCONCLUSIVE, report.reason
    assert "and was to give 100 %: the split seen is not the split asked" in report.reason
    assert report.evidence["divided"]["stable"] > report.evidence["divided"]["candidate"]
    assert report.evidence["divided"]["asked"] == 100


@pytest.mark.parametrize("weight", [10, 50, 100])
async def test_a_watch_whose_users_were_divided_as_asked_passes(target: Target, weight: int) -> None:
    old = await target.live("1.0.0")
    new = target.revision("1.1.0")
    await target.stage(new)
    watching = Watching(target, old, new, await target.shift(new, old, weight))
    async with target.users(100):
        report = await watching.watch(watching.order(4, weight=weight, min_requests=0))
    assert report.verdict is Verdict.PASS, report.reason
    assert report.evidence["divided"]["candidate"] > 0


async def test_a_watch_at_whose_end_the_router_divides_otherwise_is_no_pass(target: Target) -> None:
    watching = await beside(target)
    report = await watching.watch(watching.order(1, weight=80, min_requests=0))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "and 80 % of the candidate were asked for" in report.reason


async def test_a_split_that_is_not_judged_may_be_any(target: Target) -> None:
    watching = await beside(target)
    order = watching.order(1, weight=80, min_requests=0)
    judge = order.judge.model_copy(update={"max_split_error": 1.0})
    report = await watching.watch(order.model_copy(update={"judge": judge}))
    assert report.verdict is Verdict.PASS, report.reason


async def test_what_was_under_way_at_the_move_does_not_count_for_the_split(target: Target) -> None:
    old = await target.live("1.0.0")
    new = target.revision("1.1.0")
    await target.stage(new)
    long = [asyncio.create_task(target.ask("/slow?seconds=1.2")) for _ in range(60)]

    async def all_have_arrived() -> bool:
        return bool((await target.ask("/under-way")).json()["under_way"] > len(long))

    await until(all_have_arrived)
    watching = Watching(target, old, new, await target.shift(new, old, 100))
    watched = asyncio.create_task(watching.watch(watching.order(8, weight=100, min_requests=0)))
    assert {(await each).json()["version"] for each in long} == {"1.0.0"}
    while not watched.done():
        await target.ask()
    report = await watched
    assert report.verdict is Verdict.PASS, report.reason
    assert report.evidence["stable"]["requests"] >= 50

"""Whatever a deployment does, every user gets an answer."""

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from models.errors import PreconditionError, UnsafeChangeError
from tests.harness.target import Target, needs_own_door, until


async def test_no_request_is_lost_in_a_whole_deployment_and_its_rollback(target: Target) -> None:
    old = await target.live("1.0.0", instances=2)
    before = await target.snapshot()
    new = target.revision("1.1.0")
    async with target.users():
        await target.stage(new, instances=2)
        for weight in (5, 50, 100, 0, 100):
            await target.shift(new, old, weight)
        await target.restore(before)
        await target.retire(new)
        await target.stage(new, instances=2)
        await target.shift(new, old, 100)
        await target.promote(new)
        await target.retire(old)
        await target.restore(before)
        await target.retire(new, forget=True)
    assert await target.shares(20) == {"1.0.0": 100}


async def test_no_request_is_lost_instance_by_instance(target: Target) -> None:
    old = await target.live("1.0.0", instances=3)
    before = await target.snapshot()
    new = target.revision("1.1.0")
    async with target.users() as load:
        for up, weight, keep in ((1, 33, 2), (2, 67, 1), (3, 100, 1)):
            await target.stage(new, instances=up)
            await target.shift(new, old, weight)
            await target.retire(old, keep=keep)
            assert len((await target.inspect(old, instances=keep)).instances) == keep
        assert (await target.split()).weights == {new.id: 100}
        await target.restore(before)
        assert (await target.snapshot()).instances == 3
        assert set(load.so_far().by_version()) == {"1.0.0", "1.1.0"}


@pytest.mark.parametrize("at", ["staged", "shifted", "promoted", "half retired", "retired"])
async def test_no_request_is_lost_when_restored_from(target: Target, at: str) -> None:
    old = await target.live("1.0.0", instances=2)
    before = await target.snapshot()
    new = target.revision("1.1.0")
    async with target.users():
        await target.stage(new)
        if at != "staged":
            await target.shift(new, old, 50 if at == "shifted" else 100)
        if at in ("promoted", "half retired", "retired"):
            await target.promote(new)
        if at in ("half retired", "retired"):
            await target.retire(old, keep=1 if at == "half retired" else 0)

        split = await target.restore(before)

        assert split.weights == {old.id: 100}
        after = await target.snapshot()
        assert (after.stable, after.instances, after.previous) == (old.abridge(), 2, None)
        await target.retire(new, forget=True)
    assert await target.shares(20) == {"1.0.0": 100}


async def test_a_revision_without_a_healthy_instance_gets_no_traffic(target: Target, tmp_path: Path) -> None:
    sick = tmp_path / "sick"
    old, new = await target.live("1.0.0"), target.revision("1.1.0", environment={"APP_SICK_IF": str(sick)})
    await target.stage(new)
    await target.shift(new, old, 25)
    sick.touch()
    with pytest.raises(UnsafeChangeError, match="none of its instances is healthy"):
        await target.shift(new, old, 50)
    assert (await target.snapshot()).weights == {new.id: 25, old.id: 75}
    assert (await target.shift(new, old, 0)).weights == {old.id: 100}
    with pytest.raises(UnsafeChangeError):
        await target.shift(new, old, 100)
    assert await target.shares(20) == {"1.0.0": 100}


async def test_answers_that_come_late_end_no_way_back(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_own_door(target)
    old = await target.live("1.0.0")
    before, new = await target.snapshot(), target.revision("1.1.0")
    await target.stage(new)
    await target.shift(new, old, 100)
    instances = target.platform._instances  # type: ignore[attr-defined]
    healthy, late = instances.healthy, [True, True, True]

    async def answering(*about: object) -> list[object]:
        return [] if late and late.pop() else list(await healthy(*about))

    monkeypatch.setattr(instances, "healthy", answering)
    assert (await target.restore(before)).weights == {old.id: 100}
    assert not late


async def test_taking_traffic_away_waits_for_nothing_of_the_candidate(target: Target) -> None:
    old, new = await target.live("1.0.0"), target.revision("1.1.0", environment={"APP_IGNORE_SIGTERM": "1"})
    staged = await target.stage(new)
    await target.shift(new, old, 50)
    await target.sees({"1.0.0": 50, "1.1.0": 50})
    before = await requests_of(staged.preview[0])
    hanging = [asyncio.create_task(target.ask("/slow?seconds=3")) for _ in range(8)]

    async def half_of_them_are_there() -> bool:
        return await requests_of(staged.preview[0]) >= before + 4

    await until(half_of_them_are_there)
    await target.shift(new, old, 0)
    assert not any(task.done() for task in hanging)
    assert [answer.status_code for answer in await asyncio.gather(*hanging)] == [200] * 8


async def test_what_was_never_staged_gets_no_traffic(target: Target) -> None:
    old = await target.live("1.0.0")
    with pytest.raises(PreconditionError, match="never staged"):
        await target.shift(target.revision("1.1.0"), old, 50)
    with pytest.raises(PreconditionError, match="nothing to have the rest"):
        await target.shift(old, None, 50)


async def test_only_what_has_all_the_traffic_becomes_stable(target: Target) -> None:
    old, new = await target.live("1.0.0"), target.revision("1.1.0")
    await target.stage(new)
    await target.shift(new, old, 75)
    with pytest.raises(UnsafeChangeError, match="does not have all the traffic"):
        await target.promote(new)
    assert (await target.snapshot()).stable == old.abridge()


async def test_large_bodies_and_writing_requests_pass(target: Target) -> None:
    await target.live("1.0.0")
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(target.url("/upload"), content=b"x" * (5 << 20))
    assert answer.status_code == 200


async def test_a_dead_instance_costs_its_users_nothing_new(target: Target) -> None:
    """What it was answering is lost with it; whoever comes after is answered by another instance."""
    revision = await target.live("1.0.0", instances=2)
    await target.ground.kill_instance((await target.inspect(revision, instances=2)).instances[0].name)
    # Who notices it is the cluster where there is one: the platform has no router of its own that tries another.
    noticed = time.monotonic() + target.ground.gateway_lags
    while [(await target.ask()).status_code for _ in range(20)] != [200] * 20:
        assert time.monotonic() < noticed


async def test_health_checks_that_fail_everywhere_take_nobodys_answer_away(target: Target, tmp_path: Path) -> None:
    """As on a machine that is too busy to answer them in time: what is asked all the same answers."""
    needs_own_door(target)
    sick = tmp_path / "sick"
    revision = await target.live("1.0.0", instances=2, environment={"APP_SICK_IF": str(sick)})
    async with target.users(40) as load:
        sick.touch()
        ill_since = len(load.so_far().records)
        # For some rounds of the router's own checks.
        await until(lambda: len(load.so_far().records) > ill_since + 40 * 4)
    counted = (await target.split()).counters[revision.id]
    assert (counted.requests, counted.errors) == (len(load.so_far().records), 0)


async def requests_of(base: str) -> int:
    """How many users' requests have reached this instance."""
    async with httpx.AsyncClient(trust_env=False) as client:
        metrics = (await client.get(f"{base}/metrics")).text
    return int(next(line.split()[1] for line in metrics.splitlines() if line.startswith("app_requests_total ")))

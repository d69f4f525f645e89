"""What serves is never removed, and what is removed has answered first."""

import asyncio
from datetime import timedelta

import pytest

from models.errors import PreconditionError, UnsafeChangeError
from tests.harness.target import Target, until


async def test_a_request_under_way_is_answered_before_its_instance_goes(target: Target) -> None:
    old = await target.live("1.0.0", instances=1)
    new = target.revision("1.1.0")
    await target.stage(new)
    slow = asyncio.create_task(target.ask("/slow?seconds=3"))
    await until(lambda: arrived(target))
    await target.shift(new, old, 100)
    await target.promote(new)

    retired = await target.retire(old)

    answer = await slow
    assert (answer.status_code, answer.json()["version"]) == (200, "1.0.0")
    if (await target.platform.capabilities(old.platform)).sees_requests:
        assert retired.drained
        assert retired.evidence["connections_left"] == 0


async def test_a_request_without_end_does_not_hold_it_up_for_ever(target: Target) -> None:
    old = await target.live("1.0.0", instances=1)
    new = target.revision("1.1.0", drain=timedelta(seconds=1))
    await target.stage(new)
    endless = asyncio.create_task(target.ask("/slow?seconds=15"))
    await until(lambda: arrived(target))
    await target.shift(new, old, 100)
    await target.promote(new)

    retired = await target.retire(old)

    assert not retired.drained
    if (await target.platform.capabilities(old.platform)).sees_requests:
        assert retired.evidence["connections_left"] == 1
    assert (await endless).status_code == 502


async def test_one_that_ignores_being_asked_is_ended(target: Target) -> None:
    old = await target.live("1.0.0", environment={"APP_IGNORE_SIGTERM": "1"})
    await target.replaced(old)
    assert not any(each.running for each in (await target.inspect(old)).instances)


async def test_stable_and_what_has_traffic_are_not_retired(target: Target) -> None:
    old, new = await target.live("1.0.0"), target.revision("1.1.0")
    await target.stage(new)
    await target.shift(new, old, 25)
    for revision in (old, new):
        with pytest.raises(UnsafeChangeError, match="% of the traffic"):
            await target.retire(revision)
    await target.shift(new, old, 100)
    with pytest.raises(UnsafeChangeError, match="is stable"):
        await target.retire(old, forget=True)
    assert all(each.healthy for each in (await target.inspect(old)).instances)


async def test_the_healthy_instances_are_those_that_stay(target: Target) -> None:
    old, new = await target.live("1.0.0", instances=2), target.revision("1.1.0")
    await target.stage(new)
    await target.shift(new, old, 50)
    first, second = (each.name for each in (await target.inspect(old, instances=2)).instances)
    await target.ground.kill_instance(first)

    retired = await target.retire(old, keep=1)

    assert retired.instances == (first,)
    left = await target.inspect(old, instances=1)
    assert [each.name for each in left.instances] == [second]


async def test_only_so_many_former_revisions_are_kept(target: Target) -> None:
    revisions = [await target.live("1.0.0", keep=1)]
    for minor in range(1, 3):
        revisions.append(await target.replaced(revisions[-1], f"1.{minor}.0", keep=1))
    snapshot = await target.snapshot()
    assert (snapshot.stable, snapshot.previous) == (revisions[2].abridge(), revisions[1].abridge())
    with pytest.raises(PreconditionError):
        await target.shift(revisions[0], revisions[2], 100)
    assert not any(revisions[0].id in path for path in target.ground.left_of(target.service))
    for kept in revisions[1:]:
        assert any(kept.id in path for path in target.ground.left_of(target.service))


async def test_forgotten_is_gone_for_good(target: Target) -> None:
    old, new = await target.live("1.0.0"), target.revision("1.1.0")
    await target.stage(new)
    for _ in range(2):
        await target.retire(new, forget=True)
    assert not any(new.id in path for path in target.ground.left_of(target.service))
    assert (await target.snapshot()).leftovers == ()
    assert await target.shares(10) == {"1.0.0": 100}
    with pytest.raises(PreconditionError):
        await target.shift(new, old, 5)


async def test_a_candidate_that_failed_is_not_kept_in_the_place_of_the_former_release(target: Target) -> None:
    first = await target.live("1.0.0", keep=1)
    second = await target.replaced(first, "1.1.0", keep=1)
    bad = target.revision("1.2.0", keep=1)
    await target.stage(bad)
    await target.retire(bad)
    assert (await target.snapshot()).previous == first.abridge()
    assert (await target.snapshot()).stable == second.abridge()
    # A rehearsal retires the candidate and stages it again: its files are still there.
    assert any(bad.id in path for path in target.ground.left_of(target.service))


async def arrived(target: Target) -> bool:
    """Whether the first user's request has reached the service."""
    return "app_requests_total 1" in (await target.ask("/metrics")).text

"""An older effect that arrives late changes nothing; the same one again is a retry."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from models.errors import FencedOutError
from models.release import Fence, Revision, Snapshot
from tests.harness.target import Target, until

Effect = Callable[[Target, Revision, Revision, Snapshot, Fence], Awaitable[object]]
EFFECTS: dict[str, Effect] = {
    "stage": lambda target, new, old, before, fence: target.stage(new, instances=3, fence=fence),
    "shift": lambda target, new, old, before, fence: target.shift(new, old, 100, fence=fence),
    "promote": lambda target, new, old, before, fence: target.promote(new, fence=fence),
    "retire": lambda target, new, old, before, fence: target.retire(new, fence=fence),
    "restore": lambda target, new, old, before, fence: target.restore(before, fence=fence),
}


async def test_late_effects_of_an_older_deployment_change_nothing(target: Target) -> None:
    old = await target.live("1.0.0")
    before = await target.snapshot()
    new = target.revision("1.1.0")
    await target.stage(new)
    await target.shift(new, old, 50)
    newest = Fence(epoch=2, sequence=1)
    await target.shift(new, old, 25, fence=newest)
    there = await target.snapshot()

    for name, effect in EFFECTS.items():
        for late in (Fence(epoch=1, sequence=10_000), Fence(epoch=2, sequence=0)):
            with pytest.raises(FencedOutError, match="newer effect"):
                await effect(target, new, old, before, late)
            assert await target.snapshot() == there, name

    assert (await target.split()).weights == {new.id: 25, old.id: 75}
    again = await target.shift(new, old, 0, fence=newest)
    assert again.weights == {old.id: 100}


async def test_a_fence_outlives_what_it_guarded(target: Target) -> None:
    await target.live("1.0.0", instances=1)
    late = target.fence()
    await target.clean()
    assert target.ground.left_of(target.service) == []
    with pytest.raises(FencedOutError):
        await target.stage(target.revision("0.9.0"), instances=1, fence=late)
    assert target.ground.left_of(target.service) == []


async def test_a_stage_that_was_overtaken_ends_without_traffic(target: Target) -> None:
    old = await target.live("1.0.0")
    before = await target.snapshot()
    slow = target.revision("1.1.0", environment={"APP_SLOW_START_S": "1"})
    staging = asyncio.create_task(target.stage(slow))

    async def started() -> bool:
        return slow.id in (await target.snapshot()).leftovers

    await until(started)
    await target.restore(before)
    with pytest.raises(FencedOutError):
        await staging
    assert (await target.split()).weights == {old.id: 100}

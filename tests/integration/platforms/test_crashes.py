"""A worker may die at any moment of any verb: the next attempt ends where an undisturbed one would have."""

import asyncio
import random
import sys
from pathlib import Path

import pytest

from models.release import Order, PromoteOrder, RestoreOrder, RetireOrder, ShiftOrder, StageOrder
from tests.harness.target import Target, soon

# Within what an undisturbed verb takes, in seconds.
TAKES = {"stage": 0.5, "shift": 0.1, "promote": 0.03, "retire": 1.3, "restore": 0.5}


async def die_in(target: Target, verb: str, order: Order, after: float, folder: Path) -> None:
    """Begins a verb in another process, and kills that process after so many seconds."""
    asked = folder / "order.json"
    asked.write_text(order.model_dump_json())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.harness.verb_process", *target.ground.elsewhere(), verb, str(asked)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"begin\n"
    await asyncio.sleep(after)
    if process.returncode is None:
        process.kill()
    await process.wait()


@pytest.mark.parametrize("seed", [1, 2])
async def test_killed_at_random_moments_every_verb_still_ends_as_it_should(
    target: Target, tmp_path: Path, seed: int
) -> None:
    moments = random.Random(seed)  # noqa: S311  the same moments in each run
    old = await target.live("1.0.0", instances=2)
    before = await target.snapshot()
    new = target.revision("1.1.0")

    async def disturbed(verb: str, order: Order) -> object:
        for _ in range(2):
            await die_in(target, verb, order, moments.uniform(0, target.patience(TAKES[verb])), tmp_path)
        return await getattr(target.platform, verb)(order)

    async with target.users(40):
        staged = await disturbed("stage", target.order(StageOrder, revision=new, instances=2, deadline=soon(30)))
        assert len(staged.inspection.instances) == 2  # type: ignore[attr-defined]
        await disturbed("shift", target.order(ShiftOrder, candidate=new.id, stable=old.id, weight=100))
        await disturbed("promote", target.order(PromoteOrder, revision=new.id))
        promoted = await target.snapshot()
        assert (promoted.stable, promoted.previous, promoted.weights) == (new.abridge(), old.abridge(), {new.id: 100})
        await disturbed("retire", target.order(RetireOrder, revision=old.id))
        assert not any(each.running for each in (await target.inspect(old, instances=2)).instances)
        split = await disturbed("restore", target.order(RestoreOrder, snapshot=before, deadline=soon(30)))
        assert split.weights == {old.id: 100}  # type: ignore[attr-defined]
        await disturbed("retire", target.order(RetireOrder, revision=new.id, forget=True))

    after = await target.snapshot()
    assert (after.stable, after.instances, after.previous, after.leftovers) == (old.abridge(), 2, None, ())
    assert after.weights == {old.id: 100}
    assert not any(new.id in path for path in target.ground.left_of(target.service))
    assert await target.shares(20) == {"1.0.0": 100}


async def test_stable_dies_while_it_is_restored(target: Target) -> None:
    old = await target.live("1.0.0", instances=2)
    before = await target.snapshot()
    new = target.revision("1.1.0")
    await target.stage(new)
    await target.shift(new, old, 100)
    names = [each.name for each in (await target.inspect(old, instances=2)).instances]

    await asyncio.gather(*(target.ground.kill_instance(name) for name in names))
    restoring = asyncio.create_task(target.restore(before))
    split = await restoring

    assert split.weights == {old.id: 100}
    assert all(each.healthy for each in (await target.inspect(old, instances=2)).instances)
    assert await target.shares(20) == {"1.0.0": 100}

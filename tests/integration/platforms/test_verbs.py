"""Each verb does what it promises, and doing it twice is doing it once."""

import pytest

from models.errors import PreconditionError
from models.release import Capabilities, Snapshot
from tests.harness import Harness
from tests.harness.target import Target


async def test_capabilities_say_what_is_exact(target: Target) -> None:
    able = await target.platform.capabilities(target.revision("1.0.0").platform)
    assert isinstance(able, Capabilities)
    assert able.exact_weights or able.notes


async def test_a_target_that_nobody_knows_has_an_empty_snapshot(target: Target) -> None:
    snapshot = await target.snapshot()
    assert snapshot == Snapshot(address=target.listen)
    assert target.ground.left_of(target.service) == []


async def test_staged_is_up_and_asked_but_gets_no_user(target: Target) -> None:
    old = await target.live("1.0.0")
    new = target.revision("1.1.0")

    staged = await target.stage(new, instances=2)

    assert [(each.running, each.healthy, each.version, each.restarts) for each in staged.inspection.instances] == [
        (True, True, "1.1.0", 0)
    ] * 2
    assert len(staged.preview) == 2
    assert await target.shares(50) == {"1.0.0": 100}
    assert (await target.split()).weights == {old.id: 100}
    assert (await target.snapshot()).leftovers == (new.id,)


async def test_staging_twice_starts_nothing_twice(target: Target) -> None:
    revision = target.revision("1.0.0")
    first = await target.stage(revision, instances=2)
    second = await target.stage(revision, instances=2)
    assert second.inspection == first.inspection
    assert second.preview == first.preview


async def test_staging_more_instances_leaves_those_that_run(target: Target) -> None:
    revision = target.revision("1.0.0")
    one = await target.stage(revision, instances=1)
    three = await target.stage(revision, instances=3)
    assert len(one.inspection.instances) == 1
    assert len(three.inspection.instances) == 3
    assert three.inspection.instances[0] == one.inspection.instances[0]


async def test_an_instance_knows_who_it_is(target: Target) -> None:
    revision = await target.live("1.0.0", environment={"APP_TOLD": "hello"})
    answer = (await target.ask()).json()
    assert answer | {"pid": 0} == {
        "version": "1.0.0",
        "revision": revision.id,
        "told": "hello",
        "file": "1.0.0",
        "pid": 0,
        "under_way": 1,
    }


async def test_weights_are_those_that_users_see(target: Target) -> None:
    old, new = await target.live("1.0.0"), target.revision("1.1.0")
    await target.stage(new)
    for weight in (5, 25, 50, 75):
        split = await target.shift(new, old, weight)
        assert split.weights == {new.id: weight, old.id: 100 - weight}
        await target.sees({"1.1.0": weight, "1.0.0": 100 - weight})
    for weight, version in ((100, "1.1.0"), (0, "1.0.0")):
        await target.shift(new, old, weight)
        assert await target.shares(60) == {version: 100}


async def test_shifting_twice_is_shifting_once(target: Target) -> None:
    old, new = await target.live("1.0.0"), target.revision("1.1.0")
    await target.stage(new)
    first = await target.shift(new, old, 25)
    generation = (await target.snapshot()).generation
    second = await target.shift(new, old, 25)
    assert second.weights == first.weights
    assert (await target.snapshot()).generation == generation


async def test_the_split_counts_what_each_revision_answered(target: Target) -> None:
    old, new = await target.live("1.0.0"), target.revision("1.1.0", environment={"APP_FAIL_SHARE": "0.5"})
    await target.stage(new)
    await target.shift(new, old, 50)
    await target.sees({"1.1.0": 50, "1.0.0": 50}, requests=40, tolerance=20)
    before = (await target.split()).counters
    answers = [await target.ask() for _ in range(40)]
    after = (await target.split()).counters
    for revision, version, errors in ((old, "1.0.0", False), (new, "1.1.0", True)):
        told = [answer.status_code for answer in answers if answer.json()["version"] == version]
        assert len(told) >= 15
        assert (500 in told) is errors
        assert after[revision.id].requests - before[revision.id].requests == len(told)
        assert after[revision.id].errors - before[revision.id].errors == told.count(500)


async def test_promoting_changes_who_is_stable_and_nothing_else(target: Target) -> None:
    old, new = await target.live("1.0.0"), target.revision("1.1.0")
    await target.stage(new, instances=2)
    await target.shift(new, old, 100)
    before = await target.inspect(new, instances=2)

    for _ in range(2):
        snapshot = await target.promote(new)
        assert snapshot.stable == new.abridge()
        assert snapshot.previous == old.abridge()
        assert snapshot.leftovers == (old.id,)
        assert snapshot.instances == 2
    assert await target.inspect(new, instances=2) == before
    assert await target.shares(20) == {"1.1.0": 100}


async def test_retired_is_gone_and_can_be_brought_back(target: Target) -> None:
    old = await target.live("1.0.0", instances=2)
    new = await target.replaced(old)

    assert (await target.retire(old)).instances == ()
    gone = await target.inspect(old, instances=2)

    assert [(each.running, each.healthy) for each in gone.instances] == [(False, False)] * 2
    assert gone.expected == 2
    assert await target.shares(20) == {"1.1.0": 100}
    assert (await target.snapshot()).previous == old.abridge()
    await target.stage(old)
    await target.shift(old, new, 100)
    assert (await target.ask()).json()["file"] == "1.0.0"


async def test_restored_is_what_it_was(target: Target) -> None:
    old = await target.live("1.0.0", instances=2, environment={"APP_TOLD": "then"})
    before = await target.snapshot()
    new = await target.replaced(old, environment={"APP_TOLD": "now"})

    for _ in range(2):
        split = await target.restore(before)
        assert split.weights == {old.id: 100}
        after = await target.snapshot()
        assert (after.stable, after.previous, after.instances) == (old.abridge(), None, 2)
        assert after.leftovers == (new.id,)
    assert (await target.ask()).json()["told"] == "then"


async def test_inspecting_leaves_no_instance_out(target: Target) -> None:
    revision = await target.live("1.0.0", instances=2)
    found = await target.inspect(revision, instances=3)
    assert found.expected == 3
    assert [each.running for each in found.instances] == [True, True, False]
    assert len({each.name for each in found.instances}) == 3
    assert found.instances[2].detail


async def test_two_targets_do_not_meet(target: Target, platform_under_test: Harness) -> None:
    other = Target(platform_under_test, target.release("other").parent)
    try:
        await target.live("1.0.0", instances=1)
        await other.live("2.0.0", instances=1)
        assert await target.shares(10) == {"1.0.0": 100}
        assert await other.shares(10) == {"2.0.0": 100}
    finally:
        await other.wipe()
    assert await target.shares(10) == {"1.0.0": 100}


async def test_what_instances_print_is_told_once_of_stable_and_of_the_candidate(target: Target) -> None:
    await target.live("1.0.0", environment={"APP_PRINT": "old and well"})
    new = target.revision("1.1.0", environment={"APP_PRINT": "new and well"})
    with pytest.raises(PreconditionError, match="there is no candidate"):
        await target.logs(candidate=True)
    await target.stage(new, instances=2)

    stable, candidate = await target.logs(), await target.logs(candidate=True)
    since = {each.instance: each.cursor for each in candidate.printed}
    again = await target.logs(candidate=True, since=since)

    assert ["old and well" in each.lines for each in stable.printed] == [True]
    assert candidate.revision == new.id
    assert ["new and well" in each.lines for each in candidate.printed] == [True, True]
    assert ["new and well" in each.lines for each in again.printed] == [False, False]

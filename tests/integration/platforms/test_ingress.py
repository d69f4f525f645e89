"""Where users come in stays open: when the router dies, and while the address changes."""

from collections.abc import Awaitable, Callable

from models.errors import UnavailableError
from models.release import Snapshot
from tests.harness.target import Target, needs_own_door, until


async def test_a_killed_router_refuses_nobody_and_forgets_no_weight(target: Target) -> None:
    old, new = await target.live("1.0.0"), target.revision("1.1.0")
    await target.stage(new)
    await target.shift(new, old, 50)
    await target.ground.kill_router(target.service)
    await target.open_again()

    answers = [await target.ask() for _ in range(10)]

    assert [answer.status_code for answer in answers] == [200] * 10
    assert {answer.json()["version"] for answer in answers} == {"1.0.0", "1.1.0"}
    assert (await target.shift(new, old, 75)).weights == {new.id: 75, old.id: 25}


async def test_counters_outlive_the_router_and_count_nothing_twice(target: Target) -> None:
    revision = await target.live("1.0.0")

    async def counted() -> int:
        return (await target.split()).counters[revision.id].requests

    # A platform may have looked for itself whether users are served.
    began = await counted()
    for _ in range(10):
        await target.ask()
    assert await counted() == began + 10
    counted_before = began + 10
    for _ in range(2):
        await target.ground.kill_router(target.service)
        asked = await target.open_again()
        answers = [await target.ask() for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200] * 5
        counted_before += 5 + asked
        found = await until(lambda: _answered(counted), within=10 + target.patience(5))
        assert found == counted_before


async def _answered(count: Callable[[], Awaitable[int]]) -> int:
    """What was counted; 0 while the router does not answer yet."""
    try:
        return await count()
    except UnavailableError:
        return 0


async def test_the_address_of_the_service_changes_without_losing_a_user_of_either(target: Target) -> None:
    needs_own_door(target)
    old = await target.live("1.0.0")
    before = await target.snapshot()
    elsewhere = target.ground.free_address()
    new = target.revision("1.1.0", listen=elsewhere)

    async with target.users(40):
        await target.stage(new)
        await target.shift(new, old, 100)
        assert (await target.ask(listen=elsewhere)).json()["version"] == "1.1.0"
        await target.promote(new)
        assert (await target.snapshot()).address == elsewhere
    await target.retire(old)
    assert (await target.ask(listen=elsewhere)).json()["version"] == "1.1.0"
    assert await target.ground.is_closed(target.listen)

    await target.restore(before)
    await target.retire(new)
    assert (await target.ask()).json()["version"] == "1.0.0"
    assert (await target.snapshot()).address == target.listen
    assert await target.ground.is_closed(elsewhere)


async def test_back_to_nothing_closes_the_door(target: Target) -> None:
    revision = await target.live("1.0.0", instances=1)
    split = await target.restore(Snapshot())
    assert split.weights == {}
    assert await until(lambda: target.ground.is_closed(target.listen))
    assert (await target.snapshot()).leftovers == (revision.id,)

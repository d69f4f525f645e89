"""A candidate that cannot become ready is told apart from one that only needs time, and hurts nobody."""

import socket
import time
from pathlib import Path

import pytest

from models.errors import NotReadyError, PreconditionError
from models.spec import Endpoints
from tests.harness.target import Target, needs_own_door, until


async def test_one_that_starts_slowly_is_waited_for(target: Target) -> None:
    staged = await target.stage(target.revision("1.0.0", environment={"APP_SLOW_START_S": "1"}), instances=2)
    assert all(instance.healthy for instance in staged.inspection.instances)
    assert staged.seconds >= 1


async def test_one_that_is_never_ready_ends_at_the_deadline(target: Target) -> None:
    old = await target.live("1.0.0")
    new = target.revision("1.1.0", environment={"APP_NEVER_READY": "1"})
    with pytest.raises(NotReadyError, match="not ready in time: /ready answered 503"):
        await target.stage(new, within=target.patience(1.5))
    assert (await target.split()).weights == {old.id: 100}


async def test_one_that_crashes_again_and_again_ends_early_with_its_last_words(target: Target) -> None:
    crash = target.release("1.1.0") / "app.py"
    new = target.revision("1.1.0", environment={"APP_CRASH_IF": str(crash)})
    began = time.monotonic()
    with pytest.raises(NotReadyError, match=r"started 3 times and never became ready(?s:.*)I was told to crash"):
        await target.stage(new, within=60)
    assert time.monotonic() - began < max(15, target.patience(8))


async def test_a_program_that_does_not_exist_is_named(target: Target) -> None:
    new = target.revision("1.1.0", run=("no-such-program",))
    with pytest.raises(NotReadyError, match="no-such-program"):
        await target.stage(new, within=60)


async def test_one_that_crashed_before_gets_another_chance(target: Target, tmp_path: Path) -> None:
    crash = tmp_path / "crash"
    crash.touch()
    new = target.revision("1.1.0", environment={"APP_CRASH_IF": str(crash)})
    with pytest.raises(NotReadyError):
        await target.stage(new, within=target.patience(1))
    crash.unlink()
    staged = await target.stage(new)
    assert all(instance.healthy for instance in staged.inspection.instances)


async def test_what_has_changed_since_it_was_checked_never_runs(target: Target) -> None:
    """Where what was checked can still be had, it is what runs; elsewhere the change is refused."""
    old = await target.live("1.0.0")
    directory = target.release("next", told="checked")
    pinned = await target.pinned(directory)
    assert pinned
    (directory / "told.txt").write_text("changed")

    new = target.revision("1.1.0", directory=directory, digests=pinned)
    if not target.ground.keeps_what_was_checked:
        with pytest.raises(PreconditionError, match="has changed since it was checked"):
            await target.stage(new)
        assert (await target.split()).weights == {old.id: 100}
        (directory / "told.txt").write_text("checked")
        new = target.revision("1.1.0", directory=directory, digests=pinned)
    await target.stage(new)
    await target.shift(new, old, 100)
    assert (await target.ask()).json()["file"] == "checked"


async def test_what_runs_does_not_change_with_its_source(target: Target) -> None:
    directory = target.release("source", told="as deployed")
    await target.live("1.0.0", directory=directory)
    (directory / "told.txt").write_text("edited later")
    assert (await target.ask()).json()["file"] == "as deployed"


async def test_an_address_that_somebody_else_has_is_refused_before_anything_starts(target: Target) -> None:
    needs_own_door(target)
    host, port = target.listen.split(":")
    with socket.create_server((host, int(port))):
        new = target.revision("1.0.0")
        with pytest.raises(PreconditionError, match=rf"cannot be served at {target.listen}.*another program"):
            await target.stage(new)
    assert all(not instance.running for instance in (await target.inspect(new)).instances)


async def test_an_address_of_another_target_is_refused_with_its_name(target: Target) -> None:
    needs_own_door(target)
    other = Target(target.ground, target.release("x").parent)
    try:
        await other.live("1.0.0", instances=1)
        with pytest.raises(PreconditionError, match=f"{other.service}/staging"):
            await target.stage(target.revision("1.0.0", listen=other.listen))
    finally:
        await other.wipe()


async def test_a_first_deployment_that_fails_leaves_nothing_behind(target: Target) -> None:
    before = await target.snapshot()
    new = target.revision("1.0.0")
    await target.stage(new)
    await target.shift(new, None, 100)

    for _ in range(2):
        await target.restore(before)
        await target.retire(new, forget=True)

    assert target.ground.left_of(target.service) == []
    assert await until(lambda: target.ground.is_closed(target.listen))


async def test_a_service_without_any_endpoint_is_up_when_it_accepts_connections(target: Target) -> None:
    silent = Endpoints(health=None, ready=None, live=None, metrics=None, version=None)
    revision = await target.live("1.0.0", endpoints=silent)
    found = await target.inspect(revision)
    assert [(each.healthy, each.version) for each in found.instances] == [(True, None)] * 1
    assert await target.shares(20) == {"1.0.0": 100}


async def test_a_version_that_is_no_version_is_told(target: Target) -> None:
    revision = await target.live("1.0.0", endpoints=Endpoints(version="/healthz"))
    found = await target.inspect(revision)
    assert {(each.healthy, each.version) for each in found.instances} == {(True, None)}
    assert "not JSON" in found.instances[0].detail


async def test_a_dead_instance_is_started_again_and_counted(target: Target) -> None:
    revision = await target.live("1.0.0", instances=2)
    name = (await target.inspect(revision, instances=2)).instances[0].name
    await target.ground.kill_instance(name)

    async def restarted() -> bool:
        first = (await target.inspect(revision, instances=2)).instances[0]
        return first.healthy and first.restarts == 1

    await until(restarted)

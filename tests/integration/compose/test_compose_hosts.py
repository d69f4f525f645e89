"""Docker hosts: another machine behind a socket, TLS or ssh; two with the same names on them; one that fails."""

import asyncio
import gc
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from examples.load import Record
from models.checks import PreflightCheck
from models.errors import FencedOutError, PlatformError, UnavailableError
from models.release import Fence, Order, RetireOrder, Revision
from models.spec import DeploymentSpec
from models.verdict import Verdict
from tests.harness.compose import ComposeHarness
from tests.harness.target import Target, until
from tests.servers.docker_engine import Engine, own_engine
from tests.servers.docker_engine.daemon import Daemon
from tests.servers.docker_engine.reached import TLS, certify, ssh_server
from tests.support.compose_env import ComposeEnv, Shop, provide_redis
from tests.support.free_ports import free_port
from tests.support.product_env import NEW, OLD

# The SDK leaves a socket behind when nobody answers; it is closed when it is collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
LONG = {"kind": "canary", "steps": [{"weight": 50, "watch": "20s"}, {"weight": 100, "watch": "1s"}], "bake": "1s"}


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """They are collected where they are expected, and not in some other test."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Engine]:
    """A Docker on another machine: its containers cannot be reached from here."""
    with own_engine(apart=True) as found:
        yield found


def daemon_of(engine: Engine) -> Daemon:
    assert engine.daemon is not None
    return engine.daemon


async def a_deployment_and_the_way_back(ground: ComposeHarness, folder: Path, instances: int = 1) -> None:
    target = Target(ground, folder)
    try:
        old = await target.live("1.0.0", instances=instances)
        before = await target.snapshot()
        new = target.revision("1.1.0")
        async with target.users(20):
            staged = await target.stage(new, instances=instances)
            assert staged.preview == ()
            assert [(each.healthy, each.version) for each in staged.inspection.instances] == [
                (True, "1.1.0")
            ] * instances
            split = await target.shift(new, old, 50)
            assert split.weights == {new.id: 50, old.id: 50}
            assert (await target.split()).counters.keys() == {old.id, new.id}
            # From inside the router, where each question is a process: a busy machine may be late with one.
            await until(lambda: _well(target, new))
            await target.shift(new, old, 100)
            await target.promote(new)
            retired = await target.retire(old)
            assert (len(retired.instances), retired.drained) == (instances, True)
            await target.restore(before)
        assert await target.shares(20) == {"1.0.0": 100}
        await target.clean()
        assert ground.left_of(target.service) == []
    finally:
        await target.wipe()


async def test_a_docker_on_another_machine(elsewhere: Engine, tmp_path: Path) -> None:
    ground = ComposeHarness(elsewhere, daemon_of(elsewhere).address)
    try:
        await a_deployment_and_the_way_back(ground, tmp_path, instances=2)
    finally:
        await ground.aclose()


async def test_a_docker_behind_tls(tmp_path: Path) -> None:
    arguments = (*TLS, "--host=tcp://{address}:2376")
    with own_engine(*arguments, apart=True, prepare=certify) as engine:
        daemon = daemon_of(engine)
        host, folder = f"tcp://{daemon.address}:2376", str(Path(daemon.folder, "tls"))
        ground = ComposeHarness(engine, daemon.address, host=host, certificates=folder)
        try:
            await a_deployment_and_the_way_back(ground, tmp_path)
            stranger = ground.model("stranger", tmp_path, ground.free_address(), certificates=None)
            with pytest.raises(UnavailableError, match="does not answer"):
                await ground.platform.snapshot(
                    Target(ground, tmp_path).order(Order).model_copy(update={"platform": stranger})
                )
        finally:
            await ground.aclose()


async def test_a_docker_behind_ssh(elsewhere: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ssh_server(elsewhere, tmp_path) as (host, programs):
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        ground = ComposeHarness(elsewhere, daemon_of(elsewhere).address, host=host)
        try:
            await a_deployment_and_the_way_back(ground, tmp_path)
            closed = host.rpartition(":")[0] + f":{free_port()}"
            nobody = ground.model("nobody", tmp_path, ground.free_address(), host=closed)
            with pytest.raises(UnavailableError, match="Connection refused"):
                await ground.platform.snapshot(
                    Target(ground, tmp_path).order(Order).model_copy(update={"platform": nobody})
                )
        finally:
            await ground.aclose()


async def test_two_hosts_with_the_same_names_do_not_meet(
    docker_engine: Engine, elsewhere: Engine, tmp_path: Path
) -> None:
    here = ComposeHarness(docker_engine)
    there = ComposeHarness(elsewhere, daemon_of(elsewhere).address, platform=here.platform)
    one, two = Target(here, tmp_path), Target(there, tmp_path)
    two.service = one.service
    try:
        await one.live("1.0.0", instances=1)
        await two.live("2.0.0", instances=1)
        assert await one.shares(10) == {"1.0.0": 100}
        assert await two.shares(10) == {"2.0.0": 100}
        newer = one.revision("1.1.0")
        await one.stage(newer)
        assert newer.id not in (await two.snapshot()).leftovers
        await one.clean()
        assert here.left_of(one.service) == []
        assert await two.shares(10) == {"2.0.0": 100}
    finally:
        await one.wipe()
        await two.wipe()
        await there.aclose()
        await here.aclose()


async def test_a_worker_with_an_empty_home_goes_on_where_another_one_was(elsewhere: Engine, tmp_path: Path) -> None:
    first = ComposeHarness(elsewhere, daemon_of(elsewhere).address)
    second = ComposeHarness(elsewhere, daemon_of(elsewhere).address)
    one, two = Target(first, tmp_path), Target(second, tmp_path)
    two.service, two.listen = one.service, one.listen
    try:
        old = await one.live("1.0.0", instances=1)
        new = one.revision("1.1.0")
        await one.stage(new)
        await one.shift(new, old, 50)
        seen = await one.snapshot()

        two._last, two._sequence = new, one._sequence
        assert await two.snapshot() == seen
        await two.shift(new, old, 100)
        await two.promote(new)
        assert await two.shares(10) == {"1.1.0": 100}
        # What the second one has done is known to the first one, which comes too late.
        with pytest.raises(FencedOutError):
            await one.shift(new, old, 0, fence=Fence(epoch=1, sequence=one._sequence))
        assert (await one.snapshot()).stable == new.abridge()
        await two.restore(seen)
        assert await two.shares(10) == {"1.0.0": 100}
    finally:
        await one.wipe()
        await first.aclose()
        await second.aclose()


async def test_a_full_disk_ends_old_and_says_so(tmp_path: Path) -> None:
    with own_engine(room="1100m") as engine:
        ground = ComposeHarness(engine)
        target = Target(ground, tmp_path)
        filler = Path(daemon_of(engine).folder, "data", "filler")
        try:
            old = await target.live("1.0.0", instances=1)
            before = await target.snapshot()
            new = target.revision("1.1.0")
            _fill(filler)
            spec = DeploymentSpec.model_validate(
                {
                    "service": target.service,
                    "target": "staging",
                    "release": {"version": "1.1.0"},
                    "platform": new.platform,
                }
            )
            found = await ground.platform.examine(PreflightCheck(spec=spec))
            disk = next(check for check in found.checks if check.name == "docker_disk")
            assert disk.verdict is Verdict.FAIL
            assert "the disk of the Docker host has" in disk.reason

            # It fills up after preflight.
            async with target.users(20):
                with pytest.raises(PlatformError, match="no space left on device"):
                    await target.stage(new)
                _empty(filler)
                await target.restore(before)
                await target.platform.retire(target.order(RetireOrder, revision=new.id, forget=True))
            assert (await target.split()).weights == {old.id: 100}
            assert await target.shares(10) == {"1.0.0": 100}
            await target.stage(new)
        finally:
            _empty(filler)
            await target.wipe()
            await ground.aclose()


async def test_docker_is_started_again_in_the_middle(tmp_path: Path) -> None:
    """Docker takes every container down with it, and brings them back: every verb converges afterwards."""
    with own_engine() as engine:
        ground, daemon = ComposeHarness(engine), daemon_of(engine)
        target = Target(ground, tmp_path)
        try:
            old, new = await target.live("1.0.0", instances=2), target.revision("1.1.0")
            before = await target.snapshot()
            await target.stage(new, instances=2)
            await target.shift(new, old, 50)
            for how in (signal.SIGTERM, signal.SIGKILL):
                await asyncio.to_thread(daemon.end, how)
                if how is signal.SIGKILL:
                    # It had no time to end its containers.
                    assert await _divides(target, {new.id: 50, old.id: 50})
                for asked in (target.snapshot, lambda: target.shift(new, old, 0)):
                    with pytest.raises(UnavailableError, match="does not answer"):
                        await asked()
                await asyncio.to_thread(daemon.start)
                await until(lambda: _serves(target), within=60)
                await until(lambda: _divides(target, {new.id: 50, old.id: 50}), within=30)
            async with target.users(20):
                split = await target.restore(before)
                assert split.weights == {old.id: 100}
                await target.platform.retire(target.order(RetireOrder, revision=new.id, forget=True))
            assert await target.shares(20) == {"1.0.0": 100}
        finally:
            await target.wipe()
            await ground.aclose()


async def test_docker_is_started_again_in_the_middle_of_a_canary(living: ComposeEnv) -> None:
    """The deployment goes on or ends old; which of them depends on how soon the containers are back."""
    with own_engine() as engine:
        client = engine.client()
        try:
            provide_redis(client)
            shop = living.shop(LONG, docker=client, host=engine.host)
            await shop.serving()
            database = shop.database().id
            down: list[float] = []

            def while_it_was_down(record: Record) -> bool:
                return down[0] - 1 < record.sent_at < down[1]

            async with shop.users(forgiven=while_it_was_down):
                command = await shop.deploying(NEW)
                await shop.doing("step_50: watched", seconds=120)
                down.append(time.time())
                await asyncio.to_thread(daemon_of(engine).end, signal.SIGTERM)
                await asyncio.to_thread(daemon_of(engine).start)
                # Docker brings its containers back one after the other, the router among them.
                await until(lambda: shop_serves(shop), within=60)
                down.append(time.time())
                document = (await command.done()).document
                assert document["outcome"] in ("deployed", "rolled-back"), document
                await shop.is_old(NEW if document["outcome"] == "deployed" else OLD)
            assert shop.database().id == database
            await asyncio.to_thread(shop.remove)
        finally:
            client.close()


async def shop_serves(shop: Shop) -> bool:
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
            return [(await client.get(shop.url)).status_code for _ in range(20)] == [200] * 20
    except httpx.HTTPError:
        return False


async def _well(target: Target, revision: Revision) -> bool:
    return all(each.healthy for each in await target.platform.probe(target.order(Order), revision))


async def _serves(target: Target) -> bool:
    try:
        answers = [(await target.ask()).status_code for _ in range(8)]
    except httpx.HTTPError:
        return False
    return answers == [200] * 8


async def _divides(target: Target, weights: dict[str, int]) -> bool:
    try:
        return (await target.split()).weights == weights
    except UnavailableError:
        return False


def _fill(file: Path) -> None:
    """Leaves nothing on the file system of the file."""
    with file.open("wb", buffering=0) as opened:
        for size in (1 << 20, 4096):
            try:
                while True:
                    opened.write(b"\0" * size)
            except OSError:
                continue


def _empty(file: Path) -> None:
    file.unlink(missing_ok=True)

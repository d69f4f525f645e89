"""Everything else that a deployment stands on is killed or stopped: users are served, and it ends as it should."""

import asyncio
import json
import signal
import time
from collections.abc import Callable

import pytest

from activities.platforms.probes import make_client
from activities.platforms.traefik.api import see
from examples.load import Record
from tests.support.history_reader import MEASURED, kept_their_time, progress
from tests.support.product_env import CANARY, JUDGE, NEW, OLD, ProductEnv, Service, ended, found, kill
from tests.support.scenarios import side_by_side

pytestmark = pytest.mark.chaos

KILLED = 9
WATCHED = {**CANARY, "steps": [{"weight": 40, "watch": "6s"}, {"weight": 100, "watch": "1s"}], "bake": "1s"}
# The router counts an attempt at a dead instance as the candidate's error, also when another one then answers; and
# until it is started again its probes fail. Here only how often it dies is judged.
ONLY_DEATHS_COUNT = {**WATCHED, "judge": {**JUDGE, "max_error_share": "100%", "min_errors": 1000, "failed_probes": 100}}
REFUSED = "ConnectionRefusedError"


def in_flight_at(moments: list[float]) -> Callable[[Record], bool]:
    """Forgives what was being answered when something was killed; being refused is never forgiven."""

    def forgive(record: Record) -> bool:
        # A little later counts as well: the kill takes a moment, and so does hearing of it.
        return record.error != REFUSED and any(
            record.sent_at <= at + 0.25 and record.answered_at >= at for at in moments
        )

    return forgive


async def in_force(service: Service) -> dict[str, int]:
    """Version → percent, as the router itself says."""
    state = service.state()
    (door,) = state.doors.values()
    client = make_client()
    try:
        weights = (await see(client, door.api)).weights
    finally:
        await client.aclose()
    return {state.revisions[id].revision.release.version: weight for id, weight in weights.items()}


@side_by_side
async def test_temporal_is_killed_while_a_canary_is_watched(living: ProductEnv) -> None:
    service = living.service(WATCHED)
    await service.serving()
    pid = await living.pid("temporal")
    async with service.users():
        command = await service.deploying(NEW)
        await service.doing("step_40: watched")
        await kill(pid, KILLED)
        killed = time.time()
        seconds = await progress(service, killed)
        MEASURED.append(f"Temporal killed while a canary was watched: next progress after {seconds:.2f} s")
        ended(await command.done(), "deployed", 0)
        await service.is_new(NEW)
    assert await living.pid("temporal") != pid
    await kept_their_time(service, late=15)


@side_by_side
async def test_the_router_is_killed_while_a_canary_is_watched(living: ProductEnv) -> None:
    service = living.service(WATCHED)
    await service.serving()
    killed: list[float] = []
    async with service.users(forgiven=in_flight_at(killed)) as load:
        command = await service.deploying(NEW)
        await service.doing("step_40: watched")
        before = await in_force(service)
        (door,) = service.state().doors.values()
        record = json.loads((living.home / "programs" / door.program / "traefik.json").read_text())
        killed.append(time.time())
        await kill(record["pid"], KILLED)
        ended(await command.done(), "deployed", 0)
        await service.is_new(NEW)
        lost = load.so_far().failures
    assert before == {OLD: 60, NEW: 40}
    assert not [one for one in lost if one.error == REFUSED]
    MEASURED.append(f"router killed: {len(lost)} requests were in flight and failed")
    await kept_their_time(service)


@side_by_side
async def test_a_restarted_router_divides_as_before(living: ProductEnv) -> None:
    service = living.service(WATCHED)
    await service.serving()
    killed: list[float] = []
    async with service.users(forgiven=in_flight_at(killed)):
        command = await service.deploying(
            NEW, 'strategy.steps=[{"weight": 40, "watch": "1m"}, {"weight": 100, "watch": "1s"}]'
        )
        await service.doing("step_40: watched")
        (door,) = service.state().doors.values()
        file = living.home / "programs" / door.program / "traefik.json"
        pid = json.loads(file.read_text())["pid"]
        killed.append(time.time())
        await kill(pid, KILLED)
        for _ in range(400):
            if json.loads(file.read_text())["pid"] != pid and await service.answers(4):
                break
            await asyncio.sleep(0.05)
        assert await in_force(service) == {OLD: 60, NEW: 40}
        ended(await service.rollback(), "rolled-back", 10)
        ended(await command.done(), "rolled-back", 10)
        await service.is_old()


@pytest.mark.parametrize("version", [OLD, NEW], ids=["stable", "candidate"])
@side_by_side
async def test_one_instance_is_killed_and_comes_back(living: ProductEnv, version: str) -> None:
    service = living.service(ONLY_DEATHS_COUNT)
    await service.serving()
    killed: list[float] = []
    async with service.users(forgiven=in_flight_at(killed)):
        command = await service.deploying(NEW)
        await service.doing("step_40: watched")
        before = service.instances(version)
        port, pid = next(iter(before.items()))
        killed.append(time.time())
        await kill(pid, KILLED)
        while service.instances(version).get(port) in (pid, None):
            assert time.time() - killed[0] < 10
            await asyncio.sleep(0.05)
        document = ended(await command.done(), "deployed", 0)
        await service.is_new(NEW)
    restarts = found(document, "deploy", "step_40")["evidence"]["restarts"]
    assert len(restarts) == (1 if version == NEW else 0)


@side_by_side
async def test_a_candidate_that_is_killed_again_and_again_fails(living: ProductEnv) -> None:
    service = living.service(ONLY_DEATHS_COUNT)
    await service.serving()
    killed: list[float] = []
    async with service.users(bad=NEW, forgiven=in_flight_at(killed)):
        command = await service.deploying(NEW, "strategy.steps.0.watch=1m")
        await service.doing("step_40: watched")
        port = min(service.instances(NEW))
        for _ in range(3):
            while (pid := service.instances(NEW).get(port)) is None:
                await asyncio.sleep(0.05)
                if command.process.returncode is not None or service.weights() == {OLD: 100}:
                    break
            else:
                killed.append(time.time())
                await kill(pid, KILLED)
        document = ended(await command.done(), "rolled-back", 10)
        await service.is_old()
    assert "restarted" in found(document, "deploy", "step_40")["reason"]


@side_by_side
async def test_supervisor_and_guardian_are_killed_together(living: ProductEnv) -> None:
    service = living.service(WATCHED)
    await service.serving()
    before = await living.components()
    async with service.users():
        command = await service.deploying(NEW)
        await service.doing("step_40: watched")
        candidates = service.instances(NEW)
        await kill(before["guardian"]["pid"], KILLED)
        await kill(before["supervisor"]["pid"], KILLED)
        assert service.instances(NEW) == candidates
        # Nobody is left who would heal it by himself: the next command does.
        assert (await living.run("up")).code == 0
        await living.healthy()
        assert service.instances(NEW) == candidates
        ended(await command.done(), "deployed", 0)
        await service.is_new(NEW)
    await kept_their_time(service)


@pytest.mark.parametrize("victim", ["guardian", "supervisor"])
@side_by_side
async def test_supervisor_or_guardian_is_killed(living: ProductEnv, victim: str) -> None:
    service = living.service(WATCHED)
    await service.serving()
    pid = await living.pid(victim)
    async with service.users():
        command = await service.deploying(NEW)
        await service.doing("step_40: watched")
        candidates = service.instances(NEW)
        await kill(pid, KILLED)
        assert await living.pid(victim) != pid
        assert service.instances(NEW) == candidates
        ended(await command.done(), "deployed", 0)
        await service.is_new(NEW)
    await kept_their_time(service)


@side_by_side
async def test_the_command_is_killed_and_the_deployment_goes_on(living: ProductEnv) -> None:
    service = living.service(WATCHED)
    await service.serving()
    async with service.users():
        command = await service.deploying(NEW)
        await service.doing("step_40: watched")
        await kill(command.process.pid, KILLED)
        document = ended(await living.run("watch", service.subject, "--json"), "deployed", 0)
        await service.is_new(NEW)
    assert document["version"] == NEW
    await kept_their_time(service)


@side_by_side
async def test_down_in_the_middle_and_up_again(living: ProductEnv) -> None:
    service = living.service(WATCHED)
    await service.serving()
    async with service.users():
        command = await service.deploying(NEW)
        await service.doing("step_40: watched")
        command.process.send_signal(signal.SIGINT)
        await command.done()
        assert (await living.run("down")).code == 0
        assert "worker" not in {name for name, each in (await living.components()).items() if each["pid"]}
        assert await service.answers() == {OLD, NEW}
        await living.up()
        document = ended(await living.run("watch", service.subject, "--json"), "deployed", 0)
        await service.is_new(NEW)
    assert found(document, "deploy", "step_40")["verdict"] == "pass"
    await kept_their_time(service, late=30)

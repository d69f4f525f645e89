"""The worker is killed in the middle of everything: the deployment ends as if it had not been.

How long it took each time until somebody went on with the deployment is printed in the end.
"""

import time

import pytest

from tests.support.history_reader import MEASURED, at_work, kept_their_time, progress
from tests.support.product_env import CANARY, JUDGE, NEW, OLD, ProductEnv, Service, ended, found, kill
from tests.support.scenarios import side_by_side

pytestmark = pytest.mark.chaos

KILLED, PROGRESS_WITHIN = 9, 12.0
WATCHED = {**CANARY, "steps": [{"weight": 40, "watch": "6s"}, {"weight": 100, "watch": "1s"}], "bake": "1s"}
BAD = {**WATCHED, "judge": {**JUDGE, "min_requests": 60}}


async def kill_worker(service: Service, what: str, activity: str = "watch") -> None:
    """Kills it in the middle of this activity, and sees that somebody goes on with the deployment."""
    await kill(await at_work(service, activity), KILLED)
    killed = time.time()
    seconds = await progress(service, killed)
    MEASURED.append(f"worker killed {what}: next progress after {seconds:.2f} s")
    assert seconds < PROGRESS_WITHIN


@side_by_side
async def test_killed_while_a_canary_is_watched(living: ProductEnv) -> None:
    service = living.service(WATCHED)
    await service.serving()
    pid = await living.pid("worker")
    async with service.users():
        command = await service.deploying(NEW)
        await service.doing("step_40: watched")
        await kill_worker(service, "while a canary was watched")
        document = ended(await command.done(), "deployed", 0)
        await service.is_new(NEW)
    assert await living.pid("worker") != pid
    assert found(document, "deploy", "step_40")["evidence"]["attempts"] >= 2
    watched = await kept_their_time(service)
    assert [round(each.promised) for each in watched] == [6, 1, 1]
    assert watched[0].attempts >= 2


@side_by_side
async def test_killed_while_a_bad_canary_is_watched(living: ProductEnv) -> None:
    service = living.service(BAD)
    await service.serving()
    async with service.users(bad=NEW):
        command = await service.deploying(NEW, "platform.environment.APP_FAIL_SHARE=0.2")
        await service.doing("step_40: watched")
        await kill_worker(service, "while a bad canary was watched")
        document = ended(await command.done(), "rolled-back", 10)
        await service.is_old()
    assert document["failure"]["type"] == "deployment_failed"
    assert found(document, "deploy", "step_40")["verdict"] == "fail"


@pytest.mark.parametrize("activity", ["stage", "shift", "promote", "retire"])
@side_by_side
async def test_killed_while_it_moves_something(living: ProductEnv, activity: str) -> None:
    steps = [{"weight": weight, "watch": "1s"} for weight in (20, 60, 100)]
    service = living.service({**CANARY, "steps": steps})
    await service.serving()
    async with service.users():
        command = await service.deploying(NEW, "platform.environment.APP_SLOW_START_S=1")
        await kill_worker(service, f"during {activity}", activity)
        ended(await command.done(), "deployed", 0)
        await service.is_new(NEW)
    assert service.instances(OLD) == {}
    await kept_their_time(service)


@pytest.mark.parametrize("activity", ["restore", "retire"])
@side_by_side
async def test_killed_while_it_undoes_something(living: ProductEnv, activity: str) -> None:
    service = living.service(WATCHED)
    await service.serving()
    async with service.users(bad=NEW):
        command = await service.deploying(NEW, "platform.environment.APP_FAIL_SHARE=1")
        await kill_worker(service, f"during the compensation {activity}", activity)
        document = ended(await command.done(), "rolled-back", 10)
        await service.is_old()
    assert [undo["state"] for undo in document["compensations"]] == ["done", "done"]
    assert service.instances(NEW) == {}


@side_by_side
async def test_killed_again_and_again(living: ProductEnv) -> None:
    service = living.service({**WATCHED, "steps": [{"weight": 40, "watch": "12s"}, {"weight": 100, "watch": "1s"}]})
    await service.serving()
    async with service.users():
        command = await service.deploying(NEW)
        await service.doing("step_40: watched")
        for n in range(3):
            await kill_worker(service, f"for the {n + 1}. time in one watch")
        ended(await command.done(), "deployed", 0)
        await service.is_new(NEW)
    await kept_their_time(service)

"""Everything that a queue stands on is killed while deployments wait: their order stays, and each is deployed once."""

import pytest

from tests.support.cli_process import Command
from tests.support.history_reader import at_work
from tests.support.product_env import CANARY, NEW, NEWER, OLD, ProductEnv, Service, ended, kill
from tests.support.scenarios import side_by_side

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

KILLED, NEWEST = 9, "1.3.0"
WATCHED = {**CANARY, "steps": [{"weight": 40, "watch": "3s"}, {"weight": 100, "watch": "1s"}], "bake": "1s"}


async def three_at_once(service: Service) -> list[Command]:
    """One runs and is held, two wait."""
    commands = [await service.deploying(NEW, "strategy.steps.0.watch=12s")]
    await service.doing("step_40: watched")
    assert (await service.living.run("hold", service.subject)).code == 0
    await service.doing("held")
    for number, version in enumerate((NEWER, NEWEST), start=1):
        commands.append(await service.deploying(version, more=("--queue",)))
        await commands[-1].said(f"queued, number {number} of {number}")
    return commands


async def resume(service: Service) -> None:
    done = await service.living.run("resume", service.subject)
    assert done.code == 0, done.err


async def were_deployed_in_order(service: Service, commands: list[Command]) -> None:
    for command in commands:
        ended(await command.done(), "deployed", 0)
    await service.is_new(NEWEST)
    runs = (await service.living.run("history", service.subject, "--json")).document["runs"]
    assert [run["version"] for run in runs] == [NEWEST, NEWER, NEW, OLD]


@pytest.mark.parametrize("what", ["worker", "temporal"])
@side_by_side
async def test_killed_while_two_wait(living: ProductEnv, what: str) -> None:
    service = living.service(WATCHED)
    await service.serving()
    async with service.users():
        commands = await three_at_once(service)
        await kill(await living.pid(what), KILLED)
        await living.healthy()
        await resume(service)
        await were_deployed_in_order(service, commands)


@side_by_side
async def test_the_worker_is_killed_each_time_a_turn_comes(living: ProductEnv) -> None:
    service = living.service(WATCHED)
    await service.serving()
    async with service.users():
        commands = await three_at_once(service)
        await resume(service)
        for command in commands[:2]:
            ended(await command.done(), "deployed", 0)
            await kill(await living.pid("worker"), KILLED)
        await were_deployed_in_order(service, commands[2:])


@side_by_side
async def test_who_waits_is_killed_and_what_waits_is_deployed(living: ProductEnv) -> None:
    service = living.service(WATCHED)
    await service.serving()
    async with service.users():
        commands = await three_at_once(service)
        ticket = (await living.run("status", service.subject, "--json")).document["queue"][0]["ticket"]
        for command in commands[1:]:
            await kill(command.process.pid, KILLED)
        await resume(service)
        ended(await commands[0].done(), "deployed", 0)
        again = await living.run("watch", service.subject, "--ticket", ticket, "--json")
        assert ended(again, "deployed", 0)["version"] == NEWER
        await service.until(lambda report: report.version == NEWEST)
        ended(await living.run("watch", service.subject, "--json"), "deployed", 0)
        await service.is_new(NEWEST)


@side_by_side
async def test_the_worker_is_killed_while_the_older_one_is_rolled_back(living: ProductEnv) -> None:
    service = living.service(WATCHED)
    await service.serving()
    async with service.users():
        older = await service.deploying(NEW, "strategy.steps.0.watch=20s")
        await service.doing("step_40: watched")
        newer = await service.deploying(NEWER, more=("--supersede",))
        await kill(await at_work(service, "restore"), KILLED)
        ended(await older.done(), "rolled-back", 10)
        ended(await newer.done(), "deployed", 0)
        await service.is_new(NEWER)

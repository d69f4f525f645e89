"""A person, or Temporal itself, stops a deployment at any moment: users do not notice, and it ends fully old."""

import pytest

from models.report import Phase
from tests.support.product_env import CANARY, NEW, NEWER, OLD, ProductEnv, ended
from tests.support.scenarios import side_by_side

LONG = {**CANARY, "steps": [{"weight": 40, "watch": "1m"}, {"weight": 100, "watch": "1m"}], "bake": "1s"}
BAKING = {**CANARY, "bake": "1m"}
MOMENTS = {"while a step is watched": (LONG, "step_40: watched"), "while it bakes": (BAKING, "bake: watched")}


@pytest.mark.parametrize("moment", MOMENTS)
@side_by_side
async def test_a_rollback_from_the_command_line_stops_a_running_deployment(living: ProductEnv, moment: str) -> None:
    strategy, words = MOMENTS[moment]
    service = living.service(strategy)
    await service.serving()
    async with service.users():
        command = await service.deploying(NEW)
        await service.doing(words)
        document = ended(await service.rollback("--as", "grace"), "rolled-back", 10)
        followed = ended(await command.done(), "rolled-back", 10)
        await service.is_old()
    assert followed["run_id"] == document["run_id"]
    assert document["failure"]["type"] == "rollback_requested"
    assert document["failure"]["reason"] == "grace: users complain"
    assert document["measured"]["verdict_to_stable"] < 5
    assert service.instances(NEW) == {}


@side_by_side
async def test_a_rollback_after_the_end_goes_back_to_the_release_before(living: ProductEnv) -> None:
    service = living.service(rehearse={"enabled": True})
    await service.serving()
    async with service.users():
        ended(await service.deploy(NEW), "deployed", 0)
        document = ended(await service.rollback(), "rolled-back", 10)
        await service.is_old()
        again = await service.rollback()
        assert again.code == 2
        assert "rolled back already" in again.err
        ended(await service.rollback("--further"), "preflight-failed", 14)
        await service.is_old()
    assert (document["kind"], document["version"], document["previous_version"]) == ("rollback", OLD, NEW)
    assert service.instances(NEW) == {}
    async with service.users():
        ended(await service.deploy(NEW), "deployed", 0)
        await service.is_new(NEW)


@side_by_side
async def test_a_rollback_with_nothing_before_says_so_and_changes_nothing(living: ProductEnv) -> None:
    service = living.service()
    never = await service.rollback()
    assert never.code == 2
    assert "nothing to roll back" in never.err
    await service.serving()
    before = service.state()
    async with service.users():
        document = ended(await service.rollback(), "preflight-failed", 14)
        assert await service.answers() == {OLD}
    assert "no earlier release" in document["failure"]["reason"]
    assert service.state() == before


@side_by_side
async def test_a_cancellation_in_temporal_ends_fully_old(living: ProductEnv) -> None:
    service = living.service(LONG)
    await service.serving()
    async with service.users():
        command = await service.deploying(NEW)
        await service.doing("step_40: watched")
        await (await service.handle()).cancel()
        document = ended(await command.done(), "rolled-back", 10)
        await service.is_old()
    assert document["failure"]["type"] == "cancelled"
    assert service.instances(NEW) == {}


@side_by_side
async def test_after_a_termination_users_are_served_and_the_next_deployment_cleans_up(living: ProductEnv) -> None:
    service = living.service(LONG)
    await service.serving()
    async with service.users():
        command = await service.deploying(NEW)
        await service.doing("step_40: watched")
        await (await service.handle()).terminate("somebody pulled the plug")
        cut = ended(await command.done(), "rollback-failed", 11)
        assert "terminated" in cut["failure"]["reason"]
        assert await service.answers() == {OLD, NEW}
        short = ("strategy.steps.0.watch=1s", "strategy.steps.1.watch=1s")
        ended(await service.deploy(NEWER, *short), "deployed", 0)
        await service.is_new(NEWER)
    assert service.instances(OLD) == {} == service.instances(NEW)


@side_by_side
async def test_after_a_termination_a_rollback_restores_the_old_release(living: ProductEnv) -> None:
    service = living.service(LONG)
    await service.serving()
    async with service.users():
        command = await service.deploying(NEW)
        await service.doing("step_40: watched")
        await (await service.handle()).terminate("somebody pulled the plug")
        ended(await command.done(), "rollback-failed", 11)
        ended(await service.rollback(), "rolled-back", 10)
        await service.is_old()
    assert service.instances(NEW) == {}


@side_by_side
async def test_a_rollback_asked_for_twice_is_one_rollback(living: ProductEnv) -> None:
    service = living.service(LONG)
    await service.serving()
    async with service.users():
        command = await service.deploying(NEW)
        await service.doing("step_40: watched")
        await service.rollback("--no-wait")
        handle = await service.handle()
        await service.until(lambda report: report.phase is not Phase.FORWARD, also_finished=True)
        again = await service.rollback()
        document = ended(await command.done(), "rolled-back", 10)
        # The second one met the same run, or came when it was over: then nothing is done.
        assert again.code in (2, 10), again.err
        await service.is_old()
    assert document["workflow_id"] == handle.id

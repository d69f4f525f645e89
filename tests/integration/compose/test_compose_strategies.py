"""Each strategy on containers, under users' requests: up, and back from what a candidate can do wrong at each step."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from models.verdict import Stage
from tests.support.compose_env import OWN_CHECK, ComposeEnv
from tests.support.extent import chosen
from tests.support.product_env import BLUE_GREEN, CANARY, NEW, OLD, ROLLING, ended, found
from tests.support.scenarios import side_by_side

UP = {
    "rolling": (ROLLING, ["step_50", "step_100"]),
    "blue-green": (BLUE_GREEN, ["step_100"]),
    "canary": (CANARY, ["step_40", "step_100"]),
}
BAD_SHARE = "platform.environment.APP_FAIL_SHARE"
SICK = "platform.environment.APP_SICK_IF={sick}"
LONG = {
    "kind": "canary",
    "steps": [{"weight": 25, "watch": "2s"}, {"weight": 50, "watch": "30s"}, {"weight": 100, "watch": "1s"}],
    "bake": "1s",
}


@pytest.mark.parametrize("kind", chosen([*UP], "canary"))
@side_by_side
async def test_a_good_release_comes_in_and_the_database_is_not_touched(living: ComposeEnv, kind: str) -> None:
    strategy, steps = UP[kind]
    shop = living.shop(strategy, rehearse={"enabled": True})
    await shop.serving()
    database = shop.database()
    assert shop.remember("before") == "+OK"
    async with shop.users():
        document = ended(await shop.deploy(NEW), "deployed", 0)
        await shop.is_new(NEW)
    assert [stage["stage"] for stage in document["stages"]] == list(Stage)
    assert all(stage["verdict"] == "pass" for stage in document["stages"]), document["stages"]
    assert all(found(document, "deploy", step)["verdict"] == "pass" for step in steps)
    assert found(document, "rehearse", "rolled_back")["verdict"] == "pass"
    assert found(document, "rehearse", "redeployed")["verdict"] == "pass"
    assert shop.instances(OLD) == {}
    assert len(shop.instances(NEW)) == 2
    assert shop.database() == database
    assert shop.remember("").endswith("before")


@dataclass(frozen=True)
class Fault:
    """A bad release, and where it must be caught; `later` says when its containers become ill."""

    strategy: dict[str, Any]
    closed: str
    stage: str = "deploy"
    settings: tuple[str, ...] = ()
    later: str = ""
    platform: dict[str, Any] = field(default_factory=dict)


FAULTS = {
    "canary: errors at the first step": Fault(LONG, "step_25", settings=(f"{BAD_SHARE}=0.5",)),
    "canary: unhealthy at 50 %": Fault(LONG, "step_50", settings=(SICK,), later="step_50: watched"),
    "canary: its own health check fails at 50 %": Fault(
        LONG, "step_50", settings=(SICK,), later="step_50: watched", platform={"check": OWN_CHECK}
    ),
    "canary: ill while it bakes": Fault(
        {**CANARY, "bake": "30s"}, "bake", stage="close", settings=(SICK,), later="bake: watched"
    ),
    "rolling: ill at its last instance": Fault(
        {**ROLLING, "watch": "4s"}, "step_100", settings=(SICK,), later="step_100: watched"
    ),
    "blue-green: all are errors": Fault({**BLUE_GREEN, "watch": "30s"}, "step_100", settings=(f"{BAD_SHARE}=1",)),
}


@pytest.mark.parametrize("fault", chosen(FAULTS, "canary: its own health check fails at 50 %"))
@side_by_side
async def test_a_bad_release_is_caught_at_its_step_and_the_old_one_serves(living: ComposeEnv, fault: Fault) -> None:
    shop = living.shop(fault.strategy, platform=dict(fault.platform))
    await shop.serving()
    database = shop.database()
    async with shop.users(bad=NEW):
        command = await shop.deploying(NEW, *(each.format(sick=shop.sick) for each in fault.settings))
        if fault.later:
            await shop.doing(fault.later, seconds=120)
            shop.sick.touch()
        document = ended(await command.done(), "rolled-back", 10)
        await shop.is_old()
    assert document["failure"]["stage"] == fault.stage
    assert found(document, fault.stage, fault.closed)["verdict"] == "fail"
    assert [undo["state"] for undo in document["compensations"]] == ["done", "done"]
    assert shop.instances(NEW) == {}
    assert len(shop.instances(OLD)) == 2
    assert shop.database() == database


@side_by_side
async def test_an_emergency_in_the_middle_and_one_after_the_end(living: ComposeEnv) -> None:
    shop = living.shop(LONG)
    await shop.serving()
    async with shop.users():
        command = await shop.deploying(NEW)
        await shop.doing("step_50: watched", seconds=120)
        rolled = await shop.rollback()
        assert rolled.code == 10, rolled.err
        ended(await command.done(), "rolled-back", 10)
        await shop.is_old()
        ended(await shop.deploy(NEW, "strategy.steps.1.watch=1s"), "deployed", 0)
        await shop.is_new(NEW)
        late = await shop.rollback()
        assert late.code == 10, late.err
        await shop.is_old()
    assert len(shop.instances(OLD)) == 2

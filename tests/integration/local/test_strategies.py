"""Each strategy on real servers, under users' requests: up, and back from everything that a candidate can do wrong."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from models.verdict import Stage
from tests.support.product_env import BLUE_GREEN, CANARY, NEW, NEWER, OLD, ROLLING, ProductEnv, ended, found
from tests.support.scenarios import side_by_side

THREE = {"instances": 3}
BAD_SHARE = "platform.environment.APP_FAIL_SHARE"
LONG = {"kind": "canary", "steps": [{"weight": 50, "watch": "15s"}, {"weight": 100, "watch": "1s"}], "bake": "1s"}
LATE = {
    "kind": "canary",
    "steps": [{"weight": 50, "watch": "1s"}, {"weight": 80, "watch": "15s"}, {"weight": 100, "watch": "1s"}],
    "bake": "1s",
}
# Too little traffic for three errors in the first step, enough in the second one.
CREEPING = {
    "kind": "canary",
    "steps": [{"weight": 3, "watch": "1s"}, {"weight": 60, "watch": "15s"}, {"weight": 100, "watch": "1s"}],
    "judge": {"probe_every": "250ms", "min_requests": 0, "min_errors": 4},
}


@dataclass(frozen=True)
class Fault:
    """A bad release, and how it must be caught.

    Attributes:
        settings: what makes it bad from the start.
        later: when its instances become ill; never, when None.
        stage: where it is caught.
        closed: the check that finds it.
        dies: an instance that dies takes with it what it was answering.
    """

    strategy: dict[str, Any]
    failure: str
    stage: str = "deploy"
    closed: str = ""
    settings: tuple[str, ...] = ()
    later: str = ""
    dies: bool = False
    changes: dict[str, Any] = field(default_factory=dict)


SICK = "platform.environment.APP_SICK_IF={sick}"
FAULTS = {
    "canary: a tenth are errors": Fault(LONG, "deployment_failed", closed="step_50", settings=(f"{BAD_SHARE}=0.1",)),
    "canary: all are errors": Fault(LONG, "deployment_failed", closed="step_50", settings=(f"{BAD_SHARE}=1",)),
    "canary: errors at a late step": Fault(
        CREEPING, "deployment_failed", closed="step_60", settings=(f"{BAD_SHARE}=0.15",)
    ),
    "canary: ill at the first step": Fault(
        LONG, "deployment_failed", closed="step_50", settings=(SICK,), later="step_50: watched"
    ),
    "canary: ill at a late step": Fault(
        LATE, "deployment_failed", closed="step_80", settings=(SICK,), later="step_80: watched"
    ),
    "canary: ill while it bakes": Fault(
        {**CANARY, "bake": "15s"},
        "deployment_failed",
        stage="close",
        closed="bake",
        settings=(SICK,),
        later="bake: watched",
    ),
    "canary: keeps crashing after it was ready": Fault(
        LONG,
        "deployment_failed",
        closed="step_50",
        settings=("platform.environment.APP_CRASH_AFTER_S=6",),
        dies=True,
    ),
    "canary: never ready": Fault(
        CANARY,
        "deployment_failed",
        closed="finished",
        settings=("platform.environment.APP_NEVER_READY=1", "strategy.deadline=2s"),
    ),
    "canary: another version": Fault(
        CANARY,
        "deployment_failed",
        closed="candidate_version",
        settings=(f'platform.run=["env", "VERSION=0.9.9", "{sys.executable}", "-SE", "app.py"]',),
    ),
    "canary: a smoke test fails": Fault(
        CANARY,
        "smoke_tests_failed",
        stage="verify",
        closed="smoke_told",
        settings=("platform.environment.APP_TOLD=bad",),
        changes={
            "platform": {"environment": {"APP_TOLD": "good"}},
            "verify": {"smoke": [{"name": "told", "request": {"path": "/told"}, "expect": {"json": {"told": "good"}}}]},
        },
    ),
    "canary: no metrics": Fault(
        CANARY,
        "health_checks_failed",
        closed="candidate_endpoints",
        settings=("verify.endpoints.metrics=/not-metrics",),
    ),
    "rolling: a tenth are errors": Fault(
        {**ROLLING, "watch": "15s"},
        "deployment_failed",
        closed="step_33",
        settings=(f"{BAD_SHARE}=0.1",),
        changes={"platform": THREE},
    ),
    "rolling: ill at its last instance": Fault(
        {**ROLLING, "watch": "2s"}, "deployment_failed", closed="step_100", settings=(SICK,), later="step_100: watched"
    ),
    "blue-green: all are errors": Fault(
        {**BLUE_GREEN, "watch": "15s"}, "deployment_failed", closed="step_100", settings=(f"{BAD_SHARE}=1",)
    ),
    "blue-green: a smoke test fails on the preview address": Fault(
        BLUE_GREEN,
        "smoke_tests_failed",
        closed="candidate_smoke_told",
        settings=("platform.environment.APP_TOLD=bad",),
        changes={
            "platform": {"environment": {"APP_TOLD": "good"}},
            "verify": {"smoke": [{"name": "told", "request": {"path": "/told"}, "expect": {"json": {"told": "good"}}}]},
        },
    ),
    "blue-green: ill while it bakes": Fault(
        {**BLUE_GREEN, "bake": "15s"},
        "deployment_failed",
        stage="close",
        closed="bake",
        settings=(SICK,),
        later="bake: watched",
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
@side_by_side
async def test_a_bad_release_is_caught_and_the_old_one_serves(living: ProductEnv, fault: Fault) -> None:
    service = living.service(fault.strategy, **{key: dict(value) for key, value in fault.changes.items()})
    await service.serving()
    died: list[Any] | None = [] if fault.dies else None
    async with service.users(bad=NEW, forgiven=_only_what_died(died)):
        command = await service.deploying(NEW, *(each.format(sick=service.sick) for each in fault.settings))
        if fault.later:
            await service.doing(fault.later)
            service.sick.touch()
        document = ended(await command.done(), "rolled-back", 10)
        await service.is_old()
    assert document["failure"]["type"] == fault.failure
    assert document["failure"]["stage"] == fault.stage
    assert found(document, fault.stage, fault.closed)["verdict"] == "fail"
    assert document["previous_version"] == OLD
    assert [undo["state"] for undo in document["compensations"]] == ["done", "done"]
    assert service.instances(NEW) == {}
    assert (
        len(service.instances(OLD))
        == service.state().revisions[str(service.state().stable)].revision.platform.instances
    )
    if fault.closed.startswith("step_") or fault.closed == "bake":
        assert document["measured"]["verdict_to_stable"] < 5
    if died is not None:
        assert len(died) <= 6, f"{len(died)} requests died with instances"


def _only_what_died(died: list[Any] | None) -> Callable[[Any], bool]:
    """A request that an instance was answering when it died is lost with it: the router must not ask twice."""

    def forgive(record: Any) -> bool:
        if died is None or record.status != 502:
            return False
        died.append(record)
        return True

    return forgive


UP = {
    "rolling": (ROLLING, THREE, ["step_33", "step_67", "step_100"]),
    "blue-green": (BLUE_GREEN, {}, ["step_100"]),
    "canary": (CANARY, {}, ["step_40", "step_100"]),
}


@pytest.mark.parametrize("kind", UP)
@side_by_side
async def test_a_good_release_comes_in(living: ProductEnv, kind: str) -> None:
    strategy, platform, steps = UP[kind]
    service = living.service(strategy, platform=platform, rehearse={"enabled": True})
    await service.serving()
    async with service.users():
        document = ended(await service.deploy(NEW), "deployed", 0)
        await service.is_new(NEW)
    assert [stage["stage"] for stage in document["stages"]] == list(Stage)
    assert all(stage["verdict"] == "pass" for stage in document["stages"])
    assert all(found(document, "deploy", step)["verdict"] == "pass" for step in steps)
    assert found(document, "rehearse", "rolled_back")["verdict"] == "pass"
    assert found(document, "rehearse", "redeployed")["verdict"] == "pass"
    assert document["failure"] is None
    assert document["strategy"] == kind
    assert service.instances(OLD) == {}


@pytest.mark.parametrize(
    "setting",
    ["platform.environment.APP_NEVER_READY=1", "verify.endpoints.metrics=/not-metrics"],
    ids=["before it serves", "after it serves"],
)
@side_by_side
async def test_a_first_deployment_that_fails_leaves_nothing_behind(living: ProductEnv, setting: str) -> None:
    service = living.service()
    document = ended(await service.deploy(OLD, "strategy.deadline=2s", setting), "rolled-back", 10)
    assert document["previous_version"] is None
    assert service.instances(OLD) == {}
    assert not (living.home / "targets" / service.name).exists()
    assert not any(service.name in name for name in await living.components())
    host, port = service.listen.split(":")
    listener = await asyncio.start_server(lambda *_: None, host, int(port))
    listener.close()
    await listener.wait_closed()
    ended(await service.deploy(NEW), "deployed", 0)
    await service.is_new(NEW)


@side_by_side
async def test_a_failed_release_never_blocks_the_next_one(living: ProductEnv) -> None:
    service = living.service(LONG)
    await service.serving()
    async with service.users(bad=NEW):
        ended(await service.deploy(NEW, f"{BAD_SHARE}=1"), "rolled-back", 10)
        ended(await service.deploy(NEWER, "strategy.steps.0.watch=1s"), "deployed", 0)
        await service.is_new(NEWER)


@side_by_side
async def test_the_same_release_can_be_deployed_again(living: ProductEnv) -> None:
    service = living.service()
    await service.serving()
    before = service.state().stable
    async with service.users():
        document = ended(await service.deploy(OLD), "deployed", 0)
        await service.is_new(OLD)
    assert document["previous_version"] == OLD
    assert service.state().stable != before
    assert len(service.instances(OLD)) == 2

"""Each strategy on a real cluster, under users' requests: up, and back from each of its steps."""

from typing import Any

import pytest

from tests.integration.kubernetes.product_env import RATE, ClusterEnv
from tests.support.extent import chosen
from tests.support.product_env import NEW, NEWER, OLD, ended, found
from tests.support.scenarios import side_by_side

pytestmark = [pytest.mark.platform("kubernetes"), pytest.mark.timeout(900)]

STEPS = [{"weight": 25, "watch": "2s"}, {"weight": 50, "watch": "1s"}, {"weight": 100, "watch": "1s"}]
UP: dict[str, tuple[dict[str, Any], list[str]]] = {
    "rolling": ({"kind": "rolling", "watch": "1s", "bake": "1s"}, ["step_50", "step_100"]),
    "blue-green": ({"kind": "blue-green", "watch": "1s", "bake": "1s"}, ["step_100"]),
    "canary": ({"kind": "canary", "steps": STEPS, "bake": "1s"}, ["step_25", "step_50", "step_100"]),
}
LONG: dict[str, dict[str, Any]] = {
    "rolling": {"kind": "rolling", "watch": "20s", "bake": "1m"},
    "blue-green": {"kind": "blue-green", "watch": "1m", "bake": "1m"},
    "canary": {"kind": "canary", "steps": [{**step, "watch": "1m"} for step in STEPS], "bake": "1m"},
}
MOMENTS = {
    f"{kind} at {words}": (kind, passed, words)
    for kind, passed, words in (
        ("rolling", 0, "step_50: watched"),
        ("rolling", 1, "step_100: watched"),
        ("blue-green", 0, "step_100: watched"),
        ("canary", 0, "step_25: watched"),
        ("canary", 1, "step_50: watched"),
        ("canary", 2, "step_100: watched"),
        ("canary", 3, "bake: watched"),
    )
}


@pytest.mark.parametrize("kind", chosen([*UP], "canary"))
@side_by_side
async def test_a_good_release_comes_in_after_its_rehearsal(living: ClusterEnv, kind: str) -> None:
    strategy, steps = UP[kind]
    service = living.service(strategy, rehearse={"enabled": True})
    await service.applied()
    async with service.users(rate=RATE):
        document = ended(await service.deploy(NEW), "deployed", 0)
        await service.is_new(NEW)
    assert all(stage["verdict"] == "pass" for stage in document["stages"])
    assert all(found(document, "deploy", step)["verdict"] == "pass" for step in steps)
    assert found(document, "rehearse", "rolled_back")["verdict"] == "pass"
    assert found(document, "rehearse", "redeployed")["verdict"] == "pass"


@pytest.mark.parametrize(("kind", "passed", "words"), chosen(MOMENTS, "canary at step_50: watched"))
@side_by_side
async def test_an_emergency_rollback_at_each_step_ends_fully_old(
    living: ClusterEnv, kind: str, passed: int, words: str
) -> None:
    service = living.service(LONG[kind])
    await service.applied()
    before = service.uids()
    async with service.users(rate=RATE):
        command = await service.deploying(NEW, *quick(kind, passed))
        await service.doing(words, seconds=150)
        document = ended(await service.rollback("--as", "grace"), "rolled-back", 10)
        ended(await command.done(), "rolled-back", 10)
        await service.is_old()
    assert document["failure"]["type"] == "rollback_requested"
    assert document["measured"]["verdict_to_stable"] < 5
    assert service.uids() == before, "the old pods were not those that had served all the time"


@side_by_side
async def test_rolling_from_release_to_release_has_one_pod_more_and_its_way_back_none_less(
    living: ClusterEnv,
) -> None:
    service = living.service(LONG["rolling"])
    await service.applied()
    ended(await service.deploy(NEW, "strategy.watch=0s", "strategy.bake=0s"), "deployed", 0)
    async with service.users(rate=RATE):
        command = await service.deploying(NEWER)
        await service.doing("step_100: watched", seconds=150)
        assert (len(service.pods(NEW)), len(service.pods(NEWER))) == (1, 2)
        ended(await service.rollback("--as", "grace"), "rolled-back", 10)
        ended(await command.done(), "rolled-back", 10)
        await service.is_old(NEW)
        ended(await service.deploy(NEWER, "strategy.watch=1s", "strategy.bake=1s"), "deployed", 0)
        await service.is_new(NEWER)


def quick(kind: str, passed: int) -> list[str]:
    """Settings that make the first steps short."""
    if kind == "canary":
        # Long enough for a quarter of the users to be ten.
        return [f"strategy.steps.{number}.watch=3s" for number in range(passed)]
    return []


@side_by_side
async def test_a_rollback_after_the_end_goes_back_to_the_release_before(living: ClusterEnv) -> None:
    service = living.service(UP["canary"][0])
    await service.applied()
    async with service.users(rate=RATE):
        ended(await service.deploy(NEW), "deployed", 0)
        await service.is_new(NEW)
        document = ended(await service.rollback(), "rolled-back", 10)
        await service.is_old()
        ended(await service.deploy(NEWER), "deployed", 0)
        await service.is_new(NEWER)
    assert (document["kind"], document["version"], document["previous_version"]) == ("rollback", OLD, NEW)


@pytest.mark.parametrize("kind", chosen([*UP], "canary"))
@side_by_side
async def test_users_meet_a_bad_release_no_longer_than_it_takes_to_see_it(living: ClusterEnv, kind: str) -> None:
    service = living.service(LONG[kind])
    await service.applied()
    async with service.users(bad=NEW, rate=RATE):
        document = ended(await service.deploy(NEW, "platform.environment.APP_FAIL_SHARE=1"), "rolled-back", 10)
        await service.is_old()
    assert document["failure"]["type"] == "deployment_failed"


@side_by_side
async def test_a_deployment_without_a_route_is_divided_by_pods_and_says_so(living: ClusterEnv) -> None:
    # Nobody counts its requests: it is judged by its probes alone.
    service = living.service(UP["canary"][0])
    service.without_route()
    await service.applied()
    document = ended(await service.deploy(NEW), "deployed", 0)
    assert {pod["metadata"]["name"] for pod in service.pods(NEW)} == {pod["metadata"]["name"] for pod in service.pods()}
    assert any("only approximates a weight" in note for note in document["plan"]["approximate"]), document["plan"]

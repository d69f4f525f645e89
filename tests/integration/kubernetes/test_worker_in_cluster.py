"""The worker's manifests are what a cluster runs: a deployment goes through its pods, and outlives them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.kubernetes.in_cluster import InCluster
from tests.integration.kubernetes.product_env import RATE
from tests.support.kubernetes_world import World
from tests.support.product_env import NEW, NEWER, ended

pytestmark = [pytest.mark.platform("kubernetes"), pytest.mark.timeout(900)]

LONGER = {
    "kind": "canary",
    "steps": [{"weight": 40, "watch": "6s"}, {"weight": 100, "watch": "1s"}],
    "bake": "1s",
}


@pytest.fixture
async def inside(tmp_path: Path, world: World) -> AsyncIterator[InCluster]:
    home = InCluster(tmp_path / "living", world)
    home.folder.mkdir()
    try:
        await home.up()
        yield home
    finally:
        await home.end()


async def test_a_deployment_goes_through_workers_in_pods_and_outlives_them(inside: InCluster) -> None:
    service = inside.service(LONGER)
    await service.applied()
    async with service.users(rate=RATE):
        deploying = await service.deploying(NEW)
        await service.until(lambda _: service.weights() == {"1.0.0": 60, NEW: 40})
        killed = inside.kill_workers()
        assert len(killed) == 2
        ended(await deploying.done(), "deployed", 0)
        await service.is_new()
        assert killed.isdisjoint(pod["metadata"]["name"] for pod in inside.workers())

        deploying = await service.deploying(NEWER)
        await service.until(lambda _: service.weights() == {NEW: 60, NEWER: 40})
        ended(await service.rollback(), "rolled-back", 10)
        ended(await deploying.done(), "rolled-back", 10)
        await service.is_old(NEW)
    assert inside.ready() == 2
    assert any("deployments_ended" in text for text in inside.metrics())

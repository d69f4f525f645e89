"""The same on a real cluster, with the clients behind a gateway: two pods, 100 requests a second.

What it is measured against: Argo Rollouts 1.10.1 with its Gateway API plugin took, on such a cluster with the same
gateway, 0.42 s (half of the time) to 0.64 s (nearly always) from an abort to the last answer of the candidate, 0.76 to
1.29 s from a bad signal that it asked for each second, and 4.4 s for five steps.
"""

import asyncio
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.rows import Row
from bench.traffic import five_steps, signal_to_stable, verdict_to_stable
from bench.world import SHOP, Measured, World
from models.spec import DeploymentSpec
from tests.servers.cache import NotInstalledError
from tests.servers.kubernetes.cluster import use
from tests.support.kubernetes_manifests import deployment, route, service
from tests.support.kubernetes_world import World as Cluster

IMAGE = "bench-shop"
NAME = "shop"
MEASURED = Measured(where="kubernetes: ", rate=100.0, times=12, p50=0.25, p95=0.5)


@dataclass
class ClusterWorld(World):
    """A home with its stack, and the shop in a namespace."""

    platform: dict[str, Any] | None = None

    def spec(self, version: str, *, service: str = NAME, errors: float = 0.0, **changes: Any) -> DeploymentSpec:
        """The shop in this version; `errors` is the share of requests that it answers with 500."""
        # The release that is gone back to has nothing to be watched for.
        changes.setdefault("strategy", {"kind": "blue-green", "watch": "0s", "bake": "0s"})
        made = super().spec(version, service=service, errors=errors, **changes)
        assert self.platform is not None
        platform = {**self.platform, "environment": {"ERROR_SHARE": f"{errors:g}"}}
        return DeploymentSpec.model_validate({**made.model_dump(mode="json", by_alias=True), "platform": platform})


async def on_a_cluster(world: World) -> list[Row]:
    """All rows of a cluster; none, with a line that says why, where there can be none."""
    with tempfile.TemporaryDirectory(prefix="bench-cluster-") as folder:
        try:
            with use() as found:
                cluster = Cluster(found, Path(folder))
                try:
                    return await _measure(world, cluster)
                finally:
                    await asyncio.to_thread(cluster.close)
        except NotInstalledError as error:
            sys.stderr.write(f"nothing is measured on Kubernetes: {error}\n")
            return []


async def _measure(world: World, cluster: Cluster) -> list[Row]:
    rows: list[Row] = []
    for measure in (verdict_to_stable, signal_to_stable, five_steps):
        here = await _shop(world, cluster)
        rows += await measure(here)
        world.sent, world.lost = world.sent + here.sent, world.lost + here.lost
    return rows


async def _shop(world: World, cluster: Cluster) -> ClusterWorld:
    here = shop_on(world, cluster, cluster.namespace("bench"), NAME, make_image(cluster))
    await answers(here.url)
    return here


def make_image(cluster: Cluster) -> str:
    """How pods call the shop's image, which is in the registry afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench-shop-") as folder:
        shutil.copy(SHOP / "app.py", folder)
        cluster.image(IMAGE, Path(folder))
    return cluster.image_name(IMAGE)


def shop_on(world: World, cluster: Cluster, namespace: str, name: str, image: str, **settings: Any) -> ClusterWorld:
    """The shop under this name, as its user has applied it, at an address of its own."""
    address = cluster.address()
    pods = int(settings.get("instances", 2))
    for document in (deployment(name, image, replicas=pods), service(name), route(name, cluster.cluster, address)):
        cluster.apply(document, namespace)
    platform = {
        "kind": "kubernetes",
        "kubeconfig": cluster.kubeconfig,
        "namespace": namespace,
        "deployment": name,
        "route": name,
        "image": image,
        "url": f"http://{address}",
        "counters": {"urls": [cluster.cluster.metrics]},
        # As a worker in the cluster reaches them.
        "reach": "pods",
        "instances": pods,
        "drain": "5s",
        **settings,
    }
    port = int(address.rpartition(":")[2])
    return ClusterWorld(world.home, world.client, port, measured=MEASURED, platform=platform)


async def answers(url: str) -> None:
    """Returns when users are answered there."""
    async with asyncio.timeout(60), httpx.AsyncClient(trust_env=False) as client:
        while (await client.get(url)).status_code != 200:  # noqa: ASYNC110  there is nothing that would tell
            await asyncio.sleep(0.1)

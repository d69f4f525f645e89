"""What many watches cost a real API server that has the objects of as many targets; a proxy before it counts."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from activities.analysis.watch import Memory, Watch
from models.verdict import Verdict
from tests.integration.kubernetes.troubled_api import Trouble, troubled
from tests.support.fake_kubernetes import FakeKubernetes
from tests.support.kubernetes_world import World

pytestmark = [pytest.mark.platform("kubernetes"), pytest.mark.timeout(300)]

MANY = 10
SECONDS = 6.0
_KINDS = {
    "configmaps": ("v1", "ConfigMap"),
    "services": ("v1", "Service"),
    "pods": ("v1", "Pod"),
    "httproutes": ("gateway.networking.k8s.io/v1", "HTTPRoute"),
}


async def test_ten_watches_ask_no_more_than_twelve_times_a_second(world: World, tmp_path: Path) -> None:
    namespace = await asyncio.to_thread(world.namespace, "many")
    async with FakeKubernetes(pods=1).serving(tmp_path) as found, troubled(world, Trouble(0, 500)) as api:
        changes = {"kubeconfig": api.kubeconfig(tmp_path / "counted.kubeconfig"), "namespace": namespace}
        found.changes = {**changes, "reach": "pods"}
        for number in range(MANY):
            found.add(f"shop{number}")
        await asyncio.to_thread(_apply, world, namespace, found)
        orders = [found.watching(f"shop{number}", SECONDS) for number in range(MANY)]
        watches = [Watch(order, found.platform, Memory(watched_since=datetime.now(UTC))).run() for order in orders]
        running = asyncio.gather(*watches)
        await asyncio.sleep(2)  # what each asks first
        before, began = api.asked, time.monotonic()
        reports = await running
        asked, took = api.asked - before, time.monotonic() - began
    assert {report.verdict for report in reports} == {Verdict.PASS}, [report.reason for report in reports]
    # The last look of a watch is one more reading of each.
    assert asked <= (2 + MANY) * (took + 1), f"{asked} requests in {took:.1f} s"


def _apply(world: World, namespace: str, found: FakeKubernetes) -> None:
    core = client.CoreV1Api(world.admin)
    for path, thing in found.objects.items():
        kind, name = path.split("/")[-2:]
        if kind not in _KINDS:
            continue  # no watch asks for it
        version, what = _KINDS[kind]
        body: dict[str, Any] = {key: value for key, value in thing.items() if key not in ("metadata", "status")}
        metadata = {"name": name, "labels": thing["metadata"]["labels"]}
        world.apply({"apiVersion": version, "kind": what, "metadata": metadata, **body}, namespace)
        if kind == "pods":
            core.patch_namespaced_pod_status(name, namespace, {"status": thing["status"]})

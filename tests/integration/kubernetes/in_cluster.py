"""The worker where most clusters have it: in pods, from `deploy/kubernetes/overlay`, with a Temporal that is a pod too.

People's commands come from outside. The pods know no kubeconfig: they have the account that the manifests give them.
"""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import yaml
from temporalio.client import Client

from embedded.temporal_server import SEARCH_ATTRIBUTES
from tests.integration.kubernetes.product_env import ClusterEnv, OnCluster
from tests.servers.cache import run
from tests.servers.kubernetes import worker_image
from tests.servers.kubernetes.binaries import programs
from tests.servers.kubernetes.node import ADDRESS
from tests.servers.kubernetes.processes import Servers
from tests.support.free_ports import free_port
from tests.support.kubernetes_world import Object, World
from workflows.converter import strict_data_converter

MANIFESTS = Path(__file__).parents[3] / "deploy" / "kubernetes"
WORKER = "deployment-specialist-worker"
PORT = 7233
STARTS_WITHIN = 120.0


class InCluster(ClusterEnv):
    """A home that no command ever writes to, a Temporal and two workers in the namespace of the product's account."""

    def __init__(self, folder: Path, world: World) -> None:
        super().__init__(folder, world)
        self.address = ""
        self._relays = Servers(folder / "relays")

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "TEMPORAL_ADDRESS": self.address}

    async def client(self) -> Client:
        if self._client is None:
            self._client = await Client.connect(self.address, data_converter=strict_data_converter)
        return self._client

    def relayed(self, url: str) -> str:
        """The same at an address that pods reach too: here the gateway is on the loopback, and no load balancer."""
        there = urlsplit(url)
        port = free_port()
        listen = f"TCP-LISTEN:{port},bind={ADDRESS},fork,reuseaddr"
        self._relays.start(f"relay-{port}", "socat", listen, f"TCP:{there.netloc}")
        return there._replace(netloc=f"{ADDRESS}:{port}").geturl()

    def _make(self, strategy: Mapping[str, Any], changes: dict[str, Any]) -> OnCluster:
        return Inside(self, strategy, changes)

    async def up(self) -> None:
        """Two workers take work."""
        await asyncio.to_thread(self._start_temporal)
        await asyncio.to_thread(self._start_workers)

    async def end(self) -> None:
        await self.end_commands()
        await self.dismiss()
        for name in self._relays.names():
            self._relays.end(name)
        for kind, name in (("Deployment", WORKER), ("Pod", "temporal")):
            await asyncio.to_thread(self.world.delete, kind, name, self.world.home, 0)

    def workers(self) -> list[Object]:
        """The workers' pods that have not been told to end."""
        found = self.world.list("Pod", self.world.home, f"app.kubernetes.io/name={WORKER}")
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def kill_workers(self) -> set[str]:
        """All of them at once, without a word; gives their names."""
        names = {str(pod["metadata"]["name"]) for pod in self.workers()}
        for name in names:
            self.world.delete("Pod", name, self.world.home, grace=0)
        return names

    def metrics(self) -> list[str]:
        """What each worker tells Prometheus."""
        addresses = [f"http://{pod['status']['podIP']}:9464/metrics" for pod in self.workers()]
        return [httpx.get(address, trust_env=False, timeout=10).text for address in addresses]

    def ready(self) -> int:
        """How many workers the cluster calls ready."""
        found = self.world.get("Deployment", WORKER, self.world.home)
        return int(((found or {}).get("status") or {}).get("readyReplicas") or 0)

    def _start_temporal(self) -> None:
        self.world.push("temporal", [worker_image.temporal()], Cmd=["/temporal"])
        options = ["--ip=0.0.0.0", f"--port={PORT}", "--headless", "--log-level=error"]
        attributes = [f"--search-attribute={name}=Keyword" for name in SEARCH_ATTRIBUTES]
        container = {
            "name": "temporal",
            "image": self.world.image_name("temporal"),
            "command": ["/temporal", "server", "start-dev", *options, *attributes],
            "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        }
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "temporal"}, "spec": {"containers": [container]}}
        self.world.apply(pod, self.world.home)
        deadline = time.monotonic() + STARTS_WITHIN
        while not _is_ready(found := self.world.get("Pod", "temporal", self.world.home) or {}):
            assert time.monotonic() < deadline, found.get("status")
            time.sleep(0.2)
        # Neither names nor a load balancer here: pods and commands alike know the pod's own address.
        self.address = f"{found['status']['podIP']}:{PORT}"

    def _start_workers(self) -> None:
        code = worker_image.code()
        try:
            digest = self.world.push("worker", [worker_image.packages(), code], **worker_image.SETTINGS)
        finally:
            code.unlink()
        for document in self._built(digest):
            namespaced = {} if document["kind"] == "Namespace" else {"namespace": self.world.home}
            self.world.apply(document, **namespaced)
        deadline = time.monotonic() + STARTS_WITHIN
        while self.ready() < 2:
            assert time.monotonic() < deadline, [pod["status"] for pod in self.workers()]
            time.sleep(0.2)

    def _built(self, digest: str) -> list[Object]:
        """The manifests, by a copy of the overlay in which the image and Temporal's address are changed."""
        own = self.folder / "overlay"
        own.mkdir()
        # A resource of a kustomization is named by a relative path.
        (self.folder / "worker").symlink_to(MANIFESTS / "worker")
        overlay = yaml.safe_load((MANIFESTS / "overlay" / "kustomization.yaml").read_text())
        overlay["namespace"] = self.world.home
        [image], [patch] = overlay["images"], overlay["patches"]
        del image["newTag"]
        image |= {"newName": self.world.image_name("worker").rpartition(":")[0], "digest": digest}
        deployment = yaml.safe_load(patch["patch"])
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        container["env"] = [{"name": "TEMPORAL_ADDRESS", "value": self.address}]
        patch["patch"] = yaml.safe_dump(deployment)
        (own / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
        said = run([str(programs().kubernetes / "kubectl"), "kustomize", str(own)], timeout=60)
        return list(yaml.safe_load_all(said))


class Inside(OnCluster):
    """A service that workers in pods deploy: with their own account, and the gateway where they reach it."""

    living: InCluster

    def _platform(self) -> dict[str, Any]:
        made = super()._platform()
        del made["kubeconfig"]
        metrics = self.living.relayed(self.world.cluster.metrics)
        return {**made, "url": self.living.relayed(made["url"]), "counters": {"urls": [metrics]}}


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

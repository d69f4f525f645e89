"""The conformance suite's ground on Kubernetes: a namespace for each service, real pods, users at the gateway.

A release is an image with its files and a folder of manifests. The pods see the test's own folder at the same path,
so that a test can make them sick by touching a file.
"""

import asyncio
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from activities.platforms.base import Platform
from activities.platforms.kubernetes.names import REVISION
from activities.platforms.kubernetes.platform import KubernetesPlatform
from embedded.supervision.processes import Identity, identify, wait_for_end
from models.checks import PreflightCheck
from models.platforms import KubernetesPlatformSpec
from models.platforms import Platform as PlatformModel
from models.platforms.kubernetes import GatewayCounters, Reach
from models.spec import DeploymentSpec, ReleaseSpec
from tests.servers.cache import NotInstalledError, unavailable
from tests.servers.kubernetes.cluster import place, use
from tests.support.kubernetes_manifests import PATIENT, deployment, route, service
from tests.support.kubernetes_world import World

NAME = "app"


class KubernetesHarness:
    """A cluster for many targets."""

    kind: str = "kubernetes"
    has_own_front_proxy: bool = False
    address_stays_open: bool = True
    keeps_what_was_checked: bool = True
    gateway_lags: float = 5.0
    pace: float = 5.0

    def __init__(self) -> None:
        self._open = ExitStack()
        try:
            cluster = self._open.enter_context(use())
        except NotInstalledError as error:
            unavailable(error)
        self._folder = Path(tempfile.mkdtemp(prefix="platforms-"))
        self.world = World(cluster, self._folder)
        self._kubernetes = KubernetesPlatform()
        self.platform: Platform = self._kubernetes
        self._namespaces: dict[str, str] = {}
        self._addresses: dict[str, set[str]] = {}

    def model(self, service: str, directory: Path, listen: str, **settings: Any) -> KubernetesPlatformSpec:
        namespace = self._namespace(service)
        self._addresses.setdefault(service, set()).add(listen)
        command = settings.pop("run", None)
        tag = f"{service}-{directory.name}"
        if (directory / "app.py").exists():
            self.world.image(tag, directory)
        given = {"drain": timedelta(seconds=5), "stop": timedelta(seconds=1), "instances": 2, **settings}
        image = self.world.image_name(tag)
        changes: dict[str, Any] = {"command": list(command)} if command else {}
        if {"APP_HOSTS", "APP_LACKS"} & settings.get("environment", {}).keys():
            # Who writes the manifests of such a service does not let the kubelet ask what it refuses.
            changes["readinessProbe"] = {"tcpSocket": {"port": "http"}, **PATIENT}
        manifests = self._write_manifests(directory, listen, image, changes)
        return KubernetesPlatformSpec(
            kind="kubernetes",
            kubeconfig=self.world.kubeconfig,
            namespace=namespace,
            deployment=NAME,
            manifests=str(manifests),
            image=image,
            route=NAME,
            url=f"http://{listen}",
            reach=Reach.PODS,
            counters=GatewayCounters(urls=(self.world.cluster.metrics,)),
            **given,
        )

    def _namespace(self, service: str) -> str:
        if service not in self._namespaces:
            self._namespaces[service] = self.world.namespace(service)
        return self._namespaces[service]

    def _write_manifests(self, directory: Path, listen: str, image: str, changes: dict[str, Any]) -> Path:
        folder = directory.parent / f"manifests-{directory.name}-{listen.rpartition(':')[2]}"
        folder.mkdir(exist_ok=True)
        documents = {
            "deployment": deployment(NAME, image, folder=directory.parent, **changes),
            "service": service(NAME),
            "route": route(NAME, self.world.cluster, listen),
        }
        for name, document in documents.items():
            (folder / f"{name}.yaml").write_text(json.dumps(document))
        return folder

    async def pinned(self, service: str, platform: PlatformModel) -> dict[str, str]:
        release = ReleaseSpec(version="1.1.0")
        spec = DeploymentSpec(service=service, target="staging", release=release, platform=platform)
        return (await self.platform.examine(PreflightCheck(spec=spec, planning=True))).digests

    def free_address(self) -> str:
        return self.world.address()

    async def is_closed(self, listen: str) -> bool:
        async with httpx.AsyncClient(trust_env=False) as client:
            # No route, or one that leads to nobody; the port itself is the gateway's.
            return (await client.get(f"http://{listen}/")).status_code in (404, 500, 503)

    async def kill_instance(self, name: str) -> None:
        namespace = next(one for one in self._namespaces.values() if self.world.get("Pod", name, one))
        await asyncio.to_thread(self._kill_instance, name, namespace)

    def _kill_instance(self, name: str, namespace: str) -> None:
        for process in self._processes(name, namespace):
            os.kill(process.pid, signal.SIGKILL)
            assert wait_for_end(process, 5)

    def _processes(self, pod: str, namespace: str) -> list[Identity]:
        found = self.world.get("Pod", pod, namespace)
        assert found is not None
        ids = [status["containerID"].rpartition("/")[2] for status in found["status"]["containerStatuses"]]
        tasks = place() / "run" / "io.containerd.runtime.v2.task" / "k8s.io"
        if not tasks.exists():
            # On a cluster that was given to the tests, nodes are other machines; their own one, as in CI, never skips.
            pytest.skip("a process in a container can be killed on the tests' own cluster only")
        pids = [int((tasks / id / "init.pid").read_text()) for id in ids]
        return [process for process in map(identify, pids) if process is not None]

    # Here the gateway is the cluster's: the platform promises nothing of its life, so there is nothing to be tested.

    async def kill_router(self, service: str) -> None:
        pytest.skip("the gateway is not the platform's own")

    @asynccontextmanager
    async def hanging_router(self, service: str) -> AsyncIterator[None]:
        pytest.skip("the gateway is not the platform's own")
        yield

    def left_of(self, service: str) -> list[str]:
        namespace = self._namespaces.get(service)
        if namespace is None:
            return []
        return [
            # A name in a cluster cannot hold every revision's id; the label can.
            f"{kind}/{found['metadata']['name']} {(found['metadata'].get('labels') or {}).get(REVISION, '')}".strip()
            for kind in ("Deployment", "Service", "HTTPRoute", "Secret", "ConfigMap", "Pod")
            for found in self.world.list(kind, namespace)
            if not self._is_not_ours(kind, found)
        ]

    def _is_not_ours(self, kind: str, found: dict[str, Any]) -> bool:
        name = found["metadata"]["name"]
        # Each namespace has one; and the fence outlasts the target.
        fence = kind == "ConfigMap" and set(found.get("data") or ()) == {"fence"}
        return fence or name == "kube-root-ca.crt" or bool(found["metadata"].get("deletionTimestamp"))

    async def wipe(self, service: str) -> None:
        namespace = self._namespaces.pop(service, None)
        if namespace is not None:
            await asyncio.to_thread(self._wipe, service, namespace)

    def _wipe(self, service: str, namespace: str) -> None:
        for found in self.world.list("HTTPRoute", namespace):
            self.world.delete("HTTPRoute", found["metadata"]["name"], namespace)
        self.world.remove_namespace(namespace)
        for address in self._addresses.pop(service, ()):
            self.world.give_back(address)

    def exposing(self, service: str, value: str) -> list[str]:
        namespace = self._namespaces[service]
        kinds = ("Deployment", "ReplicaSet", "Pod", "Service", "HTTPRoute", "ConfigMap", "Event")
        objects = [(kind, found) for kind in kinds for found in self.world.list(kind, namespace)]
        assert objects
        return [f"{kind}/{found['metadata']['name']}" for kind, found in objects if value in json.dumps(found)]

    def command_lines(self) -> str:
        lines = (" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
        return "\n".join(lines)

    def elsewhere(self) -> list[str]:
        return [self.kind, "-"]

    async def aclose(self) -> None:
        await self._kubernetes.aclose()
        await asyncio.to_thread(self.world.close)
        shutil.rmtree(self._folder)
        self._open.close()

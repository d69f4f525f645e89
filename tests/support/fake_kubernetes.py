"""As much of an API server and a gateway as a watch and a shift need, in this process: it counts what it is asked.

What a real one does is tested on a real one. This one can be given thirty targets in no time, and says how many
requests each kind of object gets.
"""

import copy
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from activities.platforms.kubernetes.names import (
    REVISION,
    TARGET,
    TRAFFIC,
    label_value,
    state_configmap_name,
    target_label,
)
from activities.platforms.kubernetes.platform import KubernetesPlatform
from activities.platforms.kubernetes.state import KubernetesRevisionRecord, KubernetesTargetState
from models.platforms import KubernetesPlatformSpec
from models.release import Fence, Release, Revision, ShiftOrder
from models.spec import JudgeSpec
from models.watch import WatchOrder

NAMESPACE = "shop"
OLD, NEW = "1.0.0", "1.1.0"
WEIGHT = 20
FENCE = Fence(epoch=10, sequence=2)
Json = dict[str, Any]
_KIND = re.compile(r"/namespaces/[^/]+/([a-z]+)")


class FakeKubernetes:
    """A namespace with targets, each with a candidate that has some of the traffic.

    Attributes:
        asked: kind of object → how many requests came for it; `proxy` are those that went on to pods.
        sick: names of pods that answer 503.
        patience: kind of object → seconds of the Retry-After with which reading it is answered 429.
        forbidden: kinds that this account may not list.
        errors: target → answers of its candidate with 500 that the gateway has counted.
        noted: how many notes of what gateways had counted were written.
        changes: what all targets' specs say otherwise.
    """

    def __init__(self, pods: int = 2) -> None:
        self.objects: dict[str, Json] = {}
        self.asked: Counter[str] = Counter()
        self.sick: set[str] = set()
        self.patience: dict[str, int] = {}
        self.forbidden: set[str] = set()
        self.errors: dict[str, int] = {}
        self.targets: list[str] = []
        self.changes: Json = {}
        self.noted = 0
        self._pods, self._version, self._port = pods, 1, 0
        self.platform = KubernetesPlatform()
        self._kubeconfig = ""

    @asynccontextmanager
    async def serving(self, folder: Path) -> AsyncIterator["FakeKubernetes"]:
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self._port = int(runner.addresses[0][1])
            path = folder / "fake.kubeconfig"
            path.write_text(json.dumps(_kubeconfig(f"http://127.0.0.1:{self._port}")))
            self._kubeconfig = str(path)
            yield self
        finally:
            await self.platform.aclose()
            await runner.cleanup()

    # What is there.

    def add(self, name: str) -> None:
        """A target with a stable revision and a candidate, as a worker has left it."""
        self.targets.append(name)
        kept = {_id(name, id): self._kept(name, id) for id in (OLD, NEW)}
        stable, weights = _id(name, OLD), {OLD: 100 - WEIGHT, NEW: WEIGHT}
        noted = {_id(name, id): weight for id, weight in weights.items()}
        base = {"app": name}
        state = KubernetesTargetState(stable=stable, weights=noted, bound=stable, revisions=kept, base=base, led=FENCE)
        data = {"fence": FENCE.model_dump_json(), "state": state.model_dump_json()}
        labels = {TARGET: target_label(name, "staging")}
        self._put(_core("configmaps", state_configmap_name(name, "staging")), {"data": data}, labels)
        # A copy of something of the user's, as there is one of each release.
        self._put(_core("configmaps", f"{name}-settings"), {"data": {"big": "x" * 1000}}, {**labels, REVISION: "x"})
        selector = {**base, **kept[stable].selector}
        self._put(_core("services", name), {"spec": {"selector": selector, "ports": [{"port": 80}]}})
        refs = [{"name": f"{name}-{_slug(id)}", "port": 80, "weight": weight} for id, weight in weights.items()]
        self._put(_route(name), {"spec": {"rules": [{"backendRefs": refs}]}})
        for id in (OLD, NEW):
            names = [f"{name}-{_slug(id)}-{number}" for number in range(self._pods)]
            for pod in names:
                self._put(_core("pods", pod), _pod(), {REVISION: label_value(_id(name, id)), TRAFFIC: "on"})
            endpoints = [
                {"targetRef": {"name": pod}, "addresses": ["127.0.0.1"], "conditions": {"ready": True}} for pod in names
            ]
            service = {"kubernetes.io/service-name": f"{name}-{_slug(id)}"}
            self._put(_slice(f"{name}-{_slug(id)}"), {"addressType": "IPv4", "endpoints": endpoints}, service)

    def remove_pod(self, name: str) -> None:
        """It is gone, as after a scale-down or an eviction."""
        del self.objects[_core("pods", name)]
        self.sick.add(name)

    def weights(self, name: str) -> dict[str, int]:
        """Service → weight, as the route has it."""
        refs = self.objects[_route(name)]["spec"]["rules"][0]["backendRefs"]
        return {ref["name"]: ref["weight"] for ref in refs}

    def divide(self, name: str, weights: dict[str, int]) -> None:
        """Another worker moves traffic."""
        route = self.objects[_route(name)]
        refs = [{"name": f"{name}-{_slug(id)}", "weight": weight} for id, weight in weights.items()]
        route["spec"]["rules"][0]["backendRefs"] = refs

    def settings(self, name: str, **changes: Any) -> KubernetesPlatformSpec:
        """The platform's part of the spec."""
        given: Json = {
            "kind": "kubernetes",
            "kubeconfig": self._kubeconfig,
            "namespace": NAMESPACE,
            "deployment": name,
            "image": "shop:{version}",
            "route": name,
            "url": f"http://127.0.0.1:{self._port}",
            "counters": {"urls": [f"http://127.0.0.1:{self._port}/metrics"]},
            "reach": "api",
        }
        return KubernetesPlatformSpec.model_validate({**given, **self.changes, **changes})

    def revision(self, name: str, id: str) -> Revision:
        """A revision of a target."""
        release = Release(service=name, version=id)
        return Revision(id=_id(name, id), release=release, platform=self.settings(name))

    def watching(self, name: str, seconds: float, fence: Fence = FENCE, **judge: Any) -> WatchOrder:
        """The order of a watch that ends after so many seconds."""
        return WatchOrder(
            service=name,
            target="staging",
            platform=self.settings(name),
            fence=fence,
            candidate=self.revision(name, NEW),
            stable=self.revision(name, OLD),
            instances=self._pods,
            judge=JudgeSpec.model_validate(judge),
            min_requests=0,
            deadline=datetime.now(UTC) + timedelta(seconds=seconds),
        )

    def back(self, name: str, sequence: int = 3) -> ShiftOrder:
        """The order that gives everything back to stable."""
        return ShiftOrder(
            service=name,
            target="staging",
            platform=self.settings(name),
            fence=Fence(epoch=FENCE.epoch, sequence=sequence),
            candidate=_id(name, NEW),
            stable=_id(name, OLD),
            weight=0,
        )

    def _kept(self, name: str, id: str) -> KubernetesRevisionRecord:
        service = f"{name}-{_slug(id)}"
        selector = {REVISION: label_value(_id(name, id)), TRAFFIC: "on"}
        return KubernetesRevisionRecord(
            revision=self.revision(name, id),
            deployment=service,
            service=service,
            selector=selector,
            container="app",
            port=self._port,
            prepared=True,
        )

    def _put(self, path: str, thing: Json, labels: dict[str, str] | None = None) -> None:
        self._version += 1
        name = path.rpartition("/")[2]
        about = {"name": name, "uid": f"uid-{name}", "resourceVersion": str(self._version), "generation": 1}
        thing = {**thing, "metadata": {**about, "labels": labels or {}}}
        if "/httproutes/" in path:
            thing["status"] = {"parents": [_accepted(1)]}
        self.objects[path] = thing

    # What it answers.

    async def _answer(self, request: web.Request) -> web.Response:
        match = _KIND.search(request.path)
        kind = "proxy" if "/proxy/" in request.path else match[1] if match else request.path
        self.asked[kind] += 1
        if request.path == "/health":
            return web.Response(text="ok")
        if kind in self.patience and request.method == "GET":
            return _status(429, {"Retry-After": str(self.patience[kind])})
        if kind == "proxy":
            name = request.path.partition("/pods/")[2].partition(":")[0]
            return web.Response(status=503 if name in self.sick else 200, text="ok")
        if request.method == "PUT":
            return self._replace(request.path, await request.json())
        if match is not None and request.path.endswith(f"/{kind}"):
            return self._list(request.path, kind, request.query.get("labelSelector", ""))
        found = self.objects.get(request.path)
        return web.json_response(found) if found is not None else _status(404)

    def _list(self, path: str, kind: str, selector: str) -> web.Response:
        if kind in self.forbidden:
            return _status(403)
        there = [each for at, each in self.objects.items() if at.startswith(f"{path}/")]
        wanted = [part for part in selector.split(",") if part]
        return web.json_response({"items": [each for each in there if all(_carries(each, part) for part in wanted)]})

    def _replace(self, path: str, thing: Json) -> web.Response:
        there = self.objects[path]
        self.noted += "counters" in thing.get("data", ())
        if thing["metadata"].get("resourceVersion") != there["metadata"]["resourceVersion"]:
            return _status(409)
        self._version += 1
        made = copy.deepcopy(thing)
        generation = int(there["metadata"]["generation"]) + 1
        made["metadata"] |= {"resourceVersion": str(self._version), "generation": generation}
        if "/httproutes/" in path:
            made["status"] = {"parents": [_accepted(generation)]}
        self.objects[path] = made
        return web.json_response(made)

    async def _metrics(self, _: web.Request) -> web.Response:
        self.asked["metrics"] += 1
        lines = ["process_start_time_seconds 1", f"traefik_config_reloads_total {self._version}"]
        for name in self.targets:
            # What beside it is well answers as much as its candidate that fails.
            for id, code, number in (
                (OLD, 200, 80 + self.errors.get(name, 0)),
                (NEW, 200, 20),
                (NEW, 500, self.errors.get(name, 0)),
            ):
                service = f"httproute-{NAMESPACE}-{name}-svc-{NAMESPACE}-{name}-{_slug(id)}-0@kubernetesgateway"
                lines.append(f'traefik_service_requests_total{{code="{code}",service="{service}"}} {number}')
        return web.Response(text="\n".join(lines) + "\n")


def _id(name: str, id: str) -> str:
    return f"{id}-{name}"


def _slug(id: str) -> str:
    return id.replace(".", "-")


def _core(kind: str, name: str) -> str:
    return f"/api/v1/namespaces/{NAMESPACE}/{kind}/{name}"


def _route(name: str) -> str:
    return f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes/{name}"


def _slice(name: str) -> str:
    return f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices/{name}"


def _pod() -> Json:
    running = {"name": "app", "restartCount": 0, "state": {"running": {}}, "image": "", "imageID": "", "ready": True}
    ready = {"type": "Ready", "status": "True"}
    status = {"phase": "Running", "podIP": "127.0.0.1", "containerStatuses": [running], "conditions": [ready]}
    # No scheduler of this name is anywhere: on a real server the pod stays as it is said to be.
    spec = {"schedulerName": "nobody", "containers": [{"name": "app", "image": "nothing"}]}
    return {"spec": spec, "status": status}


def _accepted(generation: int) -> Json:
    conditions = [
        {"type": kind, "status": "True", "observedGeneration": generation} for kind in ("Accepted", "ResolvedRefs")
    ]
    return {"parentRef": {"name": "gateway"}, "conditions": conditions}


def _carries(thing: Json, part: str) -> bool:
    labels = thing["metadata"]["labels"]
    if part.startswith("!"):
        return part[1:] not in labels
    key, equals, value = part.partition("=")
    return labels.get(key) == value if equals else key in labels


def _status(code: int, headers: dict[str, str] | None = None) -> web.Response:
    said = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "no"}
    return web.json_response(said, status=code, headers=headers)


def _kubeconfig(server: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "fake", "cluster": {"server": server}}],
        "users": [{"name": "worker", "user": {"token": "none"}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "worker"}}],
        "current-context": "fake",
    }

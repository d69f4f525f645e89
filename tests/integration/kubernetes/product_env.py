"""The whole product on a real cluster, as its users have it: what they have applied themselves, and then `deploy`.

The worker has the token of the least-privilege Role. Users send requests through the gateway during everything that a
test does; each must be answered, unless the release under test answered it badly itself.
"""

import asyncio
import copy
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any

import httpx
import yaml

from tests.servers.kubernetes.binaries import programs
from tests.support.kubernetes_manifests import deployment, route, service
from tests.support.kubernetes_world import Object, World, least_privilege
from tests.support.product_env import CANARY, NEW, NEWER, OLD, ProductEnv, Service

APP = "app"
# Of users' requests in a second: the machine has the cluster to carry as well.
RATE = 30.0
# No longer than it takes to see that it goes on.
QUICK: dict[str, Any] = {
    "kind": "canary",
    "steps": [{"weight": 50, "watch": "1s"}, {"weight": 100, "watch": "1s"}],
    "bake": "1s",
}


class ClusterEnv(ProductEnv):
    """A home with its stack, and a cluster."""

    # Pods take seconds where processes take a fraction of one, and the machine has the cluster to carry as well.
    patience = 240.0

    def __init__(self, folder: Path, world: World) -> None:
        super().__init__(folder)
        self.world = world
        # With it the worker builds kustomizations.
        self._kubectl = Path(which("kubectl") or programs().kubernetes / "kubectl")

    def environment(self) -> dict[str, str]:
        known = super().environment()
        return {**known, "PATH": f"{known['PATH']}:{self._kubectl.parent}"}

    def service(self, strategy: Mapping[str, Any] = CANARY, **changes: Any) -> "OnCluster":
        """A service in a namespace of its own; `changes` go into its spec file."""
        made = self._make(strategy, changes)
        self._services.append((asyncio.current_task(), made))
        return made

    def _make(self, strategy: Mapping[str, Any], changes: dict[str, Any]) -> "OnCluster":
        return OnCluster(self, strategy, changes)

    async def dismiss(self) -> None:
        """Nothing is left of the services that this task has made."""
        mine = [made for task, made in self._services if task is asyncio.current_task()]
        for made in mine:
            if isinstance(made, OnCluster):
                await asyncio.to_thread(made.remove)


class OnCluster(Service):
    """A service on a cluster: two pods, a Service and an HTTPRoute, written by its user."""

    living: ClusterEnv

    def __init__(self, living: ClusterEnv, strategy: Mapping[str, Any], changes: dict[str, Any]) -> None:
        self.world = living.world
        self.namespace = self.world.namespace()
        super().__init__(living, strategy, changes)
        for version in (OLD, NEW, NEWER):
            (self.folder / "app" / "version.txt").write_text(version)
            self.world.image(f"{self.name}-{version}", self.folder / "app")

    def remove(self) -> None:
        """Nothing of it is left, and its address is free."""
        for found in self.world.list("HTTPRoute", self.namespace):
            self.world.delete("HTTPRoute", found["metadata"]["name"], self.namespace)
        self.world.remove_namespace(self.namespace)
        self.world.give_back(self.listen)

    def _address(self) -> str:
        return self.world.address()

    def _platform(self) -> dict[str, Any]:
        return {
            "kind": "kubernetes",
            "kubeconfig": self.world.kubeconfig,
            "namespace": self.namespace,
            "deployment": APP,
            "image": self.image("{version}"),
            "route": APP,
            "url": f"http://{self.listen}",
            "counters": {"urls": [self.world.cluster.metrics]},
            "instances": 2,
            "drain": "2s",
            "stop": "2s",
        }

    def _spec(self, strategy: Mapping[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        made = super()._spec(strategy, changes)
        made["strategy"].setdefault("deadline", "60s")
        if made["strategy"]["deadline"] == "20s":
            made["strategy"]["deadline"] = "60s"
        return made

    def image(self, version: str) -> str:
        """The image of a version."""
        return self.world.image_name(f"{self.name}-{version}")

    def without_route(self) -> None:
        """The spec names no HTTPRoute: the user's one leads to the Service and stays as it is."""
        spec = yaml.safe_load(self.spec.read_text())
        del spec["platform"]["route"], spec["platform"]["counters"]
        self.spec.write_text(yaml.safe_dump(spec))

    def reached_by(self, kubeconfig: str) -> None:
        """The spec names another kubeconfig."""
        spec = yaml.safe_load(self.spec.read_text())
        spec["platform"]["kubeconfig"] = kubeconfig
        self.spec.write_text(yaml.safe_dump(spec))

    def beside(self, target: str) -> "OnCluster":
        """The same service and the same objects, in another spec file that calls them another target."""
        made = copy.copy(self)
        made.target, made.spec = target, self.folder / f"{target}.yaml"
        made.spec.write_text(yaml.safe_dump({**yaml.safe_load(self.spec.read_text()), "target": target}))
        return made

    # What the user does.

    def manifests(self, more_env: Sequence[Object] = (), **changes: Any) -> list[Object]:
        """What the user has: `changes` go into the container."""
        env = [{"name": name, "value": value} for name, value in (("HOST", "0.0.0.0"), ("PORT", "8080"))]  # noqa: S104
        container = {"env": [*env, {"name": "VERSION", "value": OLD}, *more_env], **changes}
        return [
            deployment(APP, self.image(OLD), folder=self.folder, **container),
            service(APP),
            route(APP, self.world.cluster, self.listen),
        ]

    def write_manifests(self, *more: Object, **changes: Any) -> Path:
        """What the user has, in a folder `manifests` beside the spec file."""
        folder = self.spec.parent / "manifests"
        folder.mkdir(exist_ok=True)
        for document in (*self.manifests(**changes), *more):
            (folder / f"{document['kind'].lower()}.yaml").write_text(yaml.safe_dump(document))
        return folder

    async def applied(self, **changes: Any) -> None:
        """The user's own Deployment of the old version serves; nobody here has deployed anything."""
        for document in self.manifests(**changes):
            self.world.apply(document, self.namespace)
        await self.answering()

    async def answering(self, seconds: float = 60) -> None:
        """Waits until users are answered, for a second on end."""
        deadline, good = time.monotonic() + seconds, 0
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            while good < 10:
                assert time.monotonic() < deadline, "nobody answers"
                try:
                    good = good + 1 if (await client.get(self.url)).status_code == 200 else 0
                except httpx.HTTPError:
                    good = 0
                await asyncio.sleep(0.1)

    @contextmanager
    def refusing(self, resources: str, unless: str) -> Iterator[None]:
        """Meanwhile the cluster refuses to change objects of this namespace that do not fulfil a CEL expression."""
        name = f"tests-{self.namespace}"
        kind = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
        groups = {"services": "", "httproutes": "gateway.networking.k8s.io"}
        rule = {
            "apiGroups": [groups[resources]],
            "apiVersions": ["*"],
            "operations": ["UPDATE"],
            "resources": [resources],
        }
        where = {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}}
        self.world.apply(
            {
                **kind,
                "kind": "ValidatingAdmissionPolicy",
                "spec": {
                    "matchConstraints": {"resourceRules": [rule]},
                    "validations": [{"expression": unless, "message": "refused by the tests"}],
                },
            }
        )
        self.world.apply(
            {
                **kind,
                "kind": "ValidatingAdmissionPolicyBinding",
                "spec": {
                    "policyName": name,
                    "validationActions": ["Deny"],
                    "matchResources": {"namespaceSelector": where},
                },
            }
        )
        try:
            yield
        finally:
            self.world.delete("ValidatingAdmissionPolicyBinding", name)
            self.world.delete("ValidatingAdmissionPolicy", name)

    def may_not(self, resource: str, *verbs: str) -> None:
        """The product's account loses these permissions."""
        role = least_privilege()
        for rule in role["rules"]:
            if resource in rule["resources"]:
                rule["verbs"] = [verb for verb in rule["verbs"] if verb not in verbs]
        self.world.grant(self.namespace, role)

    # Looking.

    def known(self) -> Object:
        """What the product has written down about the target."""
        found = self.world.get("ConfigMap", f"deployment-specialist.{self.name}.{self.target}", self.namespace)
        text = ((found or {}).get("data") or {}).get("state")
        state: Object = json.loads(text) if text else {}
        return state

    def stable(self) -> str | None:
        state = self.known()
        stable = state.get("stable")
        return str(state["revisions"][stable]["revision"]["release"]["version"]) if stable else None

    def weights(self) -> dict[str, int]:
        """Version → percent, by where the HTTPRoute and the Services behind it really lead."""
        found = self.world.get("HTTPRoute", APP, self.namespace)
        assert found is not None
        weights: Counter[str] = Counter()
        for ref in found["spec"]["rules"][0]["backendRefs"]:
            if ref.get("weight", 1):
                weights[self.version_behind(ref["name"])] += ref.get("weight", 1)
        total = weights.total()
        return {version: round(100 * weight / total) for version, weight in weights.items()}

    def version_behind(self, name: str) -> str:
        """The version of the pods that a Service leads to."""
        found = self.world.get("Service", name, self.namespace)
        assert found is not None, f"the route leads to {name}, and there is no such Service"
        selector = ",".join(f"{key}={value}" for key, value in found["spec"]["selector"].items())
        versions = {version_of(pod) for pod in self.pods(selector=selector)}
        assert len(versions) == 1, f"the Service {name} leads to {versions}"
        return versions.pop()

    def pods(self, version: str = "", selector: str = "") -> list[Object]:
        """The pods that have not been told to end."""
        there = self.world.list("Pod", self.namespace, selector)
        living = [pod for pod in there if not pod["metadata"].get("deletionTimestamp")]
        return [pod for pod in living if not version or version_of(pod) == version]

    def uids(self, version: str = "") -> set[str]:
        """What tells a pod from one that came in its place."""
        return {str(pod["metadata"]["uid"]) for pod in self.pods(version)}

    async def is_old(self, version: str = OLD, count: int = 2) -> None:
        """Fully old: traffic, stable, pods; nothing of anything else is left."""
        assert await self.answers() == {version}
        assert self.weights() == {version: 100}
        assert self.stable() in (version, None)
        pods = [version_of(pod) for pod in self.pods()]
        assert pods == [version] * count, pods

    async def is_new(self, version: str = NEW, count: int = 2) -> None:
        """Fully new."""
        await self.is_old(version, count)
        assert self.stable() == version

    async def eventually(self, condition: Callable[[], object], seconds: float = 30, every: float = 0.1) -> None:
        """Waits until it is so."""
        deadline = time.monotonic() + seconds
        while not await asyncio.to_thread(condition):
            assert time.monotonic() < deadline, "it did not come to that"
            await asyncio.sleep(every)


def version_of(pod: Object) -> str:
    """The version that a pod was made to run."""
    env = pod["spec"]["containers"][0].get("env") or ()
    return str(next((each["value"] for each in env if each["name"] == "VERSION"), ""))

"""A spec names a context; what is asked is an API server, in a namespace, as somebody.

Inside of a pod that is the pod's own account, elsewhere what the kubeconfig says. One connection per cluster is kept.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes.aio.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION

from activities.platforms.kubernetes.api import KubernetesApi
from activities.platforms.kubernetes.lanes import Lane
from models.errors import PreconditionError
from models.platforms.kubernetes import KubernetesPlatformSpec, Reach

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
GATEWAY = "/apis/gateway.networking.k8s.io/v1"


@dataclass(frozen=True)
class Cluster:
    """An API server, and the namespace of a target."""

    api: KubernetesApi
    namespace: str
    reach: Reach

    def core(self, kind: str, name: str = "", rest: str = "") -> str:
        """The path of an object, or of all of a kind, like `pods` or `services`."""
        return _path("/api/v1", self.namespace, kind, name) + rest

    def apps(self, kind: str, name: str = "", rest: str = "") -> str:
        """The same for `deployments` and `replicasets`."""
        return _path("/apis/apps/v1", self.namespace, kind, name) + rest

    def route(self, name: str) -> str:
        """The path of an HTTPRoute."""
        return _path(GATEWAY, self.namespace, "httproutes", name)

    def routes(self) -> str:
        """The path of all HTTPRoutes."""
        return _path(GATEWAY, self.namespace, "httproutes", "")

    def on(self, lane: Lane) -> "Cluster":
        """The same, asked in this lane."""
        return replace(self, api=self.api.on(lane))

    def slices(self) -> str:
        """The path of all EndpointSlices."""
        return _path("/apis/discovery.k8s.io/v1", self.namespace, "endpointslices", "")

    def scalers(self, name: str = "") -> str:
        """The path of HorizontalPodAutoscalers."""
        return _path("/apis/autoscaling/v2", self.namespace, "horizontalpodautoscalers", name)

    def budgets(self) -> str:
        """The path of all PodDisruptionBudgets."""
        return _path("/apis/policy/v1", self.namespace, "poddisruptionbudgets", "")


def _path(group: str, namespace: str, kind: str, name: str) -> str:
    return f"{group}/namespaces/{quote(namespace)}/{kind}" + (f"/{quote(name)}" if name else "")


class Clusters:
    """The clusters that this worker has been asked to work on."""

    def __init__(self) -> None:
        self._known: dict[tuple[str | None, str | None], tuple[KubernetesApi, str]] = {}
        self._looking = asyncio.Lock()

    async def of(self, platform: KubernetesPlatformSpec) -> Cluster:
        """The cluster that the spec means.

        Raises:
            PreconditionError: there is no such kubeconfig, or no such context in it.
        """
        async with self._looking:
            key = (platform.kubeconfig, platform.context)
            if key not in self._known:
                load, namespace = await _find(*key)
                self._known[key] = (KubernetesApi(load), namespace)
        api, namespace = self._known[key]
        reach = platform.reach or (Reach.PODS if in_pod() else Reach.API)
        return Cluster(api, platform.namespace or namespace, reach)

    async def aclose(self) -> None:
        """Close all connections."""
        for api, _ in self._known.values():
            await api.aclose()


def in_pod() -> bool:
    """Whether this program runs in a pod of a cluster."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and (_ACCOUNT / "token").exists()


async def _find(kubeconfig: str | None, context: str | None) -> tuple[Callable[[], Awaitable[Configuration]], str]:
    if kubeconfig is None and context is None and in_pod() and not os.environ.get("KUBECONFIG"):
        return _load_account, await asyncio.to_thread(_account_namespace)

    async def load() -> Configuration:
        return (await _load_file(kubeconfig, context))[0]

    _, namespace = await _load_file(kubeconfig, context)
    return load, namespace


async def _load_account() -> Configuration:
    configuration = Configuration()
    try:
        load_incluster_config(client_configuration=configuration)
    except ConfigException as error:
        raise PreconditionError(f"the account of this pod cannot be used: {error}") from error
    return configuration


def _account_namespace() -> str:
    try:
        return (_ACCOUNT / "namespace").read_text().strip() or "default"
    except OSError:
        return "default"


async def _load_file(kubeconfig: str | None, context: str | None) -> tuple[Configuration, str]:
    configuration = Configuration()
    # Read at each call: the library looks at the environment only when it is imported.
    path = kubeconfig or os.environ.get("KUBECONFIG") or KUBE_CONFIG_DEFAULT_LOCATION
    try:
        loader = await load_kube_config(path, context, client_configuration=configuration, persist_config=False)
    except (ConfigException, OSError, ValueError, KeyError) as error:
        named = f", or has no context {context}" if context else ""
        raise PreconditionError(f"the kubeconfig {path} cannot be used{named}: {error}") from error
    return configuration, loader.current_context["context"].get("namespace") or "default"

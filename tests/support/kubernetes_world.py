"""What tests do on a cluster beside the product: namespaces, images and manifests, as its users and admins would.

The product itself never works as admin here: it has the token of an account with the Role of
`deploy/kubernetes/target/`.
"""

import base64
import fcntl
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import yaml
from kubernetes import client, config, dynamic
from kubernetes.client.exceptions import ApiException

from tests.servers.base_image import root_file_system
from tests.servers.cache import folder
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import layer_of
from tests.servers.kubernetes.registry import push

ROLE = Path(__file__).parents[2] / "deploy" / "kubernetes" / "target" / "role.yaml"
ACCOUNT = "deployment-specialist"
A_DAY = 86400
GRANTED_WITHIN = 20.0
# One for all: a registry knows layers by repository, and the base is large.
REPOSITORY = "tests"
Object = dict[str, Any]
# Some kinds are served by several APIs.
_APIS = {
    "Deployment": "apps/v1",
    "ReplicaSet": "apps/v1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "PodDisruptionBudget": "policy/v1",
    "RoleBinding": "rbac.authorization.k8s.io/v1",
    "Role": "rbac.authorization.k8s.io/v1",
    "ValidatingAdmissionPolicy": "admissionregistration.k8s.io/v1",
    "ValidatingAdmissionPolicyBinding": "admissionregistration.k8s.io/v1",
}


class World:
    """A cluster, seen by its admin.

    Attributes:
        kubeconfig: of the product's account, with nothing but its token.
        home: the namespace that the account is in.
    """

    def __init__(self, cluster: Cluster, where: Path) -> None:
        self.cluster = cluster
        self._folder = where
        self._api: Any = config.new_client_from_config(cluster.kubeconfig)
        self._dynamic = dynamic.DynamicClient(self._api)
        self.home = f"home-{secrets.token_hex(4)}"
        self._addresses = Addresses(cluster)
        self._lock = threading.Lock()
        self._namespaces: set[str] = set()
        self.kubeconfig = self._make_account()

    def close(self) -> None:
        """Remove everything that was made."""
        for name in list(self._namespaces):
            self.remove_namespace(name)
        self._addresses.close()
        self._api.close()

    @property
    def admin(self) -> Any:
        """A client that may do everything."""
        return self._api

    # Objects.

    def kind(self, kind: str) -> Any:
        """A resource of the dynamic client."""
        return self._dynamic.resources.get(kind=kind, api_version=_APIS.get(kind, "v1"))

    def apply(self, document: Mapping[str, Any], namespace: str = "") -> Object:
        """Server-side apply, as the user of the cluster would."""
        resource = self._dynamic.resources.get(api_version=document["apiVersion"], kind=document["kind"])
        named = {"namespace": namespace} if namespace else {}
        made = resource.server_side_apply(
            body=dict(document), name=document["metadata"]["name"], field_manager="user", force_conflicts=True, **named
        )
        return dict(made.to_dict())

    def get(self, kind: str, name: str, namespace: str) -> Object | None:
        """An object; None when there is none."""
        try:
            return dict(self.kind(kind).get(name=name, namespace=namespace).to_dict())
        except ApiException as error:
            if error.status != 404:
                raise
            return None

    def list(self, kind: str, namespace: str, selector: str = "") -> list[Object]:
        """All objects of a kind in a namespace."""
        found = self.kind(kind).get(namespace=namespace, label_selector=selector).to_dict()
        return list(found["items"] or ())

    def patch(self, kind: str, name: str, namespace: str, body: Mapping[str, Any]) -> Object:
        """A merge patch, as of somebody with `kubectl edit`."""
        made = self.kind(kind).patch(
            name=name,
            namespace=namespace,
            body=dict(body),
            content_type="application/merge-patch+json",
            field_manager="kubectl-edit",
        )
        return dict(made.to_dict())

    def delete(self, kind: str, name: str, namespace: str | None = None, grace: int | None = None) -> None:
        """It is gone, or going."""
        body = {"gracePeriodSeconds": grace, "propagationPolicy": "Background"} if grace is not None else None
        try:
            self.kind(kind).delete(name=name, namespace=namespace, body=body)
        except ApiException as error:
            if error.status != 404:
                raise

    # Namespaces.

    def namespace(self, prefix: str = "t", granted: bool = True) -> str:
        """A namespace of one's own, in which the product's account has its Role."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        with self._lock:
            self._namespaces.add(name)
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        if granted:
            self.grant(name)
            # An API server that has much to do learns of it a moment later than it has said yes.
            deadline = time.monotonic() + GRANTED_WITHIN
            while not self._is_granted(name):
                assert time.monotonic() < deadline, f"the Role in {name} is not in force"
                time.sleep(0.05)
        return name

    def grant(self, namespace: str, role: Mapping[str, Any] | None = None) -> None:
        """The product's account has the Role of `deploy/kubernetes/target/` there, or another one."""
        self.apply(role or least_privilege(), namespace)
        self.apply(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": ACCOUNT},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT},
                "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": self.home}],
            },
            namespace,
        )

    def _is_granted(self, namespace: str) -> bool:
        asked: Any = {
            "spec": {
                "user": f"system:serviceaccount:{self.home}:{ACCOUNT}",
                "resourceAttributes": {"namespace": namespace, "verb": "list", "resource": "configmaps"},
            }
        }
        status = client.AuthorizationV1Api(self._api).create_subject_access_review(asked).status
        return status is not None and bool(status.allowed)

    def remove_namespace(self, name: str) -> None:
        """Everything in it goes; the pods at once."""
        with self._lock:
            self._namespaces.discard(name)
        self.delete("Namespace", name)
        core = client.CoreV1Api(self._api)
        try:
            core.delete_collection_namespaced_pod(name, grace_period_seconds=0)
        except ApiException as error:
            if error.status != 404:
                raise

    def _make_account(self) -> str:
        """An account for the product, and a kubeconfig that knows nothing but its token."""
        self._namespaces.add(self.home)
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.home}})
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}}
        self.apply(account, self.home)
        wanted = client.AuthenticationV1TokenRequest(
            spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=86400)
        )
        made = client.CoreV1Api(self._api).create_namespaced_service_account_token(ACCOUNT, self.home, wanted)
        assert made.status is not None
        path = self._folder / "worker.kubeconfig"
        path.touch(0o600)
        path.write_text(json.dumps(self._kubeconfig(str(made.status.token))))
        return str(path)

    def _kubeconfig(self, token: str) -> Object:
        known = yaml.safe_load(Path(self.cluster.kubeconfig).read_text())
        current = next(one for one in known["contexts"] if one["name"] == known["current-context"])
        cluster = next(one for one in known["clusters"] if one["name"] == current["context"]["cluster"])
        authority = cluster["cluster"].pop("certificate-authority", None)
        if authority:
            data = base64.b64encode((Path(self.cluster.kubeconfig).parent / authority).read_bytes()).decode()
            cluster["cluster"]["certificate-authority-data"] = data
        context = {"name": "worker", "context": {"cluster": cluster["name"], "user": "worker"}}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [cluster],
            "users": [{"name": "worker", "user": {"token": token}}],
            "contexts": [context],
            "current-context": "worker",
        }

    # Users and images.

    def image_name(self, name: str) -> str:
        """How a pod calls an image."""
        return f"{self.cluster.registry}/{REPOSITORY}:{name}"

    def address(self) -> str:
        """Where one service's users can come in; nobody else's meanwhile."""
        return self._addresses.take()

    def give_back(self, address: str) -> None:
        """Another service may have it, once no route leads there any more."""
        self._addresses.give_back(address)

    def image(self, name: str, files: Path) -> str:
        """An image of Python with these files in `/app`, under the name that `image_name` gives; returns its digest."""
        layer = layer_of(files, "app")
        try:
            return self.push(name, [layer], WorkingDir="/app", Cmd=["python3", "-SE", "app.py"])
        finally:
            layer.unlink()

    def push(self, name: str, layers: Sequence[Path], **settings: Any) -> str:
        """An image of Python and these layers (tar files), with these settings, like `Cmd`; returns its digest."""
        return push(self.cluster.registry, REPOSITORY, name, [root_file_system(), *layers], **settings)


class Addresses:
    """The gateway's ports, each in the hands of one test of one process at a time."""

    def __init__(self, cluster: Cluster) -> None:
        self._free = deque(cluster.ports)
        self._taken: dict[int, TextIO] = {}
        self._lock = threading.Lock()
        self._folder = folder() / "gateway-ports"
        self._folder.mkdir(exist_ok=True)

    def take(self) -> str:
        """The one that has been free for the longest time."""
        with self._lock:
            for _ in range(len(self._free)):
                port = self._free.popleft()
                file = open(self._folder / str(port), "w")
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    file.close()
                    self._free.append(port)
                    continue
                self._taken[port] = file
                return f"127.0.0.1:{port}"
        raise RuntimeError("all ports of the gateway are taken")

    def give_back(self, address: str) -> None:
        """It is free again."""
        port = int(address.rpartition(":")[2])
        with self._lock:
            if port in self._taken:
                self._taken.pop(port).close()
                self._free.append(port)

    def close(self) -> None:
        """None is taken any more."""
        for file in self._taken.values():
            file.close()


def least_privilege() -> Object:
    """The Role that the product needs in a namespace."""
    found: Object = yaml.safe_load(ROLE.read_text())
    return found

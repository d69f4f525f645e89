"""One real cluster per machine, shared by whoever needs one at the same time, gone when the last of them leaves.

A cluster that somebody brought up by hand stays until it is brought down by hand. One of a killed test run is found by
the next run: used when it still serves, otherwise removed to the last mount.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from tests.servers.cache import NotInstalledError, folder, locked, remove
from tests.servers.kubernetes import node
from tests.servers.kubernetes.binaries import HERE, programs
from tests.servers.kubernetes.control_plane import ControlPlane
from tests.servers.kubernetes.gateway import GATEWAY, NAMESPACE, GatewayController
from tests.servers.kubernetes.images import PYTHON
from tests.servers.kubernetes.node import Node
from tests.servers.kubernetes.processes import Servers
from tests.servers.kubernetes.registry import Registry
from tests.support.free_ports import free_port

PREFIX = "DEPLOYMENT_SPECIALIST_TEST_"
GATEWAY_PORTS = 60
_PORTS = (
    *("api", "api-of-pods", "etcd", "etcd-peer", "controllers", "scheduler"),
    *("kubelet", "proxy-health", "proxy-metrics", "traefik", "registry"),
)
# Ends first what would start other things again.
_LAST_TO_END = ("containerd", "kube-apiserver", "etcd")


@dataclass(frozen=True)
class Cluster:
    """What tests know of a cluster.

    Attributes:
        kubeconfig: path of a kubeconfig that may do everything.
        gateway: `namespace/name` of a Gateway.
        ports: loopback ports where users come in; the Gateway's listener at port 20080 is named `port-20080`.
        metrics: URL of the Gateway controller's Prometheus metrics.
        image: of Debian with Python, on the nodes already.
        registry: `address:port` of an image registry that the nodes pull from; empty when there is none.
    """

    kubeconfig: str
    gateway: str
    ports: tuple[int, ...]
    metrics: str
    image: str = PYTHON
    registry: str = ""


def given() -> Cluster | None:
    """The cluster that the environment names; None when it names none."""
    kubeconfig = os.environ.get(f"{PREFIX}KUBECONFIG")
    if not kubeconfig:
        return None
    wanted = {name: f"{PREFIX}{name}" for name in ("GATEWAY", "GATEWAY_PORTS", "GATEWAY_METRICS", "IMAGE")}
    missing = [variable for variable in wanted.values() if not os.environ.get(variable)]
    if missing:
        raise NotInstalledError(f"with {PREFIX}KUBECONFIG these variables are needed as well: {', '.join(missing)}")
    return Cluster(
        kubeconfig=kubeconfig,
        gateway=os.environ[wanted["GATEWAY"]],
        ports=tuple(int(port) for port in os.environ[wanted["GATEWAY_PORTS"]].split(",")),
        metrics=os.environ[wanted["GATEWAY_METRICS"]],
        image=os.environ[wanted["IMAGE"]],
        registry=os.environ.get(f"{PREFIX}REGISTRY", ""),
    )


@contextmanager
def use() -> Iterator[Cluster]:
    """A cluster for as long as this lasts; another process may use it at the same time, in namespaces of its own.

    Raises:
        NotInstalledError: there is none and none can be made here; the text says why.
    """
    found = given()
    if found is not None:
        yield found
        return
    with _users() as users:
        try:
            with locked("kubernetes-cluster"):
                made = _up(alone=_nobody_else(users.fileno()))
                fcntl.flock(users, fcntl.LOCK_SH)
            yield made
        finally:
            with locked("kubernetes-cluster"):
                if _nobody_else(users.fileno()) and not _kept().exists():
                    _remove()


def up(keep: bool = False) -> Cluster:
    """The cluster of this machine, started when it does not serve.

    Args:
        keep: it stays until `down`, whoever leaves it.

    Raises:
        NotInstalledError: it cannot run here.
    """
    with locked("kubernetes-cluster"), _users() as users:
        found = _up(alone=_nobody_else(users.fileno()))
        if keep:
            _kept().touch()
        return found


def _up(*, alone: bool) -> Cluster:
    """The cluster that serves; another one in its place where it does not, or is an outdated one that nobody uses."""
    if os.geteuid() != 0:
        raise NotInstalledError(f"a cluster with real containers needs root; or name one in {PREFIX}KUBECONFIG")
    found = _serving(also_outdated=not alone)
    if found is not None:
        return found
    kept = _kept().exists()
    _remove()
    try:
        found = _start()
    except BaseException:  # an interruption as well must leave nothing behind
        _remove()
        raise
    if kept:
        _kept().touch()
    return found


def down() -> None:
    """Nothing of it is left, whoever uses it."""
    with locked("kubernetes-cluster"):
        _remove()


def place() -> Path:
    """The folder of this machine's cluster."""
    return folder() / "kubernetes-cluster"


def _users() -> TextIO:
    """The file that everybody holds a shared lock on who uses the cluster."""
    return open(folder() / ".kubernetes-users.lock", "w")


def _kept() -> Path:
    return place() / "kept"


def _described() -> Path:
    return place() / "cluster.json"


def _nobody_else(users: int) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start() -> Cluster:
    made_of = programs()
    place().mkdir(mode=0o700)
    servers = Servers(place())
    chosen = [free_port() for _ in range(len(_PORTS) + GATEWAY_PORTS)]
    own, users = dict(zip(_PORTS, chosen, strict=False)), tuple(chosen[len(_PORTS) :])
    plane = ControlPlane(place(), made_of, servers, own)
    plane.start()
    controller = GatewayController(place(), made_of, servers, own["traefik"], users)
    registry = Registry(place(), servers, own["registry"])
    registry.start()
    Node(place(), made_of, servers, own, plane.kubeconfig).start()
    plane.open_to_pods(node.ADDRESS)
    controller.start(plane)
    servers.wait("kubelet", lambda: f"node/{node.NAME}" in plane.kubectl("get", "nodes", "-o", "name"))
    plane.kubectl("wait", "--for=condition=Ready", "--timeout=60s", f"node/{node.NAME}", timeout=70)
    plane.kubectl("wait", "--for=create", "--timeout=30s", "-n", "default", "serviceaccount/default")
    for name in servers.names():
        servers.wait(name, lambda name=name: servers.running(name))  # type: ignore[misc]
    plane.kubectl(
        *("wait", "--for=condition=Programmed", "--timeout=30s", "-n", NAMESPACE),
        f"gateways.gateway.networking.k8s.io/{GATEWAY}",
    )
    found = Cluster(
        kubeconfig=str(plane.kubeconfig),
        gateway=f"{NAMESPACE}/{GATEWAY}",
        ports=users,
        metrics=controller.metrics,
        registry=registry.address,
    )
    _described().write_text(json.dumps({"made_of": _fingerprint(), **asdict(found)}))
    return found


def _serving(*, also_outdated: bool) -> Cluster | None:
    """The cluster that is there, when all its servers run and it was made as it would be made now.

    Args:
        also_outdated: also one that another version of this code has made.
    """
    try:
        known = json.loads(_described().read_text())
    except (OSError, ValueError):
        return None
    servers = Servers(place())
    names = servers.names()
    outdated = known.pop("made_of") != _fingerprint()
    if (outdated and not also_outdated) or not names or not all(servers.running(name) for name in names):
        return None
    return Cluster(**{**known, "ports": tuple(known["ports"])})


def _fingerprint() -> str:
    parts = [path.read_bytes() for path in sorted(HERE.rglob("*")) if path.suffix in (".py", ".go", ".mod", ".sum")]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _remove() -> None:
    if not place().exists():
        return
    servers = Servers(place())
    names = servers.names()
    for name in (name for name in names if name not in _LAST_TO_END):
        servers.end(name)
    node.clean(place())
    for name in _LAST_TO_END:
        servers.end(name)
    node.clean(place())
    remove(place())

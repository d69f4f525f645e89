"""etcd, the API server, the controllers and the scheduler, on the loopback, with tokens instead of certificates."""

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from secrets import token_hex
from typing import Any

from tests.servers.cache import run
from tests.servers.kubernetes.binaries import Programs
from tests.servers.kubernetes.processes import Servers

SERVICES = "10.96.0.0/16"
# The Service `kubernetes`: by it pods find the API server, which has a certificate for it.
_API_SERVICE = "10.96.0.1"


class ControlPlane:
    """What decides in the cluster.

    Attributes:
        api: the API server's address.
        kubeconfig: of somebody who may do everything.
    """

    def __init__(self, folder: Path, programs: Programs, servers: Servers, ports: dict[str, int]) -> None:
        self.api = f"https://127.0.0.1:{ports['api']}"
        self.kubeconfig = folder / "admin.kubeconfig"
        self.token_file = folder / "admin.token"
        self.certificate = folder / "api.crt"
        self._folder, self._programs, self._servers, self._ports = folder, programs, servers, ports

    def start(self) -> None:
        """Starts all of it; the API answers when this returns."""
        self._make_credentials()
        self._start_etcd()
        self._start_api()
        common = (f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1")
        self._servers.start(
            "kube-controller-manager",
            self._program("kube-controller-manager"),
            *common,
            f"--secure-port={self._ports['controllers']}",
            f"--service-account-private-key-file={self._folder / 'accounts.key'}",
            f"--root-ca-file={self.certificate}",
            "--horizontal-pod-autoscaler-sync-period=2s",
            "--concurrent-namespace-syncs=20",
        )
        self._servers.start(
            "kube-scheduler",
            self._program("kube-scheduler"),
            *common,
            f"--secure-port={self._ports['scheduler']}",
        )

    def open_to_pods(self, address: str) -> None:
        """Lets pods reach the API server, which listens on the loopback, at an address of the node's bridge."""
        port = self._ports["api-of-pods"]
        listen = f"TCP-LISTEN:{port},bind={address},fork,reuseaddr"
        self._servers.start("api-of-pods", "socat", listen, f"TCP:127.0.0.1:{self._ports['api']}")
        manifest = self._folder / "api-of-pods.json"
        manifest.write_text(json.dumps(_endpoints(address, port)))
        self.kubectl("apply", "--server-side", "-f", manifest)

    def ready(self) -> bool:
        """Whether the API answers."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        request = urllib.request.Request(f"{self.api}/readyz")  # noqa: S310  our own https address
        request.add_header("Authorization", f"Bearer {self.token_file.read_text()}")
        try:
            with opener.open(request, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kubectl(self, *arguments: str | Path, timeout: float = 60) -> str:
        """Runs kubectl as admin, and gives what it printed."""
        command = [str(self._program("kubectl")), f"--kubeconfig={self.kubeconfig}", *map(str, arguments)]
        return run(command, timeout=timeout)

    def _program(self, name: str) -> Path:
        return self._programs.kubernetes / name

    def _make_credentials(self) -> None:
        token = token_hex(16)
        for path, text in (
            (self.token_file, token),
            (self._folder / "tokens.csv", f'{token},admin,admin-uid,"system:masters"\n'),
        ):
            path.touch(0o600)
            path.write_text(text)
        key = self._folder / "api.key"
        names = f"subjectAltName=IP:127.0.0.1,IP:{_API_SERVICE},DNS:localhost,DNS:kubernetes.default.svc"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=tests"]
        run([*command, "-addext", names, "-keyout", str(key), "-out", str(self.certificate)], timeout=60)
        run(["openssl", "genrsa", "-out", str(self._folder / "accounts.key"), "2048"], timeout=60)
        self.kubeconfig.touch(0o600)
        self.kubeconfig.write_text(kubeconfig(self.api, self.certificate, token))

    def _start_etcd(self) -> None:
        client, peer = (f"http://127.0.0.1:{self._ports[name]}" for name in ("etcd", "etcd-peer"))
        self._servers.start(
            "etcd",
            "etcd",
            f"--data-dir={self._folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        )

    def _start_api(self) -> None:
        keys = self._folder / "accounts.key"
        self._servers.start(
            "kube-apiserver",
            self._program("kube-apiserver"),
            "--bind-address=127.0.0.1",
            f"--secure-port={self._ports['api']}",
            f"--etcd-servers=http://127.0.0.1:{self._ports['etcd']}",
            f"--tls-cert-file={self.certificate}",
            f"--tls-private-key-file={self._folder / 'api.key'}",
            f"--cert-dir={self._folder / 'certificates'}",
            f"--service-account-key-file={keys}",
            f"--service-account-signing-key-file={keys}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=RBAC",
            f"--token-auth-file={self._folder / 'tokens.csv'}",
            f"--service-cluster-ip-range={SERVICES}",
            "--endpoint-reconciler-type=none",
            "--kubelet-preferred-address-types=InternalIP",
            "--allow-privileged=true",
        )
        self._servers.wait("kube-apiserver", self.ready)


def _endpoints(address: str, port: int) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }


def kubeconfig(api: str, certificate: Path, token: str, namespace: str = "default") -> str:
    """A kubeconfig for somebody with a token; JSON is YAML as well."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": {"server": api, "certificate-authority": str(certificate)}}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [
                {"name": "tests", "context": {"cluster": "tests", "user": "user", "namespace": namespace}},
            ],
            "current-context": "tests",
        },
        indent=1,
    )

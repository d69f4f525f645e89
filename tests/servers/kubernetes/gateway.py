"""Where users come in: Traefik on this machine as the Gateway controller, with one listener for each loopback port.

A port of its own for each service lets tests and checks use plain addresses, without host names.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.servers.kubernetes.binaries import Programs
from tests.servers.kubernetes.control_plane import ControlPlane
from tests.servers.kubernetes.processes import Servers

CLASS = "traefik"
NAMESPACE = "gateway"
GATEWAY = "gateway"


def listener(port: int) -> str:
    """The name of the Gateway's listener at this port."""
    return f"port-{port}"


class GatewayController:
    """Traefik, the Gateway API's definitions, and one Gateway."""

    def __init__(
        self, folder: Path, programs: Programs, servers: Servers, admin_port: int, ports: Sequence[int]
    ) -> None:
        self.metrics = f"http://127.0.0.1:{admin_port}/metrics"
        self._folder, self._programs, self._servers = folder, programs, servers
        self._admin_port, self._ports = admin_port, ports

    def start(self, plane: ControlPlane) -> None:
        """Applies the definitions, the class and the Gateway, and starts Traefik."""
        plane.kubectl("apply", "--server-side", "-f", self._programs.gateway_crds)
        names = ("gatewayclasses", "gateways", "httproutes")
        definitions = [f"crd/{name}.gateway.networking.k8s.io" for name in names]
        plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", *definitions)
        manifests = self._folder / "gateway.json"
        manifests.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": _objects(self._ports)}))
        plane.kubectl("apply", "--server-side", "-f", manifests)
        config = self._folder / "traefik.yaml"
        config.write_text(yaml.safe_dump(self._config(plane)))
        self._servers.start("traefik", self._programs.traefik, f"--configfile={config}")
        self._servers.wait("traefik", self.answers)

    def answers(self) -> bool:
        """Whether it is up."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self._admin_port}/ping", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _config(self, plane: ControlPlane) -> dict[str, Any]:
        # As docs/front-proxy.md says it.
        untouched = {
            "http": {"sanitizePath": False, "encodeQuerySemicolons": True},
            "forwardedHeaders": {"trustedIPs": [], "connection": ["Te"]},
            "transport": {"respondingTimeouts": {"readTimeout": "0s"}},
        }
        entry_points = {listener(port): {"address": f"127.0.0.1:{port}", **untouched} for port in self._ports}
        return {
            "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
            "entryPoints": {**entry_points, "traefik": {"address": f"127.0.0.1:{self._admin_port}"}},
            "ping": {},
            "api": {"insecure": True, "dashboard": False},
            "metrics": {"prometheus": {"addServicesLabels": True, "addEntryPointsLabels": False}},
            "providers": {
                # Of all providers together: two seconds by default.
                "providersThrottleDuration": "50ms",
                "kubernetesGateway": {
                    "endpoint": plane.api,
                    "token": str(plane.token_file),
                    "certAuthFilePath": str(plane.certificate),
                    "throttleDuration": "100ms",
                },
            },
            "log": {"level": "INFO"},
        }


def _objects(ports: Sequence[int]) -> list[dict[str, Any]]:
    listeners = [
        {
            "name": listener(port),
            "port": port,
            "protocol": "HTTP",
            "allowedRoutes": {"namespaces": {"from": "All"}},
        }
        for port in ports
    ]
    api = "gateway.networking.k8s.io/v1"
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": api,
            "kind": "GatewayClass",
            "metadata": {"name": CLASS},
            "spec": {"controllerName": "traefik.io/gateway-controller"},
        },
        {
            "apiVersion": api,
            "kind": "Gateway",
            "metadata": {"name": GATEWAY, "namespace": NAMESPACE},
            "spec": {"gatewayClassName": CLASS, "listeners": listeners},
        },
    ]

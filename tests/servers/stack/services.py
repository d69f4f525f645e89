"""What the stack deploys in its tests: a service of processes in the worker, one of containers beside it, and users."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx

from examples.load import Load
from tests.servers.docker_engine import images
from tests.servers.stack.images import ROOT
from tests.servers.stack.running import Stack
from tests.support.free_ports import free_port

T = TypeVar("T")
OLD, NEW, NEWER = "1.0.0", "1.1.0", "1.2.0"
PROCESSES = """\
service: {service}
target: staging
release: {{version: "{version}"}}
platform:
  kind: local
  run: ["python3", "app.py"]
  listen: 127.0.0.1:{port}
  environment:
    GREETING: {{secret: "file:/run/deployments/greeting"}}
strategy: {{kind: rolling, watch: {watch}, bake: 1s}}
"""
CONTAINERS = """\
service: {service}
target: staging
release: {{version: "{version}"}}
platform:
  kind: compose
  service: web
  image: "{image}:{{version}}"
  listen: 127.0.0.1:{port}
  proxy: {{image: "{proxy}"}}
strategy:
  kind: rolling
  watch: {watch}
  bake: 1s
"""
_IMAGE = f'FROM {images.BASE}\nWORKDIR /app\nCOPY app.py .\nCMD ["python3", "app.py"]\n'


def until(condition: Callable[[], T], seconds: float) -> T:
    """Waits for something true and returns it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.1)
    return found


def ask(stack: Stack, query: str) -> list[dict[str, Any]]:
    """What Prometheus answers to a query now."""
    answer = httpx.get(f"{stack.prometheus}/api/v1/query", params={"query": query}, timeout=30, trust_env=False)
    document = answer.json()
    assert document["status"] == "success", document
    result: list[dict[str, Any]] = document["data"]["result"]
    return result


class Shop:
    """Processes that run in the worker's container, from a folder that both see."""

    text = PROCESSES

    def __init__(self, stack: Stack, name: str) -> None:
        self.stack, self.name, self.port = stack, name, free_port()
        self.folder = stack.deployments / name
        self.folder.mkdir()
        self.app = (ROOT / "examples" / "shop" / "app.py").read_text()
        (self.folder / "app.py").write_text(self.app)
        (stack.checkout / "deploy/compose/secrets/deployments/greeting").write_text("hello-from-a-file\n")

    def spec(self, version: str, watch: str = "1s") -> str:
        """Writes a spec and gives its path."""
        path = self.folder / f"{version}.yaml"
        path.write_text(self.text.format(**self.values(), version=version, watch=watch))
        return str(path)

    def values(self) -> dict[str, Any]:
        """What its spec says."""
        return {"service": self.name, "port": self.port}

    def serves(self, version: str) -> bool:
        """Whether one of a few users meets this version."""
        url = f"http://127.0.0.1:{self.port}/version"
        answers = (httpx.get(url, timeout=30, trust_env=False) for _ in range(6))
        return any(answer.status_code == 200 and answer.json()["version"] == version for answer in answers)


class Containers(Shop):
    """Containers on the Docker that the stack runs on."""

    text = CONTAINERS

    def __init__(self, stack: Stack, name: str) -> None:
        super().__init__(stack, name)
        self.image = f"{stack.project}-service"
        (self.folder / "docker-compose.yml").write_text(
            f"services: {{web: {{image: '{self.image}:{OLD}', expose: ['8080']}}}}\n"
        )
        self.client = stack.engine.client()
        for version in (OLD, NEW, NEWER):
            app = f"# {version}\n{self.app}"
            images.build(self.client, f"{self.image}:{version}", {"Dockerfile": _IMAGE, "app.py": app})

    def values(self) -> dict[str, Any]:
        return super().values() | {"image": self.image, "proxy": images.TRAEFIK}

    def remove(self) -> None:
        """Nothing of it is left on the Docker."""
        label: Any = {"label": f"deployment-specialist.service={self.name}"}
        for container in self.client.containers.list(all=True, filters=label, ignore_removed=True):
            container.remove(force=True, v=True)
        for network in self.client.networks.list(filters=label):
            network.remove()
        for volume in self.client.volumes.list(filters=label):
            volume.remove()
        for version in (OLD, NEW, NEWER):
            self.client.images.remove(f"{self.image}:{version}", force=True)
        self.client.close()


def users(service: Shop) -> Load:
    """Users who send 20 requests a second while the block runs."""
    return Load(f"http://127.0.0.1:{service.port}/products", 20)

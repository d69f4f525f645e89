"""The whole product with Compose files: a shop and its database on a Docker, deployed by `starter.py`.

The Compose files are what a user would have: the shop is built, depends on its database, and publishes a port.
"""

import asyncio
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import docker.errors
import httpx
import yaml

from activities.platforms.compose.cli import run_inside
from activities.platforms.compose.engine import LABEL
from activities.platforms.compose.state import ComposeStore
from activities.platforms.traefik.state import TargetState
from home.paths import Home
from models.platforms import ComposePlatformSpec
from tests.harness.target import until
from tests.servers import cache
from tests.servers.docker_engine import Engine, images
from tests.support.product_env import CANARY, JUDGE, OLD, ProductEnv, Service

REDIS = "deployment-specialist-tests/redis:7"
_DOCKERFILE = f'FROM {images.BASE}\nWORKDIR /app\nCOPY app.py .\nCMD ["python3", "-SE", "app.py"]\n'
_NO_ENDPOINTS = dict.fromkeys(("health", "ready", "live", "metrics", "version"))
OWN_CHECK = {
    "test": ["CMD", "busybox", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/health"],
    "interval": "500ms",
    "timeout": "1s",
    "retries": 2,
    "start_period": "30s",
}


def provide_redis(client: docker.DockerClient) -> None:
    """Sees that the image of a real Redis is there, made from Debian's."""
    if images.has(client, REDIS):
        return
    cache.debian("redis-server")
    server = Path(shutil.which("redis-server") or "/usr/bin/redis-server").resolve()
    said = cache.run(["ldd", str(server)], timeout=30)
    libraries = [Path(word) for line in said.splitlines() for word in line.split() if word.startswith("/")]
    files: dict[str, str | Path] = {library.name: library.resolve() for library in libraries if library.exists()}
    copied = "\n".join(f"COPY {library.name} {library}" for library in libraries if library.exists())
    lines = (
        f"FROM {images.BASE}\n{copied}\nCOPY redis-server /usr/local/bin/redis-server\n"
        'ENTRYPOINT ["/usr/local/bin/redis-server", "--save", "", "--dir", "/data"]\n'
    )
    images.build(client, REDIS, {**files, "redis-server": server, "Dockerfile": lines})


class ComposeEnv(ProductEnv):
    """A home with its stack, on a Docker."""

    # Images are built, and containers take their time to come and go.
    patience = 240.0

    def __init__(self, folder: Path, engine: Engine) -> None:
        super().__init__(folder)
        self.engine = engine
        self.docker = engine.client()

    def environment(self) -> dict[str, str]:
        # Only how the command line finds Compose: which Docker it is, each spec says.
        return {**super().environment(), "DOCKER_CONFIG": str(self.engine.config)}

    def shop(self, strategy: Mapping[str, Any] = CANARY, **changes: Any) -> "Shop":
        """A service of one's own, with its database."""
        made = Shop(self, strategy, changes)
        self._services.append((asyncio.current_task(), made))
        return made

    async def dismiss(self) -> None:
        mine = [made for task, made in self._services if task is asyncio.current_task()]
        for made in mine:
            if isinstance(made, Shop):
                await asyncio.to_thread(made.remove)


@dataclass(frozen=True)
class Seen:
    """A container as it was at some moment."""

    id: str
    started: str
    restarts: int


class Shop(Service):
    """A service that a Compose file describes.

    Its files are in `folder`; `platform` in `changes` may have `check`: the container then has a health check of its
    own, and the spec names no endpoints.
    """

    def __init__(self, living: ComposeEnv, strategy: Mapping[str, Any], changes: dict[str, Any]) -> None:
        self.docker = changes.pop("docker", None) or living.docker
        self.host = changes.pop("host", None) or living.engine.host
        super().__init__(living, strategy, changes)

    @property
    def compose_file(self) -> Path:
        return self.folder / "docker-compose.yml"

    def _spec(self, strategy: Mapping[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        given = dict(changes.pop("platform", {}))
        check = given.pop("check", None)
        (self.folder / "app" / "Dockerfile").write_text(_DOCKERFILE)
        web: dict[str, Any] = {
            "build": {"context": "app"},
            "depends_on": ["db"],
            "ports": [f"{self.listen}:8080"],
            # What a test does to a running container it does by files.
            "volumes": [f"{self.folder}:{self.folder}:ro"],
        }
        if check:
            web["healthcheck"] = check
        db = {"image": REDIS, "volumes": ["data:/data"], "restart": "unless-stopped"}
        document = {"name": self.name, "services": {"web": web, "db": db}, "volumes": {"data": {}}}
        self.compose_file.write_text(yaml.safe_dump(document))
        platform = {
            "kind": "compose",
            "files": ["docker-compose.yml"],
            "service": "web",
            "host": self.host,
            "listen": self.listen,
            "instances": 2,
            "drain": "3s",
            "stop": "2s",
            "proxy": {"image": images.TRAEFIK},
            **given,
        }
        spec: dict[str, Any] = {
            "service": self.name,
            "target": self.target,
            "release": {"version": OLD},
            "platform": platform,
            "strategy": {"deadline": "60s", "judge": JUDGE, **strategy},
            "rehearse": {"enabled": False},
            **changes,
        }
        if check:
            spec["verify"] = {**spec.get("verify", {}), "endpoints": _NO_ENDPOINTS}
        return spec

    def _store(self) -> ComposeStore:
        platform = ComposePlatformSpec.model_validate(
            {"kind": "compose", "service": "web", "listen": self.listen, "host": self.host}
        )
        from activities.platforms.compose.engine import Engine as Docker

        return ComposeStore(Home(self.living.home), Docker(platform), self.name, self.target)

    def state(self) -> TargetState:
        return self._store().read()

    def instances(self, version: str) -> dict[str, int]:
        """Container → process, of what runs of a version."""
        return {
            str(each.name): int(each.attrs["State"]["Pid"])
            for each in self.containers(role="instance")
            if each.labels[f"{LABEL}.revision"].startswith(f"{version}-") and each.status == "running"
        }

    def containers(self, **labels: str) -> list[Any]:
        """All containers of the target with these labels."""
        wanted = [f"{LABEL}.service={self.name}", *(f"{LABEL}.{name}={value}" for name, value in labels.items())]
        return list(self.docker.containers.list(all=True, filters={"label": wanted}, ignore_removed=True))

    def database(self) -> Seen:
        """The database's container, which nothing may touch."""
        labels = [f"com.docker.compose.project={self.name}", "com.docker.compose.service=db"]
        (found,) = self.docker.containers.list(all=True, filters={"label": labels})
        state = found.attrs["State"]
        assert state["Running"], state
        return Seen(str(found.id), str(state["StartedAt"]), int(found.attrs["RestartCount"]))

    def remember(self, value: str) -> str:
        """Writes into the database, and reads it back: what is there after a deployment was there before."""
        labels = [f"com.docker.compose.project={self.name}", "com.docker.compose.service=db"]
        (found,) = self.docker.containers.list(filters={"label": labels})
        told = ("SET", "told", value) if value else ("GET", "told")
        code, out, err = run_inside(self.docker, found, "python3", "-c", _TALK, *told)
        assert code == 0, err
        return out.decode().strip().splitlines()[-1]

    def compose(self, *arguments: str) -> str:
        """The user's own `docker compose` on the file."""
        assert isinstance(self.living, ComposeEnv)
        environment = {**self.living.environment(), "DOCKER_HOST": self.host, "COMPOSE_PROGRESS": "quiet"}
        return cache.run(["docker", "compose", "-f", str(self.compose_file), *arguments], timeout=120, env=environment)

    async def runs_already(self, version: str) -> None:
        """The user's own stack, as `docker compose up` makes it; its image knows no variables of ours."""
        text = self.compose_file.read_text()
        document = yaml.safe_load(text)
        document["services"]["web"]["environment"] = {"VERSION": version, "HOST": _EVERY, "PORT": "8080"}
        self.compose_file.write_text(yaml.safe_dump(document))
        await asyncio.to_thread(self.compose, "up", "-d", "--build")
        self.compose_file.write_text(text)

        async def serves() -> bool:
            async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
                try:
                    return bool((await client.get(self.url)).headers.get("X-Version") == version)
                except httpx.HTTPError:
                    return False

        await until(serves, within=30)

    def remove(self) -> None:
        """Nothing of it is left on the Docker; also no volume, which the product itself never removes."""
        deadline = time.monotonic() + 20
        while True:
            try:
                self._remove()
            except docker.errors.APIError:
                # Docker is still busy with what it was told before.
                if time.monotonic() > deadline:
                    raise
            else:
                return

    def _remove(self) -> None:
        mine = [{"label": f"{LABEL}.service={self.name}"}, {"label": f"com.docker.compose.project={self.name}"}]
        chosen: list[Any] = mine
        for labels in chosen:
            for container in self.docker.containers.list(all=True, filters=labels, ignore_removed=True):
                container.remove(force=True, v=True)
        for labels in chosen:
            for network in self.docker.networks.list(filters=labels):
                network.remove()
            for volume in self.docker.volumes.list(filters=labels):
                volume.remove()


_EVERY = "0.0.0.0"  # noqa: S104  inside its own container
_TALK = """
import socket, sys
with socket.create_connection(("127.0.0.1", 6379), 5) as db:
    words = [word.encode() for word in sys.argv[1:]]
    db.sendall(b"*%d\\r\\n" % len(words) + b"".join(b"$%d\\r\\n%s\\r\\n" % (len(word), word) for word in words))
    print(db.recv(1000).decode().strip())
"""

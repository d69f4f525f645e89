"""The conformance suite's ground for the Compose platform: Docker, with each release built into an image of its own."""

import asyncio
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import docker.errors
import httpx
import psutil
from docker.models.containers import Container

from activities.platforms.base import Platform
from activities.platforms.compose.build_context import context_digest
from activities.platforms.compose.engine import LABEL
from activities.platforms.compose.engine import Engine as Docker
from activities.platforms.compose.images import CONTEXT
from activities.platforms.compose.platform import ComposePlatform
from activities.platforms.compose.project import read_project
from home.paths import Home
from models.platforms import ComposePlatformSpec, of_kind
from models.platforms import Platform as PlatformModel
from tests.harness.local import keeps_to_itself
from tests.servers.docker_engine import Engine, engine, images
from tests.support.free_ports import free_port

RUN = ("python3", "-SE", "app.py")
_DOCKERFILE = f"FROM {images.BASE}\nWORKDIR /app\nCOPY . .\n"


class ComposeHarness:
    """A Docker and a home of its own."""

    kind: str = "compose"
    has_own_front_proxy: bool = True
    # A container is made and started by a command line, an image is built before that.
    keeps_what_was_checked: bool = False
    gateway_lags: float = 0.0
    pace: float = 8.0
    # Docker starts a killed router again; nobody holds its address meanwhile.
    address_stays_open: bool = False

    def __init__(
        self,
        given: Engine | None = None,
        address: str = "127.0.0.1",
        platform: Platform | None = None,
        **settings: Any,
    ) -> None:
        """A ground on a Docker that is there, else one is found.

        Args:
            given: that Docker.
            address: of its published ports.
            platform: the platform of another ground, with its home.
            settings: go into each model.
        """
        self._left = ExitStack()
        self._folder = Path(tempfile.mkdtemp(prefix="platforms-"))
        self._left.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self.engine = given or self._left.enter_context(engine())
        self._address, self._settings = address, {"host": self.engine.host, **settings}
        # As whoever uses the command line there has it.
        self._config = os.environ.get("DOCKER_CONFIG")
        os.environ["DOCKER_CONFIG"] = str(self.engine.config)
        self.docker = self.engine.client()
        self.home = Home(self._folder / "home")
        self._compose = ComposePlatform(self.home)
        self.platform: Platform = platform or self._compose
        self._projects: set[str] = set()

    def model(self, service: str, directory: Path, listen: str, **settings: Any) -> ComposePlatformSpec:
        given = {"drain": timedelta(seconds=5), "stop": timedelta(seconds=1), "instances": 2, **settings}
        project = f"ground-{abs(hash(directory.parent)):x}"[:20]
        self._projects.add(project)
        folder = self._folder / project / f"{len(list(self._folder.glob('*/*')))}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "Dockerfile").write_text(_DOCKERFILE)
        web = {
            "build": {"context": str(directory), "dockerfile": str(folder / "Dockerfile")},
            "command": list(given.pop("run", RUN)),
            "expose": ["8080"],
            # What a test does to a running instance it does by files.
            "volumes": [f"{directory.parent}:{directory.parent}:ro"],
        }
        file = folder / "docker-compose.yml"
        file.write_text(json.dumps({"services": {"web": web}}))
        return ComposePlatformSpec.model_validate(
            {
                "kind": "compose",
                "files": (str(file),),
                "service": "web",
                "project": project,
                "directory": str(directory),
                "listen": listen,
                "proxy": {"image": images.TRAEFIK},
                **self._settings,
                **given,
            }
        )

    async def pinned(self, service: str, platform: PlatformModel) -> dict[str, str]:
        model = of_kind(platform, ComposePlatformSpec)
        return {CONTEXT: await asyncio.to_thread(lambda: context_digest(read_project(Docker(model), model, {})))}

    def free_address(self) -> str:
        return f"{self._address}:{free_port()}"

    async def is_closed(self, listen: str) -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False) as client:
                await client.get(f"http://{listen}/")
        except httpx.TransportError:
            return True
        return False

    async def kill_instance(self, name: str) -> None:
        await self._signal(self.docker.containers.get(name), signal.SIGKILL)

    async def kill_router(self, service: str) -> None:
        for router in self._containers(service, "door"):
            await self._signal(router, signal.SIGKILL)

    @asynccontextmanager
    async def hanging_router(self, service: str) -> AsyncIterator[None]:
        routers = self._containers(service, "door")
        for router in routers:
            await asyncio.to_thread(router.pause)
        try:
            yield
        finally:
            for router in routers:
                await asyncio.to_thread(router.unpause)

    async def _signal(self, container: Container, number: signal.Signals) -> None:
        container.reload()
        pid = int(container.attrs["State"]["Pid"])
        try:
            # `docker kill` would also tell Docker not to start it again.
            os.kill(pid, number)
        except (PermissionError, ProcessLookupError):
            kill = ["kill", f"-{number.value}", str(pid)]
            await asyncio.to_thread(self.docker.containers.run, images.BASE, kill, pid_mode="host", remove=True)

    def _containers(self, service: str, role: str) -> list[Container]:
        labels = [f"{LABEL}.service={service}", f"{LABEL}.role={role}"]
        return self.docker.containers.list(all=True, filters={"label": labels}, ignore_removed=True)

    def left_of(self, service: str) -> list[str]:
        label: Any = {"label": f"{LABEL}.service={service}"}
        # The home may know other hosts as well.
        docker_ = Docker(
            ComposePlatformSpec(kind="compose", service="web", listen="127.0.0.1:1", host=self.engine.host)
        )
        files = [str(path) for path in self.home.path.glob(f"docker/{docker_.id}/targets/{service}/**/*")]
        docker_.close()
        containers = self.docker.containers.list(all=True, filters=label, ignore_removed=True)
        tags = [tag for image in self.docker.images.list() for tag in image.tags if f"/{service}-staging:" in tag]
        networks, volumes = self.docker.networks.list(filters=label), self.docker.volumes.list(filters=label)
        names = [each.name for each in containers] + [each.name for each in networks] + [each.name for each in volumes]
        return [*map(str, names), *files, *tags]

    async def wipe(self, service: str) -> None:
        await asyncio.to_thread(self._wipe, service)

    def _wipe(self, service: str) -> None:
        label: Any = {"label": f"{LABEL}.service={service}"}
        for container in self.docker.containers.list(all=True, filters=label, ignore_removed=True):
            container.remove(force=True, v=True)
        for network in self.docker.networks.list(filters=label):
            network.remove()
        for volume in self.docker.volumes.list(filters=label):
            volume.remove()
        for network in self.docker.networks.list():
            if (network.attrs.get("Labels") or {}).get("com.docker.compose.project") in self._projects:
                try:
                    network.remove()
                except docker.errors.APIError:
                    # Another target of the same test is still on it.
                    continue
        for folder in self.home.path.glob(f"docker/*/targets/{service}"):
            shutil.rmtree(folder, ignore_errors=True)

    def exposing(self, service: str, value: str) -> list[str]:
        files = [path for path in self.home.path.rglob("*") if path.is_file() and service in str(path)]
        assert files
        return [str(file) for file in files if not keeps_to_itself(file, value)]

    def command_lines(self) -> str:
        lines = (" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
        return "\n".join(lines)

    def elsewhere(self) -> list[str]:
        return [self.kind, str(self.home.path)]

    async def aclose(self) -> None:
        await self._compose.aclose()
        self.docker.close()
        await asyncio.to_thread(self._left.close)
        if self._config is None:
            os.environ.pop("DOCKER_CONFIG")
        else:
            os.environ["DOCKER_CONFIG"] = self._config

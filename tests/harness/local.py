"""The conformance suite's ground for the local platform: a home of its own, with its own supervisor."""

import asyncio
import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil

from activities.platforms.base import Platform
from activities.platforms.local.platform import LocalPlatform
from activities.system.directory_digest import tree_digest
from embedded.stack import Stack
from embedded.supervision.launch import identity, read
from embedded.supervision.processes import Identity, identify, wait_for_end
from embedded.supervision.supervisor import Supervisor
from home.paths import Home
from models.platforms import LocalPlatformSpec, of_kind
from models.platforms import Platform as PlatformModel
from tests.support.free_ports import free_port


class LocalHarness:
    """A home of its own, with its own supervisor."""

    kind: str = "local"
    has_own_front_proxy: bool = True
    address_stays_open: bool = True
    keeps_what_was_checked: bool = False
    gateway_lags: float = 0.0
    pace: float = 1.0

    def __init__(self) -> None:
        # Not below pytest's folders: their names are long, and a home with a quote or a space is tried elsewhere.
        self._folder = Path(tempfile.mkdtemp(prefix="platforms-"))
        self.home = Home(self._folder / "home")
        self._local = LocalPlatform(self.home)
        self.platform: Platform = self._local
        self._supervisor = Supervisor(self.home)

    def model(self, service: str, directory: Path, listen: str, **settings: Any) -> LocalPlatformSpec:
        given = {"drain": timedelta(seconds=5), "stop": timedelta(seconds=1), "instances": 2, **settings}
        run = given.pop("run", (sys.executable, "-SE", "app.py"))
        return LocalPlatformSpec(kind="local", run=run, directory=str(directory), listen=listen, **given)

    async def pinned(self, service: str, platform: PlatformModel) -> dict[str, str]:
        local = of_kind(platform, LocalPlatformSpec)
        return {"directory": tree_digest(Path(local.directory), local.exclude)}

    def free_address(self) -> str:
        return f"127.0.0.1:{free_port()}"

    async def is_closed(self, listen: str) -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False) as client:
                await client.get(f"http://{listen}/")
        except httpx.ConnectError:
            return True
        return False

    async def kill_instance(self, name: str) -> None:
        pid = self._supervisor.states(name)[name].pid
        if pid is not None:
            await self._kill(identify(pid))

    async def kill_router(self, service: str) -> None:
        for router in self._routers(service):
            await self._kill(router)

    @asynccontextmanager
    async def hanging_router(self, service: str) -> AsyncIterator[None]:
        routers = self._routers(service)
        for router in routers:
            os.kill(router.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for router in routers:
                os.kill(router.pid, signal.SIGCONT)

    def _routers(self, service: str) -> list[Identity]:
        doors = [name for name in self._supervisor.states(f"{service}.") if ".door-" in name]
        found = [identity(read(str(self.home.programs / name / "traefik.json"))) for name in doors]
        return [router for router in found if router is not None]

    async def _kill(self, process: Identity | None) -> None:
        if process is not None:
            os.kill(process.pid, signal.SIGKILL)
            assert await asyncio.to_thread(wait_for_end, process, 5)

    def left_of(self, service: str) -> list[str]:
        folder = self.home.path / "targets" / service
        return [*self._supervisor.states(f"{service}."), *(str(path) for path in folder.rglob("*"))]

    async def wipe(self, service: str) -> None:
        names = self._supervisor.states(f"{service}.")
        await asyncio.gather(*(asyncio.to_thread(self._supervisor.remove, name) for name in names))
        shutil.rmtree(self.home.path / "targets" / service, ignore_errors=True)

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
        await self._local.aclose()
        await asyncio.to_thread(Stack(self.home).down, everything=True)
        shutil.rmtree(self._folder)


def keeps_to_itself(file: Path, value: str) -> bool:
    """Whether only its owner can read the file, and the value is only where its process is started from."""
    if value in file.read_text(errors="replace") and file.name not in ("environment.json", "launch.json"):
        return False
    return file.parent.name == "files" or stat.S_IMODE(file.stat().st_mode) == 0o600

"""A world of its own to measure in: an embedded stack in a temporary home, the shop behind a front proxy, its users."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle

from embedded.stack import Stack
from examples.load import LoadResult
from home.paths import VARIABLE, Home
from models.messages import DeploymentRequest
from models.names import workflow_id
from models.report import DeploymentReport
from models.spec import DeploymentSpec
from workflows import wire_names
from workflows.converter import strict_data_converter

ROOT = Path(__file__).resolve().parents[1]
SHOP = ROOT / "examples" / "shop"
Handle = WorkflowHandle[Any, Any]


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass(frozen=True)
class Measured:
    """How traffic is measured here, and what is promised.

    Attributes:
        where: in the names of the rows; empty on this machine itself.
        rate: users' requests a second.
        times: how often each way back is measured.
        p50: the most that a way back may take, in seconds, half of the time.
        p95: the same, nearly always.
    """

    where: str = ""
    rate: float = 200.0
    times: int = 20
    p50: float = 0.2
    p95: float = 0.4


@dataclass
class World:
    """One home with its stack, and the shop's address in it.

    Attributes:
        lost: user requests that failed and were not answered by a release that is meant to fail.
    """

    home: Home
    client: Client
    port: int
    lost: list[str] = field(default_factory=list)
    sent: int = 0
    measured: Measured = field(default_factory=Measured)

    @property
    def url(self) -> str:
        """Where users reach the shop."""
        return f"http://127.0.0.1:{self.port}/products"

    def spec(self, version: str, *, service: str = "shop", errors: float = 0.0, **changes: Any) -> DeploymentSpec:
        """The shop in this version; `errors` is the share of requests that it answers with 500."""
        spec: dict[str, Any] = {
            "service": service,
            "target": "bench",
            "release": {"version": version},
            "platform": {
                "kind": "local",
                "run": ["python3", "app.py"],
                "directory": str(SHOP),
                "listen": f"127.0.0.1:{self.port}",
                "instances": 2,
                "drain": "5s",
                "environment": {"ERROR_SHARE": f"{errors:g}"},
            },
            "rehearse": {"enabled": False},
        }
        return DeploymentSpec.model_validate({**spec, **changes})

    async def start(self, spec: DeploymentSpec) -> Handle:
        """Starts a deployment."""
        return await self.client.start_workflow(
            wire_names.DEPLOYMENT_WORKFLOW,
            DeploymentRequest(spec=spec, by="bench"),
            id=workflow_id(spec.service, spec.target),
            task_queue=wire_names.TASK_QUEUE,
            result_type=DeploymentReport,
        )

    async def deploy(self, spec: DeploymentSpec) -> DeploymentReport:
        """Runs a deployment to its end, whatever that is."""
        return await self.ended(await self.start(spec))

    async def ended(self, handle: Handle) -> DeploymentReport:
        """Waits for the end of a deployment."""
        try:
            await asyncio.wait_for(handle.result(), 180)
        except WorkflowFailureError:
            pass
        return await self.status(handle)

    async def status(self, handle: Handle) -> DeploymentReport:
        """The document as of now."""
        report: DeploymentReport = await handle.query(
            wire_names.STATUS, result_type=DeploymentReport, rpc_timeout=timedelta(seconds=10)
        )
        return report

    async def until_weight(self, handle: Handle, weight: int) -> DeploymentReport:
        """Waits until the candidate has that weight."""
        async with asyncio.timeout(60):
            while True:
                report = await self.status(handle)
                if report.split is not None and weight in report.split.weights.values():
                    return report
                await asyncio.sleep(0.05)

    def count(self, load: LoadResult, bad: str = "") -> None:
        """Adds what the users saw; answers of the version `bad` may be errors."""
        self.sent += load.sent
        self.lost += [f"{each.version} {each.status} {each.error}" for each in load.failures if each.version != bad]

    def worker_pid(self) -> int:
        """The worker's process."""
        return next(each.pid for each in Stack(self.home).components() if each.name == "worker" and each.pid)

    def kill_worker(self) -> None:
        """Ends the worker without asking."""
        os.kill(self.worker_pid(), signal.SIGKILL)


def starter(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Runs the command line."""
    environment = {**os.environ, VARIABLE: str(home)}
    command = [sys.executable, str(ROOT / "starter.py"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """A world that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        home = Home(Path(name) / "home")
        try:
            await asyncio.to_thread(starter, "up", home=home.path)
            client = await Client.connect(Stack(home).temporal_address, data_converter=strict_data_converter)
            yield World(home, client, free_port())
        finally:
            await asyncio.to_thread(starter, "down", "--all", home=home.path)

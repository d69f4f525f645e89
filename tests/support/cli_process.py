"""The command line as its users run it: a process of its own, against a Temporal server that is really there."""

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from models.names import workflow_id
from models.report import DeploymentReport
from tests.support.fake_workflow import FakeWorkflow
from workflows.converter import strict_data_converter
from workflows.wire_names import SEARCH_ATTRIBUTES, TASK_QUEUE

STARTER = Path(__file__).parents[2] / "starter.py"
ENDS_WITHIN = 180  # also on a machine that does ten other things
SPEC = """\
service: {service}
target: staging
release: {{version: "1.1.0"}}
platform:
  kind: local
  run: ["python3", "app.py"]
  listen: 127.0.0.1:8080
  environment:
    TOKEN: {{secret: "env:NOT_SET_ANYWHERE"}}
strategy: {{kind: canary}}
"""


@dataclass
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Its one JSON document."""
        found: dict[str, Any] = json.loads(self.out)
        return found


class Command:
    """A command that runs."""

    def __init__(self, process: asyncio.subprocess.Process, ends_within: float = ENDS_WITHIN) -> None:
        self.process = process
        self._ends_within = ends_within
        self._err: list[str] = []
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self._err.append(line.decode())

    async def said(self, words: str) -> None:
        """Waits until stderr has these words."""
        async with asyncio.timeout(30):
            while words not in "".join(self._err):
                assert self.process.returncode is None or not self._reading.done(), f"{words!r} not in {self._err}"
                await asyncio.sleep(0.02)

    async def done(self) -> Done:
        """Waits for its end."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(self._ends_within):
                out = await self.process.stdout.read()
                await self._reading
                return Done(await self.process.wait(), out.decode(), "".join(self._err))
        except TimeoutError:
            raise AssertionError(
                f"it has not ended within {self._ends_within:g} s; it said: {''.join(self._err)}"
            ) from None


class World:
    """A server, a place for files, and a service of one's own."""

    def __init__(self, client: Client, folder: Path) -> None:
        self.client = client
        self.folder = folder
        self.service = f"s{uuid.uuid4().hex[:10]}"
        self.subject = f"{self.service}/staging"
        self.spec = folder / "deployment.yaml"
        self.spec.write_text(SPEC.format(service=self.service))
        self._processes: list[asyncio.subprocess.Process] = []

    @property
    def handle(self) -> WorkflowHandle[Any, Any]:
        """The service's newest deployment."""
        return self.client.get_workflow_handle(workflow_id(self.service, "staging"))

    @property
    def environment(self) -> dict[str, str]:
        """What the commands run with."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "USER": "ann",
            "TEMPORAL_ADDRESS": self.client.service_client.config.target_host,
            "DEPLOYMENT_SPECIALIST_HOME": str(self.folder / "home"),
        }

    async def start(self, *arguments: str, **environment: str) -> Command:
        """Starts a command."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(STARTER),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment | environment,
            cwd=self.folder,
        )
        self._processes.append(process)
        return Command(process)

    async def run(self, *arguments: str, **environment: str) -> Done:
        """Runs a command to its end."""
        return await (await self.start(*arguments, **environment)).done()

    async def deploying(self, *more: str) -> Command:
        """Starts `deploy` and waits until it follows."""
        command = await self.start("deploy", str(self.spec), *more)
        await command.said("canary")
        return command

    async def show(self, report: DeploymentReport) -> None:
        """Tells the deployment what its status is."""
        await self.handle.signal("show", report)

    async def end(self) -> None:
        """Leaves nothing running."""
        for process in self._processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
        async for run in self.client.list_workflows(f"WorkflowId = '{self.handle.id}' AND ExecutionStatus = 'Running'"):
            await self.client.get_workflow_handle(run.id, run_id=run.run_id).terminate()


async def start_temporal(**options: Any) -> WorkflowEnvironment:
    """Starts a dev server of one's own, with the search attributes of deployments."""
    return await WorkflowEnvironment.start_local(
        data_converter=strict_data_converter,
        dev_server_existing_path=str(Path(sys.executable).parent / "temporal"),
        dev_server_log_level="error",
        dev_server_extra_args=["--dynamic-config-value", "history.transferProcessorMaxPollRPS=1000"],
        search_attributes=SEARCH_ATTRIBUTES,
        **options,
    )


@asynccontextmanager
async def temporal() -> AsyncIterator[Client]:
    """A dev server that is gone afterwards."""
    async with await start_temporal() as environment:
        yield environment.client


def a_worker(client: Client) -> Worker:
    """A worker that knows the stand-in alone."""
    return Worker(client, task_queue=TASK_QUEUE, workflows=[FakeWorkflow], workflow_runner=UnsandboxedWorkflowRunner())

"""A time-skipping server of its own for each test: its clock is one for all workflows."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from models.messages import DeploymentRequest, Kind
from models.names import workflow_id
from models.outcome import Outcome
from models.plan import make_revision
from models.release import Release, Revision
from models.report import DeploymentReport
from models.spec import DeploymentSpec
from tests.workflows.simulated import SimulatedTarget
from workflows import wire_names
from workflows.converter import strict_data_converter
from workflows.deployment import DeploymentWorkflow
from workflows.notifications import NotificationsWorkflow

TEST_SERVER = Path(sys.executable).parent / "temporal-test-server"
DEV_SERVER = Path(sys.executable).parent / "temporal"


def make_spec(**changes: Any) -> DeploymentSpec:
    """A canary of two steps for a service that serves already; keys of the top level are replaced."""
    spec: dict[str, Any] = {
        "service": "shop",
        "target": "staging",
        "release": {"version": "1.1.0"},
        "platform": {"kind": "local", "run": ["python3", "app.py"], "listen": "127.0.0.1:8080", "instances": 2},
        "strategy": {"kind": "canary", "steps": [{"weight": 10, "watch": "5m"}, {"weight": 100, "watch": "5m"}]},
    }
    return DeploymentSpec.model_validate({**spec, **changes})


def old_revision(version: str = "1.0.0") -> Revision:
    """A revision that has served before."""
    spec = make_spec(release={"version": version})
    return make_revision(spec, Release(service="shop", version=version), run_id="abcdef00")


def assert_fully_old(target: SimulatedTarget) -> None:
    assert target.stable is not None
    assert target.stable.release.version == "1.0.0"
    assert target.running == {target.stable.id: (target.stable, 2)}
    assert target.weights[target.stable.id] == 100


def assert_fully_new(target: SimulatedTarget) -> None:
    assert target.stable is not None
    assert target.stable.release.version == "1.1.0"
    assert target.running == {target.stable.id: (target.stable, 2)}
    assert target.weights[target.stable.id] == 100


@dataclass
class Bench:
    """A server, a worker with the real workflow, and a simulated target."""

    env: WorkflowEnvironment
    target: SimulatedTarget
    queue: str

    async def start(
        self, spec: DeploymentSpec, kind: Kind = Kind.DEPLOY, *, by: str = "tests", break_glass: str = ""
    ) -> WorkflowHandle[Any, Any]:
        return await self.env.client.start_workflow(
            wire_names.DEPLOYMENT_WORKFLOW,
            DeploymentRequest(spec=spec, kind=kind, by=by, break_glass=break_glass),
            id=workflow_id(spec.service, spec.target),
            task_queue=self.queue,
            execution_timeout=timedelta(days=30),
            result_type=DeploymentReport,
        )

    async def until(self, outcome: Outcome, handle: WorkflowHandle[Any, Any]) -> None:
        """Waits until the document says so; the clock runs on meanwhile."""
        await self._until(lambda report: report.outcome is outcome, handle)

    async def until_doing(self, what: str, handle: WorkflowHandle[Any, Any]) -> None:
        """Waits until the document says that this is under way."""
        await self._until(lambda report: report.doing == what, handle)

    async def _until(self, seen: Callable[[DeploymentReport], bool], handle: WorkflowHandle[Any, Any]) -> None:
        report = await status(handle)
        for _ in range(400):
            if seen(report):
                return
            await self.env.sleep(10)
            await asyncio.sleep(0.01)
            report = await status(handle)
        raise AssertionError(f"never seen: {report.outcome}, {report.doing}")

    async def run(self, spec: DeploymentSpec, kind: Kind = Kind.DEPLOY) -> DeploymentReport:
        return await ended(await self.start(spec, kind))


async def ended(handle: WorkflowHandle[Any, Any]) -> DeploymentReport:
    """The report of a deployment that has ended, however it ended."""
    try:
        await handle.result()
    except WorkflowFailureError as error:
        if isinstance(error.cause, ApplicationError):
            known = ("rolled-back", "rollback-failed", "rejected", "frozen", "preflight-failed")
            assert error.cause.type in known, error.cause
    return await status(handle)


async def status(handle: WorkflowHandle[Any, Any]) -> DeploymentReport:
    """The document as of now."""
    report: DeploymentReport = await handle.query(wire_names.STATUS, result_type=DeploymentReport)
    return report


@asynccontextmanager
async def bench_for(target: SimulatedTarget, server: WorkflowEnvironment | None = None) -> AsyncIterator[Bench]:
    """A worker for one deployment: on a time-skipping server of its own, or on the one that is given."""
    if server is not None:
        async with _worker(server, target) as queue:
            yield Bench(server, target, queue)
        return
    env = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(TEST_SERVER), data_converter=strict_data_converter
    )
    async with env:
        await env.client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace=env.client.namespace,
                search_attributes={
                    key.name: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD for key in wire_names.SEARCH_ATTRIBUTES
                },
            )
        )
        async with _worker(env, target) as queue:
            yield Bench(env, target, queue)


@asynccontextmanager
async def _worker(env: WorkflowEnvironment, target: SimulatedTarget) -> AsyncIterator[str]:
    queue = str(uuid.uuid4())
    async with Worker(
        env.client,
        task_queue=queue,
        workflows=[DeploymentWorkflow, NotificationsWorkflow],
        activities=target.activities(),
        workflow_failure_exception_types=[Exception],
        max_heartbeat_throttle_interval=timedelta(milliseconds=100),
    ):
        yield queue


@asynccontextmanager
async def start_real_server() -> AsyncIterator[WorkflowEnvironment]:
    """A real server, for what the time-skipping one does not do as the real one does.

    It refuses the completion of a workflow task that cancels an activity which has just completed.
    """
    env = await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(DEV_SERVER),
        dev_server_log_level="error",
        dev_server_extra_args=["--dynamic-config-value", "history.transferProcessorMaxPollRPS=1000"],
        data_converter=strict_data_converter,
        search_attributes=wire_names.SEARCH_ATTRIBUTES,
    )
    async with env:
        yield env


@pytest.fixture(scope="session")
async def real_server() -> AsyncIterator[WorkflowEnvironment]:
    """One real server for all tests that need it."""
    async with start_real_server() as server:
        yield server


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A target on which 1.0.0 serves."""
    target = SimulatedTarget()
    target.serve(old_revision())
    async with bench_for(target) as ready:
        yield ready

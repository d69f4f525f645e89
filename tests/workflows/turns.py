"""A service with its queue on a real server: real workflows, real turns, and a target in memory."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.worker import Worker, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from activities.preflight.lock import LockActivities
from models.messages import Decision, DeploymentRequest, Kind
from models.names import queue_id, workflow_id
from models.outcome import Outcome
from models.preflight.queueing import Entry, ExitKind, Left, QueueState, QueueView
from models.report import DeploymentReport
from tests.workflows.conftest import ended, make_spec, old_revision, status
from tests.workflows.simulated import SimulatedTarget
from workflows import wire_names
from workflows.deployment import DeploymentWorkflow
from workflows.queueing import QueueWorkflow

QUICK = {"kind": "canary", "steps": [{"weight": 10, "watch": "50ms"}, {"weight": 100, "watch": "50ms"}]}


def ticket() -> str:
    return uuid.uuid4().hex[:12]


@dataclass
class Ground:
    """A service of one's own on a real server, with its target in memory."""

    client: Client
    queue: str
    target: SimulatedTarget
    service: str = field(default_factory=lambda: f"s{uuid.uuid4().hex[:8]}")

    def request(self, version: str, by: str = "ann", **spec: Any) -> DeploymentRequest:
        whole = {"service": self.service, "strategy": QUICK, "rehearse": {"enabled": False}, **spec}
        return DeploymentRequest(spec=make_spec(release={"version": version}, **whole), by=by)

    @property
    def waiting_room(self) -> WorkflowHandle[Any, Any]:
        return self.client.get_workflow_handle(queue_id(self.service, "staging"))

    async def deploy(self, version: str, kind: Kind = Kind.DEPLOY, **spec: Any) -> WorkflowHandle[Any, Any]:
        """Directly, past the queue."""
        request = self.request(version, **spec).model_copy(update={"kind": kind})
        started = await self.client.start_workflow(
            wire_names.DEPLOYMENT_WORKFLOW,
            request,
            id=workflow_id(self.service, "staging"),
            task_queue=self.queue,
            result_type=DeploymentReport,
        )
        return self.client.get_workflow_handle(started.id, run_id=started.result_run_id)

    async def enqueue(self, version: str, *, supersede: bool = False, by: str = "ann", **spec: Any) -> str:
        sent = Entry(
            ticket=ticket(), request=self.request(version, by, **spec).model_dump(mode="json"), supersede=supersede
        )
        await self.send(sent)
        return sent.ticket

    async def send(self, entry: Any) -> None:
        await self.client.start_workflow(
            wire_names.QUEUE_WORKFLOW,
            QueueState(service=self.service, target="staging"),
            id=queue_id(self.service, "staging"),
            task_queue=self.queue,
            start_signal=wire_names.ENQUEUE,
            start_signal_args=[entry],
        )

    async def view(self) -> QueueView:
        view: QueueView = await self.waiting_room.query(wire_names.WAITING, result_type=QueueView)
        return view

    async def until(self, seen: Callable[[QueueView], object]) -> QueueView:
        async with asyncio.timeout(60):
            while not seen(view := await self.view()):  # noqa: ASYNC110  a query has to be asked
                await asyncio.sleep(0.05)
        return view

    async def left(self, ticket: str) -> Left:
        """What became of one that has waited."""
        view = await self.until(lambda view: any(each.ticket == ticket for each in view.left))
        return next(each for each in view.left if each.ticket == ticket)

    async def report(self, ticket: str) -> DeploymentReport:
        """How the deployment ended that was started for this ticket."""
        left = await self.left(ticket)
        assert left.how is ExitKind.STARTED, left
        handle = self.client.get_workflow_handle(workflow_id(self.service, "staging"), run_id=left.run_id)
        return await ended(handle)

    async def runs(self) -> list[tuple[str, str]]:
        """Version and outcome of each run, the first one first."""
        found: dict[str, Any] = {}
        async with asyncio.timeout(30):
            while True:
                query = f"WorkflowId = '{workflow_id(self.service, 'staging')}'"
                found = {run.run_id: run async for run in self.client.list_workflows(query)}
                if found and all(run.status is not WorkflowExecutionStatus.RUNNING for run in found.values()):
                    break
                await asyncio.sleep(0.1)
        id_ = workflow_id(self.service, "staging")
        reports = [await status(self.client.get_workflow_handle(id_, run_id=run_id)) for run_id in found]
        return [(each.version, each.outcome) for each in sorted(reports, key=lambda report: report.started)]

    async def withdraw(self, ticket: str, by: str = "bob", reason: str = "") -> Decision:
        message = {"ticket": ticket, "by": by, "reason": reason}
        decision: Decision = await self.waiting_room.execute_update(wire_names.WITHDRAW, message, result_type=Decision)
        return decision

    async def stands(self, handle: WorkflowHandle[Any, Any], outcome: Outcome) -> None:
        """Waits until a deployment's document says so."""
        async with asyncio.timeout(60):
            while (await status(handle)).outcome is not outcome:  # noqa: ASYNC110  a query has to be asked
                await asyncio.sleep(0.05)


@asynccontextmanager
async def working(ground: Ground, runner: WorkflowRunner | None = None) -> AsyncIterator[None]:
    """A worker for this service alone."""
    async with Worker(
        ground.client,
        task_queue=ground.queue,
        workflows=[DeploymentWorkflow, QueueWorkflow],
        activities=[*ground.target.activities(), *lock_activities()],
        workflow_runner=runner or SandboxedWorkflowRunner(),
        workflow_failure_exception_types=[Exception],
        max_heartbeat_throttle_interval=timedelta(milliseconds=100),
        graceful_shutdown_timeout=timedelta(seconds=1),
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
    ):
        yield


def lock_activities() -> list[Callable[..., Any]]:
    lock = LockActivities()
    return [lock.wait_for_turn, lock.start_deployment]


def a_ground(client: Client) -> Ground:
    target = SimulatedTarget()
    target.serve(old_revision())
    return Ground(client, str(uuid.uuid4()), target)

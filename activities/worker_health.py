"""Only Temporal knows whether a worker polls, and how many deployments wait for somebody.

Both are asked every few seconds, beside the work: the answer to the first is the worker's pulse, the answer to the
second a gauge. When Temporal does not answer there is no pulse, and work goes on.
"""

import asyncio
import logging
from collections import Counter
from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowExecution
from temporalio.common import MetricMeter
from temporalio.service import RPCError

from activities import telemetry
from home import worker_heartbeat
from home.paths import Home
from models.errors import StackError

_ANSWER_WITHIN = timedelta(seconds=4)
# A poll that finds nothing lasts a minute, and is noted when it begins.
_POLLED_WITHIN = timedelta(seconds=75)
_KINDS = (TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY)
_COUNT_EVERY = 3
_MOST_COUNTED = 1000
_ATTRIBUTES = {"service": "DeployService", "target": "DeployTarget", "stage": "DeployStage", "state": "DeployOutcome"}

log = logging.getLogger(__name__)


async def show_presence(client: Client, task_queue: str, home: Home, meter: MetricMeter | None) -> None:
    """Beats, and counts open deployments where there is a meter, until it is cancelled."""
    deployments = None if meter is None else _Deployments(client, meter)
    turn = 0
    while True:
        try:
            if await polls(client, task_queue):
                await asyncio.to_thread(worker_heartbeat.beat, home)
            if deployments is not None and turn % _COUNT_EVERY == 0:
                await deployments.show()
        except RPCError as error:
            log.debug("Temporal did not say how things are: %s", error.status.name)
        except StackError as error:
            log.warning("the pulse could not be written: %s", error)
        turn += 1
        await asyncio.sleep(worker_heartbeat.EVERY)


async def polls(client: Client, task_queue: str) -> bool:
    """Says whether Temporal has seen this process poll a moment ago, for decisions and for activities.

    Raises:
        RPCError: Temporal did not answer within seconds, or refuses the question.
    """
    since = datetime.now(UTC) - _POLLED_WITHIN
    for kind in _KINDS:
        request = DescribeTaskQueueRequest(
            namespace=client.namespace, task_queue=TaskQueue(name=task_queue), task_queue_type=kind
        )
        found = await client.workflow_service.describe_task_queue(request, timeout=_ANSWER_WITHIN)
        if not any(
            poller.identity == client.identity and poller.last_access_time.ToDatetime(UTC) > since
            for poller in found.pollers
        ):
            return False
    return True


class _Deployments:
    """What Temporal's lists say about deployments, as metrics."""

    def __init__(self, client: Client, meter: MetricMeter) -> None:
        self._client, self._meter = client, meter
        self._shown: set[tuple[str, ...]] = set()
        self._introduced = False

    async def show(self) -> None:
        if not self._introduced:
            for found in await self._list("WorkflowType = 'deployment'"):
                self._introduce(found)
            self._introduced = True
        now: Counter[tuple[str, ...]] = Counter()
        for found in await self._list("WorkflowType = 'deployment' AND ExecutionStatus = 'Running'"):
            self._introduce(found)
            now[tuple(_attribute(found, name) for name in _ATTRIBUTES.values())] += 1
        gauge = self._meter.create_gauge(telemetry.OPEN, "Deployments that have not ended, by where they stand")
        self._shown |= set(now)
        for labels in self._shown:  # what was there before and is not any more is told as 0
            gauge.set(now[labels], dict(zip(_ATTRIBUTES, labels, strict=True)))

    def _introduce(self, found: WorkflowExecution) -> None:
        service, target = (_attribute(found, _ATTRIBUTES[name]) for name in ("service", "target"))
        if service and target:
            telemetry.introduce(self._meter, service, target)

    async def _list(self, query: str) -> list[WorkflowExecution]:
        listed = self._client.list_workflows(query, limit=_MOST_COUNTED, rpc_timeout=_ANSWER_WITHIN)
        return [found async for found in listed]


def _attribute(found: WorkflowExecution, name: str) -> str:
    values = found.search_attributes.get(name, [])
    return str(values[0]) if values else ""

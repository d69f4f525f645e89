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
from embedded import pulse
from embedded.paths import Home
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
    known: Counter[tuple[str, ...]] = Counter()
    turn = 0
    while True:
        try:
            if await polls(client, task_queue):
                await asyncio.to_thread(pulse.beat, home)
            if meter is not None and turn % _COUNT_EVERY == 0:
                known = await _show_open(client, meter, known)
        except RPCError as error:
            log.debug("Temporal did not say how things are: %s", error.status.name)
        except StackError as error:
            log.warning("the pulse could not be written: %s", error)
        turn += 1
        await asyncio.sleep(pulse.EVERY)


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


async def _show_open(client: Client, meter: MetricMeter, before: Counter[tuple[str, ...]]) -> Counter[tuple[str, ...]]:
    now: Counter[tuple[str, ...]] = Counter()
    query = "WorkflowType = 'deployment' AND ExecutionStatus = 'Running'"
    async for found in client.list_workflows(query, limit=_MOST_COUNTED, rpc_timeout=_ANSWER_WITHIN):
        now[tuple(_attribute(found, name) for name in _ATTRIBUTES.values())] += 1
    gauge = meter.create_gauge(telemetry.OPEN, "Deployments that have not ended, by where they stand")
    for labels in {*now, *before}:  # what was there before and is not any more is told as 0
        gauge.set(now[labels], dict(zip(_ATTRIBUTES, labels, strict=True)))
    return now


def _attribute(found: WorkflowExecution, name: str) -> str:
    values = found.search_attributes.get(name, [])
    return str(values[0]) if values else ""

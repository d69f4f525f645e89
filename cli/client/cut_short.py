"""A run that Temporal ended in the middle left no report: what became of it is read from its history.

No code of a workflow runs when it is terminated, and nothing was undone. Who did that and why, whether anything on the
target had been touched, and what to do next is known all the same, whether a worker is there or not.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle
from temporalio.converter import DataConverter
from temporalio.exceptions import FailureError
from temporalio.service import RPCError

from activities import activity_stubs
from cli.render.terminal import clean
from models.messages import DeploymentRequest
from models.outcome import FailureType, Outcome, classify
from models.report import DeploymentReport, Phase, Undone
from workflows.converter import strict_data_converter

READ_WITHIN = 20.0
MOST_LEFT = 10
# Activities that change something, whatever became of them.
_EFFECTS = frozenset(
    each.name
    for each in (
        *(
            activity_stubs.STAGE,
            activity_stubs.SHIFT,
            activity_stubs.PROMOTE,
            activity_stubs.RETIRE,
            activity_stubs.RESTORE,
        ),
        *(activity_stubs.RUN_MIGRATIONS, activity_stubs.WATCH),
    )
)
# Temporal's own parts name themselves so.
_TEMPORAL_ITSELF = ("history-service", "worker-service", "frontend-service")


@dataclass
class HistoryReading:
    """What a history says of a run that was cut short.

    Attributes:
        report: of the run as it began; None when its request cannot be read.
        ended: how it was ended, by whom and why, in words; empty while it runs.
        effects: what it had begun on the target, in the order in which it did.
    """

    report: DeploymentReport | None = None
    ended: str = ""
    effects: list[str] = field(default_factory=list)


async def read_history(handle: WorkflowHandle[Any, Any]) -> HistoryReading | None:
    """Reads a run's history; None when Temporal does not give it."""
    read = HistoryReading()
    try:
        async with asyncio.timeout(READ_WITHIN):
            async for event in handle.fetch_history_events():
                await _note(read, event, handle)
    except (TimeoutError, RPCError):
        return None
    return read


async def _note(read: HistoryReading, event: HistoryEvent, handle: WorkflowHandle[Any, Any]) -> None:
    match event.event_type:
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
            read.report = await _begun(event, handle)
        case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            about = event.activity_task_scheduled_event_attributes
            if about.activity_type.name in _EFFECTS:
                summary = await _text(event)
                read.effects.append(clean(summary or about.activity_type.name, 200))
        case _:
            read.ended = how_it_ended(event) or read.ended


async def _begun(event: HistoryEvent, handle: WorkflowHandle[Any, Any]) -> DeploymentReport | None:
    payloads = event.workflow_execution_started_event_attributes.input.payloads
    try:
        found = await strict_data_converter.decode(payloads, [DeploymentRequest])
        request: DeploymentRequest = found[0]
    except (FailureError, ValueError, RuntimeError, IndexError):
        return None
    spec = request.spec
    return DeploymentReport(
        workflow_id=handle.id,
        run_id=handle.run_id or event.workflow_execution_started_event_attributes.original_execution_run_id,
        kind=request.kind,
        service=spec.service,
        target=spec.target,
        version=spec.release.version,
        strategy=spec.strategy.kind,
        by=request.by,
        reason=request.reason,
        started=event.event_time.ToDatetime().astimezone(),
    )


async def _text(event: HistoryEvent) -> str:
    if not event.HasField("user_metadata") or not event.user_metadata.HasField("summary"):
        return ""
    try:
        found = await DataConverter.default.decode([event.user_metadata.summary], [str])
    except (FailureError, ValueError, RuntimeError):
        return ""
    return str(found[0])


def how_it_ended(event: HistoryEvent) -> str:
    """Who ended a run by this event, and why; empty when it did not end by it, or by itself."""
    match event.event_type:
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
            about = event.workflow_execution_terminated_event_attributes
            itself = about.identity in _TEMPORAL_ITSELF or not about.identity
            by = "by Temporal itself" if itself else f"by {clean(about.identity, 100)}"
            return f"terminated {by}: {clean(about.reason, 300) or 'no reason given'}"
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
            return "ended by Temporal, because a time limit of the workflow was over (set none)"
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
            failure = event.workflow_execution_failed_event_attributes.failure
            return f"ended by an error: {clean(failure.message, 300) or 'without a word'}"
        case _:
            return ""


def cut_short(last: DeploymentReport, status: WorkflowExecutionStatus, read: HistoryReading | None) -> DeploymentReport:
    """The document of a run that ended before it could finish or undo anything; nobody may believe that it did."""
    how = (read and read.ended) or f"ended as {status.name.lower()}"
    effects = read.effects if read else []
    touched = bool(last.compensations or effects)
    if touched:
        left = "nothing was undone: traffic, instances and files are as they were at that moment"
        kind, outcome = FailureType.ROLLBACK, Outcome.ROLLBACK_FAILED
    else:
        left = "it had changed nothing; deploy again once its cause is gone"
        kind, outcome = FailureType.CANCELLED, Outcome.PREFLIGHT_FAILED
    failure = classify(kind, last.stage, f"the workflow was {how}. It could neither finish nor undo anything; {left}")
    compensations = last.compensations or tuple(Undone(what=f"undo of: {each}") for each in effects[-MOST_LEFT:])
    return last.model_copy(
        update={
            "outcome": outcome,
            "failure": failure,
            "phase": Phase.FINISHED,
            "waiting_for": "",
            "compensations": compensations,
        }
    )

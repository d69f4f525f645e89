"""What is known of a run: asked of the workflow itself, or read from its history when no worker is there to answer."""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import Field, ValidationError
from temporalio.client import (
    WorkflowContinuedAsNewError,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from activities.activity_stubs import WATCH
from cli.client.connection import ANSWER_WITHIN, rpc_sentence
from cli.client.cut_short import cut_short, read_history
from cli.exits import CommandError
from models.base import WireModel
from models.release import Counters
from models.report import DeploymentReport, Phase
from workflows.wire_names import STATUS

DESCRIBED_WITHIN = 2.5


class WatchSeen(WireModel):
    """A watch's heartbeat.

    Attributes:
        probes: of the candidate's health, so far.
        failed_probes: instance → that failed in a row, up to now.
        candidate: what the router counted since the step began; None from a worker that does not say it.
        stable: the same for the revision beside it.
    """

    probes: int = 0
    failed_probes: dict[str, int] = Field(default_factory=dict)
    candidate: Counters | None = None
    stable: Counters | None = None


class Waits(WireModel):
    """The heartbeat of an activity that waits.

    Attributes:
        waits_for: what for, as the end of a sentence.
        until: when it waits no longer.
    """

    waits_for: str
    until: datetime


class ComingUp(WireModel):
    """The heartbeat of an activity that brings instances up.

    Attributes:
        not_ready: instance → all that is wrong with what it answers.
    """

    not_ready: dict[str, str] = Field(default_factory=dict)

    def lines(self) -> tuple[str, ...]:
        """What is waited for, instance by instance."""
        return tuple(f"not ready yet: {name}: {said}" for name, said in self.not_ready.items())


class StatusUnavailableError(Exception):
    """The status could not be asked now.

    Attributes:
        who: the worker, or Temporal.
        closed: how the run ended, when Temporal could say at least that.
        unknown: Temporal answered that it knows no such run.
    """

    def __init__(
        self, who: str, sentence: str, closed: WorkflowExecutionStatus | None = None, *, unknown: bool = False
    ) -> None:
        super().__init__(sentence)
        self.who = who
        self.closed = closed
        self.unknown = unknown


async def look(handle: WorkflowHandle[Any, Any]) -> DeploymentReport:
    """Asks a run for its status.

    Raises:
        StatusUnavailableError: nobody answered; worth another try, unless the run has ended or is not known.
    """
    try:
        # The client tries again on its own, for longer than somebody who watches likes to hear nothing.
        async with asyncio.timeout(ANSWER_WITHIN.total_seconds()):
            report: DeploymentReport = await handle.query(STATUS, result_type=DeploymentReport)
            return report
    except (TimeoutError, RPCError, WorkflowQueryFailedError, WorkflowQueryRejectedError):
        pass  # described below: is it the worker, or Temporal, or has the run ended?
    except (
        RuntimeError,
        ValueError,
    ) as error:  # an answer that fits no report: worker and command line differ too much
        raise StatusUnavailableError(
            "the worker", f"the worker's answer cannot be read ({type(error).__name__})"
        ) from None
    raise StatusUnavailableError("the worker", "the worker does not answer", (await standing(handle)).closed)


@dataclass(frozen=True)
class ExecutionState:
    """What Temporal itself says of a run.

    Attributes:
        closed: how it has ended; None while it runs.
        watch: what the watch that is under way has seen so far.
        waits: what an activity that is under way waits for.
        not_ready: what instances answer that come up, a line each.
    """

    closed: WorkflowExecutionStatus | None
    watch: WatchSeen | None = None
    waits: Waits | None = None
    not_ready: tuple[str, ...] = ()


async def standing(handle: WorkflowHandle[Any, Any]) -> ExecutionState:
    """Asks Temporal how a run stands.

    Raises:
        StatusUnavailableError: Temporal does not answer, or knows no such run.
    """
    try:
        async with asyncio.timeout(DESCRIBED_WITHIN):
            description = await handle.describe()
    except TimeoutError:
        raise StatusUnavailableError("Temporal", "Temporal does not answer") from None
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise StatusUnavailableError(
                "Temporal", f"Temporal knows no deployment {handle.id}", unknown=True
            ) from None
        raise StatusUnavailableError("Temporal", rpc_sentence(error)) from None
    status = description.status
    if status not in (None, WorkflowExecutionStatus.RUNNING):
        return ExecutionState(status)
    return await _heartbeats(description)


async def _heartbeats(description: WorkflowExecutionDescription) -> ExecutionState:
    """Reads the last heartbeats of what is under way: the watch's, and that of an activity that waits."""
    watch, waits, coming_up = None, None, ComingUp()
    for pending in description.raw_description.pending_activities:
        if not pending.heartbeat_details.payloads:
            continue
        details = await description.data_converter.decode(pending.heartbeat_details.payloads)
        # Of a worker of another release it may be anything; a heartbeat is an ornament here.
        with suppress(ValidationError):
            if pending.activity_type.name == WATCH.name:
                watch = WatchSeen.model_validate(details[0])
            else:
                found = ComingUp.model_validate(details[0])
                coming_up = found if found.not_ready else coming_up
                waits = Waits.model_validate_json(json.dumps(details[0]))
    return ExecutionState(None, watch, waits, coming_up.lines())


async def report_of_closed(
    handle: WorkflowHandle[Any, Any], status: WorkflowExecutionStatus, last: DeploymentReport | None
) -> DeploymentReport:
    """The document of a run that has ended, also when it was not given the time to write one.

    Raises:
        CommandError: the run left no document.
    """
    try:
        last = await look(handle)
    except StatusUnavailableError:
        last = await report_from_result(handle) or last
    if last is not None and last.phase is Phase.FINISHED:
        return last
    read = await read_history(handle)
    last = last or (read.report if read else None)
    if last is None:
        why = (read and read.ended) or "Temporal does not give its history"
        raise CommandError(f"{handle.id} has ended as {status.name.lower()} and left no report: {why}", 1)
    return cut_short(last, status, read)


async def report_from_result(handle: WorkflowHandle[Any, Any]) -> DeploymentReport | None:
    """Reads what a run that has ended returned, or what its failure carries."""
    try:
        result: Any = await handle.result(follow_runs=False, rpc_timeout=ANSWER_WITHIN)
    except WorkflowFailureError as error:
        details = error.cause.details if isinstance(error.cause, ApplicationError) else ()
        result = details[0] if details else None
    except (RPCError, WorkflowContinuedAsNewError):
        return None
    try:
        if isinstance(result, DeploymentReport):
            return result
        return DeploymentReport.model_validate_json(json.dumps(result)) if isinstance(result, dict) else None
    except ValidationError:
        return None

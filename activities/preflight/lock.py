"""A target's deployments take turns: whoever waits sees the one before it end, and is started once, whatever dies.

The lock is the workflow id of the target's deployments; only Temporal knows who holds it.
"""

import asyncio
from datetime import timedelta

from temporalio import activity
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities import activity_stubs
from activities.heartbeat import attempt
from activities.preflight.conflicts import check_conflict
from models.errors import PreconditionError
from models.outcome import Outcome
from models.preflight.queueing import ConflictQuestion, Started, StartOrder, Turn, TurnQuestion
from models.verdict import CheckResult, Stage

_EVERY = 0.5
_ANSWER_WITHIN = timedelta(seconds=10)
_LOOK_BACK = 20
TICKET = "ticket"


class LockActivities:
    """What a target's queue does in Temporal, through the worker's own client."""

    @activity.defn(name=activity_stubs.WAIT_FOR_TURN.name)
    async def wait_for_turn(self, question: TurnQuestion) -> Turn:
        """Returns when no deployment is under way, or when a rollback that was asked for needs a person."""
        async with attempt():
            client, asked = activity.client(), ""
            while True:
                newest = await describe(client, question.workflow_id)
                if newest is None:
                    return Turn()
                if newest.status is not WorkflowExecutionStatus.RUNNING:
                    if newest.run_id != question.beyond:
                        return Turn(run_id=newest.run_id, trouble=_trouble(newest, question))
                elif question.update:
                    if _attribute(newest, question.outcome) == Outcome.ROLLBACK_FAILED:
                        trouble = "its rollback has failed and waits for a person"
                        return Turn(run_id=newest.run_id, trouble=trouble)
                    if asked != newest.run_id and await _ask_to_roll_back(client, newest.run_id, question):
                        asked = newest.run_id
                await asyncio.sleep(_EVERY)

    @activity.defn(name=activity_stubs.START_DEPLOYMENT.name)
    async def start_deployment(self, order: StartOrder) -> Started:
        """Starts it, unless an earlier attempt has, or somebody else holds the lock."""
        async with attempt():
            client = activity.client()
            if activity.info().attempt > 1 and (run_id := await _started_before(client, order)):
                return Started(run_id=run_id)
            pairs = [SearchAttributePair(SearchAttributeKey.for_keyword(k), v) for k, v in order.attributes.items()]
            try:
                handle = await client.start_workflow(
                    order.workflow,
                    order.request,
                    id=order.workflow_id,
                    task_queue=activity.info().task_queue,
                    memo={TICKET: order.ticket},
                    search_attributes=TypedSearchAttributes(pairs),
                    static_summary=order.summary,
                    rpc_timeout=_ANSWER_WITHIN,
                )
            except WorkflowAlreadyStartedError:
                return Started(run_id=await _started_before(client, order))
            except RPCError as error:
                if error.status is RPCStatusCode.INVALID_ARGUMENT:
                    raise PreconditionError(f"Temporal refused: {error}") from None
                raise
            return Started(run_id=handle.result_run_id or "")

    @activity.defn(name=activity_stubs.CHECK_CONFLICT.name)
    async def check_conflict(self, question: ConflictQuestion) -> CheckResult:
        """Says who is at work on the target and who waits for it."""
        async with attempt():
            return await check_conflict(activity.client(), question)


async def describe(client: Client, workflow_id: str) -> WorkflowExecutionDescription | None:
    """The newest run; None where there has never been one, or none is remembered."""
    try:
        return await client.get_workflow_handle(workflow_id).describe(rpc_timeout=_ANSWER_WITHIN)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


async def _ask_to_roll_back(client: Client, run_id: str, question: TurnQuestion) -> bool:
    """Whether it was heard. Refused is heard too: it is on its way back already, or has ended a moment ago.

    An update and no signal: a signal to a deployment that has just ended well would roll it back after its end.
    """
    handle = client.get_workflow_handle(question.workflow_id, run_id=run_id)
    try:
        await handle.execute_update(
            question.update, question.rollback, id=f"supersede-{question.ticket}", rpc_timeout=_ANSWER_WITHIN
        )
    except WorkflowUpdateFailedError:
        return True
    except WorkflowUpdateRPCTimeoutOrCancelledError:
        return False
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
    return True


async def _started_before(client: Client, order: StartOrder) -> str:
    """The run that this ticket was given; empty where there is none."""
    newest = await describe(client, order.workflow_id)
    if newest is not None and (await newest.memo()).get(TICKET) == order.ticket:
        return newest.run_id
    query = f"WorkflowId = '{order.workflow_id}'"
    async for run in client.list_workflows(query, limit=_LOOK_BACK, rpc_timeout=_ANSWER_WITHIN):
        if (await run.memo()).get(TICKET) == order.ticket:
            return run.run_id
    return ""


def _attribute(run: WorkflowExecutionDescription, name: str) -> str:
    return run.typed_search_attributes.get(SearchAttributeKey.for_keyword(name)) or ""


def _trouble(run: WorkflowExecutionDescription, question: TurnQuestion) -> str:
    """Nobody deploys by itself onto what a person has taken over, or onto what was ended in the middle of something."""
    if run.close_time is None or run.close_time < question.since:
        return ""
    outcome = _attribute(run, question.outcome)
    if outcome == Outcome.ROLLBACK_FAILED:
        return "the deployment before ended as rollback-failed"
    if not outcome and _attribute(run, question.stage) not in ("", Stage.PREFLIGHT):
        how = run.status.name.lower() if run.status else "unknown"
        return f"the deployment before was cut short ({how}) before it could finish or undo anything"
    return ""

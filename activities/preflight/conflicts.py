"""Whether somebody else is at work on a target, as a plan wants to know it: who, since when, with what, and how far."""

import asyncio
from datetime import timedelta

from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
)
from temporalio.service import RPCError, RPCStatusCode

from activities.check_result import Finding, quote
from models.preflight.conflicts import Conflict
from models.preflight.queueing import ConflictQuestion, QueueView
from models.report import DeploymentReport
from models.verdict import CheckResult

_ANSWER_WITHIN = timedelta(seconds=4)
NAME = "no_conflicting_deployment"


async def check_conflict(client: Client, question: ConflictQuestion) -> CheckResult:
    """Fails when a deploy would be refused now; says what it would do instead where it would not."""
    finding = Finding(NAME)
    running, waiting = await asyncio.gather(
        _who_runs(client, question.workflow_id, question.status), _who_waits(client, question)
    )
    if not running and not waiting:
        return finding.passed("nobody else is at work on this target")
    ahead = "; ".join(filter(None, (running, waiting)))
    if question.policy is Conflict.REJECT:
        if running:
            return finding.failed(f"{ahead}; deploy would be refused (conflict: reject)")
        return finding.passed(f"{ahead}; deploy would not wait for them (conflict: reject)")
    would = "wait for its turn" if question.policy is Conflict.QUEUE else "ask for the rollback of what is under way"
    return finding.passed(f"{ahead}; deploy would {would} (conflict: {question.policy})")


async def _who_runs(client: Client, workflow_id: str, status: str) -> str:
    """A sentence about the deployment that is under way; empty where none is."""
    handle = client.get_workflow_handle(workflow_id)
    if not await _runs(handle):
        return ""
    try:
        async with asyncio.timeout(_ANSWER_WITHIN.total_seconds()):
            report: DeploymentReport = await handle.query(status, result_type=DeploymentReport)
    except (TimeoutError, RPCError, WorkflowQueryFailedError, WorkflowQueryRejectedError):
        return "a deployment is under way, and its worker does not say more"
    step = f"step {report.step} of {len(report.plan.steps)} of " if report.step and report.plan else ""
    at = f", at {step}{report.stage}" if report.stage else ""
    return f"{quote(report.by)} is deploying {quote(report.version)} since {report.started:%Y-%m-%d %H:%M:%S} UTC{at}"


async def _who_waits(client: Client, question: ConflictQuestion) -> str:
    handle = client.get_workflow_handle(question.queue_id)
    if not await _runs(handle):
        return ""
    try:
        async with asyncio.timeout(_ANSWER_WITHIN.total_seconds()):
            view: QueueView = await handle.query(question.waiting, result_type=QueueView)
    except (TimeoutError, RPCError, WorkflowQueryFailedError, WorkflowQueryRejectedError):
        return "there is a queue, and its worker does not say who waits"
    return f"in the queue: {len(view.waiting)}" if view.waiting else ""


async def _runs(handle: WorkflowHandle[object, object]) -> bool:
    try:
        return (await handle.describe(rpc_timeout=_ANSWER_WITHIN)).status is WorkflowExecutionStatus.RUNNING
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise

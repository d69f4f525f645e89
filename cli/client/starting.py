"""Starts a deployment, or says who is in the way: one target has one deployment at a time, by its workflow id."""

from datetime import UTC, datetime
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from cli.client.connection import ANSWER_WITHIN, Server, rpc_sentence
from cli.client.status import StatusUnavailableError, look
from cli.exits import CommandError
from cli.invocation import program
from cli.render.summary import ending, moment
from cli.render.terminal import clean, say, show_document
from cli.spec.sizes import too_large
from models.document import contract_document
from models.messages import DeploymentRequest, Kind
from models.names import workflow_id
from models.report import DeploymentReport
from workflows.wire_names import (
    DEPLOYMENT_WORKFLOW,
    SEARCH_ATTRIBUTES,
    SERVICE_KEY,
    TARGET_KEY,
    TASK_QUEUE,
    VERSION_KEY,
)


async def start(client: Client, request: DeploymentRequest) -> WorkflowHandle[Any, Any]:
    """Starts the workflow and returns the handle of exactly this run.

    Raises:
        CommandError: a deployment of this target is under way, or Temporal refused; nothing was started.
    """
    spec = request.spec
    if too := too_large(spec):
        raise CommandError(f"the spec of {spec.service}/{spec.target} cannot travel: {too}; nothing was started")
    what = f"{spec.service} {spec.release.version} → {spec.target}"
    if request.kind is Kind.ROLLBACK:
        what = f"{spec.service} → {spec.target}: rollback to the release before"
    try:
        handle = await client.start_workflow(
            DEPLOYMENT_WORKFLOW,
            request,
            id=workflow_id(spec.service, spec.target),
            task_queue=TASK_QUEUE,
            result_type=DeploymentReport,
            static_summary=what,
            search_attributes=TypedSearchAttributes(
                [
                    SearchAttributePair(SERVICE_KEY, spec.service),
                    SearchAttributePair(TARGET_KEY, spec.target),
                    SearchAttributePair(VERSION_KEY, spec.release.version),
                ]
            ),
            rpc_timeout=2 * ANSWER_WITHIN,
        )
    except WorkflowAlreadyStartedError:
        raise CommandError(await _who_is_in_the_way(client, spec.service, spec.target)) from None
    except RPCError as error:
        raise CommandError(refused(error)) from None
    return client.get_workflow_handle(handle.id, run_id=handle.result_run_id, result_type=DeploymentReport)


async def _who_is_in_the_way(client: Client, service: str, target: str) -> str:
    command, name = program(), f"{service}/{target}"
    try:
        report = await look(client.get_workflow_handle(workflow_id(service, target)))
    except StatusUnavailableError as failed:
        return (
            f"a deployment of {name} is under way already ({failed}); nothing was started; see `{command} watch {name}`"
        )
    step = f"step {report.step} of {len(report.plan.steps)} of " if report.step and report.plan else ""
    at = f", at {step}{report.stage}" if report.stage else ""
    return (
        f"{clean(report.by)} is deploying {clean(report.version)} to {name} since "
        f"{moment(report.started)}{at} ({ending(report)}); nothing was started; "
        f"see `{command} watch {name}`; or deploy with --queue, or --supersede"
    )


def refused(error: RPCError) -> str:
    """Says why Temporal did not start a workflow, and what helps."""
    if "search attribute" in str(error).lower():
        names = " ".join(f"--name {key.name} --type Keyword" for key in SEARCH_ATTRIBUTES)
        return (
            "this Temporal server does not know the search attributes of deployments; register them once with "
            f"`temporal operator search-attribute create {names}`"
        )
    return rpc_sentence(error)


def say_started(
    handle: WorkflowHandle[Any, Any], server: Server, request: DeploymentRequest, *, json_wanted: bool
) -> None:
    """Says where to find a deployment that nobody follows."""
    name = f"{request.spec.service}/{request.spec.target}"
    say(f"started {handle.id}, run {handle.run_id}; `{program()} watch {name}` follows it")
    link = server.link(handle.id, handle.run_id or "")
    if link:
        say(f"Temporal: {link}")
    if json_wanted:
        show_document(contract_document(first_report(handle, request)) | {"exit_code": 0})


def first_report(handle: WorkflowHandle[Any, Any], request: DeploymentRequest) -> DeploymentReport:
    """The document of a deployment that has not answered yet."""
    return DeploymentReport(
        workflow_id=handle.id,
        run_id=handle.run_id or "",
        kind=request.kind,
        service=request.spec.service,
        target=request.spec.target,
        version=request.spec.release.version,
        strategy=request.spec.strategy.kind,
        by=request.by,
        reason=request.reason,
        started=datetime.now(UTC),
    )

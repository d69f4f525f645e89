"""`rollback`: back to the release before, at once; works while the worker is away, and long after the deployment.

A running deployment gets a signal, which waits in its queue when nobody is there to hear it. After the end a new run,
under the same id, goes back to the release before.
"""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli.client.connection import ANSWER_WITHIN, Server, connect, find_server, rpc_sentence, run_async
from cli.exits import CommandError
from cli.invocation import program
from cli.render.terminal import say, show_document

if TYPE_CHECKING:
    from temporalio.client import Client, WorkflowExecution, WorkflowHandle

    from models.spec import DeploymentSpec

_LOOK_BACK = 100
_CHANGED_NOTHING = ("preflight-failed", "rejected", "frozen")


@click.command()
@options.subject_argument
@click.option("--reason", type=options.Reason(), required=True, help="Why, for the report.")
@click.option("--further", is_flag=True, help="Go back although the last deployment was rolled back already.")
@options.as_option
@options.wait_option
@options.no_wait_option
@options.json_option
def rollback(
    subject: tuple[str, str],
    reason: str,
    further: bool,
    by: str,
    wait: timedelta | None,
    no_wait: bool,
    json_wanted: bool,
) -> int:
    r"""Emergency: traffic goes back at once, everything else follows.

    Rolls a running deployment back; when none runs, brings the release before the last deployment back.
    An outcome has one exit code everywhere: a rollback that worked ends with 10 here as well.

    \b
    Example:
      deployment-specialist rollback shop/staging --reason "checkout is slow"
    """
    if no_wait and wait is not None:
        raise click.UsageError("--wait and --no-wait exclude each other")
    return run_async(_rollback(find_server(), subject, by, reason, further, wait, no_wait, json_wanted))


async def _rollback(
    server: Server,
    subject: tuple[str, str],
    by: str,
    reason: str,
    further: bool,
    wait: timedelta | None,
    no_wait: bool,
    json_wanted: bool,
) -> int:
    from cli.client.follow import follow
    from cli.client.starting import first_report, say_started, start
    from cli.render.viewers import conclude, make_viewer
    from models.messages import DeploymentRequest, Kind

    client = await connect(server)
    name = "/".join(subject)
    handle = await _signal_running(client, subject, by, reason)
    request: DeploymentRequest | None = None
    if handle is None:
        if not further:
            await _refuse_to_go_further(client, subject)
        spec = await find_last_spec(client, subject)
        request = DeploymentRequest(spec=spec, kind=Kind.ROLLBACK, by=by, reason=reason)
        say(f"no deployment of {name} is under way; going back to the release before the last one")
        handle = await start(client, request)
        if no_wait:
            say_started(handle, server, request, json_wanted=json_wanted)
            return 0
    else:
        say(f"the running deployment of {name} was told to roll back")
        if no_wait:
            say(f"`{program()} watch {name}` follows it")
            if json_wanted:
                show_document({"outcome": "running", "exit_code": 0, "workflow_id": handle.id, "run_id": handle.run_id})
            return 0
    with make_viewer() as viewer:
        ended = await follow(client, handle, viewer, wait=wait, through_hold=True)
    unanswered = first_report(handle, request) if request else None
    return conclude(ended, server, json_wanted=json_wanted, unanswered=unanswered)


async def _signal_running(
    client: "Client", subject: tuple[str, str], by: str, reason: str
) -> "WorkflowHandle[Any, Any] | None":
    """Tells the running deployment; None when none is running."""
    from temporalio.client import WorkflowExecutionStatus
    from temporalio.service import RPCError, RPCStatusCode

    from models.messages import Request
    from models.names import workflow_id
    from workflows.wire_names import ROLLBACK

    handle = client.get_workflow_handle(workflow_id(*subject))
    try:
        # Signal first, look later: nothing may stand between an emergency and its signal.
        await handle.signal(ROLLBACK, Request(by=by, reason=reason), rpc_timeout=2 * ANSWER_WITHIN)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise CommandError(f"the rollback could not be asked for: {rpc_sentence(error)}", 1) from None
    description = await handle.describe(rpc_timeout=ANSWER_WITHIN)
    if description.status is WorkflowExecutionStatus.RUNNING:
        return client.get_workflow_handle(handle.id, run_id=description.run_id)
    return handle


async def _refuse_to_go_further(client: "Client", subject: tuple[str, str]) -> None:
    """A nervous second rollback must not leave the release that the first one brought back.

    Raises:
        CommandError: the last deployment was rolled back already.
    """
    async for run in closed_runs(client, subject):
        if outcome_of(run) in _CHANGED_NOTHING:
            continue
        if outcome_of(run) == "rolled-back":
            name = "/".join(subject)
            raise CommandError(
                f"the last deployment of {name} was rolled back already; nothing was done. `{program()} status {name}` "
                "says what serves. To go back to the release before that one as well: --further"
            )
        return


async def find_last_spec(client: "Client", subject: tuple[str, str]) -> "DeploymentSpec":
    """Finds where the last deployment went: the spec of the newest run that left something there.

    Raises:
        CommandError: no deployment of this target has changed anything, as far as Temporal remembers.
    """
    fallback: WorkflowExecution | None = None
    async for run in closed_runs(client, subject):
        outcome = outcome_of(run)
        if outcome == "deployed":
            return await spec_of(client, run)
        if fallback is None and outcome not in _CHANGED_NOTHING:
            fallback = run
    if fallback is None:
        raise CommandError(f"there is nothing to roll back: no deployment of {'/'.join(subject)} has changed anything")
    return await spec_of(client, fallback)


async def closed_runs(client: "Client", subject: tuple[str, str]) -> "AsyncIterator[WorkflowExecution]":
    """Yields the target's runs that have ended, the newest first."""
    from models.names import workflow_id

    # The parts of the id were checked as names: there is no quote in them.
    query = f"WorkflowId = '{workflow_id(*subject)}' AND ExecutionStatus != 'Running'"
    async for run in client.list_workflows(query, limit=_LOOK_BACK, rpc_timeout=2 * ANSWER_WITHIN):
        yield run


def outcome_of(run: "WorkflowExecution") -> str:
    """The outcome that a run noted for searches; empty when it came to none."""
    from workflows.wire_names import OUTCOME_KEY

    return run.typed_search_attributes.get(OUTCOME_KEY) or ""


async def spec_of(client: "Client", run: "WorkflowExecution") -> "DeploymentSpec":
    """Reads the spec that a run was started with from the first event of its history."""
    request = await request_of(client, run)
    if request is None:
        raise CommandError(f"the spec of the last deployment (run {run.run_id}) cannot be read any more", 1)
    return request.spec  # type: ignore[no-any-return]


async def request_of(client: "Client", run: "WorkflowExecution") -> Any:
    """Reads what a run was started with; None when it cannot be read."""
    from temporalio.exceptions import FailureError

    from models.messages import DeploymentRequest

    events = client.get_workflow_handle(run.id, run_id=run.run_id).fetch_history_events(page_size=1)
    async for event in events:
        payloads = event.workflow_execution_started_event_attributes.input.payloads
        try:
            values = await client.data_converter.decode(payloads, [DeploymentRequest])
        except (FailureError, ValueError, RuntimeError):
            return None
        return values[0] if values else None
    return None

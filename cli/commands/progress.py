"""`status`, `watch`, `report`: what happens to a target, and how it ended."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli.client.connection import ANSWER_WITHIN, Server, connect, find_server, home_path, rpc_sentence, run_async
from cli.exits import USAGE_ERROR, CommandError
from cli.invocation import program
from cli.render.terminal import clean, clean_lines, say, show, show_document, show_markdown

if TYPE_CHECKING:
    from temporalio.client import Client, WorkflowHandle

    from models.preflight.queueing import Waiting
    from models.report import DeploymentReport


@click.command()
@options.optional_subject
@options.json_option
def status(subject: tuple[str, str] | None, json_wanted: bool) -> int:
    r"""Say what happens to SERVICE/TARGET now, or how its last deployment ended; without it, list all targets.

    The exit code is 0 when it could be said; the outcome's own code is in the JSON.

    \b
    Example:
      deployment-specialist status shop/staging
    """
    server = find_server()
    if subject is None:
        return _list_targets(server, json_wanted)
    (report, not_ready), waiting = run_async(_status(server, subject))
    if json_wanted:
        from cli.render.viewers import document

        queue = [each.model_dump(mode="json") for each in waiting]
        show_document(document(report, queue=queue, not_ready=list(not_ready)))
        return 0
    from cli.client.in_queue import describe_queue
    from cli.render.viewers import print_report

    print_report(report, not_ready)
    for line in describe_queue(waiting):
        show(line)
    if link := server.link(report.workflow_id, report.run_id):
        show(f"Temporal: {link}")
    return 0


def _list_targets(server: Server, json_wanted: bool) -> int:
    from cli.commands.overview import all_targets, overview_lines

    targets = run_async(all_targets(server))
    if json_wanted:
        show_document({"targets": targets})
    elif not targets:
        say("no deployment is known to this Temporal")
    else:
        for line in overview_lines(targets):
            show(line)
    return 0


@click.command()
@options.subject_argument
@click.option("--ticket", default="", metavar="TICKET", help="Follow the one that waits with this ticket.")
@options.wait_option
@options.json_option
def watch(subject: tuple[str, str], ticket: str, wait: timedelta | None, json_wanted: bool) -> int:
    r"""Follow the running deployment of SERVICE/TARGET; Ctrl-C leaves it alone.

    Ends with the outcome's exit code, also when the deployment has ended before.

    \b
    Example:
      deployment-specialist watch shop/staging
    """
    return run_async(_watch(find_server(), subject, ticket, wait, json_wanted))


async def _watch(
    server: Server, subject: tuple[str, str], ticket: str, wait: timedelta | None, json_wanted: bool
) -> int:
    from cli.client.follow import follow
    from cli.client.in_queue import describe_queue, who_waits
    from cli.client.queueing import follow_ticket
    from cli.render.viewers import conclude, make_viewer

    client = await connect(server)
    if ticket:
        return await follow_ticket(client, server, subject, ticket, wait=wait, json_wanted=json_wanted)
    for line in describe_queue(await who_waits(client, subject)):
        say(line)
    handle = await _last_run(client, subject)
    with make_viewer() as viewer:
        ended = await follow(client, handle, viewer, wait=wait)
    return conclude(ended, server, json_wanted=json_wanted)


@click.command()
@options.subject_argument
@options.json_option
def report(subject: tuple[str, str], json_wanted: bool) -> None:
    r"""Print the report of the last deployment of SERVICE/TARGET: Markdown, or with --json the document.

    \b
    Example:
      deployment-specialist report shop/staging > report.md
    """
    if json_wanted:
        from cli.render.viewers import document

        show_document(document(run_async(_last_report(find_server(), subject))))
        return

    try:
        last = run_async(_last_report(find_server(), subject))
        path, why = last.report, "the deployment has not written a report yet"
        if not path and last.cut_short and last.failure:
            why = clean(last.failure.reason)
    except CommandError as stop:
        # A report on this machine can be read while everything else is down.
        path, why = _newest_report(subject), str(stop)
    from cli.render.summary import markdown_path

    if not path:
        raise CommandError(f"there is no report of {'/'.join(subject)}: {why}")
    try:
        with open(markdown_path(path), encoding="utf-8", errors="replace") as file:
            show_markdown(clean_lines(file.read(4 << 20)).rstrip())
        say(f"\nthis is {markdown_path(path)}")
    except OSError:
        raise CommandError(
            f"the report is on the worker's machine, at {markdown_path(path)}, and cannot be read here; "
            "--json shows the document"
        ) from None


def _newest_report(subject: tuple[str, str]) -> str:
    folder = home_path() / "reports" / subject[0] / subject[1]
    try:
        found = sorted(folder.glob("*.md"), key=lambda path: path.stat().st_mtime)
    except OSError:
        return ""
    return str(found[-1]) if found else ""


async def _last_run(client: "Client", subject: tuple[str, str]) -> "WorkflowHandle[Any, Any]":
    """The handle of the run that is under way, or of the last one."""
    from temporalio.service import RPCError, RPCStatusCode

    from models.names import workflow_id

    handle = client.get_workflow_handle(workflow_id(*subject))
    try:
        description = await handle.describe(rpc_timeout=ANSWER_WITHIN)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise CommandError(f"no deployment of {'/'.join(subject)} is known to this Temporal") from None
        raise CommandError(rpc_sentence(error), 1) from None
    return client.get_workflow_handle(handle.id, run_id=description.run_id)


async def _status(
    server: Server, subject: tuple[str, str]
) -> "tuple[tuple[DeploymentReport, Sequence[str]], list[Waiting]]":
    """The last report, and who waits; of a target that has only a queue, the first one that waits."""
    from cli.client.in_queue import who_waits
    from cli.client.queueing import report_of_waiting

    client = await connect(server)
    waiting = await who_waits(client, subject)
    try:
        return await _report_of_last(client, subject), waiting
    except CommandError as stop:
        if not waiting or stop.code != USAGE_ERROR:
            raise
        return (report_of_waiting(subject, waiting[0]), ()), waiting


async def _last_report(server: Server, subject: tuple[str, str]) -> "DeploymentReport":
    return (await _report_of_last(await connect(server), subject))[0]


async def _report_of_last(client: "Client", subject: tuple[str, str]) -> "tuple[DeploymentReport, Sequence[str]]":
    """The last report, and what instances say that come up."""
    from cli.client.status import StatusUnavailableError, look, report_of_closed, standing

    handle = await _last_run(client, subject)
    try:
        stands = await standing(handle)
        if stands.closed is None:
            return await look(handle), stands.not_ready
        return await report_of_closed(handle, stands.closed, None), ()
    except StatusUnavailableError as failed:
        name = "/".join(subject)
        raise CommandError(
            f"{failed}; the deployment of {name} goes on when it does; try again, or `{program()} doctor`", 1
        ) from None

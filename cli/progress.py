"""`status`, `watch`, `history`, `report`: what happens to a target, and what has happened."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli.connection import ANSWER_WITHIN, Server, connect, find_server, home_path, rpc_sentence, run_async
from cli.exits import USAGE_ERROR, Stop
from cli.terminal import clean, clean_lines, program, say, show, show_document

if TYPE_CHECKING:
    from temporalio.client import Client, WorkflowHandle

    from models.preflight.queueing import Waiting
    from models.report import DeploymentReport


@click.command()
@options.subject_argument
@options.json_option
def status(subject: tuple[str, str], json_wanted: bool) -> int:
    r"""Say what happens to SERVICE/TARGET now, or how its last deployment ended.

    The exit code is 0 when it could be said; the outcome's own code is in the JSON.

    \b
    Example:
      deployment-specialist status shop/staging
    """
    server = find_server()
    report, waiting = run_async(_status(server, subject))
    if json_wanted:
        from cli.viewers import document

        show_document(document(report, queue=[each.model_dump(mode="json") for each in waiting]))
        return 0
    from cli.in_queue import describe_queue
    from cli.viewers import print_report

    print_report(report)
    for line in describe_queue(waiting):
        show(line)
    if link := server.link(report.workflow_id, report.run_id):
        show(f"Temporal: {link}")
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
    from cli.follow import follow
    from cli.in_queue import describe_queue, who_waits
    from cli.queueing import follow_ticket
    from cli.viewers import conclude, make_viewer

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
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many, newest first.")
@options.json_option
def history(subject: tuple[str, str], limit: int, json_wanted: bool) -> None:
    r"""List what happened to SERVICE/TARGET, newest first.

    \b
    Example:
      deployment-specialist history shop/staging --limit 5
    """
    runs = run_async(_history(find_server(), subject, limit))
    if json_wanted:
        show_document({"service": subject[0], "target": subject[1], "runs": runs})
        return
    if not runs:
        say(f"no deployment of {'/'.join(subject)} is known to this Temporal")
        return
    show(f"{'when':19s}  {'version':24s} {'outcome':17s} {'took':>8s}  {'by':16s} run")
    for run in runs:
        when = run["started"].astimezone().strftime("%Y-%m-%d %H:%M:%S")
        what = f"{'back to ' if run['kind'] == 'rollback' else ''}{run['version'] or '?'}"
        show(
            f"{when:19s}  {clean(what)[:24]:24s} {run['outcome']:17s} {_took(run['seconds']):>8s}  "
            f"{clean(run['by'] or '?')[:16]:16s} {run['run_id']}"
        )


def _took(seconds: float | None) -> str:
    from cli.words import short

    return "" if seconds is None else short(seconds)


async def _history(server: Server, subject: tuple[str, str], limit: int) -> list[dict[str, Any]]:
    from cli.rollback import outcome_of, request_of
    from models.names import workflow_id
    from workflows.contract import VERSION_KEY

    client = await connect(server)
    found = []
    query = f"WorkflowId = '{workflow_id(*subject)}'"
    async for run in client.list_workflows(query, limit=limit, rpc_timeout=2 * ANSWER_WITHIN):
        request = await request_of(client, run)
        ended = run.close_time
        found.append(
            {
                "started": run.start_time,
                "ended": ended,
                "seconds": (ended - run.start_time).total_seconds() if ended else None,
                "version": run.typed_search_attributes.get(VERSION_KEY),
                "kind": request.kind if request else None,
                "outcome": outcome_of(run) or (run.status.name.lower() if run.status else "unknown"),
                "by": request.by if request else None,
                "reason": request.reason if request else None,
                "run_id": run.run_id,
            }
        )
    return found


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
        from cli.viewers import document

        show_document(document(run_async(_last_report(find_server(), subject))))
        return
    try:
        path = run_async(_last_report(find_server(), subject)).report
        why = "the deployment has not written a report yet"
    except Stop as stop:
        # A report on this machine can be read while everything else is down.
        path, why = _newest_report(subject), str(stop)
    if not path:
        raise Stop(f"there is no report of {'/'.join(subject)}: {why}")
    try:
        with open(_markdown(path), encoding="utf-8", errors="replace") as file:
            show(clean_lines(file.read(4 << 20)).rstrip())
    except OSError:
        raise Stop(
            f"the report is on the worker's machine, at {path}, and cannot be read here; --json shows the document"
        ) from None


def _markdown(path: str) -> str:
    return path[: -len(".json")] + ".md" if path.endswith(".json") else path


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
            raise Stop(f"no deployment of {'/'.join(subject)} is known to this Temporal") from None
        raise Stop(rpc_sentence(error), 1) from None
    return client.get_workflow_handle(handle.id, run_id=description.run_id)


async def _status(server: Server, subject: tuple[str, str]) -> "tuple[DeploymentReport, list[Waiting]]":
    """The last report, and who waits; of a target that has only a queue, the first one that waits."""
    from cli.in_queue import who_waits
    from cli.queueing import report_of_waiting

    client = await connect(server)
    waiting = await who_waits(client, subject)
    try:
        return await _report_of_last(client, subject), waiting
    except Stop as stop:
        if not waiting or stop.code != USAGE_ERROR:
            raise
        return report_of_waiting(subject, waiting[0]), waiting


async def _last_report(server: Server, subject: tuple[str, str]) -> "DeploymentReport":
    return await _report_of_last(await connect(server), subject)


async def _report_of_last(client: "Client", subject: tuple[str, str]) -> "DeploymentReport":
    from cli.status import LookingFailed, look, report_of_closed, standing

    handle = await _last_run(client, subject)
    try:
        closed = (await standing(handle)).closed
        return await look(handle) if closed is None else await report_of_closed(handle, closed, None)
    except LookingFailed as failed:
        name = "/".join(subject)
        raise Stop(
            f"{failed}; the deployment of {name} goes on when it does; try again, or `{program()} doctor`", 1
        ) from None

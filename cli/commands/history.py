"""`history`: what happened to a target, newest first, and why it was rolled back where it was."""

import asyncio
import textwrap
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli.client.connection import ANSWER_WITHIN, Server, connect, find_server, run_async
from cli.render.terminal import clean, say, show, show_document

if TYPE_CHECKING:
    from temporalio.client import Client, WorkflowExecution

_LONGEST_REASON = 600


@click.command()
@options.optional_subject
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many, newest first.")
@options.json_option
def history(subject: tuple[str, str] | None, limit: int, json_wanted: bool) -> None:
    r"""List what happened to SERVICE/TARGET, newest first, with the reason of what did not go through.
    Without it: of all targets.

    \b
    Example:
      deployment-specialist history shop/staging --limit 5
    """
    runs = run_async(_history(find_server(), subject, limit))
    if json_wanted:
        named = {"service": subject[0], "target": subject[1]} if subject else {}
        show_document({**named, "runs": runs})
        return
    if not runs:
        say(f"no deployment of {'/'.join(subject or ('any', 'target'))} is known to this Temporal")
        return
    from cli.render.check_lines import terminal_width

    for line in history_lines(runs, terminal_width()):
        show(line)


def history_lines(runs: list[dict[str, Any]], width: int | None) -> list[str]:
    """One line for each run, and below it why, where there is a reason.

    Args:
        runs: as the JSON has them.
        width: columns of the terminal; None: nothing is wrapped and run ids are whole, for `grep`.
    """
    from cli.render.summary import short

    many = len({run.get("subject") for run in runs}) > 1
    rows = [("when", "version", "outcome", "took", "by", "run")]
    for run in runs:
        where = f"{run['subject']} " if many else ""
        what = f"{where}{'back to ' if run['kind'] == 'rollback' else ''}{run['version'] or '?'}"
        when = run["started"].astimezone().strftime("%Y-%m-%d %H:%M:%S")
        took = "" if run["seconds"] is None else short(run["seconds"])
        run_id = run["run_id"] if width is None else run["run_id"][-8:]
        rows.append(
            (when, clean(what)[: 44 if many else 24], run["outcome"], took, clean(run["by"] or "?")[:16], run_id)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines: list[str] = []
    for number, row in enumerate(rows):
        cells = [
            f"{cell:>{size}}" if at == 3 else f"{cell:{size}}"
            for at, (cell, size) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
        why = clean(runs[number - 1]["why"], _LONGEST_REASON) if number else ""
        lines += _indented(why, width) if why else []
    return lines


def _indented(text: str, width: int | None) -> list[str]:
    if width is None:
        return [f"    {text}"]
    return textwrap.wrap(
        text, max(width - 1, 40), initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False
    )


async def _history(server: Server, subject: tuple[str, str] | None, limit: int) -> list[dict[str, Any]]:
    from models.names import workflow_id
    from workflows.wire_names import DEPLOYMENT_WORKFLOW

    client = await connect(server)
    query = f"WorkflowId = '{workflow_id(*subject)}'" if subject else f"WorkflowType = '{DEPLOYMENT_WORKFLOW}'"
    runs = [run async for run in client.list_workflows(query, limit=limit, rpc_timeout=2 * ANSWER_WITHIN)]
    # Some at a time: a long history must not open a thousand requests at once.
    some = asyncio.Semaphore(8)
    return list(await asyncio.gather(*(_told(client, run, some) for run in runs)))


async def _told(client: "Client", run: "WorkflowExecution", some: asyncio.Semaphore) -> dict[str, Any]:
    from cli.commands.rollback import outcome_of, request_of
    from models.outcome import Outcome
    from workflows.wire_names import VERSION_KEY

    async with some:
        request = await request_of(client, run)
        outcome = outcome_of(run) or (run.status.name.lower() if run.status else "unknown")
        reason = request.reason if request else None
        why = "" if outcome == Outcome.DEPLOYED else await _why(client, run)
    ended = run.close_time
    return {
        "subject": run.id.removeprefix("deploy/"),
        "started": run.start_time,
        "ended": ended,
        "seconds": (ended - run.start_time).total_seconds() if ended else None,
        "version": run.typed_search_attributes.get(VERSION_KEY),
        "kind": request.kind if request else None,
        "outcome": outcome,
        "by": request.by if request else None,
        "reason": reason,
        "why": why or (reason or "" if request and request.kind == "rollback" else ""),
        "run_id": run.run_id,
    }


async def _why(client: "Client", run: "WorkflowExecution") -> str:
    """The reason with which a run ended, or was ended; empty where it runs, or left none."""
    from temporalio.client import WorkflowExecutionStatus, WorkflowHistoryEventFilterType
    from temporalio.service import RPCError

    from cli.client.cut_short import how_it_ended
    from cli.client.status import report_from_result

    if run.close_time is None:
        return ""
    handle = client.get_workflow_handle(run.id, run_id=run.run_id)
    if run.status not in (WorkflowExecutionStatus.TERMINATED, WorkflowExecutionStatus.TIMED_OUT):
        report = await report_from_result(handle)
        return report.failure.reason if report and report.failure else ""
    last = WorkflowHistoryEventFilterType.CLOSE_EVENT
    try:
        events = [each async for each in handle.fetch_history_events(event_filter_type=last, rpc_timeout=ANSWER_WITHIN)]
    except RPCError:
        return ""
    return next((said for event in events if (said := how_it_ended(event))), "")

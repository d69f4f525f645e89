"""All targets that this Temporal knows, one line each: what `status` says without a target."""

from typing import TYPE_CHECKING, Any

from cli.client.connection import ANSWER_WITHIN, Server, connect
from cli.render.terminal import clean

if TYPE_CHECKING:
    from temporalio.client import WorkflowExecution

MOST_RUNS = 2000


async def all_targets(server: Server) -> list[dict[str, Any]]:
    """The last run of each target, by name."""
    from workflows.wire_names import DEPLOYMENT_WORKFLOW

    client = await connect(server)
    query = f"WorkflowType = '{DEPLOYMENT_WORKFLOW}'"
    last: dict[str, WorkflowExecution] = {}
    async for run in client.list_workflows(query, limit=MOST_RUNS, rpc_timeout=2 * ANSWER_WITHIN):
        if run.id not in last or run.start_time > last[run.id].start_time:
            last[run.id] = run
    return [_target(last[name]) for name in sorted(last)]


def _target(run: "WorkflowExecution") -> dict[str, Any]:
    from cli.commands.rollback import outcome_of
    from workflows.wire_names import STAGE_KEY, VERSION_KEY

    status = run.status.name.lower() if run.status else "unknown"
    noted = outcome_of(run)
    return {
        "target": run.id.removeprefix("deploy/"),
        "version": run.typed_search_attributes.get(VERSION_KEY),
        "outcome": noted or status,
        "stage": run.typed_search_attributes.get(STAGE_KEY) if run.close_time is None else None,
        "started": run.start_time,
        "ended": run.close_time,
        "run_id": run.run_id,
    }


def overview_lines(targets: list[dict[str, Any]]) -> list[str]:
    """A table with a line for each target."""
    rows = [("target", "version", "outcome", "since")]
    for each in targets:
        at = f" ({each['stage']})" if each["stage"] else ""
        since = (each["ended"] or each["started"]).astimezone().strftime("%Y-%m-%d %H:%M")
        rows.append((clean(each["target"]), clean(each["version"] or "?")[:20], f"{each['outcome']}{at}", since))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(f"{cell:{size}}" for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows]

"""The report outlives the workflow's history and the server that keeps it: two files beside each other.

Both are replaced as a whole and named after the run, so that writing them again ends in the same two files.
"""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from temporalio import activity
from temporalio.common import MetricMeter

from activities import activity_stubs, telemetry
from activities.activity_stubs import ReportPath
from activities.close.markdown import render_markdown
from activities.heartbeat import attempt
from activities.secrets.resolver import scrub, scrub_values
from home.paths import Home
from models.document import contract_document
from models.report import DeploymentReport

_IDENTITY = (
    *("outcome", "exit_code", "workflow_id", "run_id", "service", "target"),
    *("version", "previous_version", "strategy", "report"),
)


class CloseActivities:
    """Writes the report.

    Args:
        home: below whose reports it is kept.
        meter: what counts how deployments end.
    """

    def __init__(self, home: Home, meter: MetricMeter = MetricMeter.noop) -> None:
        self._home, self._meter = home, meter

    @activity.defn(name=activity_stubs.WRITE_REPORT.name)
    async def write_report(self, report: DeploymentReport) -> ReportPath:
        """Writes JSON and, beside it, Markdown; returns the path of the JSON."""
        async with attempt():
            path = await asyncio.to_thread(write_report, self._home, report)
            telemetry.record(self._meter, report)
            return ReportPath(path=str(path))


def write_report(home: Home, report: DeploymentReport) -> Path:
    """Writes `<when the run started>-<first 8 characters of its id>.json` and `.md`; names sort by time.

    The JSON has the contract's fields, with its own path in `report`.

    Raises:
        StackError: a file cannot be written.
    """
    path = report_file(home, report.service, report.target, report.started, report.run_id)
    report = report.model_copy(update={"report": str(path)})
    # The JSON is written last: who finds it finds the Markdown too.
    home.write(path.with_suffix(".md"), scrub(render_markdown(report)))
    home.write(path, json.dumps(_scrubbed_document(report), indent=2, ensure_ascii=False) + "\n")
    return path


def report_file(home: Home, service: str, target: str, started: datetime, run_id: str) -> Path:
    """Where the JSON report of a run is kept."""
    when = started.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return home.reports(service, target) / f"{when}-{_short(run_id)}.json"


def _scrubbed_document(report: DeploymentReport) -> dict[str, Any]:
    """Programs find the deployment by these fields; none is free text, and a secret may read like one of them."""
    document = contract_document(report)
    kept = {name: document[name] for name in _IDENTITY}
    return {name: scrub_values(value) for name, value in document.items()} | kept


def _short(run_id: str) -> str:
    # Its end: a run id begins with the time, which two deployments of one hour share.
    return "".join(c for c in run_id if c.isascii() and c.isalnum())[-8:] or "unknown"

"""A report is read at three in the morning: the first line says how it stands, the next ones whether users are served.

Everything else follows in the order in which somebody asks: what failed and why, what was undone, what is left to do by
hand, who decided what, and at the end the numbers and ids that prove it.
"""

import json
from datetime import UTC, datetime
from typing import Any

from models.notifications import Delivery
from models.outcome import EXIT_CODES, Outcome
from models.report import DeploymentReport
from models.sentences import say_outcome
from models.units import format_duration
from models.verdict import CheckResult, StageResult, Verdict

LONGEST_EVIDENCE = 600
_LINES = "last_lines"  # shown as lines, once
_STATES = {
    "registered": "not run",
    "running": "under way",
    "done": "done",
    "failed": "**failed**",
    "skipped": "skipped",
}


def render_markdown(report: DeploymentReport) -> str:
    """Returns the report as Markdown; the first line is a heading that says the outcome in plain words."""
    sections = (
        [f"# {say_outcome(report)}", ""],
        _serving(report),
        _failure(report),
        _left_to_do(report),
        _stages(report),
        _failed_checks(report),
        _undone(report),
        _decisions(report),
        _notifications(report),
        _times(report),
        _plan(report),
        _evidence(report),
        _ids(report),
    )
    return "\n".join(line for section in sections for line in section).rstrip() + "\n"


def _serving(report: DeploymentReport) -> list[str]:
    lines = [f"- **Outcome**: `{report.outcome}` (exit code {EXIT_CODES[report.outcome]})"]
    if report.split is not None:
        weights = {name: weight for name, weight in report.split.weights.items() if weight}
        said = ", ".join(f"`{name}` {weight} %" for name, weight in weights.items()) or "no revision has traffic"
        lines.append(f"- **Serves now**: {said}, as the router said at {_time(report.split.seen)}")
    elif report.outcome in (Outcome.PREFLIGHT_FAILED, Outcome.REJECTED, Outcome.FROZEN):
        lines.append("- **Serves now**: what served before; nothing was changed")
    else:
        lines.append("- **Serves now**: the router was not asked")
    if report.address:
        lines.append(f"- **Users reach it at**: {_plain(report.address)}")
    asked = f"- **Asked for by**: {_plain(report.by) or 'nobody named'}"
    lines.append(f"{asked}: {_plain(report.reason)}" if report.reason else asked)
    if report.task:
        lines.append(f"- **Task**: {_plain(report.task)}")
    took = f", {_seconds((report.ended - report.started).total_seconds())}" if report.ended else ", not ended yet"
    lines.append(f"- **When**: {_time(report.started)} to {_time(report.ended)}{took}")
    return [*lines, ""]


def _failure(report: DeploymentReport) -> list[str]:
    failure = report.failure
    if failure is None:
        return []
    stage = f" in the stage {failure.stage}" if failure.stage else ""
    keep = "must not go on serving" if failure.requires_rollback else "could have gone on serving"
    lines = [f"**{failure.type}**, priority {failure.priority}{stage}; the new version {keep}.", ""]
    return ["## What failed", "", *lines, _plain(failure.reason) or "No reason was given.", ""]


def _left_to_do(report: DeploymentReport) -> list[str]:
    lines = [f"- Waited for: {_plain(report.waiting_for)}"] if report.waiting_for else []
    lines += [
        f"- Failed, and is still to be done: {_plain(u.what)}" for u in report.compensations if u.state == "failed"
    ]
    lines += [f"- Not rolled back: {_plain(text)}" for text in report.not_rolled_back]
    return ["## Left for a person", "", *lines, ""] if lines else []


def _stages(report: DeploymentReport) -> list[str]:
    rows = [[stage.stage, _verdict(stage.verdict), _seconds(stage.seconds), _counted(stage)] for stage in report.stages]
    return ["## Stages", "", *_table(["stage", "verdict", "took", "checks"], rows), ""] if rows else []


def _counted(stage: StageResult) -> str:
    found = [check.verdict for check in stage.checks]
    return ", ".join(f"{found.count(verdict)} {verdict}" for verdict in Verdict if verdict in found)


def _failed_checks(report: DeploymentReport) -> list[str]:
    lines = [
        line
        for stage in report.stages
        for check in stage.checks
        if check.verdict not in (Verdict.PASS, Verdict.SKIPPED)
        for line in (
            f"- **{_plain(check.name)}** ({stage.stage}): {check.verdict}. {_plain(check.reason)}{_proof(check)}",
            *_printed(check),
        )
    ]
    return ["## Checks that did not pass", "", *lines, ""] if lines else []


def _undone(report: DeploymentReport) -> list[str]:
    rows = [
        [_plain(u.what), _STATES.get(u.state, _plain(u.state)), _plain(u.detail)] for u in report.compensations[::-1]
    ]
    return (
        ["## Compensations, in the order in which they run", "", *_table(["undoes", "state", "detail"], rows), ""]
        if (rows)
        else []
    )


def _decisions(report: DeploymentReport) -> list[str]:
    rows = [[_time(d.at), _plain(d.by), _plain(d.what), _plain(d.reason)] for d in report.decisions]
    return ["## Decisions", "", *_table(["when", "who", "what", "why"], rows), ""] if rows else []


def _notifications(report: DeploymentReport) -> list[str]:
    rows = [
        [
            _time(each.happened),
            each.event,
            _plain(each.receiver),
            str(each.state) if each.state is Delivery.DELIVERED else f"**{each.state}**",
            str(each.attempts),
            _plain(each.why),
        ]
        for each in report.notifications
    ]
    head = ["when", "event", "receiver", "arrived", "attempts", "why not"]
    return ["## Who was told", "", *_table(head, rows), ""] if rows else []


def _times(report: DeploymentReport) -> list[str]:
    measured = report.measured
    rows = [
        [name, _seconds(value)]
        for name, value in (
            ("from the verdict to all traffic on stable", measured.verdict_to_stable),
            ("rehearsed rollback, until the old version was verified", measured.rehearsal_back),
            ("redeploy after it, until the new version was verified", measured.rehearsal_forth),
        )
        if value is not None
    ]
    return ["## Measured", "", *_table(["what", "took"], rows), ""] if rows else []


def _plan(report: DeploymentReport) -> list[str]:
    plan = report.plan
    if plan is None:
        return []
    rows = [
        [str(n), f"{s.weight} %", format_duration(s.watch), str(s.candidate_instances), str(s.stable_instances)]
        for n, s in enumerate(plan.steps, 1)
    ]
    lines = [f"- {_plain(note)}" for note in plan.approximate]
    lines += [f"- `{digest}` {_plain(what)}" for what, digest in sorted(plan.digests.items())]
    head = f"Plan `{plan.id}`: {plan.strategy}, bake {format_duration(plan.bake)}."
    table = _table(["step", "weight", "watched", "new instances", "old instances"], rows)
    return ["## Plan", "", head, "", *table, "", *lines, ""]


def _evidence(report: DeploymentReport) -> list[str]:
    lines: list[str] = []
    for stage in report.stages:
        if stage.checks:
            rows = [
                [_plain(c.name), _verdict(c.verdict), _seconds(c.seconds), f"{_plain(c.reason)}{_proof(c)}"]
                for c in stage.checks
            ]
            lines += [f"### {stage.stage}", "", *_table(["check", "verdict", "took", "why"], rows), ""]
    return ["## Evidence", "", *lines] if lines else []


def _ids(report: DeploymentReport) -> list[str]:
    lines = [f"- Workflow: `{_plain(report.workflow_id)}`", f"- Run: `{_plain(report.run_id)}`"]
    if report.plan is not None:
        lines.append(f"- Configuration: `{report.plan.config_hash}`")
    if report.report:
        lines.append(f"- The same for programs: {_plain(report.report)}")
    return ["## Ids", "", *lines]


def _printed(check: CheckResult) -> list[str]:
    """What a program printed last, as a block of its own: indented, no line of it can end the block."""
    lines = check.evidence.get(_LINES, ())
    return ["", *(f"      {line}" for line in lines), ""] if lines else []


def _proof(check: CheckResult) -> str:
    evidence = {name: value for name, value in check.evidence.items() if name != _LINES}
    if not evidence:
        return ""
    text = json.dumps(evidence, ensure_ascii=False, default=str)
    cut = text if len(text) <= LONGEST_EVIDENCE else text[: LONGEST_EVIDENCE - 1] + "…"
    return f" ({_plain(cut)})"


def _table(head: list[str], rows: list[list[Any]]) -> list[str]:
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(map(str, row))} |" for row in rows)]


def _verdict(verdict: Verdict) -> str:
    return str(verdict) if verdict in (Verdict.PASS, Verdict.SKIPPED) else f"**{verdict}**"


def _plain(text: str) -> str:
    """Somebody else's text on one line, with nothing in it that Markdown would take for its own."""
    text = " ".join(text.split())
    for mark in ("\\", "`", "*", "|", "<", "[", "]"):
        text = text.replace(mark, f"\\{mark}")
    return text


def _time(when: datetime | None) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if when else "now"


def _seconds(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"

"""The panel that the Temporal UI shows for a running deployment: a few lines of Markdown for whoever is on call."""

from models.outcome import Outcome
from models.report import DeploymentReport, Phase
from models.verdict import Stage, Verdict

_SIGNS = {
    Verdict.PASS: "✓",
    Verdict.FAIL: "✗",
    Verdict.ERROR: "✗",
    Verdict.INCONCLUSIVE: "?",
    Verdict.SKIPPED: "–",
}


def _stages(report: DeploymentReport) -> list[str]:
    ended = {result.stage: result for result in report.stages}
    lines = []
    for stage in Stage:
        result = ended.get(stage)
        if stage is report.stage:
            until = f" until {report.until:%H:%M:%S} UTC" if report.until else ""
            lines.append(f"- … **{stage}** {report.doing}{until}")
        elif result is not None:
            bad = [check for check in result.checks if check.verdict not in (Verdict.PASS, Verdict.SKIPPED)]
            said = f": {bad[0].name}: {bad[0].reason}" if bad else ""
            lines.append(f"- {_SIGNS[result.verdict]} **{stage}** {result.seconds:.1f} s{said[:300]}")
        else:
            lines.append(f"- {stage}")
    return lines


def render_panel(report: DeploymentReport) -> str:
    """Renders Markdown of at most a few KiB."""
    lines = [
        f"### {report.service} {report.version} → {report.target}: {report.outcome}",
        f"{report.strategy}, from {report.previous_version or 'nothing'}; started by {report.by}",
    ]
    if report.split is not None:
        lines.append("traffic: " + ", ".join(f"**{weight} %** {name}" for name, weight in report.split.weights.items()))
    if report.waiting_for:
        lines.append(f"> **Waiting for a person:** {report.waiting_for}")
    lines += ["", *_stages(report)]
    if report.failure is not None:
        lines += ["", f"**{report.failure.type}** (P{report.failure.priority}): {report.failure.reason[:500]}"]
    if report.phase in (Phase.ROLLING_BACK, Phase.ROLLBACK_FAILED) or report.outcome is Outcome.ROLLED_BACK:
        lines += ["", "Undone, last first:", ""]
        lines += [f"- {each.state}: {each.what} {each.detail[:300]}" for each in reversed(report.compensations)]
    if report.decisions:
        lines += ["", *(f"- {d.at:%H:%M:%S} {d.by}: {d.what} {d.reason[:200]}" for d in report.decisions[-10:])]
    return "\n".join(lines)

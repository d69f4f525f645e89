"""What a person reads about a deployment: one sentence for how it ended, and what can be done now, to be copied."""

from datetime import UTC, datetime, timedelta

from cli.client.status import Waits
from cli.invocation import program
from cli.render.terminal import clean, clean_lines
from models.messages import Kind
from models.outcome import Outcome
from models.plan import Plan
from models.report import DeploymentReport, Phase
from models.units import format_duration
from models.verdict import CheckResult, Stage, StageResult, Verdict

GOOD = (Verdict.PASS, Verdict.SKIPPED)


def subject(report: DeploymentReport) -> str:
    """The name that commands take: service/target."""
    return f"{report.service}/{report.target}"


def headline(report: DeploymentReport) -> str:
    """What is being done, in a line."""
    if report.kind is Kind.ROLLBACK:
        return f"{subject(report)}: rollback to {goes_back_to(report)}"
    before = f"{clean(report.previous_version)} to " if report.previous_version else ""
    return f"{subject(report)}: {before}{clean(report.version)}, {report.strategy}"


def goes_back_to(report: DeploymentReport) -> str:
    """What a rollback goes back to: until its plan is made, the version in the report is the one that it leaves."""
    return clean(report.version) if report.plan is not None else "the release before"


def short(value: timedelta | float) -> str:
    """A duration at the precision that people care about: 0.4s, 12s, 3m05s, 1h02m."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds < 10:
        return f"{max(seconds, 0):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, second = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{second:02d}s"
    hours, minute = divmod(minutes, 60)
    return f"{hours}h{minute:02d}m" if hours < 48 else f"{hours // 24}d{hours % 24:02d}h"


def moment(when: datetime, now: datetime | None = None) -> str:
    """A time of day; with its date when that is not today."""
    local, today = when.astimezone(), (now or datetime.now(UTC)).astimezone().date()
    return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%Y-%m-%d %H:%M:%S}"


def count(number: int, word: str) -> str:
    """A number with its word: 1 check, 3 checks."""
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def describe_steps(plan: Plan) -> str:
    """The weights and watches of a plan, in a line."""
    return ", ".join(
        f"{step.weight} %" + (f" for {format_duration(step.watch)}" if step.watch else "") for step in plan.steps
    )


def bad_checks(result: StageResult) -> list[CheckResult]:
    """The checks of a stage that are neither passed nor skipped."""
    return [check for check in result.checks if check.verdict not in GOOD]


def describe_check(check: CheckResult) -> str:
    """A check in a line."""
    return f"{check.name} {check.verdict}: {clean(check.reason) or 'no reason given'}"


def printed_lines(check: CheckResult) -> list[str]:
    """What a program printed last, line by line, and where the rest is; nothing for most checks."""
    lines = [clean_lines(str(line)).expandtabs(4).replace("\n", " ") for line in check.evidence.get("last_lines", ())]
    log = check.evidence.get("log")
    if lines:
        lines = ["its last lines:", *(f"  {line}" for line in lines)]
    return [*lines, f"its log: {clean(str(log))}"] if log else lines


def describe_waits(waits: Waits) -> str:
    """What is waited for, and until when at the latest."""
    return f"waits for {clean(waits.waits_for, 200)}, until {moment(waits.until)} at the latest"


def ended_stage(report: DeploymentReport, stage: Stage) -> StageResult | None:
    """The result of a stage that has ended; the running stage's verdict is not one yet."""
    if report.stage is stage and report.phase is Phase.FORWARD:
        return None
    return next((result for result in report.stages if result.stage is stage), None)


def what_is_left(report: DeploymentReport) -> list[str]:
    """The compensations that still have to be done, the next one first."""
    left = [each for each in reversed(report.compensations) if each.state not in ("done", "skipped")]
    return [f"{each.state}: {clean(each.what)}" + (f" ({clean(each.detail)})" if each.detail else "") for each in left]


def ending(report: DeploymentReport) -> str:
    """How it ended, or where it stands, in a sentence."""
    version, before, name = clean(report.version), clean(report.previous_version or ""), subject(report)
    why = f": {clean(report.failure.reason)}" if report.failure and report.failure.reason else ""
    if report.outcome is Outcome.DEPLOYED:
        return f"deployed: {version} serves {name}" + (f" at {report.address}" if report.address else "")
    if report.outcome is Outcome.ROLLED_BACK:
        if report.kind is Kind.ROLLBACK and report.failure is None:
            return f"rolled back: {version} serves {name} again"
        if report.kind is Kind.ROLLBACK:
            # Whoever reads "rolled back" here must not take it for the rollback that was asked for first.
            back = before or "what served before it"
            return f"the rollback of {name} to {version} was itself undone: {back} serves again{why}"
        back = f"{before} serves {name} again" if before else f"nothing serves {name}, as before"
        return f"rolled back: {back}{why}"
    if report.outcome is Outcome.ROLLBACK_FAILED:
        return f"ROLLBACK FAILED: a person is needed for {name}{why}"
    if report.outcome is Outcome.REJECTED:
        return f"rejected: {version} was not deployed to {name}{why}"
    if report.outcome is Outcome.FROZEN:
        return f"frozen: nothing on {name} has changed{why}"
    if report.outcome is Outcome.PREFLIGHT_FAILED:
        return f"preflight failed: nothing on {name} has changed{why}"
    if report.outcome is Outcome.HELD:
        return f"held: {clean(report.waiting_for) or 'a watch was inconclusive'}"
    if report.outcome is Outcome.AWAITING_APPROVAL:
        return f"awaiting approval: {clean(report.waiting_for) or 'a person decides'}"
    if report.outcome is Outcome.QUEUED:
        return f"queued: {version} waits for its turn on {name}"
    return f"running: {clean(report.doing) or report.phase}"


def readable_report(report: DeploymentReport) -> str:
    """The path of the report that people read: Markdown, beside the JSON; empty until it is written."""
    return markdown_path(report.report)


def markdown_path(path: str) -> str:
    """The Markdown beside a report's JSON."""
    return path.removesuffix(".json") + ".md" if path.endswith(".json") else path


def who_serves(report: DeploymentReport) -> str:
    """The division of the traffic as it was last seen; empty before it was."""
    weights = report.split.weights if report.split else {}
    return ", ".join(f"{weight} % {clean(revision)}" for revision, weight in sorted(weights.items()))


def ways_on(report: DeploymentReport) -> list[str]:
    """Commands that make sense for a person now."""
    command, name = program(), subject(report)
    if report.outcome is Outcome.ROLLBACK_FAILED and report.phase is not Phase.FINISHED:
        return [
            f"{command} resolve {name} retry --as NAME",
            f'{command} resolve {name} skip --as NAME --reason "..."',
            f"{command} resolve {name} take-over --as NAME",
        ]
    if report.outcome is Outcome.ROLLBACK_FAILED and report.cut_short:
        return [f'{command} rollback {name} --reason "..."', f"{command} deploy SPEC"]
    if report.outcome is Outcome.AWAITING_APPROVAL:
        return [f"{command} approve {name} --as NAME", f'{command} reject {name} --as NAME --reason "..."']
    if report.outcome is Outcome.HELD or (report.phase is Phase.FORWARD and report.waiting_for):
        return [f"{command} resume {name}", f'{command} rollback {name} --reason "..."']
    return []


def approvers(report: DeploymentReport) -> str:
    """Who may decide; empty where anybody may."""
    return ", ".join(clean(name) for name in report.plan.approvers) if report.plan else ""

"""A deployment painted on a terminal: where it stands, what is wrong, what a person can do, and how long it takes."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.client.status import Waits, WatchSeen
from cli.render.summary import (
    approvers,
    bad_checks,
    count,
    describe_check,
    describe_waits,
    ended_stage,
    goes_back_to,
    printed_lines,
    short,
    ways_on,
    what_is_left,
)
from cli.render.terminal import clean, speaks_utf8
from models.messages import Kind
from models.outcome import Outcome
from models.report import DeploymentReport, Phase
from models.verdict import Stage, Verdict

_STYLES = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.ERROR: "bold red",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.SKIPPED: "dim",
}
MOST_CHECKS = 6
BAR = 24


class Signs:
    """What is drawn with; ASCII where the terminal has nothing else."""

    def __init__(self, utf8: bool) -> None:
        self.utf8 = utf8
        self.arrow, self.dot = ("→", "·") if utf8 else ("->", "|")
        self.full, self.empty = ("█", "░") if utf8 else ("#", ".")
        marks = ("✓", "✗", "✗", "?", "–") if utf8 else ("+", "x", "x", "?", "-")
        self.verdicts = dict(zip((*_STYLES,), marks, strict=True))
        self.running = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if utf8 else "|/-\\"
        self.quiet = "·" if utf8 else " "

    def spin(self, now: datetime) -> str:
        """The sign for what is under way; it turns with the time."""
        return self.running[int(now.timestamp() * 4) % len(self.running)]


class Picture:
    """The whole view of one report, as of the moment in which it is painted."""

    def __init__(self, signs: Signs) -> None:
        self.signs = signs
        self.report: DeploymentReport | None = None
        self.seen: WatchSeen | None = None
        self.waits: Waits | None = None
        self.not_ready: Sequence[str] = ()
        self.note = ""
        self.now: datetime | None = None  # fixed by tests

    def __rich__(self) -> RenderableType:
        if self.report is None:
            return Text("waiting for the first answer of the worker", style="dim")
        now = self.now or datetime.now(UTC)
        return Group(*self._parts(self.report, now))

    def _parts(self, report: DeploymentReport, now: datetime) -> Iterator[RenderableType]:
        yield self._header(report, now)
        yield Text()
        yield self._stages(report, now)
        if report.phase is Phase.FORWARD and report.plan is not None and report.step:
            yield from self._step(report, now)
        if self.waits is not None and report.phase is not Phase.FINISHED:
            yield Text(f"\n  {describe_waits(self.waits)}", style="cyan")
        if any(each.state != "registered" for each in report.compensations):
            yield from self._undoing(report)
        for line in self.not_ready if report.phase is not Phase.FINISHED else ():
            yield Text(f"\n  {clean(line, 600)}", style="yellow")
        yield from self._problems(report)
        yield from self._people(report)
        if self.note and report.phase is not Phase.FINISHED:
            yield Text(f"\n{self.note}", style="yellow")

    def _header(self, report: DeploymentReport, now: datetime) -> RenderableType:
        table = Table.grid(expand=True, padding=(0, 1))
        table.add_column(overflow="fold")
        table.add_column(justify="right", no_wrap=True)
        title = Text.assemble((clean(report.service), "bold"), f" {self.signs.arrow} ", (clean(report.target), "bold"))
        if report.kind is Kind.ROLLBACK:
            title.append(f"  rollback to {goes_back_to(report)}")
        else:
            before = f"{clean(report.previous_version)} {self.signs.arrow} " if report.previous_version else ""
            title.append(f"  {before}{clean(report.version)}  {report.strategy}")
        table.add_row(title, Text(short((report.ended or now) - report.started), style="dim"))
        return table

    def _stages(self, report: DeploymentReport, now: datetime) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        table.add_column(width=1)
        table.add_column(width=9)
        table.add_column(width=7, justify="right", style="dim")
        table.add_column(overflow="fold")
        for stage in Stage:
            table.add_row(*self._stage(report, stage, now))
        return table

    def _stage(self, report: DeploymentReport, stage: Stage, now: datetime) -> tuple[Text, Text, str, Text]:
        ended = ended_stage(report, stage)
        if ended is not None:
            style = _STYLES[ended.verdict]
            bad = len(bad_checks(ended))
            said = count(len(ended.checks), "check") + (f", {bad} not passed" if bad else "")
            mark = Text(self.signs.verdicts[ended.verdict], style=style)
            return mark, Text(stage, style=style), short(ended.seconds), Text(said, style="" if bad else "dim")
        if report.stage is stage and report.phase is Phase.FORWARD:
            running = next((result for result in report.stages if result.stage is stage), None)
            seconds = short(now - running.started) if running else ""
            return (
                Text(self.signs.spin(now), style="cyan"),
                Text(stage, style="bold"),
                seconds,
                Text(clean(report.doing, 200)),
            )
        return Text(self.signs.quiet, style="dim"), Text(stage, style="dim"), "", Text()

    def _step(self, report: DeploymentReport, now: datetime) -> Iterator[RenderableType]:
        assert report.plan is not None and report.step is not None  # noqa: S101  asked by the caller
        line = Text("\n  ")
        for number, step in enumerate(report.plan.steps, start=1):
            style = "green" if number < report.step else "bold cyan" if number == report.step else "dim"
            line.append(f"{step.weight}%", style=style)
            line.append(f" {self.signs.arrow} " if number < len(report.plan.steps) else "", style="dim")
        yield line
        wanted = report.plan.steps[min(report.step, len(report.plan.steps)) - 1]
        seen = self._candidate_weight(report)
        filled = round(BAR * seen / 100)
        bar = Text("  ")
        bar.append(self.signs.full * filled, style="cyan")
        bar.append(self.signs.empty * (BAR - filled), style="dim")
        bar.append(f" {seen} % of the traffic" + ("" if seen == wanted.weight else f", {wanted.weight} % asked"))
        if report.until is not None and report.until > now:
            bar.append(f" {self.signs.dot} {short(report.until - now)} left", style="cyan")
        yield bar
        if self.seen is not None and report.until is not None:
            yield Text(f"  {self._seen(self.seen)}", style="dim")

    def _seen(self, seen: WatchSeen) -> str:
        parts = [
            f"{name}: {count(counted.requests, 'request')}, {counted.errors:,} failed"
            for name, counted in (("candidate", seen.candidate), ("stable", seen.stable))
            if counted is not None
        ]
        failing = {name: failed for name, failed in seen.failed_probes.items() if failed}
        said = ", ".join(f"{failed} in a row failed at {clean(name, 40)}" for name, failed in failing.items())
        parts.append(count(seen.probes, "health probe") + (f", {said}" if said else ""))
        return f" {self.signs.dot} ".join(parts)

    @staticmethod
    def _candidate_weight(report: DeploymentReport) -> int:
        weights = report.split.weights if report.split else {}
        version = report.version.lower().replace("+", "_")
        return next((weight for name, weight in weights.items() if name.rpartition("-")[0] == version), 0)

    def _undoing(self, report: DeploymentReport) -> Iterator[RenderableType]:
        yield Text("\nundone, last first:", style="bold")
        marks = {"done": ("pass", "green"), "failed": ("fail", "bold red"), "skipped": ("skipped", "dim")}
        for each in reversed(report.compensations):
            verdict, style = marks.get(each.state, ("", "cyan"))
            mark = self.signs.verdicts[Verdict(verdict)] if verdict else self.signs.quiet
            detail = f" ({clean(each.detail, 200)})" if each.detail else ""
            yield Text.assemble("  ", (mark, style), f" {each.state}: {clean(each.what, 200)}{detail}")
        for sentence in report.not_rolled_back:
            yield Text(f"  not rolled back: {clean(sentence, 300)}", style="yellow")

    def _problems(self, report: DeploymentReport) -> Iterator[RenderableType]:
        bad = [(result.stage, check) for result in report.stages for check in bad_checks(result)]
        if bad:
            yield Text()
        for stage, check in bad[-MOST_CHECKS:]:
            mark = (self.signs.verdicts[check.verdict], _STYLES[check.verdict])
            yield Text.assemble(mark, f" {stage}: {clean(describe_check(check), 400)}")
            for line in printed_lines(check):
                yield Text(f"    {line}", style="dim")
        told = report.failure is not None and any(report.failure.reason in check.reason for _, check in bad)
        if report.failure is not None and not told and report.phase is not Phase.FINISHED:
            yield Text(f"\n{report.failure.type}: {clean(report.failure.reason, 400)}", style="red")

    def _people(self, report: DeploymentReport) -> Iterator[RenderableType]:
        if report.decisions and report.phase is not Phase.FINISHED:
            last = report.decisions[-1]
            reason = f": {clean(last.reason, 200)}" if last.reason else ""
            yield Text(f"\n{clean(last.by)}: {clean(last.what)}{reason}", style="dim")
        if report.waiting_for and report.phase is not Phase.FINISHED:
            yield Text(f"\nwaiting for a person: {clean(report.waiting_for, 400)}", style="bold yellow")
            if report.until is not None:
                yield Text(f"until {report.until.astimezone():%Y-%m-%d %H:%M:%S}", style="dim")
            if report.outcome is Outcome.AWAITING_APPROVAL and approvers(report):
                yield Text(f"may decide: {approvers(report)}")
        if report.outcome is Outcome.ROLLBACK_FAILED and report.phase is not Phase.FINISHED:
            for each in what_is_left(report):
                yield Text(f"  left: {each}", style="red")
        for command in ways_on(report):
            yield Text(f"  {command}", no_wrap=True, overflow="ignore")


class LiveViewer:
    """Paints the picture over and over; the last one stays on the terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._picture = Picture(Signs(speaks_utf8()))
        self._live = Live(self._picture, console=self._console, refresh_per_second=4, redirect_stdout=False)

    def __enter__(self) -> "LiveViewer":
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def update(self, report: DeploymentReport) -> None:
        """Paints a newer report."""
        self._picture.report = report

    def watched(self, seen: WatchSeen | None) -> None:
        """Shows what the watch under way has seen."""
        self._picture.seen = seen

    def waits(self, waits: Waits | None) -> None:
        """Shows what is waited for."""
        self._picture.waits = waits

    def not_ready(self, lines: Sequence[str]) -> None:
        """Shows what instances answer that come up."""
        self._picture.not_ready = lines

    def note(self, sentence: str) -> None:
        """Shows a remark below the picture until the next one."""
        self._picture.note = "" if sentence.endswith("again") else sentence

"""Picks how a deployment is shown: painted on a terminal, told line by line elsewhere; and what is said at its end."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from cli.client.connection import Server
from cli.client.follow import Ending, Viewer
from cli.client.status import Waits, WatchSeen
from cli.invocation import program
from cli.render.lines import narrate
from cli.render.summary import describe_waits, ending, readable_report, subject, ways_on, what_is_left, who_serves
from cli.render.terminal import clean, columns, is_live, say, show, show_document
from models.document import contract_document
from models.outcome import Outcome
from models.report import DeploymentReport, Phase


class LineViewer:
    """Tells each change in a line with its time."""

    def __init__(self) -> None:
        self._last: DeploymentReport | None = None
        self._waits = False
        self._not_ready: Sequence[str] = ()

    def __enter__(self) -> "LineViewer":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, report: DeploymentReport) -> None:
        """Tells what is new."""
        for line in narrate(self._last, report):
            self._tell(line)
        self._last = report

    def note(self, sentence: str) -> None:
        """Tells a remark."""
        self._tell(sentence)

    def watched(self, seen: WatchSeen | None) -> None:
        """Tells nothing: numbers that change every second are no lines."""

    def waits(self, waits: Waits | None) -> None:
        """Tells that something waits, once; how it goes on shows in what follows."""
        if waits is not None and not self._waits:
            self._tell(describe_waits(waits))
        self._waits = waits is not None

    def not_ready(self, lines: Sequence[str]) -> None:
        """Tells what instances answer that come up, when it is something else than before."""
        for line in lines:
            if line not in self._not_ready:
                self._tell(clean(line))
        self._not_ready = lines

    @staticmethod
    def _tell(line: str) -> None:
        say(f"{datetime.now().astimezone():%H:%M:%S} {line}")


def make_viewer() -> AbstractContextManager[Viewer]:
    """Gives the live view on a terminal, lines elsewhere."""
    if not is_live():
        return LineViewer()
    from cli.render.live import LiveViewer

    return LiveViewer()


def conclude(
    ended: Ending,
    server: Server,
    *,
    json_wanted: bool,
    unanswered: DeploymentReport | None = None,
    summary: str | None = None,
) -> int:
    """Says how it ended and how it goes on, writes the JSON document where one is wanted, returns the exit code.

    Args:
        ended: how the following ended.
        server: where it was followed.
        json_wanted: one document on stdout.
        unanswered: what is known of a deployment whose worker never answered.
        summary: the file to which a summary in Markdown is appended; None where none is wanted.
    """
    report = ended.report
    if report is None:
        say("nobody answered while this was followed; the deployment goes on as soon as a worker does")
    elif ended.detached:
        _say_detached(report)
    else:
        _say_ending(report, server, waited_out=ended.waited_out)
    if summary is not None and (known := report or unanswered):
        from cli.render.markdown import append_summary

        append_summary(summary, known, server.link(known.workflow_id, known.run_id))
    if json_wanted:
        known = report or unanswered
        show_document(document(known, ended.code) if known else {"outcome": Outcome.RUNNING, "exit_code": ended.code})
    return ended.code


def document(report: DeploymentReport, code: int | None = None, **more: Any) -> dict[str, Any]:
    """The JSON document; `exit_code` is this process's own when it left before the end."""
    whole = contract_document(report) | more
    return whole if code is None else whole | {"exit_code": code}


def print_report(report: DeploymentReport, not_ready: Sequence[str] = ()) -> None:
    """Prints on stdout where a deployment stands and what instances answer that come up, or how it ended."""
    for line in narrate(None, report):
        show(line)
    for line in not_ready:
        show(clean(line))
    show(ending(report))
    if report.outcome is Outcome.ROLLBACK_FAILED:
        for each in what_is_left(report):
            show(f"  left: {each}")
    if report.cut_short and (commands := ways_on(report)):
        show("what can be done now:")
        for command in commands:
            show(f"  {command}")
    if path := readable_report(report):
        show(f"report: {path}")


def _say_detached(report: DeploymentReport) -> None:
    command, name = program(), subject(report)
    say(
        f"detached: the deployment of {name} goes on; `{command} watch {name}` attaches again; "
        f'`{command} rollback {name} --reason "..."` undoes it'
    )


def _say_ending(report: DeploymentReport, server: Server, *, waited_out: bool) -> None:
    say(("--wait is over and the deployment goes on; " if waited_out else "") + ending(report))
    painted = is_live()  # the last picture is still on the terminal and has said the rest
    if report.outcome is Outcome.ROLLBACK_FAILED and not painted:
        if serving := who_serves(report):
            say(f"  traffic, as last seen: {serving}")
        for each in what_is_left(report):
            say(f"  left: {each}")
    for sentence in report.not_rolled_back if report.phase is Phase.FINISHED and not painted else ():
        say(f"  not rolled back: {clean(sentence)}")
    commands = ways_on(report)
    # A picture cuts what is too long for it, and half a command cannot be pasted.
    if commands and (not painted or any(len(command) + 2 > columns() for command in commands)):
        say("what can be done now:")
        for command in commands:
            say(f"  {command}")
    if path := readable_report(report):
        say(f"report: {path}")
    if link := server.link(report.workflow_id, report.run_id):
        say(f"Temporal: {link}")

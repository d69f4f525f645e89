"""What a deployment looks like: line by line, painted, and in words; always harmless to a terminal."""

import io
import sys
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from cli.client.status import Waits
from cli.commands.history import history_lines
from cli.render.lines import narrate
from cli.render.live import Picture, Signs
from cli.render.summary import ending, short, ways_on, who_serves
from cli.render.terminal import clean, fit
from cli.render.viewers import LineViewer
from models.messages import Kind
from models.outcome import FailureType, Outcome, classify
from models.release import Split
from models.report import DeploymentReport, Phase
from models.verdict import CheckResult, Stage, StageResult, Verdict
from tests.support import cli_reports as reports

ALL = [
    reports.preflight(),
    reports.second_step(),
    reports.rolling_back(),
    reports.rollback_failed(),
    reports.held(),
    reports.awaiting(),
    reports.rollback_done(),
    *(
        reports.finished(outcome)
        for outcome in (
            Outcome.DEPLOYED,
            Outcome.ROLLED_BACK,
            Outcome.REJECTED,
            Outcome.FROZEN,
            Outcome.PREFLIGHT_FAILED,
        )
    ),
]


def painted(report: DeploymentReport, *, utf8: bool = True, not_ready: tuple[str, ...] = ()) -> str:
    picture = Picture(Signs(utf8))
    picture.not_ready = not_ready
    picture.report, picture.now = report, reports.BEGAN + timedelta(minutes=12, seconds=8)
    return _as_text(picture)


def _as_text(picture: Picture) -> str:
    out = io.StringIO()
    Console(file=out, width=80, highlight=False).print(picture)
    return out.getvalue()


NOT_READY = ("not ready yet: shop.1: /health answered 404; verify: {endpoints: {health: null}}",)


def test_what_instances_say_that_come_up_is_told_once_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    viewer = LineViewer()
    for lines in ((), NOT_READY, NOT_READY, ("not ready yet: shop.1: /health answered 503\x1b[31m",), ()):
        viewer.not_ready(lines)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert told[0].endswith(NOT_READY[0])
    assert "\x1b" not in told[1]


def test_what_instances_say_that_come_up_is_painted_while_it_lasts() -> None:
    assert "{health: null}" in " ".join(painted(reports.preflight(), not_ready=NOT_READY).split())
    assert "null" not in painted(reports.preflight())


def test_each_change_is_told_once() -> None:
    story: list[str] = []
    before = None
    for report in (reports.preflight(), reports.preflight(), reports.second_step(), reports.rolling_back()):
        story += narrate(before, report)
        before = report

    assert len(set(story)) == len(story)
    assert story[0] == "shop/staging: 1.0.0 to 1.1.0, canary"
    assert "preflight: started" in story and "preflight: pass, 3 checks, 0.4s" in story
    assert any(line.startswith("plan 0123456789abcdef: 5 % for 10m, 25 % for 5m, 50 %") for line in story)
    assert any(line.startswith("deploy: step_25 fail: 41 of 412 answers") for line in story)
    assert story.index("rolling back") < story.index("undo running: the candidate 1.1.0-abc123")


@pytest.mark.parametrize("report", ALL, ids=lambda report: f"{report.outcome}-{report.phase}")
def test_every_picture_fits_into_80_columns_with_and_without_utf8(report: DeploymentReport) -> None:
    for utf8 in (True, False):
        text = painted(report, utf8=utf8)
        assert all(len(line) <= 80 for line in text.splitlines())
        assert len(text.splitlines()) <= 30
        assert all(stage in text for stage in ("preflight", "deploy", "verify", "observe", "rehearse", "close"))
    assert text.isascii()


def test_the_picture_says_where_it_stands_and_how_long_it_takes() -> None:
    text = painted(reports.second_step(5))

    assert "shop → staging  1.0.0 → 1.1.0  canary" in text and "12m08s" in text
    assert "5% → 25% → 50% → 75% → 100%" in text
    assert "5 % of the traffic, 25 % asked · 3m52s left" in text
    assert "✓ preflight" in text


def test_the_picture_names_what_a_person_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["deployment-specialist"])

    assert "deployment-specialist approve shop/staging --as NAME" in painted(reports.awaiting())
    assert "deployment-specialist resolve shop/staging take-over" in painted(reports.rollback_failed())
    assert "deployment-specialist resume shop/staging" in painted(reports.held())


def test_no_text_of_a_service_reaches_the_terminal_as_a_command() -> None:
    evil = CheckResult(
        name="smoke", verdict=Verdict.FAIL, reason="\x1b]0;owned\x07 [bold]hi[/bold]\r\n\x9b2J \u202egnp"
    )
    stage = reports.failing().model_copy(update={"checks": (evil,)})
    report = reports.finished(Outcome.ROLLED_BACK, stages=(stage,))

    for text in (painted(report), "\n".join(narrate(None, report)), ending(report)):
        assert not set(text) & set("\x1b\x07\x9b\r\u202e")
    assert "[bold]hi[/bold]" in painted(report)
    assert clean("a\x00b\x1b[0m") == "a b [0m"


def test_every_outcome_has_its_sentence() -> None:
    assert ending(reports.finished(Outcome.DEPLOYED)) == "deployed: 1.1.0 serves shop/staging at 127.0.0.1:8080"
    assert ending(reports.finished(Outcome.ROLLED_BACK)).startswith("rolled back: 1.0.0 serves shop/staging again: 41")
    assert ending(reports.rollback_done()) == "rolled back: 1.0.0 serves shop/staging again"
    first = reports.finished(Outcome.ROLLED_BACK, previous_version=None)
    assert ending(first).startswith("rolled back: nothing serves shop/staging, as before")
    assert "nothing on shop/staging has changed" in ending(reports.finished(Outcome.PREFLIGHT_FAILED))
    assert ending(reports.rollback_failed()).startswith("ROLLBACK FAILED: a person is needed for shop/staging")
    assert ways_on(reports.finished(Outcome.ROLLBACK_FAILED)) == []


def test_a_rollback_that_was_undone_does_not_say_that_it_worked() -> None:
    failure = classify(FailureType.REQUESTED, None, "grace: twice")
    undone = reports.rollback_done().model_copy(update={"previous_version": "1.1.0", "failure": failure})

    assert ending(undone) == (
        "the rollback of shop/staging to 1.0.0 was itself undone: 1.1.0 serves again: grace: twice"
    )


def test_who_serves_is_known_in_words() -> None:
    split = Split(weights={"1.0.0-a": 80, "1.1.0-b": 20}, seen=reports.BEGAN)

    assert who_serves(reports.preflight().model_copy(update={"split": split})) == "80 % 1.0.0-a, 20 % 1.1.0-b"
    assert who_serves(reports.preflight().model_copy(update={"split": None})) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0s"), (0.42, "0.4s"), (12.4, "12s"), (65, "1m05s"), (3725, "1h02m"), (200_000, "2d07h"), (-1, "0.0s")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert short(seconds) == text


def test_what_a_program_printed_last_is_told_once_line_by_line_with_its_log() -> None:
    evidence = {"last_lines": ["Traceback:", "  File a", "Boom: no\x1b[31m way"], "log": "/home/logs/web.log"}
    check = CheckResult(name="finished", verdict=Verdict.FAIL, reason="web.1 was started 3 times", evidence=evidence)
    began = datetime(2026, 5, 4, 9, 30, tzinfo=UTC)
    stage = StageResult(stage=Stage.DEPLOY, verdict=Verdict.FAIL, started=began, checks=(check,))
    failure = classify(FailureType.DEPLOYMENT, Stage.DEPLOY, check.reason)
    before = reports.a_report()
    now = reports.a_report(stages=(stage,), failure=failure, phase=Phase.ROLLING_BACK)

    told = list(narrate(before, now))

    assert [line for line in told if "Boom" in line] == ["    Boom: no [31m way"]
    assert told.index("  its last lines:") == told.index("    Traceback:") - 1
    assert "      File a" in told, "its indentation is kept"
    assert sum("/home/logs/web.log" in line for line in told) == 1
    assert list(narrate(now, now)) == []


def test_what_is_waited_for_is_told_once_in_lines_and_painted_while_it_lasts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    until = datetime(2026, 5, 4, 9, 30, tzinfo=UTC)
    viewer, picture = LineViewer(), Picture(Signs(utf8=True))
    picture.report = reports.second_step()

    for connections in (2, 1):
        viewer.waits(Waits(waits_for=f"{connections} connections to shop-1 to end", until=until))
    viewer.waits(None)
    picture.waits = Waits(waits_for="1 connection to shop-1 to end", until=until)

    said = capsys.readouterr().err
    assert said.count("waits for") == 1 and "waits for 2 connections to shop-1 to end, until 2026-05-04" in said
    assert "waits for 1 connection to shop-1 to end, until 2026-05-04" in _as_text(picture)
    picture.waits = None
    assert "waits for" not in _as_text(picture)


@pytest.mark.parametrize("columns", [40, 80, 132])
def test_a_long_line_breaks_between_words_and_never_inside_a_command(columns: int) -> None:
    command = '`.venv/bin/python starter.py rollback shop/staging --reason "..."`'
    text = f"  detached: the deployment of shop/staging goes on and on; {command} undoes it, whenever you like"

    lines = fit(text, columns).split("\n")

    assert " ".join(" ".join(lines).split()) == " ".join(text.split())
    assert any(command in line for line in lines)
    assert all(len(line) <= columns or command in line for line in lines)
    assert lines[0].startswith("  detached") and all(line.startswith("    ") for line in lines[1:])
    assert fit(text, None) == text


@pytest.mark.parametrize("line", ["  A='b c' .venv/bin/python starter.py approve shop/production --as NAME", "x" * 200])
def test_a_line_that_is_a_command_or_one_word_stays_whole(line: str) -> None:
    assert fit(line, 40) == line


def test_history_has_a_reason_below_each_run_that_did_not_go_through_and_fits() -> None:
    run = {
        "started": datetime(2026, 5, 4, 9, 30, tzinfo=UTC), "seconds": 63.0, "version": "1.1.0", "kind": "deploy",
        "outcome": "rolled-back", "by": "ann", "run_id": "0f0e0d0c-0000-4000-8000-00000000abcd",
        "why": "4 of 40 answers of the candidate were errors (10.0%; stable 0.0%; allowed 5.0% more), so it was",
    }  # fmt: skip
    runs = [run, {**run, "kind": "rollback", "why": "bob: checkout is slow"}, {**run, "outcome": "deployed", "why": ""}]

    narrow, whole = history_lines(runs, 80), history_lines(runs, None)

    assert all(len(line) <= 80 for line in narrow)
    assert narrow[0].split() == ["when", "version", "outcome", "took", "by", "run"]
    assert narrow[1].endswith("0000abcd") and "back to 1.1.0" in " ".join(narrow)
    assert "    bob: checkout is slow" in narrow
    assert len(narrow) == 1 + 3 + 2 + 1
    assert f"    {run['why']}" in whole and str(run["run_id"]) in whole[1]


def test_a_rollback_names_what_it_goes_back_to_as_soon_as_that_is_known() -> None:
    asked = reports.a_report(kind=Kind.ROLLBACK, version="1.1.0", previous_version=None)
    planned = asked.model_copy(update={"version": "1.0.0", "plan": reports.PLAN})

    assert next(iter(narrate(None, asked))) == "shop/staging: rollback to the release before"
    assert next(iter(narrate(asked, planned))) == "shop/staging: rollback to 1.0.0"
    assert "rollback to the release before" in painted(asked)


def test_traffic_that_nobody_has_is_said_in_words() -> None:
    before = reports.a_report(split=Split(weights={"a": 100}, counters={}, seen=reports.BEGAN))
    now = before.model_copy(update={"split": Split(weights={}, counters={}, seen=reports.BEGAN)})

    assert list(narrate(before, now)) == ["traffic: nobody serves"]

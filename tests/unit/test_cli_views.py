"""What a deployment looks like: line by line, painted, and in words; always harmless to a terminal."""

import io
import sys
from datetime import timedelta

import pytest
from rich.console import Console

from cli.live import Picture, Signs
from cli.narration import narrate
from cli.terminal import clean
from cli.words import ending, short, ways_on, who_serves
from models.outcome import FailureType, Outcome, classify
from models.release import Split
from models.report import DeploymentReport
from models.verdict import CheckResult, Verdict
from tests import cli_reports as reports

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


def painted(report: DeploymentReport, *, utf8: bool = True) -> str:
    picture = Picture(Signs(utf8))
    picture.report, picture.now = report, reports.BEGAN + timedelta(minutes=12, seconds=8)
    out = io.StringIO()
    Console(file=out, width=80, highlight=False).print(picture)
    return out.getvalue()


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

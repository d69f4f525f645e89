"""A run that was ended from outside is nobody's success: who did it, and what it may have left, is said."""

from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowExecutionStatus

from cli.client.cut_short import HistoryReading, cut_short, how_it_ended
from cli.render.summary import ending, ways_on, what_is_left
from models.outcome import EXIT_CODES, Outcome
from models.report import DeploymentReport, Undone
from models.spec import StrategyKind

TERMINATED = WorkflowExecutionStatus.TERMINATED


def begun(**more: Any) -> DeploymentReport:
    return DeploymentReport(
        workflow_id="deploy/shop/staging",
        run_id="r",
        service="shop",
        target="staging",
        version="1.1.0",
        strategy=StrategyKind.CANARY,
        started=datetime(2030, 1, 1, tzinfo=UTC),
        **more,
    )


def terminated(identity: str, reason: str) -> HistoryEvent:
    event = HistoryEvent(event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED)
    event.workflow_execution_terminated_event_attributes.identity = identity
    event.workflow_execution_terminated_event_attributes.reason = reason
    return event


def test_before_its_first_effect_nothing_has_changed() -> None:
    report = cut_short(begun(), TERMINATED, HistoryReading(ended="terminated by ann@laptop: the wrong button"))

    assert EXIT_CODES[report.outcome] == 14
    assert "terminated by ann@laptop: the wrong button" in ending(report)
    assert "it had changed nothing" in ending(report)
    assert report.cut_short and ways_on(report) == []


@pytest.mark.parametrize(
    ("more", "effects", "left"),
    [
        ({}, ["bring up 2 × 1.1.0-abc", "5 % to 1.1.0-abc"], "registered: undo of: 5 % to 1.1.0-abc"),
        ({"compensations": (Undone(what="traffic"),)}, [], "registered: traffic"),
    ],
)
def test_after_it_a_person_is_needed_and_is_told_what_is_left_and_what_to_do(
    more: dict[str, Any], effects: list[str], left: str
) -> None:
    report = cut_short(begun(**more), TERMINATED, HistoryReading(ended="terminated by ann: no", effects=effects))

    assert (report.outcome, EXIT_CODES[report.outcome]) == (Outcome.ROLLBACK_FAILED, 11)
    assert "nothing was undone: traffic, instances and files are as they were" in ending(report)
    assert what_is_left(report)[0] == left
    assert any('rollback shop/staging --reason "' in command for command in ways_on(report))


def test_without_a_history_it_is_still_no_success() -> None:
    report = cut_short(begun(), WorkflowExecutionStatus.TIMED_OUT, None)
    assert report.outcome is Outcome.PREFLIGHT_FAILED and "timed_out" in ending(report)


@pytest.mark.parametrize(
    ("identity", "said"),
    [("ann@laptop", "by ann@laptop"), ("history-service", "by Temporal itself"), ("", "by Temporal itself")],
)
def test_who_terminated_it_is_said(identity: str, said: str) -> None:
    assert how_it_ended(terminated(identity, "too \x1b[31mlarge")).startswith(f"terminated {said}: too")
    assert "\x1b" not in how_it_ended(terminated(identity, "too \x1b[31mlarge"))
    assert how_it_ended(HistoryEvent(event_type=EventType.EVENT_TYPE_TIMER_FIRED)) == ""

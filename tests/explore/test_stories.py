"""What the explorer has found, told once more: each was a fault, and is none any more."""

import logging
from collections.abc import Iterator

import pytest

from tests.explore.explorer import explore, tell
from tests.explore.program import Program, Step


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(before)


@pytest.mark.parametrize("rehearse", [False, True])
def test_minutes_without_a_worker_fail_no_healthy_candidate(rehearse: bool) -> None:
    """A revision had two minutes to become ready, and nobody was there to start it in these two minutes."""
    for event in range(20, 75 if rehearse else 40, 4):
        step = Step(do="worker dies", event=event, seconds=600.0)
        result = explore(Program(seed="away", rehearse=rehearse, steps=(step,)))
        assert not result.findings, tell(result)
        assert result.endings == ["completed deployed"], tell(result)


def test_a_cancellation_while_the_last_event_is_handed_over_changes_no_ending() -> None:
    """The release was out, and Temporal called the deployment cancelled."""
    endings = set()
    for event in range(88, 112, 2):
        step = Step(do="cancel", event=event)
        result = explore(Program(seed="rec", receivers=True, steps=(step,)))
        assert not result.findings, tell(result)
        endings.add(result.endings[0])
    assert endings == {"completed deployed", "cancelled rolled-back"}

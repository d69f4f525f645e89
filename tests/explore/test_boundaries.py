"""A worker that is lost at any wait of any activity changes nothing about how a deployment ends."""

import logging
from collections.abc import Iterator

import pytest

from tests.explore.boundaries import HOWS, PLANS, boundaries, undisturbed, wrong_at
from tests.support.extent import FULL

# One in so many each time, and all of them with FULL=1.
EACH = 1 if FULL else 40


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(before)


@pytest.mark.timeout(3600 if FULL else 120)
@pytest.mark.parametrize("strategy", PLANS)
@pytest.mark.parametrize("how", HOWS)
def test_a_worker_that_is_lost_anywhere_changes_no_ending(strategy: str, how: str) -> None:
    result, left, waits = undisturbed(PLANS[strategy])
    assert result.endings == ["completed deployed"]
    assert {activity for activity, _ in waits} >= {"stage", "shift", "watch", "promote", "retire", "restore"}
    tried = list(boundaries(strategy))
    assert len(tried) > 100
    wrong = [said for each in tried[::EACH] if (said := wrong_at(each, how, (result, left)))]
    assert not wrong

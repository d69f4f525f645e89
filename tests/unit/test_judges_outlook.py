"""A plan says what its steps can see, and what it proposes can."""

from datetime import timedelta

import pytest

from cli.render.plan import outlook_lines
from models.judges.outlook import CATCH, Outlook, look_ahead
from models.plan import CANARY_STEPS, PlannedStep
from models.spec import JudgeSpec

USUAL = 0.01


def planned(weight: int, watch: timedelta) -> PlannedStep:
    return PlannedStep(weight=weight, watch=watch, candidate_instances=1, stable_instances=1)


CANARY = tuple(planned(step.weight, step.watch) for step in CANARY_STEPS)


@pytest.mark.parametrize("rate", [1.0, 3.0, 10.0, 33.0])
def test_what_is_proposed_is_enough_and_a_little_less_is_not(rate: float) -> None:
    for step, outlook in zip(CANARY, look_ahead(CANARY, JudgeSpec(), rate, USUAL), strict=False):
        if outlook.weight is None:
            continue
        enough = outlook.visible is not None and outlook.visible <= USUAL + CATCH
        assert enough == (outlook.weight_needed is None and outlook.watch_needed is None)
        if outlook.weight_needed is not None:
            heavier = look_ahead([planned(outlook.weight_needed, step.watch)], JudgeSpec(), rate, USUAL)[0]
            assert heavier.visible is not None and heavier.visible <= USUAL + CATCH
            lighter = look_ahead([planned(outlook.weight_needed - 1, step.watch)], JudgeSpec(), rate, USUAL)[0]
            assert lighter.visible is None or lighter.visible > USUAL + CATCH
        if outlook.watch_needed is not None:
            longer = look_ahead([planned(step.weight, outlook.watch_needed)], JudgeSpec(), rate, USUAL)[0]
            assert longer.visible is not None and longer.visible <= USUAL + CATCH


def test_more_traffic_sees_more_and_all_steps_together_see_most() -> None:
    few, many = (look_ahead(CANARY, JudgeSpec(), rate, USUAL) for rate in (3.0, 30.0))
    assert [each.weight for each in few] == [5, 25, 50, 75, None]
    for one, other in zip(few, many, strict=True):
        assert one.visible is None or (other.visible or 1) < one.visible
    assert few[-1].visible == min(each.visible for each in few if each.visible is not None)


@pytest.mark.parametrize("judge", [{"catch": "20%"}, {"alpha": "10%"}, {"latency": {"enabled": False}}])
def test_how_it_is_judged_decides_what_it_sees(judge: dict[str, object]) -> None:
    assert look_ahead(CANARY, JudgeSpec.model_validate(judge), 3.0, USUAL) != look_ahead(
        CANARY, JudgeSpec(), 3.0, USUAL
    )


def test_nothing_is_said_of_steps_without_anybody_beside_them() -> None:
    assert look_ahead([planned(100, timedelta(minutes=5)), planned(50, timedelta(0))], JudgeSpec(), 10.0, USUAL) == ()


def test_it_is_told_in_lines_that_fit_a_terminal() -> None:
    seen = (
        Outlook(weight=5, visible=0.105, weight_needed=18, watch_needed=timedelta(hours=1, minutes=15)),
        Outlook(weight=75, visible=None, watch_needed=timedelta(minutes=16)),
        Outlook(weight=None, visible=0.04),
    )
    lines = outlook_lines(seen)
    assert lines == [
        "step 5 %   from 10.5% of its answers; enough: weight 18 or watch 1h15m",
        "step 75 %  none, however many; enough: watch 16m",
        "all steps  from 4.0% of its answers",
    ]
    assert all(len(line) < 78 for line in lines)

"""Says before a canary what it will be able to see, and what weight or length would do where that is too little."""

from collections.abc import Sequence
from datetime import timedelta

from models.base import WireModel
from models.judges.candidate import alpha_of_errors
from models.judges.power import Exposure, visible
from models.plan import PlannedStep
from models.spec import JudgeSpec
from models.units import Duration

# What is asked for where `judge.catch` is not set.
CATCH = 0.05
LONGEST_STEP = timedelta(days=7)


class Outlook(WireModel):
    """What one step can see, or all of them together.

    Attributes:
        weight: of the step; None: all of them.
        visible: the smallest share of errors that is found four times in five; None: not even nothing but errors.
        weight_needed: a weight that sees enough in the same time; None: it is enough as it is, or none does.
        watch_needed: a length that sees enough with the same weight; None likewise.
    """

    weight: int | None
    visible: float | None
    weight_needed: int | None = None
    watch_needed: Duration | None = None


def look_ahead(steps: Sequence[PlannedStep], judge: JudgeSpec, rate: float, usual: float) -> tuple[Outlook, ...]:
    """What each step with stable beside it can see, and then what all of them can.

    Args:
        steps: of the plan.
        judge: how it is judged.
        rate: requests per second, of both.
        usual: stable's share of errors, above 0.
    """
    beside = [step for step in steps if step.weight < 100 and step.watch]
    alpha, enough = alpha_of_errors(judge), usual + (judge.catch or CATCH)

    def sees(*exposures: Exposure) -> float | None:
        return visible(exposures, usual, alpha)

    def is_enough(found: float | None) -> bool:
        return found is not None and found <= enough

    outlooks = []
    for step in beside:
        found, weight, watch = sees(_exposure(step.weight, step.watch, judge, rate)), None, None
        if not is_enough(found):
            heavier = range(step.weight + 1, 51)
            weight = next((n for n in heavier if is_enough(sees(_exposure(n, step.watch, judge, rate)))), None)
            watch = step.watch
            while watch <= LONGEST_STEP and not is_enough(sees(_exposure(step.weight, watch, judge, rate))):
                watch *= 1.25
            watch = _rounded(watch) if watch <= LONGEST_STEP else None
        outlooks.append(Outlook(weight=step.weight, visible=found, weight_needed=weight, watch_needed=watch))
    if beside:
        together = sees(*(_exposure(step.weight, step.watch, judge, rate) for step in beside))
        outlooks.append(Outlook(weight=None, visible=together))
    return tuple(outlooks)


def _exposure(weight: int, watch: timedelta, judge: JudgeSpec, rate: float) -> Exposure:
    """What is to be expected; a slice is as long as both need for an answer."""
    answers = rate * watch.total_seconds()
    candidate = answers * weight / 100
    slices = min(watch / judge.slice_of(watch), candidate, answers - candidate)
    return Exposure(slices=slices, answers=answers, candidate=candidate)


def _rounded(length: timedelta) -> timedelta:
    """Up to what people would write."""
    unit = timedelta(minutes=1) if length > timedelta(minutes=2) else timedelta(seconds=1)
    return -(-length // unit) * unit

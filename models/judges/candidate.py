"""Decides on a candidate: the rules of a watch, from what is certain at once to what is known at its end.

α is what a whole deployment of a healthy release may be rolled back by, over all metrics: a tenth of it is the quick
test's, the rest is shared by the votes on errors and on times. `pass` says what could have been seen.
"""

import math
from typing import Protocol

from pydantic import Field

from models.base import WireModel
from models.judges.broken import USUAL, against_usual
from models.judges.power import FEWEST_SLICES, smoothed, visible
from models.judges.split import Divided, is_misdivided
from models.judges.state import JudgeState
from models.judges.votes import RATIOS, Arm, Tally, counted, log_mean
from models.release import Counters, InstanceReport
from models.spec import JudgeSpec
from models.units import format_share
from models.verdict import Verdict

# Of α.
QUICK_PART = 0.1
VOTES_PART = 1 - QUICK_PART
# Of the votes' E; the rest is the times', where these are judged.
ERRORS_WEIGHT = 0.9
# The shares of errors that are betted on where there is nobody to compare with.
SHARES_OF_ERRORS = (0.15, 0.25, 0.5, 0.9)


class Observation(WireModel):
    """What a watch has seen.

    Attributes:
        candidate: what was counted since the step began.
        stable: the same.
        failed_probes: instance → health probes that failed in a row, up to now.
        instances: each candidate instance as last seen; `restarts` counts from the beginning of the step.
        weight: percent of the answers that the candidate was to give; None where that is not exact, or not known.
        divided: what both have answered since what was under way when the step began has ended.
        state: what is known of the whole deployment.
        alone: nobody answers beside the candidate.
        before: what stable had answered, and how, before the candidate got everything.
    """

    candidate: Counters = Counters()
    stable: Counters = Counters()
    failed_probes: dict[str, int] = Field(default_factory=dict)
    instances: tuple[InstanceReport, ...] = ()
    probes: int = 0
    weight: int | None = None
    divided: Divided = Divided()
    state: JudgeState = JudgeState()
    alone: bool = False
    before: Arm = Arm()


class Judgement(WireModel):
    """A verdict on an observation, with the sentence that explains it.

    Attributes:
        could_not_see: all that is missing is that `judge.catch` could have been seen.
    """

    verdict: Verdict
    reason: str
    could_not_see: bool = False


class Judge(Protocol):
    """Decides on an observation. `failed` ends the step at once; the rest counts when its time is over."""

    def failed(self, seen: Observation) -> Judgement | None: ...

    def judge(self, seen: Observation) -> Judgement: ...


class Appraisal(WireModel):
    """What the evidence says, in numbers.

    Attributes:
        e: E of all votes.
        e_errors: E of the votes on errors.
        e_latency: the same of those on times; None where these are not judged.
        needed: E that convicts.
    """

    e: float
    e_errors: float
    e_latency: float | None
    needed: float


class Sight(WireModel):
    """What could have been seen.

    Attributes:
        visible: the smallest share of errors that would have been found four times in five; None: none.
        usual: stable's share of errors.
    """

    visible: float | None
    usual: float


def share_of(counters: Counters) -> float:
    """Share of the answers that were errors, 0 to 1; 0 without any answer."""
    return counters.errors / counters.requests if counters.requests else 0.0


def alpha_of_errors(spec: JudgeSpec) -> float:
    """What the votes on errors alone may err by."""
    return spec.alpha * VOTES_PART * (ERRORS_WEIGHT if spec.latency.enabled else 1.0)


def appraise(state: JudgeState, spec: JudgeSpec) -> Appraisal:
    """What the evidence says up to now."""
    errors = state.errors.value
    latency = state.latency.value if spec.latency.enabled else None
    if not _is_worth_it(state, spec):
        errors = min(errors, 1.0)
    together = errors if latency is None else ERRORS_WEIGHT * errors + (1 - ERRORS_WEIGHT) * latency
    return Appraisal(
        e=together,
        e_errors=state.errors.value,
        e_latency=latency,
        needed=1 / (spec.alpha * VOTES_PART),
    )


def sight(state: JudgeState, spec: JudgeSpec) -> Sight:
    """What could have been seen up to now."""
    usual = smoothed(state.seen.stable.events, state.seen.stable.answers)
    return Sight(visible=visible(state.exposures, usual, alpha_of_errors(spec)), usual=usual)


def _is_worth_it(state: JudgeState, spec: JudgeSpec) -> bool:
    """Whether the errors are so many that a rollback is worth it; never asked for more than was asked for."""
    candidate = state.seen.candidate
    return (
        state.excess >= max(spec.worth, spec.max_error_share or 0.0)
        and candidate.events >= (spec.min_errors or 0)
        and candidate.answers >= (spec.min_requests or 0)
    )


class CandidateJudge:
    """Judges by evidence: dead instances, plainly broken answers, votes on errors and times, and what was not seen."""

    def __init__(self, spec: JudgeSpec, min_requests: int) -> None:
        self._spec = spec
        self._min_requests = min_requests

    def failed(self, seen: Observation) -> Judgement | None:
        """Returns what ends the watch at once, or nothing: asked at each look."""
        return self._dead(seen) or self._broken(seen) or self._convicted(seen)

    def judge(self, seen: Observation) -> Judgement:
        """Returns fail, inconclusive or pass for everything seen up to now."""
        return (
            self.failed(seen)
            or self._broken(seen, at_last=True)
            or self._misdivided(seen)
            or self._too_little(seen)
            or self._both_fail(seen)
            or self._worse_than_before(seen)
            or self._worse_by_count(seen)
            or self._could_not_see(seen)
            or self._well(seen)
        )

    def _dead(self, seen: Observation) -> Judgement | None:
        for instance in seen.instances:
            failed = seen.failed_probes.get(instance.name, 0)
            if failed >= self._spec.failed_probes:
                return Judgement(
                    verdict=Verdict.FAIL,
                    reason=f"{instance.name} failed {failed} health probes in a row: {instance.detail or 'no answer'}",
                )
            if instance.restarts > self._spec.max_restarts:
                return Judgement(
                    verdict=Verdict.FAIL,
                    reason=f"{instance.name} was restarted {instance.restarts} times while it was watched",
                )
        return None

    def _broken(self, seen: Observation, *, at_last: bool = False) -> Judgement | None:
        broken, spec = seen.state.broken, self._spec
        usual = seen.before.share if seen.alone else None
        candidate = broken.total.candidate
        if candidate.events < (spec.min_errors or 0) or candidate.share < (spec.max_error_share or 0.0):
            return None
        if not broken.is_plain(spec.alpha * QUICK_PART, usual, spec.min_requests or 0, at_last=at_last):
            return None
        against = "nobody answered beside it" if seen.alone else f"stable: {_of(broken.total.stable)}"
        reason = (
            f"the candidate is plainly broken: {_of(candidate)} answers of the candidate were errors "
            f"({candidate.share:.1%}; {against}), seen in {broken.reads} reads of the counters; "
            f"E {_number(math.exp(min(700.0, broken.log_value(usual))))}, "
            f"needed {_number(math.exp(broken.log_needed(spec.alpha * QUICK_PART)))}"
        )
        return Judgement(verdict=Verdict.FAIL, reason=reason)

    def _convicted(self, seen: Observation) -> Judgement | None:
        state, found = seen.state, appraise(seen.state, self._spec)
        if found.e < found.needed:
            return None
        said = []
        if found.e_errors >= 1:
            said.append(
                f"{_of(state.seen.candidate)} answers of the candidate were errors ({state.seen.candidate.share:.2%}; "
                f"stable {_of(state.seen.stable)}, {state.seen.stable.share:.2%}), E {_number(found.e_errors)} of "
                f"{state.errors.votes} votes"
            )
        edge = state.latency.worst
        if found.e_latency is not None and found.e_latency >= 1 and edge is not None:
            slow = state.latency.slower[edge]
            said.append(
                f"{_of(slow.candidate)} answers of the candidate took more than {edge} s ({slow.candidate.share:.1%}; "
                f"stable {slow.stable.share:.1%}), E {_number(found.e_latency)} of {state.latency.votes} votes"
            )
        together = f"together {_number(found.e)}, needed {_number(found.needed)}"
        reason = f"the candidate is worse than stable: {'; '.join((*said, together))}"
        return Judgement(verdict=Verdict.FAIL, reason=reason)

    def _misdivided(self, seen: Observation) -> Judgement | None:
        """Users were answered by somebody else than was asked for: what was watched is not what was meant."""
        if seen.weight is None or not is_misdivided(seen.divided, seen.weight, self._spec.max_split_error):
            return None
        of = seen.divided.candidate + seen.divided.stable
        reason = (
            f"the candidate gave {seen.divided.candidate} of {of} answers ({seen.divided.share:.1%}), and was to give"
            f" {seen.weight} %: the split seen is not the split asked. The router may hold instances for ill"
        )
        return Judgement(verdict=Verdict.INCONCLUSIVE, reason=reason)

    def _too_little(self, seen: Observation) -> Judgement | None:
        if seen.candidate.requests < self._min_requests:
            return Judgement(
                verdict=Verdict.INCONCLUSIVE,
                reason=f"{seen.candidate.requests} requests to the candidate, {self._min_requests} needed to judge it",
            )
        if not seen.probes:
            return Judgement(verdict=Verdict.INCONCLUSIVE, reason="the candidate's health was never probed")
        return None

    def _both_fail(self, seen: Observation) -> Judgement | None:
        """Most answers are errors, for a moment or also stable's: no proof, and no time to go on."""
        broken = seen.state.broken
        if not broken.looks_broken(at_last=True):
            return None
        reason = f"{_of(broken.total.candidate)} answers of the candidate were errors of late"
        if not seen.alone and broken.total.stable.share >= broken.total.candidate.share / 2:
            reason = f"{reason}, but stable fails as well: {_of(broken.total.stable)}"
        return Judgement(verdict=Verdict.INCONCLUSIVE, reason=reason)

    def _worse_than_before(self, seen: Observation) -> Judgement | None:
        """With nobody beside it the candidate is compared with the past, which convicts nobody: a person decides."""
        now = Arm(answers=seen.candidate.requests, events=seen.candidate.errors)
        if seen.alone and not seen.before.answers:
            return self._worse_than_any(now)
        e = self._counted_against(now, seen.before) if seen.alone else None
        if e is None:
            return None
        reason = (
            f"{_of(now)} answers of the candidate were errors ({now.share:.2%}), of stable it was "
            f"{seen.before.share:.2%} before ({_of(seen.before)}), E {_number(e)}: nobody answers beside it now, the "
            "cause may be another"
        )
        return Judgement(verdict=Verdict.INCONCLUSIVE, reason=reason)

    def _worse_than_any(self, now: Arm) -> Judgement | None:
        """Nobody ever answered beside it: more errors than a service that is well can have are for a person to see."""
        if now.share < (self._spec.max_error_share or 0.0) or now.events < (self._spec.min_errors or 0):
            return None
        value = against_usual(now, USUAL, SHARES_OF_ERRORS)
        if value < -math.log(self._spec.alpha):
            return None
        reason = (
            f"{_of(now)} answers of the candidate were errors ({now.share:.2%}), which is more than {USUAL:.0%}; "
            f"E {_number(math.exp(min(700.0, value)))}: nobody answered beside it or before it to compare with"
        )
        return Judgement(verdict=Verdict.INCONCLUSIVE, reason=reason)

    def _worse_by_count(self, seen: Observation) -> Judgement | None:
        """Counted one by one the errors would convict, and the step had too few slices to: that is no pass either.

        So it is when nobody watched for most of the step.
        """
        exposures = seen.state.exposures
        if exposures and exposures[-1].slices >= FEWEST_SLICES:
            return None
        now, beside = (Arm(answers=each.requests, events=each.errors) for each in (seen.candidate, seen.stable))
        e = self._counted_against(now, beside) if not seen.alone and beside.answers else None
        if e is None:
            return None
        reason = (
            f"{_of(now)} answers of the candidate were errors ({now.share:.2%}; stable {_of(beside)}, "
            f"{beside.share:.2%}), and too few slices of time were seen to tell them from one burst"
        )
        return Judgement(verdict=Verdict.INCONCLUSIVE, reason=reason)

    def _counted_against(self, now: Arm, other: Arm) -> float | None:
        """E of the errors, each for itself, where it would convict and the difference is worth it."""
        worth = max(self._spec.worth, self._spec.max_error_share or 0.0)
        if now.share - other.share < worth or now.events < (self._spec.min_errors or 0):
            return None
        zero = (0.0,) * len(RATIOS)
        e = math.exp(min(700.0, log_mean(counted(zero, Tally(candidate=now, stable=other), RATIOS))))
        return e if e >= 1 / self._spec.alpha else None

    def _could_not_see(self, seen: Observation) -> Judgement | None:
        catch = self._spec.catch
        if catch is None or seen.alone:
            return None
        found = sight(seen.state, self._spec)
        if found.visible is not None and found.visible - found.usual <= catch:
            return None
        reason = f"{_counted(seen)}; {_sight(found)}, judge.catch asks for {format_share(catch)} more than stable's"
        return Judgement(verdict=Verdict.INCONCLUSIVE, reason=reason, could_not_see=True)

    def _well(self, seen: Observation) -> Judgement:
        said = _counted(seen)
        if seen.state.seen.answers and not seen.alone:
            said = f"{said}; {_sight(sight(seen.state, self._spec))}"
        return Judgement(verdict=Verdict.PASS, reason=said)


def _counted(seen: Observation) -> str:
    return f"{seen.candidate.requests} requests, {seen.candidate.errors} errors; {seen.probes} health probes"


def _sight(found: Sight) -> str:
    if found.visible is None:
        return "errors would not have been seen, however many"
    return f"errors in {found.visible:.1%} of its answers would have been seen"


def _of(arm: Arm) -> str:
    return f"{arm.events} of {arm.answers}"


def _number(value: float) -> str:
    return f"{value:,.1f}" if value < 1000 else f"{value:.3g}"

"""Judges a candidate against the stable revision that serves beside it.

A judge is a function of what was observed since a step began; it keeps nothing, so a retried watch goes on where the
last attempt stopped. This one has thresholds: it fails on what is plainly broken. It does not claim to find small
differences; `inconclusive` is its answer to too little traffic.
"""

import math
from statistics import NormalDist
from typing import Protocol

from pydantic import Field

from models.base import WireModel
from models.release import Counters, InstanceReport
from models.spec import JudgeSpec
from models.verdict import Verdict

CHANCE = 0.001
# Above this many answers the normal distribution is close enough.
EXACT = 500


class Divided(WireModel):
    """Whose answers users got: how many of them each revision has given."""

    candidate: int = 0
    stable: int = 0

    @property
    def share(self) -> float:
        """Of the candidate, 0 to 1; 0 without any answer."""
        return self.candidate / total if (total := self.candidate + self.stable) else 0.0


class Observation(WireModel):
    """What a watch has seen since its step began.

    Attributes:
        failed_probes: instance → health probes that failed in a row, up to now.
        instances: each candidate instance as last seen; `restarts` counts from the beginning of the step.
        weight: percent of the answers that the candidate was to give; None where that is not exact, or not known.
        divided: what both have answered since what was under way when the step began has ended.
    """

    candidate: Counters = Counters()
    stable: Counters = Counters()
    failed_probes: dict[str, int] = Field(default_factory=dict)
    instances: tuple[InstanceReport, ...] = ()
    probes: int = 0
    weight: int | None = None
    divided: Divided = Divided()


class Judgement(WireModel):
    """A verdict on an observation, with the sentence that explains it."""

    verdict: Verdict
    reason: str


class Judge(Protocol):
    """Decides on an observation. `fail` ends the step at once; the rest counts when its time is over."""

    def judge(self, seen: Observation) -> Judgement: ...


def error_share(counters: Counters) -> float:
    """Share of the answers that were errors, 0 to 1; 0 without any answer."""
    return counters.errors / counters.requests if counters.requests else 0.0


def split_error(weight: int) -> float:
    """How far the candidate's share of the answers may be from its weight: half of the smaller share, at most 10 %;
    where one of them should answer nothing, 5 %.
    """
    return 0.05 if weight in (0, 100) else min(0.1, min(weight, 100 - weight) / 200)


def is_misdivided(divided: Divided, weight: int, allowed: float | None = None) -> bool:
    """Whether the answers contradict the weight, whatever chance may do.

    The share seen must be out of bounds, and so far that chance would lead there from the bound less than once in a
    thousand times: few answers prove nothing.
    """
    requests, share = divided.candidate + divided.stable, weight / 100
    allowed = split_error(weight) if allowed is None else allowed
    low, high = share - allowed, share + allowed
    if low <= divided.share <= high or not requests:
        return False
    if divided.share < low:
        return _at_most(divided.candidate, requests, low) < CHANCE
    return _at_most(divided.stable, requests, 1 - high) < CHANCE


def _at_most(hits: int, tries: int, share: float) -> float:
    """How probable it is that at most so many of the tries hit, when this share of them does in the long run."""
    if tries > EXACT:
        deviation = math.sqrt(tries * share * (1 - share))
        return NormalDist(tries * share, deviation).cdf(hits + 0.5) if deviation else float(hits >= tries * share)
    return sum(math.comb(tries, n) * share**n * (1 - share) ** (tries - n) for n in range(hits + 1))


class ThresholdJudge:
    """Trips on consecutive failed probes, on restarts, and on a share of 5xx answers over a minimum of requests."""

    def __init__(self, spec: JudgeSpec, min_requests: int) -> None:
        self._spec = spec
        self._min_requests = min_requests

    def judge(self, seen: Observation) -> Judgement:
        """Returns fail, inconclusive or pass for everything seen in this step up to now."""
        return self._dead(seen) or self._erring(seen) or self._misdivided(seen) or self._enough(seen)

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

    def _erring(self, seen: Observation) -> Judgement | None:
        candidate, stable = error_share(seen.candidate), error_share(seen.stable)
        enough = (
            seen.candidate.requests >= max(self._min_requests, 1) and seen.candidate.errors >= self._spec.min_errors
        )
        if not enough or candidate < self._spec.max_error_share:
            return None
        said = f"{seen.candidate.errors} of {seen.candidate.requests} answers of the candidate were errors"
        if candidate - stable < self._spec.max_error_share and seen.stable.requests >= max(self._min_requests, 1):
            return Judgement(
                verdict=Verdict.INCONCLUSIVE,
                reason=f"{said}, but stable fails as well: {seen.stable.errors} of {seen.stable.requests}",
            )
        return Judgement(
            verdict=Verdict.FAIL,
            reason=f"{said} ({candidate:.1%}; stable {stable:.1%}; allowed {self._spec.max_error_share:.1%} more)",
        )

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

    def _enough(self, seen: Observation) -> Judgement:
        if seen.candidate.requests < self._min_requests:
            return Judgement(
                verdict=Verdict.INCONCLUSIVE,
                reason=f"{seen.candidate.requests} requests to the candidate, {self._min_requests} needed to judge it",
            )
        if not seen.probes:
            return Judgement(verdict=Verdict.INCONCLUSIVE, reason="the candidate's health was never probed")
        return Judgement(
            verdict=Verdict.PASS,
            reason=f"{seen.candidate.requests} requests, {seen.candidate.errors} errors; {seen.probes} health probes",
        )

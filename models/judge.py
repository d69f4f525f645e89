"""Judges a candidate against the stable revision that serves beside it.

A judge is a function of what was observed since a step began; it keeps nothing, so a retried watch goes on where the
last attempt stopped. This one is a fuse: it trips on what is plainly broken. It does not claim to find small
differences; `inconclusive` is its answer to too little traffic.
"""

from typing import Protocol

from pydantic import Field

from models.base import WireModel
from models.release import Counters, InstanceReport
from models.spec import JudgeSpec
from models.verdict import Verdict


class Observation(WireModel):
    """What a watch has seen since its step began.

    Attributes:
        failed_probes: instance → health probes that failed in a row, up to now.
        instances: each candidate instance as last seen; `restarts` counts from the beginning of the step.
    """

    candidate: Counters = Counters()
    stable: Counters = Counters()
    failed_probes: dict[str, int] = Field(default_factory=dict)
    instances: tuple[InstanceReport, ...] = ()
    probes: int = 0


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


class Fuse:
    """Trips on consecutive failed probes, on restarts, and on a share of 5xx answers over a minimum of requests."""

    def __init__(self, spec: JudgeSpec, min_requests: int) -> None:
        self._spec = spec
        self._min_requests = min_requests

    def judge(self, seen: Observation) -> Judgement:
        """Returns fail, inconclusive or pass for everything seen in this step up to now."""
        return self._dead(seen) or self._erring(seen) or self._enough(seen)

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

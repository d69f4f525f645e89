"""Judges many canaries at once, as `models.judges` judges one: a test compares them look by look.

Beside it, the rule that was used before: a share of errors, over a minimum of errors and of requests, per step.
"""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from models.judges.broken import ANSWERS, LASTING, LENGTH, PLAINLY, READS
from models.judges.candidate import ERRORS_WEIGHT, QUICK_PART, VOTES_PART
from models.judges.votes import RATIOS, WEIGHTS
from tests.judging.traffic import Counts, Floats, Ints, World

NEVER = -1
_RATIOS, _WEIGHTS = np.array(RATIOS), np.array(WEIGHTS)
_ALIKE = np.full(len(RATIOS), 1 / len(RATIOS))


@dataclass(frozen=True)
class Rule:
    """How the simulated judge is set."""

    alpha: float = 0.01
    slice: float = 10.0
    worth: float = 0.001
    errors_weight: float = ERRORS_WEIGHT
    quick: bool = True
    votes: bool = True
    counting: bool = False


RULE = Rule()


@dataclass(frozen=True)
class Verdicts:
    """When each canary was convicted, in seconds; NEVER where it was not.

    Attributes:
        quickly: of these, by the quick test.
        candidate: the candidate's answers until then.
    """

    at: Ints
    quickly: npt.NDArray[np.bool_]
    candidate: Ints

    @property
    def convicted(self) -> float:
        """The share of the canaries that were."""
        return float((self.at != NEVER).mean())

    def median(self, of: Ints | None = None) -> float:
        """The median over all canaries; infinite where less than half were convicted."""
        return self.quantile(0.5, of)

    def quantile(self, share: float, of: Ints | None = None) -> float:
        """The same for another share of the canaries."""
        values = np.where(self.at == NEVER, np.inf, self.at if of is None else of)
        return float(np.quantile(values, share, method="inverted_cdf"))


def _log_mean(factors: Floats, weights: Floats = _ALIKE) -> Floats:
    highest = factors.max(axis=-1, keepdims=True)
    mean: Floats = highest[..., 0] + np.log(np.exp(factors - highest) @ weights)
    return mean


class _Quick:
    """`models.judges.broken`, for many."""

    def __init__(self, canaries: int) -> None:
        self.number = np.zeros(canaries)
        self.step = -1
        self._clear(np.ones(canaries, dtype=bool), 0, fresh=True, first=True)

    def _clear(self, which: npt.NDArray[np.bool_], second: int, *, fresh: bool, first: bool = False) -> None:
        if first:
            n = len(which)
            self.first, self.lasting = np.full(n, np.inf), np.zeros(n)
            self.began, self.fresh = np.zeros(n), np.ones(n, dtype=bool)
            self.total, self.opened = np.zeros((4, n), dtype=np.int64), np.zeros((4, n), dtype=np.int64)
            self.factors, self.reads = np.zeros((n, len(RATIOS))), np.zeros(n, dtype=np.int64)
        self.number[which] += 1
        self.began[which], self.fresh[which], self.reads[which] = second, fresh, 0
        self.first[which], self.lasting[which] = np.inf, 0
        self.total[:, which] = self.opened[:, which] = 0
        self.factors[which] = 0

    def begin(self, second: int) -> None:
        """A step begins."""
        self.step += 1
        if self.step:
            self._clear(np.ones(len(self.reads), dtype=bool), second, fresh=True)

    def look(self, row: Ints, now: int, alpha: float) -> npt.NDArray[np.bool_]:
        old = (now - self.began >= LENGTH / timedelta(seconds=1)) & (self.total[0] >= ANSWERS)
        if old.any():
            self._clear(old, now, fresh=False)
        self.opened += row
        self.total += row
        failed = row[1] > 0
        self.reads += failed
        self.first[failed] = np.minimum(self.first[failed], now)
        self.lasting[failed] = now - self.first[failed]
        compares = (self.opened[0] > 0) & (self.opened[2] > 0)
        n_c, x_c, n_s, x_s = self.opened[:, compares]
        share = n_c / (n_c + n_s)
        self.factors[compares] += x_c[:, None] * np.log(_RATIOS) - (x_c + x_s)[:, None] * np.log1p(
            (_RATIOS - 1) * share[:, None]
        )
        self.opened[:, compares] = 0
        judged = self.fresh | (self.lasting >= LASTING / timedelta(seconds=1))
        judged &= (self.reads >= READS) & (self.total[1] >= PLAINLY * self.total[0])
        judged[judged] &= _log_mean(self.factors[judged]) >= np.log(
            self.number[judged] * (self.number[judged] + 1) / alpha
        )
        return judged


def judge(world: World, counts: Counts, rule: Rule = RULE) -> Verdicts:
    """Says when each canary was convicted."""
    every, canaries = world.every, counts.candidate.shape[1]
    looks = np.stack([counts.candidate, counts.candidate_errors, counts.stable, counts.stable_errors])
    begins = set(np.cumsum([0, *(step.seconds for step in world.steps)]).tolist())
    factors, opened = np.zeros((canaries, len(RATIOS))), np.zeros((4, canaries), dtype=np.int64)
    began = np.zeros(canaries)
    seen, expected = np.zeros((4, canaries), dtype=np.int64), np.zeros(canaries)
    at, quickly = np.full(canaries, NEVER), np.zeros(canaries, dtype=bool)
    quick = _Quick(canaries)
    for number in range(looks.shape[1]):
        if number * every in begins:
            quick.begin(number * every)
            # A move closes the slice that is open.
            factors, seen, expected = _close(factors, opened, seen, expected, np.ones(canaries, dtype=bool), rule)
            opened[:] = 0
            began[:] = number * every
        row, now = looks[:, number], (number + 1) * every
        opened += row
        closing = (now - began >= rule.slice) & (opened[0] > 0) & (opened[2] > 0)
        factors, seen, expected = _close(factors, opened, seen, expected, closing, rule)
        opened[:, closing] = 0
        began[closing] = now
        convicted = np.zeros(canaries, dtype=bool)
        if rule.votes:
            needed = 1 / (rule.alpha * (VOTES_PART if rule.quick else 1))
            here = np.flatnonzero(closing & (at == NEVER))
            excess = (seen[1, here] - expected[here]) / np.maximum(seen[0, here], 1)
            value = rule.errors_weight * np.exp(np.minimum(_log_mean(factors[here], _WEIGHTS), 700))
            convicted[here] = (value + 1 - rule.errors_weight >= needed) & (excess >= rule.worth)
        if rule.quick:
            plain = quick.look(row, now, rule.alpha * QUICK_PART)
            quickly |= plain & (at == NEVER)
            convicted |= plain
        at[convicted & (at == NEVER)] = now
    reached = np.cumsum(counts.candidate, axis=0)
    until: Ints = reached[np.maximum(at // every - 1, 0), np.arange(canaries)]
    return Verdicts(at, quickly, until)


def _close(
    factors: Floats, opened: Ints, seen: Ints, expected: Floats, closing: npt.NDArray[np.bool_], rule: Rule
) -> tuple[Floats, Ints, Floats]:
    closing = closing & (opened[0] > 0) & (opened[2] > 0)
    n_c, x_c, n_s, x_s = opened[:, closing]
    seen[:, closing] += opened[:, closing]
    expected[closing] += n_c * x_s / n_s
    events = x_c + x_s
    share = (n_c / (n_c + n_s))[:, None]
    if rule.counting:
        factors[closing] += x_c[:, None] * np.log(_RATIOS) - events[:, None] * np.log1p((_RATIOS - 1) * share)
    else:
        vote = (x_c / np.maximum(events, 1))[:, None]
        gain = np.log1p(vote * (_RATIOS - 1)) - np.log1p((_RATIOS - 1) * share)
        factors[closing] += np.where(events[:, None] > 0, gain, 0.0)
    return factors, seen, expected


def threshold(world: World, counts: Counts) -> Verdicts:
    """The rule that was used before, per step: 10 answers, 3 errors, 5 %, and 5 points above stable."""
    canaries = counts.candidate.shape[1]
    at = np.full(canaries, NEVER)
    first = 0
    for step in world.steps:
        looks = step.seconds // world.every
        sums = [
            np.cumsum(each[first : first + looks], axis=0)
            for each in (counts.candidate, counts.candidate_errors, counts.stable, counts.stable_errors)
        ]
        n_c, x_c, n_s, x_s = sums
        share, beside = x_c / np.maximum(n_c, 1), x_s / np.maximum(n_s, 1)
        failed = (n_c >= 10) & (x_c >= 3) & (share >= 0.05) & ~((share - beside < 0.05) & (n_s >= 10))
        when = np.where(failed.any(axis=0), (failed.argmax(axis=0) + first + 1) * world.every, NEVER)
        at = np.where(at == NEVER, when, at)
        first += looks
    reached = np.cumsum(counts.candidate, axis=0)
    until: Ints = reached[np.maximum(at // world.every - 1, 0), np.arange(canaries)]
    return Verdicts(at, np.zeros(canaries, dtype=bool), until)

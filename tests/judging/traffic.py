"""Draws what two revisions answer, second by second, for many canaries at once; seeds are fixed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Rng = np.random.Generator


@dataclass(frozen=True)
class Step:
    """A weight in percent, and how many seconds it is watched."""

    weight: float
    seconds: int


# The default of a canary, as far as stable answers beside it.
CANARY = (Step(5, 600), Step(25, 300), Step(50, 300), Step(75, 300))


@dataclass(frozen=True)
class Counts:
    """What was counted from one look to the next: look × canary."""

    candidate: Ints
    candidate_errors: Ints
    stable: Ints
    stable_errors: Ints


# Relative traffic: at these seconds × canary.
Shape = Callable[[Rng, Ints, int], Floats]


def steady(rng: Rng, seconds: Ints, canaries: int) -> Floats:
    """The same traffic all the time."""
    return np.ones((len(seconds), canaries))


def diurnal(rng: Rng, seconds: Ints, canaries: int) -> Floats:
    """Rises and falls by 90 % within half an hour, each canary at another time of its day."""
    phase = rng.uniform(0, 2 * np.pi, canaries)
    wave: Floats = 1 + 0.9 * np.sin(2 * np.pi * seconds[:, None] / 1800 + phase)
    return wave


def bursty(rng: Rng, seconds: Ints, canaries: int) -> Floats:
    """Quiet, and sixteen times as busy for ten seconds of every hundred or so."""
    busy = rng.random((int(seconds[-1]) // 10 + 1, canaries)) < 0.1
    return np.where(busy[seconds // 10], 16.0, 1.0) / 2.5


@dataclass(frozen=True)
class World:
    """What a canary meets.

    Attributes:
        per_minute: requests of both, on average.
        stable: its share of errors.
        candidate: the same.
        shape: how traffic changes with time.
        burst: errors a second, seconds, and how many bursts a minute; each falls on one arm, chosen by its weight.
        outage: share of errors of both, first second, seconds.
        every: seconds from one look at the counters to the next.
    """

    per_minute: float
    stable: float
    candidate: float
    shape: Shape = steady
    burst: tuple[float, int, float] | None = None
    outage: tuple[float, int, int] | None = None
    steps: Sequence[Step] = field(default=CANARY)
    every: int = 1

    @property
    def seconds(self) -> int:
        """Of all steps."""
        return sum(step.seconds for step in self.steps)

    def weights(self) -> Floats:
        """The candidate's share of the traffic before each look."""
        return np.concatenate([np.full(step.seconds // self.every, step.weight / 100) for step in self.steps])

    def draw(self, seed: int, canaries: int) -> Counts:
        """What is counted."""
        rng = np.random.default_rng(seed)
        weights, looks = self.weights()[:, None], np.arange(0, self.seconds, self.every)
        answers = rng.poisson(self.per_minute / 60 * self.every * self.shape(rng, looks, canaries))
        candidate = rng.binomial(answers, weights)
        stable = answers - candidate
        shares = np.empty((2, len(looks), 1))
        shares[0], shares[1] = self.candidate, self.stable
        if self.outage is not None:
            share, first, length = self.outage
            shares[:, (looks >= first) & (looks < first + length)] = share
        candidate_errors = rng.binomial(candidate, shares[0])
        stable_errors = rng.binomial(stable, shares[1])
        if self.burst is not None:
            a_second, length, a_minute = self.burst
            lasts = max(1, length // self.every)
            begins = rng.random(answers.shape) < a_minute * self.every / 60
            on_candidate = rng.random(answers.shape) < weights
            for first, canary in np.argwhere(begins):
                more = rng.poisson(a_second * min(length, self.every), min(lasts, len(looks) - first))
                arm = (candidate, candidate_errors) if on_candidate[first, canary] else (stable, stable_errors)
                for counted in arm:
                    counted[first : first + len(more), canary] += more
        return Counts(candidate, candidate_errors, stable, stable_errors)

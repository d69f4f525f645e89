"""Tests whether one arm has more events per answer than the other, at any number of looks.

An event is an error, or an answer slower than some edge. Traffic is cut into slices; each slice has one vote: the
candidate's share of the slice's events. Is the candidate no worse than stable, the events of a slice fall on its
answers as on any other, so the vote is on average the candidate's share of the answers, *as measured in this slice*.
Whoever bets on a larger vote then gains nothing in the long run:

    θ(r) = r·ρ / (1 + (r - 1)·ρ)            chance that an event is the candidate's, if it has r times as many
    E_r *= v·θ(r)/θ(r0) + (1 - v)·(1 - θ(r))/(1 - θ(r0))           one slice with share ρ and vote v
    E    = weighted mean over r of E_r

Each E_r, and so their mean, is a non-negative supermartingale: P(E is ever 1/α or more) ≤ α, for any traffic, any
weights, any error rate that changes with time and hits both arms. A vote holds also when all events of a slice have one
cause, where a test that counts each event takes one burst for many independent errors.

Sources: Lindon, Malek, "Anytime-Valid Inference for Multinomial Count Data" (NeurIPS 2022): counts and shares suffice.
Turner, Ly, Grünwald, "Generic E-variables for Exact Sequential k-Sample Tests" (arXiv 2106.02693): a factor per block.
Waudby-Smith, Ramdas, "Estimating Means of Bounded Random Variables by Betting" (arXiv 2010.09686): the bet is linear.
"""

import math
from collections.abc import Sequence

from models.base import WireModel

RATIOS = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0, 128.0)
# How much is betted on each: most on what is worth a rollback, and is not seen at once.
WEIGHTS = tuple(weight / 23 for weight in (1, 2, 3, 3, 3, 3, 2, 2, 1, 1, 1, 1))


class Arm(WireModel):
    """What one of the two revisions did: its answers, and how many of them were events."""

    answers: int = 0
    events: int = 0

    @property
    def share(self) -> float:
        """Events per answer; 0 without any answer."""
        return self.events / self.answers if self.answers else 0.0

    def plus(self, other: "Arm") -> "Arm":
        """The sum of both."""
        return Arm(answers=self.answers + other.answers, events=self.events + other.events)


class Tally(WireModel):
    """What both arms did in one stretch of time."""

    candidate: Arm = Arm()
    stable: Arm = Arm()

    @property
    def answers(self) -> int:
        """Of both."""
        return self.candidate.answers + self.stable.answers

    @property
    def events(self) -> int:
        """Of both."""
        return self.candidate.events + self.stable.events

    @property
    def share(self) -> float:
        """ρ: the candidate's share of the answers."""
        return self.candidate.answers / self.answers if self.answers else 0.0

    @property
    def vote(self) -> float:
        """v: the candidate's share of the events."""
        return self.candidate.events / self.events if self.events else 0.0

    @property
    def compares(self) -> bool:
        """Both have answered; else nothing was compared."""
        return self.candidate.answers > 0 and self.stable.answers > 0

    def plus(self, other: "Tally") -> "Tally":
        """The sum of both."""
        return Tally(candidate=self.candidate.plus(other.candidate), stable=self.stable.plus(other.stable))


def chance(ratio: float, share: float) -> float:
    """θ: how probable it is that an event is the candidate's when it has `ratio` times as many per answer."""
    return ratio * share / (1 + (ratio - 1) * share)


def voted(log_factors: Sequence[float], tally: Tally, ratios: Sequence[float], tolerated: float = 1.0) -> list[float]:
    """The logarithms of E_r after the vote of one slice; a slice without any event, or without one arm, has none.

    Args:
        log_factors: before, one for each of the ratios.
        tally: the slice.
        ratios: what is betted on; above `tolerated`.
        tolerated: r0: how many times as many events the candidate may have.
    """
    if not tally.compares or not tally.events:
        return list(log_factors)
    share, vote = tally.share, tally.vote
    usual = chance(tolerated, share)
    return [
        before + math.log(vote * theta / usual + (1 - vote) * (1 - theta) / (1 - usual))
        for before, theta in zip(log_factors, (chance(ratio, share) for ratio in ratios), strict=True)
    ]


def counted(log_factors: Sequence[float], tally: Tally, ratios: Sequence[float]) -> list[float]:
    """The logarithms of E_r when each event counts by itself: quicker than a vote, and right only for events that are
    independent of each other.
    """
    if not tally.compares or not tally.events:
        return list(log_factors)
    candidate, events, share = tally.candidate.events, tally.events, tally.share
    return [
        before + candidate * math.log(ratio) - events * math.log1p((ratio - 1) * share)
        for before, ratio in zip(log_factors, ratios, strict=True)
    ]


def log_mean(log_factors: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """The logarithm of the mean of what these are the logarithms of; with weights, which sum up to 1, of theirs."""
    highest, alike = max(log_factors), 1 / len(log_factors)
    parts = (math.exp(each - highest) for each in log_factors)
    if weights is None:
        return highest + math.log(alike * sum(parts))
    return highest + math.log(sum(weight * part for weight, part in zip(weights, parts, strict=True)))


class Evidence(WireModel):
    """The e-process of one metric.

    Attributes:
        log_factors: ln E_r for each of `RATIOS`.
        votes: how many slices had any event.
    """

    log_factors: tuple[float, ...] = (0.0,) * len(RATIOS)
    votes: int = 0

    @property
    def log_value(self) -> float:
        """The logarithm of E."""
        return log_mean(self.log_factors, WEIGHTS)

    @property
    def value(self) -> float:
        """E: how many times whoever bet on a worse candidate has multiplied the stake."""
        return math.exp(min(self.log_value, 700.0))

    def vote(self, tally: Tally, tolerated: float = 1.0) -> "Evidence":
        """The evidence with the vote of one more slice."""
        if not tally.compares or not tally.events:
            return self
        return Evidence(
            log_factors=tuple(voted(self.log_factors, tally, RATIOS, tolerated)),
            votes=self.votes + 1,
        )

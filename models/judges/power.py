"""Says what a watch could have seen, or can see: that nothing was found means little where nothing could be.

A slice with N answers, a share ρ of the candidate's, and stable's share p of errors, holds for a candidate with r times
as many errors

    λ = N·p·(1 + (r - 1)·ρ)                                             errors in the slice, on average
    (1 - e^-λ) · (θ·ln(θ/ρ) + (1 - θ)·ln((1 - θ)/(1 - ρ)))              nats of evidence, with θ = θ(r)

which counts a vote as if it came from one error: one of many errors says more. A candidate is found four times in five
once these add up to `NEEDED` + ln(0.01/α). A slice with few errors holds N·p·g(r, ρ), with
g = r·ρ·ln r - (1 + (r - 1)·ρ)·ln(1 + (r - 1)·ρ). Simulations agree within some 15 % where errors are few, and find more
where they are many (`tests/judging`).
"""

import math
from collections.abc import Sequence

from models.base import WireModel
from models.judges.votes import chance

# Found four times in five, at α = 1 %.
NEEDED = 9.4
FEWEST_SLICES = 3
_HIGHEST = 0.999


class Exposure(WireModel):
    """Slices of about the same size, in which the candidate was seen beside stable.

    Attributes:
        slices: how many.
        answers: of both, in all of them.
        candidate: of these, the candidate's.
    """

    slices: float = 0
    answers: float = 0
    candidate: float = 0


def needed(alpha: float) -> float:
    """The nats with which a worse candidate is found four times in five."""
    return NEEDED + math.log(0.01 / alpha)


def information(exposures: Sequence[Exposure], usual: float, found: float) -> float:
    """The nats that these hold on average, where stable has the share `usual` of errors and the candidate `found`."""
    total, ratio = 0.0, found / usual
    for seen in exposures:
        share = seen.candidate / seen.answers if seen.answers else 0.0
        if not 0 < share < 1 or not seen.slices:
            continue
        theta = chance(ratio, share)
        errors = seen.answers / seen.slices * usual * (1 + (ratio - 1) * share)
        nats = theta * math.log(theta / share) + (1 - theta) * math.log((1 - theta) / (1 - share))
        total += seen.slices * -math.expm1(-errors) * nats
    return total


def visible(exposures: Sequence[Exposure], usual: float, alpha: float) -> float | None:
    """The smallest share of errors of a candidate that these find four times in five; None: not even a broken one.

    Args:
        exposures: what was seen, or will be.
        usual: stable's share of errors, above 0.
        alpha: what the test of this metric may err by.
    """
    enough = needed(alpha)
    if sum(seen.slices for seen in exposures) < FEWEST_SLICES or information(exposures, usual, _HIGHEST) < enough:
        return None
    low, high = usual, _HIGHEST
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if information(exposures, usual, middle) >= enough else (middle, high)
    return high


def smoothed(events: int, answers: int) -> float:
    """A share of errors that is never 0: of a service without any, nobody knows how few it has."""
    return (events + 0.5) / (answers + 1)

"""Says whether users were answered by whom they were to be: by both revisions, in the proportion of their weights."""

import math
from statistics import NormalDist

from models.base import WireModel

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

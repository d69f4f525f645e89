"""Tests whether the candidate answers more slowly, on the edges of the router's histogram.

At each edge, "slower than this" is an event like an error, and has votes like one (`models.judges.votes`). The mean of
the edges' e-processes is an e-process: no quantile is estimated, and no edge has to be chosen. What no edge separates
cannot be seen.
"""

import math

from pydantic import Field

from models.base import WireModel
from models.judges.votes import Arm, Tally, log_mean, voted
from models.release import Counters

LATENCY_RATIOS = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)


class LatencyEvidence(WireModel):
    """The e-process of one metric with edges.

    Attributes:
        log_factors: edge → ln E_r for each of `LATENCY_RATIOS`; the edges are those of the first slice.
        votes: how many slices were compared.
        slower: edge → how many answers of both were slower, for the sentence that explains a verdict.
    """

    log_factors: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    votes: int = 0
    slower: dict[str, Tally] = Field(default_factory=dict)

    @property
    def log_value(self) -> float:
        """The logarithm of E."""
        if not self.log_factors:
            return 0.0
        return log_mean([log_mean(each) for each in self.log_factors.values()])

    @property
    def value(self) -> float:
        """E."""
        return math.exp(min(self.log_value, 700.0))

    @property
    def worst(self) -> str | None:
        """The edge that says most against the candidate."""
        return max(self.log_factors, key=lambda edge: log_mean(self.log_factors[edge]), default=None)

    def vote(self, candidate: Counters, stable: Counters, tolerated: float) -> "LatencyEvidence":
        """The evidence with one more slice, given as what was counted in it.

        Args:
            candidate: of its answers, how many came within which edge.
            stable: the same.
            tolerated: how many times as many slow answers the candidate may have.
        """
        edges = self.log_factors or {
            edge: (0.0,) * len(LATENCY_RATIOS) for edge in candidate.within.keys() & stable.within.keys()
        }
        if not candidate.timed or not stable.timed or not edges:
            return self
        ratios = [ratio for ratio in LATENCY_RATIOS if ratio > tolerated]
        kept = len(LATENCY_RATIOS) - len(ratios)
        factors, slower = dict(edges), dict(self.slower)
        for edge in edges:
            if edge not in candidate.within or edge not in stable.within:
                continue
            tally = Tally(
                candidate=Arm(answers=candidate.timed, events=max(0, candidate.timed - candidate.within[edge])),
                stable=Arm(answers=stable.timed, events=max(0, stable.timed - stable.within[edge])),
            )
            before = edges[edge]
            factors[edge] = (*before[:kept], *voted(before[kept:], tally, ratios, tolerated))
            slower[edge] = slower.get(edge, Tally()).plus(tally)
        return LatencyEvidence(log_factors=factors, votes=self.votes + 1, slower=slower)

"""Finds the candidate that is plainly broken, within a few reads of the counters.

Votes of slices take their time. A candidate of whose answers at least half are errors need not wait for them: here each
error counts by itself. Three things must come together: the errors are evidence that stable would not give, they are at
least half of the candidate's answers, and they were seen in at least three reads of the counters, which one unlucky
moment does not do.

What a candidate did well for minutes must not hide that it is broken now: the test begins anew every half minute. What
begins in the middle of a step must have seen errors for twenty seconds: a burst is shorter. Each of these tests has a
part of α of its own, α/(k·(k+1)) for the k-th, which together is α.
"""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from models.base import WireModel
from models.judges.votes import RATIOS, Arm, Tally, counted, log_mean

PLAINLY = 0.5
READS = 3
# Without anybody to compare with: how many errors a service may have that is well.
USUAL = 0.1
# The shares of errors that are betted on then.
BROKEN_SHARES = (0.6, 0.9, 0.99)
LENGTH = timedelta(seconds=30)
ANSWERS = 20
# Longer than a burst.
LASTING = timedelta(seconds=20)


class Broken(WireModel):
    """What the candidate has answered since this test began.

    Attributes:
        number: which one it is of this deployment, from 1.
        began: when; None before the first read.
        fresh: it began with a step.
        total: what both have answered in it.
        opened: what both have answered since the last time that both had.
        log_factors: ln E_r, of what both have answered beside each other.
        reads: reads of the counters that showed new errors of the candidate.
        first_error: when the first of them was.
        lasting: how long after that the last one was.
    """

    number: int = 1
    began: datetime | None = None
    fresh: bool = True
    total: Tally = Tally()
    opened: Tally = Tally()
    log_factors: tuple[float, ...] = (0.0,) * len(RATIOS)
    reads: int = 0
    first_error: datetime | None = None
    lasting: timedelta = timedelta(0)

    def read(self, since: Tally, at: datetime) -> "Broken":
        """The same after one more read at this time, which found this since the read before."""
        began = self.began or at
        if at - began >= LENGTH and self.total.candidate.answers >= ANSWERS:
            return Broken(number=self.number + 1, began=at, fresh=False).read(since, at)
        opened, factors = self.opened.plus(since), self.log_factors
        if opened.compares:
            factors, opened = tuple(counted(factors, opened, RATIOS)), Tally()
        failed, first_error = since.candidate.events > 0, self.first_error
        if failed and first_error is None:
            first_error = at
        return Broken(
            number=self.number,
            began=began,
            fresh=self.fresh,
            total=self.total.plus(since),
            opened=opened,
            log_factors=factors,
            reads=self.reads + failed,
            first_error=first_error,
            lasting=at - first_error if failed and first_error is not None else self.lasting,
        )

    def log_value(self, usual: float | None = None) -> float:
        """The logarithm of E.

        Args:
            usual: where nobody answers beside the candidate: the share of errors that stable had before. It is compared
                with twice that, and with a tenth of the answers at least.
        """
        return (
            log_mean(self.log_factors)
            if usual is None
            else against_usual(self.total.candidate, max(USUAL, 2 * usual), BROKEN_SHARES)
        )

    def log_needed(self, alpha: float) -> float:
        """What ln E must reach."""
        return math.log(self.number * (self.number + 1) / alpha)

    def looks_broken(self, *, at_last: bool = False) -> bool:
        """At least half of the candidate's answers are errors, and not only once; stable may be no better.

        Args:
            at_last: nothing more will be read: who looked too late to see errors in several reads has seen them, too.
        """
        often = self.total.candidate.events if at_last else self.reads
        return often >= READS and self.total.candidate.share >= PLAINLY

    def is_plain(self, alpha: float, usual: float | None = None, at_least: int = 0, *, at_last: bool = False) -> bool:
        """Whether the candidate is plainly broken.

        Args:
            alpha: of how many healthy deployments this may be said.
            usual: stable's share of errors before, where nobody answers beside the candidate.
            at_least: answers of the candidate.
            at_last: nothing more will be read.
        """
        if self.total.candidate.answers < at_least or not (self.fresh or self.lasting >= LASTING):
            return False
        return self.looks_broken(at_last=at_last) and self.log_value(usual) >= self.log_needed(alpha)


def against_usual(candidate: Arm, usual: float, shares: Sequence[float]) -> float:
    """The logarithm of E that more of the answers are errors than a service that is well has.

    Args:
        candidate: what it has answered.
        usual: the share of errors that a service may have that is well.
        shares: the shares of errors that are betted on.
    """
    bets = [share for share in shares if share > usual]
    if not bets:
        return 0.0
    well = candidate.answers - candidate.events
    return log_mean(
        [candidate.events * math.log(bet / usual) + well * math.log((1 - bet) / (1 - usual)) for bet in bets]
    )

"""Evidence against a candidate that is no worse cannot grow on average: shown exactly, slice by slice."""

import math
import random
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy import special, stats

from models.judges.latency import LatencyEvidence
from models.judges.state import JudgeState, Reading, Settings
from models.judges.votes import RATIOS, Arm, Evidence, Tally, chance, counted, log_mean, voted
from models.release import Counters

ZERO = (0.0,) * len(RATIOS)


def tally(candidate: tuple[int, int], stable: tuple[int, int]) -> Tally:
    """Given as answers and events."""
    return Tally(
        candidate=Arm(answers=candidate[0], events=candidate[1]), stable=Arm(answers=stable[0], events=stable[1])
    )


def expected(n_c: int, n_s: int, events: int, tolerated: float = 1.0) -> float:
    """The largest expectation of one slice's factor when its events fall on any of its answers alike."""
    fewest, most = max(0, events - n_s), min(events, n_c)
    means = [0.0] * len(RATIOS)
    for x_c in range(fewest, most + 1):
        chance_of = math.comb(n_c, x_c) * math.comb(n_s, events - x_c) / math.comb(n_c + n_s, events)
        slice_ = tally((n_c, x_c), (n_s, events - x_c))
        for place, log_factor in enumerate(voted(ZERO, slice_, RATIOS, tolerated)):
            means[place] += chance_of * math.exp(log_factor)
    return max(means)


def test_no_slice_of_a_healthy_candidate_is_worth_more_than_one_on_average() -> None:
    """All splits of all small slices: exactly, not by chance."""
    largest = max(
        expected(n_c, n_s, events)
        for n_c in range(1, 12)
        for n_s in range(1, 40)
        for events in range(1, min(25, n_c + n_s) + 1)
    )
    assert largest == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("tolerated", [1.1, 1.25, 1.4])
def test_a_tolerated_ratio_makes_it_less(tolerated: float) -> None:
    assert all(
        expected(n_c, n_s, events, tolerated) < 1 for n_c in (1, 4, 9) for n_s in (3, 20) for events in (1, 3, 4)
    )


def test_a_candidate_that_is_worse_makes_the_evidence_grow() -> None:
    evidence = Evidence()
    for _ in range(3):
        evidence = evidence.vote(tally((10, 1), (190, 0)))
    assert evidence.value > 500
    assert evidence.votes == 3


def test_a_slice_without_an_event_or_without_one_arm_has_no_vote() -> None:
    for slice_ in (tally((10, 0), (90, 0)), tally((10, 10), (0, 0)), tally((0, 0), (90, 9)), Tally()):
        assert Evidence().vote(slice_) == Evidence()
        assert voted(ZERO, slice_, RATIOS) == list(ZERO)
        assert counted(ZERO, slice_, RATIOS) == list(ZERO)


def test_a_burst_in_one_slice_has_one_vote() -> None:
    one, many = (Evidence().vote(tally((10 + x, x), (190, 0))).log_value for x in (1, 50))
    assert many < one, "fifty errors at once are no more than one; the share of the answers that is measured is larger"


def test_the_mixture_is_what_scipy_makes_of_it() -> None:
    """Counting form: a ratio of two binomial likelihoods, its mixture a logsumexp; vote form: linear between two."""
    draw = np.random.default_rng(7)
    counting, voting, logs, votes = [0.0] * 12, [0.0] * 12, np.zeros(12), np.zeros(12)
    ratios = np.array(RATIOS)
    for _ in range(200):
        n_c, n_s = int(draw.integers(1, 50)), int(draw.integers(1, 400))
        x_c, x_s = int(draw.binomial(n_c, 0.05)), int(draw.binomial(n_s, 0.03))
        slice_, share = tally((n_c, x_c), (n_s, x_s)), n_c / (n_c + n_s)
        theta = special.expit(np.log(ratios) + special.logit(share))
        assert [chance(ratio, share) for ratio in RATIOS] == pytest.approx(theta.tolist(), abs=1e-12)
        counting, voting = counted(counting, slice_, RATIOS), voted(voting, slice_, RATIOS)
        if x_c + x_s:
            logs += stats.binom.logpmf(x_c, x_c + x_s, theta) - stats.binom.logpmf(x_c, x_c + x_s, share)
            vote = x_c / (x_c + x_s)
            votes += np.log(vote * theta / share + (1 - vote) * (1 - theta) / (1 - share))
        for ours, theirs in ((counting, logs), (voting, votes)):
            assert log_mean(ours) == pytest.approx(float(special.logsumexp(theirs) - np.log(12)), abs=1e-9)


def test_an_edge_that_says_nothing_does_not_hide_one_that_does() -> None:
    evidence = LatencyEvidence()
    for _ in range(20):
        candidate = Counters(requests=20, timed=20, within={"0.1": 10, "0.3": 12, "1": 20})
        stable = Counters(requests=200, timed=200, within={"0.1": 100, "0.3": 190, "1": 200})
        evidence = evidence.vote(candidate, stable, 1.25)
    assert evidence.worst == "0.3"
    assert evidence.value > 1000
    assert evidence.slower["0.3"].candidate == Arm(answers=400, events=160)


def test_times_that_are_alike_or_a_little_slower_say_nothing() -> None:
    draw, evidence = random.Random(3), LatencyEvidence()  # noqa: S311  a fixed sequence
    highest = 0.0
    for _ in range(200):
        slow = {
            arm: sum(draw.random() < 0.2 * factor for _ in range(n))
            for arm, n, factor in (("c", 20, 1.2), ("s", 80, 1))
        }
        candidate = Counters(requests=20, timed=20, within={"0.3": 20 - slow["c"]})
        evidence = evidence.vote(candidate, Counters(requests=80, timed=80, within={"0.3": 80 - slow["s"]}), 1.25)
        highest = max(highest, evidence.value)
    assert highest < 20


def test_edges_that_come_or_go_meanwhile_are_passed_over() -> None:
    first = LatencyEvidence().vote(
        Counters(timed=10, within={"0.1": 5}), Counters(timed=10, within={"0.1": 9, "0.2": 10}), 1.25
    )
    assert set(first.log_factors) == {"0.1"}
    after = first.vote(Counters(timed=10, within={"0.2": 5}), Counters(timed=10, within={"0.2": 9}), 1.25)
    assert after.log_factors == first.log_factors
    assert LatencyEvidence().vote(Counters(timed=10), Counters(timed=10), 1.25) == LatencyEvidence()


NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_look_costs_less_than_a_millisecond() -> None:
    within = {str(edge): 0 for edge in range(16)}
    state, looks = JudgeState(), 2000
    by = Settings(slice=timedelta(seconds=10))
    began = time.process_time()
    for look in range(looks):
        counters = [Counters(requests=look * n, timed=look * n, within=within) for n in (1, 19)]
        reading = Reading(at=NOW + timedelta(seconds=look / 7), candidate=counters[0], stable=counters[1])
        state = state.read(reading, by)
    assert (time.process_time() - began) / looks < 0.001
    assert state.exposures[0].slices > 20

"""How often the judge is wrong about healthy releases, and how soon it is right about bad ones, over many canaries.

`FULL=1` looks once a second at 10,000 canaries of each kind; else a look is every ten seconds, or there are fewer.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from models.judges.candidate import CandidateJudge, Observation
from models.judges.power import Exposure, visible
from models.judges.state import JudgeState, Reading, Settings
from models.release import Counters
from models.spec import JudgeSpec
from tests.judging.simulation import NEVER, Rule, judge, threshold
from tests.judging.traffic import CANARY, Counts, Shape, Step, World, bursty, diurnal, steady
from tests.support.extent import FULL

HEALTHY = 10_000
LOOKS = 1 if FULL else 10
BEFORE = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("per_minute", [20, 200, 2000])
@pytest.mark.parametrize("shape", [steady, diurnal, bursty])
def test_of_ten_thousand_healthy_canaries_fewer_than_alpha_are_rolled_back(shape: Shape, per_minute: int) -> None:
    world = World(per_minute, 0.01, 0.01, shape, every=LOOKS)
    parts = 10 if FULL or (shape is steady and per_minute == 200) else 2
    found = [judge(world, world.draw(seed, HEALTHY // 10)).convicted for seed in range(parts)]
    assert sum(found) / parts <= 0.01


@pytest.mark.parametrize("share", [0.001, 0.02, 0.05, 0.1])
def test_whatever_share_of_errors_a_healthy_service_has(share: float) -> None:
    world = World(200, share, share, every=LOOKS)
    counts = world.draw(1, HEALTHY if FULL else 1000)
    assert judge(world, counts).convicted <= 0.01
    if share >= 0.02:
        assert threshold(world, counts).convicted > 0.1, "the rule before was worse; else this test compares nothing"


# Errors a second, seconds, bursts a minute; a rate of requests; how many false alarms, at most.
BURSTS = {
    "20 errors in 1 s, 600/min": ((20, 1, 0.5), 600, 0.01),
    "20 errors in 1 s, 6000/min": ((20, 1, 0.5), 6000, 0.012),
    "10 s of 5 a second, 600/min": ((5, 10, 0.5), 600, 0.08),
    "10 s of 5 a second, 6000/min": ((5, 10, 0.5), 6000, 0.02),
}


@pytest.mark.parametrize("burst", BURSTS.values(), ids=BURSTS)
def test_bursts_that_fall_on_one_arm_by_its_share(burst: tuple[tuple[float, int, float], float, float]) -> None:
    """A client that repeats what fails, a session that sticks: the independence that counting needs is not there."""
    shape, per_minute, at_most = burst
    world = World(per_minute, 0.002, 0.002, burst=shape)
    counts = world.draw(3, 2000 if FULL else 200)
    assert judge(world, counts, Rule(quick=False)).convicted <= (0.015 if FULL else 0.03)
    assert judge(world, counts).convicted <= at_most + (0.0 if FULL else 0.04)
    assert judge(world, counts, Rule(quick=False, counting=True)).convicted > 0.1, "who counts each error is misled"


@pytest.mark.parametrize("per_minute", [200, 2000])
def test_an_incident_of_both_arms_convicts_nobody(per_minute: int) -> None:
    world = World(per_minute, 0.01, 0.01, outage=(0.05, 960, 240), every=LOOKS)
    assert judge(world, world.draw(4, HEALTHY if FULL else 1000)).convicted <= 0.01


TEN = (Step(10, 2400),)


@pytest.mark.parametrize(("per_minute", "at_most"), [(60, 180), (200, 180), (600, 205)])
def test_five_percent_against_one_take_so_many_requests_of_the_candidate(per_minute: int, at_most: int) -> None:
    """173 would do where the errors had all of α; a tenth of it is the quick test's, and a tenth of E is the times'."""
    world = World(per_minute, 0.01, 0.05, steps=TEN, every=5)
    found = judge(world, world.draw(5, 1000))
    assert found.median(found.candidate) <= at_most
    alone = judge(world, world.draw(5, 1000), Rule(quick=False, errors_weight=1.0))
    assert per_minute > 200 or alone.median(alone.candidate) <= 173


@pytest.mark.parametrize("per_minute", [2000, 8000])
def test_with_more_traffic_it_is_a_matter_of_time(per_minute: int) -> None:
    world = World(per_minute, 0.01, 0.05, steps=(Step(10, 300),))
    assert judge(world, world.draw(6, 300)).median() <= 80


@pytest.mark.parametrize(("per_minute", "within"), [(20, 240), (200, 30), (2000, 5)])
def test_nothing_but_errors_is_convicted_within_a_few_of_them(per_minute: int, within: int) -> None:
    world = World(per_minute, 0.01, 1.0)
    found = judge(world, world.draw(7, 100))
    assert found.convicted == 1
    assert found.median() <= within


POWER = [
    (60, 0.01, CANARY[:1]),
    (180, 0.01, CANARY[:1]),
    (600, 0.01, CANARY[:1]),
    (600, 0.05, CANARY[:1]),
    (60, 0.01, CANARY),
    (180, 0.01, CANARY),
    (600, 0.01, CANARY),
    (2000, 0.05, CANARY),
]


@pytest.mark.parametrize(("per_minute", "usual", "steps"), POWER)
def test_what_is_said_to_be_seen_four_times_in_five_is(per_minute: int, usual: float, steps: tuple[Step, ...]) -> None:
    exposures = [
        Exposure(
            slices=step.seconds / 10,
            answers=per_minute / 60 * step.seconds,
            candidate=per_minute / 60 * step.seconds * step.weight / 100,
        )
        for step in steps
    ]
    alpha = 0.01
    found = visible(exposures, usual, alpha)
    assert found is not None
    world = World(per_minute, usual, found, steps=steps, every=5)
    rule = Rule(alpha=alpha, quick=False, errors_weight=1.0, worth=0)
    convicted = judge(world, world.draw(8, 600), rule).convicted
    assert convicted >= 0.7
    errors = min(each.answers / each.slices * usual for each in exposures)
    assert convicted <= 0.95 or errors > 0.9, "with many errors in each slice more is seen than is promised"


def _readings(counts: Counts, canary: int) -> Iterator[Reading]:
    total = [0, 0, 0, 0]
    arms = (counts.candidate, counts.candidate_errors, counts.stable, counts.stable_errors)
    for second in range(len(counts.candidate)):
        total = [sum_ + int(arm[second, canary]) for sum_, arm in zip(total, arms, strict=True)]
        yield Reading(
            at=BEFORE + timedelta(seconds=second + 1),
            candidate=Counters(requests=total[0], errors=total[1]),
            stable=Counters(requests=total[2], errors=total[3]),
        )


@pytest.mark.parametrize(("usual", "found"), [(0.01, 0.05), (0.01, 0.9), (0.05, 0.3), (0.02, 0.02)])
def test_the_simulation_judges_as_the_product_does_look_by_look(usual: float, found: float) -> None:
    steps = (Step(10, 120), Step(50, 120))
    world, canaries = World(600, usual, found, steps=steps), 4
    counts = world.draw(9, canaries)
    simulated = judge(world, counts)
    spec, by = JudgeSpec(), Settings()
    for canary in range(canaries):
        at, state, last = NEVER, JudgeState().step(Reading(at=BEFORE)), Reading(at=BEFORE)
        for second, reading in enumerate(_readings(counts, canary), start=1):
            state = state.read(reading, by)
            seen = Observation(state=state, probes=1)
            if CandidateJudge(spec, 0).failed(seen):
                at = second
                break
            last = reading
            if second == steps[0].seconds:
                state = state.end(by).step(last)
        assert simulated.at[canary] == at

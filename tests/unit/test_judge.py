"""The judge acts at once on what is dead or plainly broken, and never calls too little a pass."""

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from models.judges.candidate import CandidateJudge, Observation
from models.judges.power import Exposure
from models.judges.split import Divided, is_misdivided
from models.judges.state import JudgeState, Reading, Settings
from models.judges.votes import Arm
from models.release import Counters, InstanceReport
from models.spec import JudgeSpec
from models.verdict import Verdict

SPEC = JudgeSpec()
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def instance(**changes: object) -> InstanceReport:
    fields = {"name": "new.1", "address": "http://127.0.0.1:1", "running": True, "healthy": True, **changes}
    return InstanceReport.model_validate(fields)


def read(reads: Iterable[tuple[tuple[int, int], tuple[int, int]]], every: float = 0.25) -> JudgeState:
    """Given as what both answer between two reads: requests and errors."""
    state = JudgeState().step(Reading(at=NOW))
    totals = [0, 0, 0, 0]
    for number, (candidate, stable) in enumerate(reads, start=1):
        totals = [total + more for total, more in zip(totals, (*candidate, *stable), strict=True)]
        counters = [Counters(requests=totals[at], errors=totals[at + 1]) for at in (0, 2)]
        at = NOW + timedelta(seconds=every * number)
        state = state.read(Reading(at=at, candidate=counters[0], stable=counters[1]), Settings())
    return state


def seen(requests: int, errors: int, stable: tuple[int, int] = (1000, 0), **changes: object) -> Observation:
    fields = {
        "candidate": Counters(requests=requests, errors=errors),
        "stable": Counters(requests=stable[0], errors=stable[1]),
        "probes": 5,
        "instances": (instance(),),
        **changes,
    }
    return Observation.model_validate(fields)


def watched(
    reads: Iterable[tuple[tuple[int, int], tuple[int, int]]], every: float = 0.25, **changes: object
) -> Observation:
    state = read(reads, every)
    assert state.last is not None
    candidate, stable = state.last.candidate, state.last.stable
    return seen(candidate.requests, candidate.errors, (stable.requests, stable.errors), state=state, **changes)


BAD, GOOD = ((5, 5), (5, 0)), ((5, 0), (5, 0))


@pytest.mark.parametrize(
    ("observation", "verdict"),
    [
        pytest.param(watched([GOOD] * 40), Verdict.PASS, id="no errors"),
        pytest.param(watched([BAD] * 3), Verdict.FAIL, id="nothing but errors"),
        pytest.param(
            watched([((15, 15), (15, 0))]), Verdict.FAIL, id="nothing but errors, seen once, when nothing more comes"
        ),
        pytest.param(watched([((5, 3), (5, 0))] * 8), Verdict.FAIL, id="most answers are errors"),
        pytest.param(
            watched([((5, 2), (5, 0))] * 12), Verdict.INCONCLUSIVE, id="less than half: for the votes to say, later"
        ),
        pytest.param(watched([((1, 1), (19, 0))] * 4), Verdict.FAIL, id="four errors of a small share"),
        pytest.param(watched([((1, 1), (1, 0))] * 4), Verdict.INCONCLUSIVE, id="a few errors of a few"),
        pytest.param(
            watched([((15, 15), (5, 0)), *[GOOD] * 4]), Verdict.INCONCLUSIVE, id="one burst, and no more time"
        ),
        pytest.param(watched([((15, 15), (5, 0)), *[GOOD] * 160]), Verdict.PASS, id="one burst"),
        pytest.param(watched([((5, 5), (5, 5))] * 9), Verdict.INCONCLUSIVE, id="stable fails as well"),
        pytest.param(watched([((5, 4), (5, 1))] * 20), Verdict.FAIL, id="far worse than a failing stable"),
        pytest.param(seen(9, 0), Verdict.INCONCLUSIVE, id="too few requests"),
        pytest.param(seen(0, 0), Verdict.INCONCLUSIVE, id="nothing at all"),
        pytest.param(seen(100, 0, probes=0), Verdict.INCONCLUSIVE, id="never probed"),
    ],
)
def test_what_is_plainly_broken(observation: Observation, verdict: Verdict) -> None:
    judged = CandidateJudge(SPEC, min_requests=0 if observation.candidate.requests < 9 else 10).judge(observation)
    if observation.candidate.requests == 0:
        judged = CandidateJudge(SPEC, min_requests=10).judge(observation)
    assert judged.verdict is verdict, judged.reason
    assert judged.reason


def test_one_unlucky_moment_does_not_end_a_watch() -> None:
    """While more will be read, errors must have been seen in three reads."""
    for reads, ends in ((1, False), (2, False), (3, True)):
        assert bool(CandidateJudge(SPEC, 0).failed(watched([((15, 15), (15, 0))] * reads))) is ends


ALONE_BAD, ALONE_GOOD = ((4, 4), (0, 0)), ((4, 0), (0, 0))


@pytest.mark.parametrize(
    ("reads", "verdict"),
    [
        pytest.param([ALONE_BAD] * 3, Verdict.FAIL, id="nothing but errors"),
        pytest.param([((1, 1), (0, 0))] * 4, Verdict.FAIL, id="four errors and nothing else"),
        pytest.param([((1, 1), (0, 0))] * 3, Verdict.INCONCLUSIVE, id="three errors and nothing else"),
        pytest.param([((4, 1), (0, 0))] * 40, Verdict.INCONCLUSIVE, id="a quarter, when it was a hundredth before"),
        pytest.param([((100, 1), (0, 0))] * 40, Verdict.PASS, id="as many as before"),
    ],
)
def test_with_nobody_beside_it(reads: list[tuple[tuple[int, int], tuple[int, int]]], verdict: Verdict) -> None:
    observation = watched(reads, alone=True, weight=100, before=Arm(answers=5000, events=50))
    judged = CandidateJudge(SPEC, 0).judge(observation)
    assert judged.verdict is verdict, judged.reason
    if reads[0] == ((4, 1), (0, 0)):
        assert "of stable it was 1.00% before (50 of 5000)" in judged.reason


@pytest.mark.parametrize(
    ("reads", "verdict"),
    [
        pytest.param([((4, 2), (0, 0))] * 30 + [ALONE_GOOD], Verdict.INCONCLUSIVE, id="half of them, nearly"),
        pytest.param([((4, 1), (0, 0))] * 40, Verdict.INCONCLUSIVE, id="a quarter"),
        pytest.param([((100, 5), (0, 0))] * 40, Verdict.PASS, id="a few"),
        pytest.param([((4, 1), (0, 0))], Verdict.PASS, id="one"),
    ],
)
def test_where_there_is_nothing_to_compare_with(
    reads: list[tuple[tuple[int, int], tuple[int, int]]], verdict: Verdict
) -> None:
    judged = CandidateJudge(SPEC, 0).judge(watched(reads, alone=True))
    assert judged.verdict is verdict, judged.reason


def failed_after(broken: range, last: int, *, beside: int) -> int | None:
    """Seconds from its first error until a candidate fails that answers nothing but errors in this time."""
    state, total, failed = JudgeState().step(Reading(at=NOW)), 0, 0
    for second in range(1, last):
        total += 20
        failed += 20 * (second in broken)
        reading = Reading(
            at=NOW + timedelta(seconds=second),
            candidate=Counters(requests=total, errors=failed),
            stable=Counters(requests=beside * second),
        )
        state = state.read(reading, Settings())
        if CandidateJudge(SPEC, 0).failed(seen(total, failed, state=state, alone=not beside)):
            return second - broken.start
    return None


@pytest.mark.parametrize("beside", [0, 20])
@pytest.mark.parametrize("begins", range(300, 332, 3))
def test_what_was_well_for_minutes_and_is_broken_now_does_not_hide_behind_it(begins: int, beside: int) -> None:
    after = failed_after(range(begins, 1000), begins + 90, beside=beside)
    assert after is not None and after <= 45


@pytest.mark.parametrize("beside", [0, 20])
@pytest.mark.parametrize("begins", range(300, 332, 3))
def test_a_burst_of_ten_seconds_in_the_middle_of_a_step_is_not_plainly_broken(begins: int, beside: int) -> None:
    assert failed_after(range(begins, begins + 10), begins + 60, beside=beside) is None


@pytest.mark.parametrize(
    "knob", [{"min_errors": 16}, {"min_requests": 16}, {"max_error_share": "100%", "min_errors": 16}]
)
def test_who_asks_for_more_before_a_release_fails_gets_it(knob: dict[str, object]) -> None:
    assert CandidateJudge(SPEC, 0).judge(watched([BAD] * 3)).verdict is Verdict.FAIL
    assert CandidateJudge(JudgeSpec.model_validate(knob), 0).judge(watched([BAD] * 3)).verdict is not Verdict.FAIL


@pytest.mark.parametrize(
    ("candidate", "stable", "verdict"),
    [
        ((90, 18), (135, 0), Verdict.INCONCLUSIVE),
        ((90, 18), (135, 26), Verdict.PASS),
        ((90, 2), (135, 1), Verdict.PASS),
        ((90, 0), (135, 0), Verdict.PASS),
    ],
    ids=["many more", "as many", "a few", "none"],
)
def test_errors_that_nobody_saw_come_are_no_pass(
    candidate: tuple[int, int], stable: tuple[int, int], verdict: Verdict
) -> None:
    """The worker was away for the whole step: all that happened is one slice, which convicts nobody."""
    judged = CandidateJudge(SPEC, 10).judge(watched([(candidate, stable)], every=6))

    assert judged.verdict is verdict, judged.reason


def test_a_pass_says_what_would_have_been_seen_and_catch_asks_for_it() -> None:
    state = read([((5, 0), (45, 0))] * 400)
    observation = seen(2000, 0, (18000, 0), state=state)
    judged = CandidateJudge(SPEC, 10).judge(observation)
    assert judged.verdict is Verdict.PASS
    assert "of its answers would have been seen" in judged.reason
    for catch, verdict in (("20%", Verdict.PASS), ("0.01%", Verdict.INCONCLUSIVE)):
        judged = CandidateJudge(JudgeSpec.model_validate({"catch": catch}), 10).judge(observation)
        assert (judged.verdict, judged.could_not_see) == (verdict, verdict is Verdict.INCONCLUSIVE), judged.reason


def test_what_nobody_could_have_seen_is_no_pass_for_who_asks_for_it() -> None:
    state = JudgeState(exposures=(Exposure(slices=2, answers=50, candidate=5),))
    judged = CandidateJudge(JudgeSpec.model_validate({"catch": "50%"}), 0).judge(seen(5, 0, state=state))
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "would not have been seen, however many" in judged.reason


@pytest.mark.parametrize(("failed", "verdict"), [(2, Verdict.PASS), (3, Verdict.FAIL)])
def test_probes_that_fail_in_a_row(failed: int, verdict: Verdict) -> None:
    sick = instance(healthy=False, detail="/health answered 503")
    judged = CandidateJudge(SPEC, 10).judge(
        seen(100, 0, instances=(instance(name="new.2"), sick), failed_probes={"new.1": failed})
    )
    assert judged.verdict is verdict
    if verdict is Verdict.FAIL:
        assert "new.1" in judged.reason
        assert "/health answered 503" in judged.reason


@pytest.mark.parametrize(("restarts", "verdict"), [(1, Verdict.PASS), (2, Verdict.FAIL)])
def test_restarts_of_one_that_is_healthy_each_time_it_is_asked(restarts: int, verdict: Verdict) -> None:
    judged = CandidateJudge(SPEC, 10).judge(seen(100, 0, instances=(instance(restarts=restarts),)))
    assert judged.verdict is verdict


def test_with_no_minimum_a_quiet_candidate_passes_and_a_broken_one_does_not() -> None:
    assert CandidateJudge(SPEC, 0).judge(seen(0, 0)).verdict is Verdict.PASS
    assert CandidateJudge(SPEC, 0).judge(watched([BAD] * 3)).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("weight", "divided", "misdivided"),
    [
        pytest.param(100, (35, 39), True, id="stable answers half of the users at 100 %"),
        pytest.param(100, (50, 25), True, id="stable answers a third at 100 %"),
        pytest.param(100, (4, 2), False, id="a third of too few to say"),
        pytest.param(100, (98, 2), False, id="a few that were under way"),
        pytest.param(100, (960, 40), False, id="within what is allowed at 100 %"),
        pytest.param(100, (0, 0), False, id="nobody came"),
        pytest.param(10, (10, 90), False, id="as asked"),
        pytest.param(10, (30, 70), True, id="three times as much as asked"),
        pytest.param(10, (0, 40), False, id="none of a few"),
        pytest.param(10, (0, 200), True, id="none of many"),
        pytest.param(10, (3, 7), False, id="far off, by chance perhaps"),
        pytest.param(5, (0, 500), True, id="a small share that gets nothing"),
        pytest.param(1, (0, 500), False, id="a very small share that gets nothing of a few hundred"),
        pytest.param(1, (0, 5000), True, id="a very small share that gets nothing of thousands"),
        pytest.param(50, (60, 40), False, id="at the edge"),
        pytest.param(50, (700, 300), True, id="far from half"),
        pytest.param(95, (800, 200), True, id="stable answers four times as much as asked"),
        pytest.param(95, (1000, 0), True, id="stable answers nothing of its share"),
        pytest.param(0, (40, 60), True, id="users where there should be none"),
    ],
)
def test_the_split_that_was_seen(weight: int, divided: tuple[int, int], misdivided: bool) -> None:
    candidate, stable = divided
    found = seen(100, 0, weight=weight, divided=Divided(candidate=candidate, stable=stable))
    judged = CandidateJudge(SPEC, min_requests=10).judge(found)
    assert judged.verdict is (Verdict.INCONCLUSIVE if misdivided else Verdict.PASS), judged.reason
    assert ("the split seen is not the split asked" in judged.reason) is misdivided


@pytest.mark.parametrize("weight", range(1, 101))
@pytest.mark.parametrize("requests", [1, 7, 40, 499, 501, 3000])
def test_a_router_that_divides_exactly_is_never_suspected(weight: int, requests: int) -> None:
    candidate = round(requests * weight / 100)
    assert not is_misdivided(Divided(candidate=candidate, stable=requests - candidate), weight)


@pytest.mark.parametrize("weight", [1, 5, 10, 50, 90, 99])
def test_chance_alone_is_rarely_suspected(weight: int) -> None:
    draw = random.Random(weight)  # noqa: S311  a fixed sequence
    suspected = 0
    for requests in (10, 30, 100, 300, 1000):
        for _ in range(100):
            candidate = sum(draw.random() < weight / 100 for _ in range(requests))
            suspected += is_misdivided(Divided(candidate=candidate, stable=requests - candidate), weight)
    assert suspected <= 1


def test_the_split_is_not_judged_where_it_is_not_known_or_not_asked_for() -> None:
    far_off = Divided(candidate=0, stable=1000)
    assert CandidateJudge(SPEC, 10).judge(seen(100, 0, divided=far_off)).verdict is Verdict.PASS
    spec = SPEC.model_copy(update={"max_split_error": 1.0})
    assert CandidateJudge(spec, 10).judge(seen(100, 0, weight=100, divided=far_off)).verdict is Verdict.PASS


def test_a_failing_candidate_fails_however_users_were_divided() -> None:
    misdivided = Divided(candidate=100, stable=1000)
    judged = CandidateJudge(SPEC, 10).judge(watched([BAD] * 3, weight=100, divided=misdivided, alone=True))
    assert judged.verdict is Verdict.FAIL

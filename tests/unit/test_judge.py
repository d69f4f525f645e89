"""The judge fails what is plainly broken, and never calls too little a pass."""

import random

import pytest

from models.judge import Divided, Observation, ThresholdJudge, is_misdivided
from models.release import Counters, InstanceReport
from models.spec import JudgeSpec
from models.verdict import Verdict

SPEC = JudgeSpec(max_error_share=0.05, min_errors=3, failed_probes=3, max_restarts=1)


def instance(**changes: object) -> InstanceReport:
    fields = {"name": "new.1", "address": "http://127.0.0.1:1", "running": True, "healthy": True, **changes}
    return InstanceReport.model_validate(fields)


def seen(requests: int, errors: int, stable: tuple[int, int] = (1000, 0), **changes: object) -> Observation:
    fields = {
        "candidate": Counters(requests=requests, errors=errors),
        "stable": Counters(requests=stable[0], errors=stable[1]),
        "probes": 5,
        "instances": (instance(),),
        **changes,
    }
    return Observation.model_validate(fields)


@pytest.mark.parametrize(
    ("observation", "verdict"),
    [
        pytest.param(seen(100, 0), Verdict.PASS, id="no errors"),
        pytest.param(seen(100, 4), Verdict.PASS, id="errors below the allowed share"),
        pytest.param(seen(100, 5), Verdict.FAIL, id="errors at the allowed share"),
        pytest.param(seen(10, 10), Verdict.FAIL, id="nothing but errors"),
        pytest.param(seen(10, 2), Verdict.PASS, id="a large share of too few errors"),
        pytest.param(seen(9, 9), Verdict.INCONCLUSIVE, id="errors in too few requests"),
        pytest.param(seen(9, 0), Verdict.INCONCLUSIVE, id="too few requests"),
        pytest.param(seen(0, 0), Verdict.INCONCLUSIVE, id="nothing at all"),
        pytest.param(seen(100, 0, probes=0), Verdict.INCONCLUSIVE, id="never probed"),
        pytest.param(seen(100, 10, stable=(1000, 100)), Verdict.INCONCLUSIVE, id="stable fails as well"),
        pytest.param(seen(100, 10, stable=(3, 3)), Verdict.FAIL, id="too little is known of stable to excuse it"),
        pytest.param(seen(100, 50, stable=(1000, 100)), Verdict.FAIL, id="far worse than a failing stable"),
    ],
)
def test_shares_of_errors(observation: Observation, verdict: Verdict) -> None:
    judged = ThresholdJudge(SPEC, min_requests=10).judge(observation)
    assert judged.verdict is verdict, judged.reason
    assert judged.reason


@pytest.mark.parametrize(("failed", "verdict"), [(2, Verdict.PASS), (3, Verdict.FAIL)])
def test_probes_that_fail_in_a_row(failed: int, verdict: Verdict) -> None:
    sick = instance(healthy=False, detail="/health answered 503")
    judged = ThresholdJudge(SPEC, 10).judge(
        seen(100, 0, instances=(instance(name="new.2"), sick), failed_probes={"new.1": failed})
    )
    assert judged.verdict is verdict
    if verdict is Verdict.FAIL:
        assert "new.1" in judged.reason
        assert "/health answered 503" in judged.reason


@pytest.mark.parametrize(("restarts", "verdict"), [(1, Verdict.PASS), (2, Verdict.FAIL)])
def test_restarts_of_one_that_is_healthy_each_time_it_is_asked(restarts: int, verdict: Verdict) -> None:
    judged = ThresholdJudge(SPEC, 10).judge(seen(100, 0, instances=(instance(restarts=restarts),)))
    assert judged.verdict is verdict


def test_with_no_minimum_a_quiet_candidate_passes_and_a_broken_one_does_not() -> None:
    assert ThresholdJudge(SPEC, 0).judge(seen(0, 0)).verdict is Verdict.PASS
    assert ThresholdJudge(SPEC, 0).judge(seen(3, 3)).verdict is Verdict.FAIL


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
    judged = ThresholdJudge(SPEC, min_requests=10).judge(found)
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
    assert ThresholdJudge(SPEC, 10).judge(seen(100, 0, divided=far_off)).verdict is Verdict.PASS
    spec = SPEC.model_copy(update={"max_split_error": 1.0})
    assert ThresholdJudge(spec, 10).judge(seen(100, 0, weight=100, divided=far_off)).verdict is Verdict.PASS


def test_a_failing_candidate_fails_however_users_were_divided() -> None:
    judged = ThresholdJudge(SPEC, 10).judge(seen(100, 50, weight=100, divided=Divided(candidate=100, stable=1000)))
    assert judged.verdict is Verdict.FAIL

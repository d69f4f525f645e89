"""The fuse trips on what is plainly broken, and never calls too little a pass."""

import pytest

from models.judge import Fuse, Observation
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
    judged = Fuse(SPEC, min_requests=10).judge(observation)
    assert judged.verdict is verdict, judged.reason
    assert judged.reason


@pytest.mark.parametrize(("failed", "verdict"), [(2, Verdict.PASS), (3, Verdict.FAIL)])
def test_probes_that_fail_in_a_row(failed: int, verdict: Verdict) -> None:
    sick = instance(healthy=False, detail="/health answered 503")
    judged = Fuse(SPEC, 10).judge(
        seen(100, 0, instances=(instance(name="new.2"), sick), failed_probes={"new.1": failed})
    )
    assert judged.verdict is verdict
    if verdict is Verdict.FAIL:
        assert "new.1" in judged.reason
        assert "/health answered 503" in judged.reason


@pytest.mark.parametrize(("restarts", "verdict"), [(1, Verdict.PASS), (2, Verdict.FAIL)])
def test_restarts_of_one_that_is_healthy_each_time_it_is_asked(restarts: int, verdict: Verdict) -> None:
    judged = Fuse(SPEC, 10).judge(seen(100, 0, instances=(instance(restarts=restarts),)))
    assert judged.verdict is verdict


def test_with_no_minimum_a_quiet_candidate_passes_and_a_broken_one_does_not() -> None:
    assert Fuse(SPEC, 0).judge(seen(0, 0)).verdict is Verdict.PASS
    assert Fuse(SPEC, 0).judge(seen(3, 3)).verdict is Verdict.FAIL

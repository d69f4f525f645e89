"""Whatever fails, and whenever it is stopped: fully old, said so, and nothing left of the candidate."""

import pytest

from models.outcome import FailureType, Outcome
from models.verdict import Verdict
from tests.workflows.conftest import Bench, assert_fully_new, assert_fully_old, bench_for, ended, make_spec, status
from tests.workflows.simulated import SimulatedTarget
from workflows import wire_names

SMOKE = {"smoke": [{"name": "home", "request": {"path": "/"}}]}
SENTRY = {"sentry": {"dsn": "env:SENTRY_DSN"}}


@pytest.mark.parametrize(
    ("check", "kind"),
    [
        ("smoke_home", FailureType.SMOKE),
        ("health", FailureType.HEALTH),
        ("metrics", FailureType.HEALTH),
        ("router_metrics", FailureType.MONITORING),
        ("error_tracking", FailureType.ERROR_TRACKING),
    ],
)
@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE])
async def test_a_check_that_does_not_pass_rolls_back(
    bench: Bench, check: str, kind: FailureType, verdict: Verdict
) -> None:
    bench.target.verdicts[check] = verdict

    report = await bench.run(make_spec(verify=SMOKE, observe=SENTRY))

    assert report.outcome is Outcome.ROLLED_BACK
    assert report.failure is not None
    assert report.failure.type is kind
    assert_fully_old(bench.target)
    assert all(each.state == "done" for each in report.compensations)


@pytest.mark.parametrize("check", ["artifacts", "environment", "disk", "memory", "address"])
async def test_preflight_changes_nothing(bench: Bench, check: str) -> None:
    bench.target.verdicts[check] = Verdict.FAIL

    report = await bench.run(make_spec())

    assert report.outcome is Outcome.PREFLIGHT_FAILED
    assert report.failure is not None
    assert report.failure.type is FailureType.PREFLIGHT
    assert not {"stage", "shift", "restore", "retire"} & set(bench.target.calls)
    assert_fully_old(bench.target)


async def test_a_failing_watch_has_moved_the_traffic_before_anything_else_happens(bench: Bench) -> None:
    bench.target.watches = [Verdict.FAIL]

    report = await bench.run(make_spec())

    assert report.outcome is Outcome.ROLLED_BACK
    assert report.measured.verdict_to_stable is not None
    assert bench.target.weights_seen == [10, 0]
    assert_fully_old(bench.target)


async def test_a_candidate_that_fails_during_the_bake_is_undone_after_its_promotion(bench: Bench) -> None:
    bench.target.watches = [Verdict.PASS, Verdict.PASS, Verdict.FAIL]

    report = await bench.run(make_spec())

    assert "promote" in bench.target.calls
    assert report.outcome is Outcome.ROLLED_BACK
    assert_fully_old(bench.target)


async def test_one_instance_with_the_wrong_version_never_gets_a_request(bench: Bench) -> None:
    async def mislabel(name: str, _: int) -> None:
        if name == "stage":
            bench.target.wrong_version.update({"1.1.0-" + (await _run_id(bench))[-6:]})

    bench.target.hook = mislabel

    report = await bench.run(make_spec())

    assert report.outcome is Outcome.ROLLED_BACK
    assert report.failure is not None
    assert report.failure.type is FailureType.DEPLOYMENT
    assert bench.target.weights_seen == []
    assert_fully_old(bench.target)


async def test_what_would_be_refused_later_never_gets_a_request(bench: Bench) -> None:
    bench.target.unfit = {"metrics": "/metrics answered 404, expected 200"}

    report = await bench.run(make_spec())

    assert report.outcome is Outcome.ROLLED_BACK
    assert report.failure is not None
    assert report.failure.type is FailureType.HEALTH
    assert "endpoints: " in report.failure.reason
    assert "/metrics answered 404, expected 200" in report.failure.reason
    assert [check.name for result in report.stages for check in result.checks if check.verdict is Verdict.FAIL] == [
        "candidate_endpoints"
    ]
    assert bench.target.weights_seen == []
    assert_fully_old(bench.target)


async def _run_id(bench: Bench) -> str:
    description = await bench.env.client.get_workflow_handle("deploy/shop/staging").describe()
    return description.run_id or ""


async def test_the_rehearsal_refuses_to_go_back_to_an_old_version_that_is_not_healthy(bench: Bench) -> None:
    stable = bench.target.stable
    assert stable is not None

    async def fall_ill(name: str, _: int) -> None:
        if name == "router_metrics":
            bench.target.unhealthy.add(stable.id)

    bench.target.hook = fall_ill
    handle = await bench.start(make_spec())
    # What cannot be verified is not switched back onto: a person is called.
    await bench.until(Outcome.ROLLBACK_FAILED, handle)
    report = await status(handle)
    assert report.failure is not None
    assert report.failure.type is FailureType.REHEARSAL

    bench.target.unhealthy.clear()
    await handle.execute_update(wire_names.RESOLVE, {"way": "retry", "by": "ops"})

    assert (await ended(handle)).outcome is Outcome.ROLLED_BACK
    assert_fully_old(bench.target)


async def test_a_failed_first_deployment_leaves_nothing_behind() -> None:
    target = SimulatedTarget(verdicts={"health": Verdict.FAIL})
    async with bench_for(target) as bench:
        report = await bench.run(make_spec())

    assert report.outcome is Outcome.ROLLED_BACK
    assert (target.stable, target.running, target.weights) == (None, {}, {})


async def test_a_verb_that_fails_for_a_while_is_tried_again(bench: Bench) -> None:
    bench.target.breaking.update({"shift": 2, "stage": 2, "promote": 2})

    report = await bench.run(make_spec())

    assert report.outcome is Outcome.DEPLOYED
    assert_fully_new(bench.target)

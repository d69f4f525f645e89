"""Whoever watches is awake before the first user reaches the candidate, and never in the way of a rollback."""

from typing import Any

from models.outcome import FailureType, Outcome
from models.report import DeploymentReport
from models.spec import DeploymentSpec
from models.verdict import CheckResult, Stage, Verdict
from tests.workflows.conftest import Bench, assert_fully_new, assert_fully_old, make_spec

PROMETHEUS = {"url": "http://127.0.0.1:9090", "targets": "/srv/targets", "rules": "/srv/rules"}
BOTH: dict[str, Any] = {"prometheus": PROMETHEUS, "alertmanager": {"url": "http://127.0.0.1:9093"}}


def watched(observe: dict[str, Any] = BOTH, **changes: Any) -> DeploymentSpec:
    return make_spec(observe=observe, **changes)


def checks_of(report: DeploymentReport, stage: Stage) -> dict[str, CheckResult]:
    found = next(each for each in report.stages if each.stage is stage)
    return {check.name: check for check in found.checks}


async def test_watchers_are_set_up_before_the_first_weight_and_seen_again_at_the_end(bench: Bench) -> None:
    report = await bench.run(watched())

    assert report.outcome is Outcome.DEPLOYED
    assert_fully_new(bench.target)
    calls = bench.target.calls
    assert calls.index("stage") < calls.index("set_up_monitoring") < calls.index("shift")
    assert calls.index("watch") < calls.index("see_monitoring")
    assert "see_monitoring" in checks_of(report, Stage.OBSERVE)
    # Sent once: what was seen then counts at the gate.
    assert calls.count("alertmanager") == 1
    assert checks_of(report, Stage.OBSERVE)["alertmanager"].verdict is Verdict.PASS


async def test_prometheus_is_told_of_each_change_of_the_instances(bench: Bench) -> None:
    report = await bench.run(watched(strategy={"kind": "rolling", "watch": "1s"}))

    assert report.outcome is Outcome.DEPLOYED
    calls = [
        each for each in bench.target.calls if each in ("stage", "retire", "follow_instances", "set_up_monitoring")
    ]
    for position, call in enumerate(calls):
        if call == "retire":
            assert "follow_instances" in calls[position:], calls
    assert calls[-1] == "follow_instances"


async def test_a_watcher_that_does_not_work_ends_it_before_any_user_sees_the_candidate(bench: Bench) -> None:
    bench.target.verdicts["set_up_monitoring"] = Verdict.FAIL

    report = await bench.run(watched())

    assert report.outcome is Outcome.ROLLED_BACK
    assert report.failure is not None
    assert report.failure.type is FailureType.MONITORING
    assert "set_up_monitoring says fail" in report.failure.reason
    assert bench.target.weights_seen == []
    assert_fully_old(bench.target)
    assert bench.target.calls.count("undo_monitoring") == 1


async def test_what_prometheus_reads_is_put_back_after_the_traffic(bench: Bench) -> None:
    bench.target.verdicts["see_monitoring"] = Verdict.FAIL

    report = await bench.run(watched())

    assert report.outcome is Outcome.ROLLED_BACK
    assert report.failure is not None
    assert report.failure.type is FailureType.MONITORING
    calls = bench.target.calls
    assert calls.index("restore") < calls.index("undo_monitoring")
    assert_fully_old(bench.target)


async def test_a_prometheus_that_went_away_does_not_fail_the_way_back_and_is_named(bench: Bench) -> None:
    bench.target.verdicts["see_monitoring"] = Verdict.FAIL
    bench.target.refusing.add("undo_monitoring")

    report = await bench.run(watched())

    assert report.outcome is Outcome.ROLLED_BACK
    assert report.not_rolled_back == ("what Prometheus reads about it (Impossible: undo_monitoring is refused)",)
    assert_fully_old(bench.target)


async def test_instances_that_cannot_be_announced_do_not_end_a_deployment(bench: Bench) -> None:
    bench.target.refusing.add("follow_instances")

    report = await bench.run(watched())

    assert report.outcome is Outcome.DEPLOYED


async def test_what_is_not_configured_is_skipped_with_its_reason(bench: Bench) -> None:
    report = await bench.run(make_spec())

    checks = checks_of(report, Stage.OBSERVE)
    assert checks["prometheus"].verdict is checks["alertmanager"].verdict is Verdict.SKIPPED
    assert checks["prometheus"].reason == "no Prometheus is configured (observe.prometheus)"
    assert not {"set_up_monitoring", "follow_instances", "see_monitoring"} & set(bench.target.calls)


async def test_an_alertmanager_alone_has_nothing_to_undo(bench: Bench) -> None:
    report = await bench.run(watched({"alertmanager": {"url": "http://127.0.0.1:9093"}}))

    assert report.outcome is Outcome.DEPLOYED
    assert not {"follow_instances", "undo_monitoring", "see_monitoring"} & set(bench.target.calls)
    assert [undone.what for undone in report.compensations if "Prometheus" in undone.what] == []

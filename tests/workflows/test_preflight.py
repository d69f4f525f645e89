"""What preflight asks, until when, and what follows from it."""

from datetime import UTC, timedelta

import pytest

from models.outcome import FailureType, Outcome
from models.plan import make_revision
from models.release import Release
from models.verdict import CheckResult, Stage, Verdict
from tests.workflows.conftest import Bench, assert_fully_old, bench_for, ended, make_spec, old_revision, status
from tests.workflows.simulated import SimulatedTarget
from workflows import wire_names

REVISION = "acb5820ced9479c074f688cc328bf03f341a511d"
RELEASE = {"version": "1.1.0", "revision": REVISION}
CI = {"ci": {"kind": "github", "repository": "acme/shop", "wait": "25m"}}


def preflight(report: object) -> dict[str, CheckResult]:
    stages = getattr(report, "stages", ())
    return {check.name: check for stage in stages if stage.stage is Stage.PREFLIGHT for check in stage.checks}


async def test_ci_is_asked_about_the_revision_until_a_moment_that_was_decided_once(bench: Bench) -> None:
    bench.target.breaking["ci"] = 2  # its first two attempts are lost

    handle = await bench.start(make_spec(release=RELEASE, preflight=CI))
    began = (await handle.describe()).start_time
    report = await ended(handle)

    assert report.outcome is Outcome.DEPLOYED
    asked = bench.target.ci_questions
    assert {question.revision for question in asked} == {REVISION}
    assert len({question.deadline for question in asked}) == 1
    deadline = asked[0].deadline
    assert deadline is not None
    assert timedelta(minutes=25) <= deadline.astimezone(UTC) - began < timedelta(minutes=26)


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.ERROR])
async def test_ci_that_did_not_pass_changes_nothing(bench: Bench, verdict: Verdict) -> None:
    bench.target.verdicts["ci"] = verdict

    report = await bench.run(make_spec(release=RELEASE, preflight=CI))

    assert report.outcome is Outcome.PREFLIGHT_FAILED
    assert preflight(report)["ci"].verdict is verdict
    assert "stage" not in bench.target.calls
    assert_fully_old(bench.target)


async def test_without_ci_nobody_is_asked_and_it_is_said(bench: Bench) -> None:
    report = await bench.run(make_spec())

    assert "ci" not in bench.target.calls
    found = preflight(report)["ci"]
    assert (found.verdict, "preflight.ci" in found.reason) == (Verdict.SKIPPED, True)


WITH_LEVEL = {
    "kind": "local",
    "run": ["python3", "app.py"],
    "listen": "127.0.0.1:8080",
    "environment": {"LEVEL": "info", "REGION": "eu"},
}


@pytest.mark.parametrize(
    ("parity", "outcome", "verdict"),
    [
        ("warn", Outcome.DEPLOYED, Verdict.PASS),
        ("ignore", Outcome.DEPLOYED, Verdict.PASS),
        ("fail", Outcome.PREFLIGHT_FAILED, Verdict.FAIL),
    ],
)
async def test_a_name_that_stable_is_given_and_the_candidate_is_not_is_told(
    parity: str, outcome: Outcome, verdict: Verdict
) -> None:
    stable = make_spec(release={"version": "1.0.0"}, platform=WITH_LEVEL)
    target = SimulatedTarget()
    target.serve(make_revision(stable, Release(service="shop", version="1.0.0"), run_id="abcdef00"))
    candidate = {**WITH_LEVEL, "environment": {"LEVEL": "debug", "NEW": "x"}}
    async with bench_for(target) as bench:
        report = await bench.run(make_spec(platform=candidate, preflight={"parity": parity}))

    assert report.outcome is outcome
    found = preflight(report)["environment"]
    assert found.verdict is verdict
    assert ("is given REGION, and the new version is not" in found.reason) == (parity != "ignore")
    assert found.evidence.get("lost", ["REGION"]) == ["REGION"]


async def test_an_image_that_changed_while_the_approval_was_waited_for_stops_it() -> None:
    image = {"oci:ghcr.io/acme/shop:1.1.0": "sha256:" + "a" * 64}
    target = SimulatedTarget(digests=image)
    target.serve(old_revision())
    async with bench_for(target) as bench:
        handle = await bench.start(make_spec(approvals={"before": ["deploy"]}))
        await bench.until(Outcome.AWAITING_APPROVAL, handle)
        plan = (await status(handle)).plan
        target.verdicts["artifacts"] = Verdict.FAIL
        await handle.execute_update(wire_names.APPROVE, {"by": "ann"})
        report = await ended(handle)

    assert plan is not None and plan.digests.items() >= image.items()
    first, again = target.artifact_questions
    assert (first.expected, again.expected) == ({}, {"directory": "0" * 64, **image})
    assert report.outcome is Outcome.PREFLIGHT_FAILED
    assert report.failure is not None and report.failure.type is FailureType.PREFLIGHT
    assert "stage" not in target.calls
    assert_fully_old(target)

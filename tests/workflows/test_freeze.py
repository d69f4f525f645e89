"""A freeze stops a deployment before its first effect, whenever that would be, and never a rollback."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError

from models.messages import Kind
from models.outcome import EXIT_CODES, FailureType, Outcome
from models.report import DeploymentReport
from models.spec import DeploymentSpec
from models.verdict import CheckResult, Stage, Verdict
from tests.workflows.conftest import (
    Bench,
    assert_fully_new,
    assert_fully_old,
    bench_for,
    ended,
    make_spec,
    old_revision,
)
from tests.workflows.simulated import SimulatedTarget
from workflows import wire_names

EFFECTS = {"stage", "shift", "promote", "retire", "restore"}
ALWAYS = ({"cron": "* * * * *", "for": "1d", "reason": "the books are closed"},)


def from_now(begins: timedelta, ends: timedelta) -> tuple[dict[str, str], ...]:
    now = datetime.now(UTC)
    text = "%Y-%m-%d %H:%M:%S"
    return ({"from": (now + begins).strftime(text), "until": (now + ends).strftime(text), "reason": "the sale"},)


def check(report: DeploymentReport, stage: Stage) -> CheckResult:
    result = next(each for each in report.stages if each.stage is stage)
    return next(each for each in result.checks if each.name == "freeze")


async def start_behind_glass(bench: Bench, spec: DeploymentSpec) -> WorkflowHandle[Any, Any]:
    return await bench.start(spec, by="ann", break_glass="payments are down")


async def test_in_a_freeze_nothing_is_changed_and_nobody_is_asked_to_approve(bench: Bench) -> None:
    report = await bench.run(make_spec(target="production", freeze=ALWAYS))

    assert report.outcome is Outcome.FROZEN
    assert EXIT_CODES[report.outcome] == 13
    assert report.failure is not None
    assert report.failure.type is FailureType.FROZEN
    assert "the books are closed" in report.failure.reason
    assert check(report, Stage.PREFLIGHT).verdict is Verdict.FAIL
    assert report.decisions == ()
    assert not EFFECTS & set(bench.target.calls)
    assert_fully_old(bench.target)
    assert bench.target.reports[-1].outcome is Outcome.FROZEN


async def test_before_and_after_a_freeze_it_deploys(bench: Bench) -> None:
    report = await bench.run(make_spec(freeze=from_now(timedelta(days=2), timedelta(days=3))))

    assert report.outcome is Outcome.DEPLOYED
    assert check(report, Stage.PREFLIGHT).verdict is check(report, Stage.DEPLOY).verdict is Verdict.PASS


async def test_without_freezes_nobody_is_asked(bench: Bench) -> None:
    report = await bench.run(make_spec())

    assert check(report, Stage.PREFLIGHT).verdict is Verdict.SKIPPED
    assert "freeze" not in bench.target.calls


async def test_a_freeze_that_begins_while_an_approval_is_waited_for_counts(bench: Bench) -> None:
    freeze = from_now(timedelta(hours=2), timedelta(days=3))
    handle = await bench.start(make_spec(target="production", freeze=freeze))
    await bench.until(Outcome.AWAITING_APPROVAL, handle)
    await bench.env.sleep(timedelta(hours=3))

    await handle.execute_update(wire_names.APPROVE, {"by": "bob"})

    report = await ended(handle)
    assert report.outcome is Outcome.FROZEN
    assert check(report, Stage.PREFLIGHT).verdict is Verdict.PASS
    assert check(report, Stage.DEPLOY).verdict is Verdict.FAIL
    assert not EFFECTS & set(bench.target.calls)
    assert_fully_old(bench.target)


async def test_a_freeze_that_begins_while_it_is_held_before_its_first_effect_counts(bench: Bench) -> None:
    async def hold(name: str, _: int) -> None:
        if name == "disk":
            handle = bench.env.client.get_workflow_handle("deploy/shop/staging")
            await handle.signal(wire_names.HOLD, {"by": "ann", "reason": "lunch"})

    bench.target.hook = hold
    handle = await bench.start(make_spec(freeze=from_now(timedelta(hours=2), timedelta(days=3))))
    await bench.until_doing("held", handle)
    await bench.env.sleep(timedelta(hours=3))

    await handle.execute_update(wire_names.RESUME, {"by": "ann"})

    assert (await ended(handle)).outcome is Outcome.FROZEN
    assert not EFFECTS & set(bench.target.calls)


async def test_what_is_under_way_when_a_freeze_begins_is_finished(bench: Bench) -> None:
    report = await bench.run(make_spec(freeze=from_now(timedelta(minutes=4), timedelta(days=3))))

    assert report.outcome is Outcome.DEPLOYED
    assert_fully_new(bench.target)


async def test_what_is_under_way_when_a_freeze_begins_can_be_rolled_back(bench: Bench) -> None:
    bench.target.watches = [Verdict.INCONCLUSIVE] * 2
    handle = await bench.start(make_spec(freeze=from_now(timedelta(minutes=4), timedelta(days=3))))
    await bench.until(Outcome.HELD, handle)

    await handle.execute_update(wire_names.ROLLBACK, {"by": "ann", "reason": "errors"})

    assert (await ended(handle)).outcome is Outcome.ROLLED_BACK
    assert_fully_old(bench.target)


async def test_a_failing_candidate_is_rolled_back_in_a_freeze_as_well(bench: Bench) -> None:
    bench.target.watches = [Verdict.PASS, Verdict.FAIL]

    report = await bench.run(make_spec(freeze=from_now(timedelta(minutes=4), timedelta(days=3))))

    assert report.outcome is Outcome.ROLLED_BACK
    assert_fully_old(bench.target)


async def test_a_rollback_after_the_end_is_never_frozen() -> None:
    target = SimulatedTarget(previous=old_revision("0.9.0"))
    target.serve(old_revision("1.0.0"))
    async with bench_for(target) as bench:
        report = await bench.run(make_spec(freeze=ALWAYS), Kind.ROLLBACK)

    assert report.outcome is Outcome.ROLLED_BACK
    assert target.stable is not None and target.stable.release.version == "0.9.0"
    assert "freeze" not in target.calls


async def test_a_freeze_that_cannot_be_asked_about_is_no_pass(bench: Bench) -> None:
    bench.target.breaking["freeze"] = -1

    report = await bench.run(make_spec(freeze=from_now(timedelta(days=2), timedelta(days=3))))

    assert report.outcome is Outcome.PREFLIGHT_FAILED
    assert check(report, Stage.PREFLIGHT).verdict is Verdict.ERROR


async def test_frozen_and_broken_is_frozen_and_says_both(bench: Bench) -> None:
    bench.target.verdicts["disk"] = Verdict.FAIL

    report = await bench.run(make_spec(freeze=ALWAYS))

    assert report.outcome is Outcome.FROZEN
    assert report.failure is not None
    assert "disk says fail" in report.failure.reason and "freeze is in force" in report.failure.reason


async def test_a_second_person_lets_a_deployment_through_a_freeze(bench: Bench) -> None:
    handle = await start_behind_glass(bench, make_spec(freeze=ALWAYS))
    await bench.until(Outcome.AWAITING_APPROVAL, handle)
    assert not EFFECTS & set(bench.target.calls)

    await handle.execute_update(wire_names.APPROVE, {"by": "bob", "reason": "they are"})

    report = await ended(handle)
    assert report.outcome is Outcome.DEPLOYED
    said = [(each.what, each.by, each.reason) for each in report.decisions]
    assert said == [("break-glass", "ann", "payments are down"), ("approve deploy", "bob", "they are")]
    assert check(report, Stage.PREFLIGHT).verdict is check(report, Stage.DEPLOY).verdict is Verdict.SKIPPED
    assert "set aside by ann (break-glass): payments are down" in check(report, Stage.DEPLOY).reason
    assert report.plan is not None and report.plan.break_glass == "payments are down"


@pytest.mark.parametrize("name", ["ann", "Ann", " ann"])
async def test_who_breaks_the_glass_cannot_be_the_second_person(bench: Bench, name: str) -> None:
    handle = await start_behind_glass(bench, make_spec(freeze=ALWAYS))
    await bench.until(Outcome.AWAITING_APPROVAL, handle)

    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update(wire_names.APPROVE, {"by": name.strip()})
    assert "a second person approves it" in str(refused.value.cause)
    await handle.signal(wire_names.APPROVE, {"by": name.strip()})
    await handle.execute_update(wire_names.REJECT, {"by": "ann", "reason": "nobody is awake"})

    report = await ended(handle)
    assert report.outcome is Outcome.REJECTED
    assert "approve (refused" in report.decisions[1].what
    assert not EFFECTS & set(bench.target.calls)


async def test_the_second_person_is_one_who_may_approve_at_all(bench: Bench) -> None:
    spec = make_spec(freeze=ALWAYS, approvals={"by": ["ann", "bob"]})
    handle = await start_behind_glass(bench, spec)
    await bench.until(Outcome.AWAITING_APPROVAL, handle)

    with pytest.raises(WorkflowUpdateFailedError):
        await handle.execute_update(wire_names.APPROVE, {"by": "eve"})
    await handle.execute_update(wire_names.APPROVE, {"by": "bob"})

    assert (await ended(handle)).outcome is Outcome.DEPLOYED


async def test_a_glass_that_nobody_helps_to_break_stays_whole(bench: Bench) -> None:
    report = await ended(await start_behind_glass(bench, make_spec(freeze=ALWAYS)))

    assert report.outcome is Outcome.REJECTED
    assert report.failure is not None and "nobody approved it within 1d" in report.failure.reason
    assert_fully_old(bench.target)


async def test_a_broken_glass_can_be_rolled_back(bench: Bench) -> None:
    bench.target.watches = [Verdict.INCONCLUSIVE] * 2
    handle = await start_behind_glass(bench, make_spec(freeze=ALWAYS))
    await bench.until(Outcome.AWAITING_APPROVAL, handle)
    await handle.execute_update(wire_names.APPROVE, {"by": "bob"})
    await bench.until(Outcome.HELD, handle)

    await handle.signal(wire_names.ROLLBACK, {"by": "bob"})

    assert (await ended(handle)).outcome is Outcome.ROLLED_BACK
    assert_fully_old(bench.target)

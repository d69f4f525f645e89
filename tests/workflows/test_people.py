"""What people say to a running deployment, and what happens when nobody says anything."""

from typing import Any

import pytest
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError

from models.messages import Kind
from models.outcome import FailureType, Outcome
from models.plan import make_revision
from models.release import Release
from models.spec import DeploymentSpec
from models.verdict import Stage, Verdict
from tests.workflows.conftest import (
    Bench,
    assert_fully_new,
    assert_fully_old,
    bench_for,
    ended,
    make_spec,
    old_revision,
    status,
)
from tests.workflows.simulated import SimulatedTarget
from workflows import wire_names

PRODUCTION = {"target": "production", "approvals": {"by": ["ann", "bob"]}}


async def refused(handle: WorkflowHandle[Any, Any], name: str, message: dict[str, Any]) -> str:
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await handle.execute_update(name, message)
    return str(caught.value.cause)


async def start(bench: Bench, spec: DeploymentSpec, outcome: Outcome) -> WorkflowHandle[Any, Any]:
    handle = await bench.start(spec)
    await bench.until(outcome, handle)
    return handle


async def test_production_waits_for_a_named_person_before_its_first_effect(bench: Bench) -> None:
    handle = await start(bench, make_spec(**PRODUCTION), Outcome.AWAITING_APPROVAL)
    assert "stage" not in bench.target.calls

    assert "may not decide" in await refused(handle, wire_names.APPROVE, {"by": "eve"})
    assert "is for the plan" in await refused(handle, wire_names.APPROVE, {"by": "ann", "plan": "another"})
    plan = (await status(handle)).plan
    assert plan is not None
    decision = await handle.execute_update(wire_names.APPROVE, {"by": "ann", "reason": "looked at it", "plan": plan.id})

    report = await ended(handle)
    assert report.outcome is Outcome.DEPLOYED
    assert decision["what"] == "approve deploy"
    assert [(each.by, each.what, each.reason) for each in report.decisions] == [
        ("ann", "approve deploy", "looked at it")
    ]


async def test_rejected_nothing_has_changed(bench: Bench) -> None:
    handle = await start(bench, make_spec(**PRODUCTION), Outcome.AWAITING_APPROVAL)

    await handle.signal(wire_names.REJECT, {"by": "bob", "reason": "not on a Friday"})

    report = await ended(handle)
    assert report.outcome is Outcome.REJECTED
    assert report.failure is not None
    assert "not on a Friday" in report.failure.reason
    assert_fully_old(bench.target)


async def test_an_approval_that_nobody_gives_expires_into_a_rejection(bench: Bench) -> None:
    report = await bench.run(make_spec(target="production"))

    assert report.outcome is Outcome.REJECTED
    assert report.failure is not None
    assert "1d" in report.failure.reason
    assert_fully_old(bench.target)


async def test_a_signal_of_somebody_who_may_not_is_noted_and_changes_nothing(bench: Bench) -> None:
    handle = await start(bench, make_spec(**PRODUCTION), Outcome.AWAITING_APPROVAL)

    await handle.signal(wire_names.APPROVE, {"by": "eve"})
    await handle.signal(wire_names.APPROVE, {"by": "ann"})

    report = await ended(handle)
    assert report.outcome is Outcome.DEPLOYED
    assert report.decisions[0].by == "eve"
    assert "refused" in report.decisions[0].what


async def test_rejected_before_a_later_stage_it_is_rolled_back(bench: Bench) -> None:
    handle = await start(bench, make_spec(approvals={"before": ["close"]}), Outcome.AWAITING_APPROVAL)

    await handle.execute_update(wire_names.REJECT, {"by": "ann"})

    report = await ended(handle)
    assert report.outcome is Outcome.ROLLED_BACK
    assert report.failure is not None
    assert report.failure.type is FailureType.REJECTED
    assert_fully_old(bench.target)


async def test_cancelled_while_it_waits_for_approval_it_ends(bench: Bench) -> None:
    handle = await start(bench, make_spec(**PRODUCTION), Outcome.AWAITING_APPROVAL)

    await handle.cancel()

    assert (await ended(handle)).outcome is Outcome.ROLLED_BACK
    assert_fully_old(bench.target)


async def test_a_watch_that_saw_too_little_twice_is_held_for_a_person_who_lets_it_go_on(bench: Bench) -> None:
    bench.target.watches = [Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE]
    handle = await start(bench, make_spec(), Outcome.HELD)
    held = await status(handle)
    assert held.stages[-1].stage is Stage.DEPLOY
    assert held.stages[-1].verdict is Verdict.INCONCLUSIVE

    await handle.execute_update(wire_names.RESUME, {"by": "ann", "reason": "quiet day"})

    report = await ended(handle)
    assert report.outcome is Outcome.DEPLOYED
    deploy = next(stage for stage in report.stages if stage.stage is Stage.DEPLOY)
    step = next(check for check in deploy.checks if check.name == "step_10")
    assert step.verdict is Verdict.SKIPPED
    assert step.evidence["let_go_on_by"] == "ann"


async def test_a_watch_that_could_not_ask_never_aborts_by_itself(bench: Bench) -> None:
    bench.target.watches = [Verdict.ERROR, Verdict.PASS]

    report = await bench.run(make_spec())

    assert report.outcome is Outcome.DEPLOYED


async def test_on_inconclusive_rollback_rolls_back(bench: Bench) -> None:
    bench.target.watches = [Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE]
    strategy = {"kind": "canary", "judge": {"on_inconclusive": "rollback"}}

    report = await bench.run(make_spec(strategy=strategy))

    assert report.outcome is Outcome.ROLLED_BACK
    assert_fully_old(bench.target)


async def test_held_for_ever_it_is_rolled_back(bench: Bench) -> None:
    bench.target.watches = [Verdict.INCONCLUSIVE] * 2
    bench.target.watches += [Verdict.PASS] * 40

    report = await bench.run(make_spec())

    assert report.outcome is Outcome.ROLLED_BACK
    assert report.failure is not None
    assert "nobody decided within 1d" in report.failure.reason
    assert_fully_old(bench.target)


async def test_a_candidate_that_fails_while_it_is_held_loses_its_traffic(bench: Bench) -> None:
    bench.target.watches = [Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE, Verdict.FAIL]

    report = await bench.run(make_spec())

    assert report.outcome is Outcome.ROLLED_BACK
    assert bench.target.weights_seen == [10, 0]
    assert_fully_old(bench.target)


async def test_a_person_holds_it_before_its_next_move_and_lets_it_go_on(bench: Bench) -> None:
    async def hold(name: str, _: int) -> None:
        if name == "watch" and len(bench.target.watch_orders) == 0:
            handle = bench.env.client.get_workflow_handle("deploy/shop/staging")
            await handle.signal(wire_names.HOLD, {"by": "ann", "reason": "coffee"})

    bench.target.hook = hold
    handle = await bench.start(make_spec())
    await bench.until_doing("held", handle)
    assert (await status(handle)).outcome is Outcome.RUNNING
    assert bench.target.weights_seen == [10]

    assert "held already" in await refused(handle, wire_names.HOLD, {"by": "bob"})
    await handle.execute_update(wire_names.RESUME, {"by": "ann"})

    assert (await ended(handle)).outcome is Outcome.DEPLOYED
    assert_fully_new(bench.target)


async def test_a_rollback_after_the_end_brings_the_former_release_back_without_asking_anybody() -> None:
    target = SimulatedTarget(previous=old_revision("0.9.0"))
    target.serve(old_revision("1.0.0"))
    async with bench_for(target) as bench:
        report = await bench.run(make_spec(target="production"), Kind.ROLLBACK)

    assert report.outcome is Outcome.ROLLED_BACK
    assert report.version == "0.9.0"
    assert report.previous_version == "1.0.0"
    assert target.stable is not None
    assert target.stable.release.version == "0.9.0"
    assert list(target.running) == [target.stable.id]
    assert [stage.stage for stage in report.stages] == [Stage.PREFLIGHT, Stage.DEPLOY, Stage.VERIFY, Stage.CLOSE]


async def test_a_rollback_without_anything_to_go_back_to_says_so(bench: Bench) -> None:
    report = await bench.run(make_spec(), Kind.ROLLBACK)

    assert report.outcome is Outcome.PREFLIGHT_FAILED
    assert report.failure is not None
    assert "no earlier release" in report.failure.reason
    assert_fully_old(bench.target)


async def test_a_requested_rollback_that_does_not_work_calls_a_human() -> None:
    target = SimulatedTarget(previous=old_revision("0.9.0"), verdicts={"health": Verdict.FAIL})
    target.serve(old_revision("1.0.0"))
    async with bench_for(target) as bench:
        report = await bench.run(make_spec(), Kind.ROLLBACK)

    assert report.outcome is Outcome.ROLLBACK_FAILED
    assert_fully_old(target)


async def test_a_rollback_after_a_terminated_deployment_goes_back_to_what_was_stable(bench: Bench) -> None:
    left = make_revision(make_spec(), Release(service="shop", version="1.1.0"), run_id="fedcba99")
    stable = bench.target.stable
    assert stable is not None
    bench.target.running[left.id] = (left, 2)
    bench.target.weights = {stable.id: 50, left.id: 50}

    report = await bench.run(make_spec(), Kind.ROLLBACK)

    assert report.outcome is Outcome.ROLLED_BACK
    assert report.version == "1.0.0"
    assert_fully_old(bench.target)


async def test_a_bake_that_saw_too_little_is_left_to_a_person(bench: Bench) -> None:
    bench.target.watches = [Verdict.PASS, Verdict.PASS, Verdict.ERROR, Verdict.ERROR]
    handle = await start(bench, make_spec(), Outcome.HELD)

    await handle.execute_update(wire_names.RESUME, {"by": "ann"})

    assert (await ended(handle)).outcome is Outcome.DEPLOYED
    assert_fully_new(bench.target)


@pytest.mark.parametrize("name", ["approve", "reject", "rollback", "hold", "resume", "resolve"])
@pytest.mark.parametrize("sent", [[], [{"foo": 1}], [{"by": "a"}, {"by": "b"}]])
async def test_a_signal_that_nobody_can_read_stops_nothing(bench: Bench, name: str, sent: list[Any]) -> None:
    handle = await start(bench, make_spec(**PRODUCTION), Outcome.AWAITING_APPROVAL)

    await handle.signal(name, args=sent)

    if name == "rollback":
        assert (await ended(handle)).outcome is Outcome.ROLLED_BACK  # whoever pulls it need not know how to write it
        return
    await handle.execute_update(wire_names.APPROVE, {"by": "ann"})
    if name == "hold":
        await bench.until_doing("held", handle)
        await handle.execute_update(wire_names.RESUME, {"by": "ann"})
    report = await ended(handle)
    assert report.outcome is Outcome.DEPLOYED
    assert report.decisions[0].by == "unknown"


async def test_a_rollback_asked_for_twice_does_not_bring_the_bad_release_back() -> None:
    target = SimulatedTarget(previous=old_revision("0.9.0"))
    target.serve(old_revision("1.0.0"))

    async def ask_again(name: str, _: int) -> None:
        if name in ("stage", "promote"):
            handle = bench.env.client.get_workflow_handle("deploy/shop/staging")
            await handle.signal(wire_names.ROLLBACK, {"by": "bob", "reason": "also saw the page"})

    target.hook = ask_again
    async with bench_for(target) as bench:
        report = await bench.run(make_spec(), Kind.ROLLBACK)
        again = await bench.run(make_spec(), Kind.ROLLBACK)

    assert report.outcome is Outcome.ROLLED_BACK
    assert target.stable is not None
    assert target.stable.release.version == "0.9.0"
    assert again.outcome is Outcome.PREFLIGHT_FAILED


async def test_the_candidate_is_watched_while_a_person_thinks_about_an_approval(bench: Bench) -> None:
    bench.target.watches = [Verdict.PASS, Verdict.PASS, Verdict.FAIL]

    report = await bench.run(make_spec(approvals={"before": ["verify"]}))

    assert report.outcome is Outcome.ROLLED_BACK
    assert report.failure is not None
    assert report.failure.type is FailureType.DEPLOYMENT
    assert report.waiting_for == ""
    assert_fully_old(bench.target)


async def test_a_stable_revision_that_cannot_serve_does_not_stand_in_the_way_of_a_fix(bench: Bench) -> None:
    assert bench.target.stable is not None
    bench.target.unhealthy.add(bench.target.stable.id)

    report = await bench.run(make_spec(strategy={"kind": "rolling"}))

    assert report.outcome is Outcome.DEPLOYED
    assert bench.target.weights_seen == [100]
    assert_fully_new(bench.target)


async def test_an_approval_that_is_interrupted_leaves_nothing_to_wait_for(bench: Bench) -> None:
    handle = await start(bench, make_spec(approvals={"before": ["close"]}), Outcome.AWAITING_APPROVAL)

    await handle.signal(wire_names.ROLLBACK, {"by": "ops"})

    report = await ended(handle)
    assert report.outcome is Outcome.ROLLED_BACK
    assert report.waiting_for == ""
    assert_fully_old(bench.target)

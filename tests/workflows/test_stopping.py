"""Stopped at any moment, by any of the ways there are: fully old, and nothing left of the candidate.

Against a real server. The moments are the begins of the activities: between two of them a workflow does not wait for
anything but its timers, and those are in `test_people`.
"""

import asyncio
import uuid

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowUpdateStage
from temporalio.testing import WorkflowEnvironment

from models.outcome import FailureType, Outcome
from models.report import DeploymentReport
from models.verdict import Verdict
from tests.workflows.conftest import assert_fully_old, bench_for, ended, make_spec, old_revision
from tests.workflows.simulated import SimulatedTarget
from workflows import wire_names

AT_ONCE = 8
QUICK = {
    "strategy": {"kind": "canary", "steps": [{"weight": 10, "watch": "50ms"}, {"weight": 100, "watch": "50ms"}]},
    "verify": {"smoke": [{"name": "home", "request": {"path": "/"}}]},
}


async def _run(
    server: WorkflowEnvironment, target: SimulatedTarget, way: str, moments: tuple[int, ...]
) -> tuple[DeploymentReport, WorkflowExecutionStatus | None]:
    target.serve(old_revision())
    async with bench_for(target, server) as bench:
        spec = make_spec(service=f"shop-{uuid.uuid4().hex[:8]}", **QUICK)

        async def stop(_: str, number: int) -> None:
            if number not in moments:
                return
            handle = server.client.get_workflow_handle(f"deploy/{spec.service}/staging")
            if way == "cancel":
                await handle.cancel()
            elif way == "signal":
                await handle.signal(wire_names.ROLLBACK, {"by": "ops", "reason": "page"})
            else:
                stage = WorkflowUpdateStage.ACCEPTED
                await handle.start_update(wire_names.ROLLBACK, {"by": "ops"}, wait_for_stage=stage)

        target.hook = stop
        handle = await bench.start(spec)
        report = await asyncio.wait_for(ended(handle), 60)
        return report, (await handle.describe()).status


async def _undisturbed(server: WorkflowEnvironment) -> list[str]:
    target = SimulatedTarget()
    await _run(server, target, "signal", ())
    return target.calls


@pytest.mark.parametrize("way", ["cancel", "signal", "update"])
async def test_at_any_moment_it_ends_fully_old(real_server: WorkflowEnvironment, way: str) -> None:
    calls = await _undisturbed(real_server)
    turn = asyncio.Semaphore(AT_ONCE)

    async def at(moment: int) -> None:
        target = SimulatedTarget()
        async with turn:
            report, status = await _run(real_server, target, way, (moment,))
        assert report.outcome is Outcome.ROLLED_BACK, (moment, target.calls, report.failure)
        assert report.failure is not None
        assert report.failure.type is (FailureType.CANCELLED if way == "cancel" else FailureType.REQUESTED)
        assert status is (WorkflowExecutionStatus.CANCELED if way == "cancel" else WorkflowExecutionStatus.FAILED)
        assert_fully_old(target)
        # What was asked for is not a finding about the candidate.
        checks = [check for stage in report.stages for check in stage.checks]
        assert not [c for c in checks if c.verdict is Verdict.INCONCLUSIVE or "ancelled" in c.reason], (moment, checks)

    # The last one writes the report of a deployment that has ended. An update does what a signal does: some are enough.
    moments = range(1, len(calls), 5 if way == "update" else 1)
    assert calls[-1] == "write_report"
    async with asyncio.TaskGroup() as group:
        for moment in moments:
            group.create_task(at(moment))


async def test_cancelled_again_while_it_is_undone_it_still_ends_fully_old(real_server: WorkflowEnvironment) -> None:
    turn = asyncio.Semaphore(AT_ONCE)

    async def at(moment: int) -> None:
        target = SimulatedTarget(watches=[Verdict.FAIL])
        async with turn:
            report, _ = await _run(real_server, target, "cancel", (moment,))
        assert report.outcome is Outcome.ROLLED_BACK, (moment, target.calls, report.failure)
        assert_fully_old(target)

    target = SimulatedTarget(watches=[Verdict.FAIL])
    await _run(real_server, target, "cancel", ())
    failed_at = target.calls.index("watch") + 1
    async with asyncio.TaskGroup() as group:
        for moment in range(failed_at, len(target.calls) + 1):
            group.create_task(at(moment))


async def test_a_verb_that_hangs_does_not_keep_the_traffic_from_moving(real_server: WorkflowEnvironment) -> None:
    target = SimulatedTarget(watch_blocks=True)
    target.serve(old_revision())
    watching = asyncio.Event()

    async def see(name: str, _: int) -> None:
        if name == "watch":
            watching.set()

    target.hook = see
    async with bench_for(target, real_server) as bench:
        spec = make_spec(service=f"shop-{uuid.uuid4().hex[:8]}", strategy={"kind": "canary"})
        handle = await bench.start(spec)
        await asyncio.wait_for(watching.wait(), 30)

        await handle.signal(wire_names.ROLLBACK, {"by": "ops", "reason": "page"})

        report = await asyncio.wait_for(ended(handle), 30)
        assert report.outcome is Outcome.ROLLED_BACK
        assert target.weights_seen == [5, 0]
        assert report.measured.verdict_to_stable is not None
        assert report.measured.verdict_to_stable < 1
        assert_fully_old(target)


async def test_a_request_that_comes_after_the_end_is_not_lost(real_server: WorkflowEnvironment) -> None:
    target = SimulatedTarget()
    calls = await _undisturbed(real_server)

    report, _ = await _run(real_server, target, "signal", (len(calls),))

    assert target.calls[len(calls) - 1] == "write_report"
    assert report.outcome is Outcome.ROLLED_BACK
    assert report.version == "1.0.0"
    assert target.stable is not None
    assert target.stable.release.version == "1.0.0"

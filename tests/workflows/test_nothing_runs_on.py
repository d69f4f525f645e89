"""A wait that is over has no watcher: after each kind of wait, in each stage, with instances that are slow to answer.

On a real server, by its own account of what is pending. A watcher that was left behind once saw the candidate's
instances stopped by the rehearsal, judged them, and rolled a healthy release back.
"""

import asyncio
import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from models.outcome import Outcome
from models.report import DeploymentReport
from models.verdict import Verdict
from tests.workflows.conftest import (
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

CANARY = {"kind": "canary", "steps": [{"weight": 10, "watch": "50ms"}, {"weight": 100, "watch": "50ms"}]}
# What the watcher of a wait is in the middle of when the wait ends.
BUSY = ("inspect", "watch", "asking again")
ENDS = tuple(f"activity_task_{how}_event_attributes" for how in ("completed", "failed", "timed_out", "canceled"))
AT_ONCE = 6


@dataclass(frozen=True)
class Wait:
    """One wait: what leads into it, and what ends it."""

    name: str
    ends: str = wire_names.RESUME
    held_at: tuple[str, int] | None = None
    spec: dict[str, Any] = field(default_factory=dict)
    watches: tuple[Verdict, ...] = ()


HELD = {
    "in deploy": ("watch", 1),
    "in rehearse": ("router_metrics", 1),
    "in close": ("shift", 3),
    "at the end": ("promote", 1),
}
WAITS = [
    *(Wait(f"held {where}", held_at=at) for where, at in HELD.items()),
    *(
        Wait(f"approval before {stage}", wire_names.APPROVE, spec={"approvals": {"before": [stage]}})
        for stage in ("verify", "observe", "rehearse", "close")
    ),
    Wait("inconclusive", watches=(Verdict.INCONCLUSIVE,) * 2),
]
WAYS_BACK = [
    *(
        Wait(f"{how}, held {where}", how, held_at=at)
        for how in (wire_names.ROLLBACK, "cancel")
        for where, at in HELD.items()
    ),
    Wait("nobody came", "", held_at=("watch", 1), spec={"strategy": {**CANARY, "hold": {"expires": "1s"}}}),
    Wait("rejected", wire_names.REJECT, spec={"approvals": {"before": ["close"]}}),
]


@dataclass
class SlowTarget(SimulatedTarget):
    """Its instances answer late while a person is waited for; it notes what else is pending when something begins."""

    wait: Wait = field(default_factory=lambda: WAITS[0])
    rolls_back: bool = False
    busy: str = ""
    over: bool = False
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    watchers: set[str] = field(default_factory=set)
    beside: list[str] = field(default_factory=list)
    handle: WorkflowHandle[Any, Any] | None = None

    async def _begin(self, name: str) -> None:
        await super()._begin(name)
        assert self.handle is not None
        if self.over and not (self.rolls_back and name == "shift"):  # traffic does not wait for a watcher to end
            mine = activity.info()
            others = self.watchers - {f"{mine.activity_type} {mine.activity_id}"}
            self.beside += [f"{each} beside {name}" for each in await self.pending() & others]
        elif (name, self.began[name]) == self.wait.held_at:
            await self.handle.execute_update(wire_names.HOLD, {"by": "ann", "reason": "a look"})
        elif name in ("inspect", "watch") and (await status(self.handle)).waiting_for:
            await self._be_slow(name)

    async def pending(self) -> set[str]:
        """The activities that the server waits for."""
        assert self.handle is not None
        pending = (await self.handle.describe()).raw_description.pending_activities
        return {f"{each.activity_type.name} {each.activity_id}" for each in pending}

    async def _be_slow(self, name: str) -> None:
        if self.busy == "asking again":
            self.reached.set()
            raise ApplicationError(f"{name} is broken", type="Refused", non_retryable=True)
        while self.busy == name:
            self.reached.set()
            activity.heartbeat()
            await asyncio.sleep(0.05)


async def _unended(handle: WorkflowHandle[Any, Any]) -> list[str]:
    """The activities and timers that were begun and of whose end the history says nothing."""
    begun: dict[int, str] = {}
    for event in (await handle.fetch_history()).events:
        if event.HasField("activity_task_scheduled_event_attributes"):
            begun[event.event_id] = event.activity_task_scheduled_event_attributes.activity_type.name
        elif event.HasField("timer_started_event_attributes"):
            begun[event.event_id] = "timer"
        elif event.HasField("timer_fired_event_attributes"):
            del begun[event.timer_fired_event_attributes.started_event_id]
        elif event.HasField("timer_canceled_event_attributes"):
            del begun[event.timer_canceled_event_attributes.started_event_id]
        for end in ENDS:
            if event.HasField(end):  # type: ignore[arg-type]
                del begun[getattr(event, end).scheduled_event_id]
    return list(begun.values())


async def _through(server: WorkflowEnvironment, wait: Wait, busy: str) -> tuple[SlowTarget, DeploymentReport]:
    """Runs a deployment into a wait, lets its watcher get busy, ends the wait, and follows it to the end."""
    target = SlowTarget(watches=list(wait.watches), wait=wait, busy=busy, rolls_back=wait in WAYS_BACK)
    target.serve(old_revision())
    spec = make_spec(**{"service": f"shop-{uuid.uuid4().hex[:8]}", "strategy": CANARY, **wait.spec})
    target.handle = server.client.get_workflow_handle(f"deploy/{spec.service}/staging")
    async with bench_for(target, server) as bench:
        handle = await bench.start(spec)
        await asyncio.wait_for(target.reached.wait(), 60)
        target.watchers = await target.pending()
        target.over = True
        if wait.ends == "cancel":
            await handle.cancel()
        elif wait.ends:
            await handle.execute_update(wait.ends, {"by": "ann"})
        report = await asyncio.wait_for(ended(handle), 60)
        assert await _unended(handle) == [], wait.name
    assert target.beside == [], wait.name
    return target, report


async def _all_of(
    server: WorkflowEnvironment, waits: list[Wait], busy: str
) -> list[tuple[SlowTarget, DeploymentReport]]:
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(wait: Wait) -> tuple[SlowTarget, DeploymentReport]:
        async with turn:
            return await _through(server, wait, busy)

    async with asyncio.TaskGroup() as group:
        runs = [group.create_task(one(wait)) for wait in waits]
    return [run.result() for run in runs]


@pytest.mark.parametrize("busy", BUSY)
async def test_a_wait_that_is_over_has_no_watcher(real_server: WorkflowEnvironment, busy: str) -> None:
    for target, report in await _all_of(real_server, WAITS, busy):
        assert report.outcome is Outcome.DEPLOYED, (target.wait.name, report.failure)
        assert_fully_new(target)


@pytest.mark.parametrize("busy", BUSY)
async def test_a_wait_that_leads_back_has_no_watcher(real_server: WorkflowEnvironment, busy: str) -> None:
    for target, report in await _all_of(real_server, WAYS_BACK, busy):
        assert report.outcome is Outcome.ROLLED_BACK, (target.wait.name, report.failure)
        assert_fully_old(target)

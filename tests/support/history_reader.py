"""What Temporal itself saw of a deployment: who was at work when something was killed, and how long each watch was."""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from temporalio.api.enums.v1 import EventType, PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError

from tests.support.product_env import Service

WATCH = "watch"
MEASURED: list[str] = []
PROGRESS = (EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)


async def at_work(service: Service, name: str, seconds: float = 40) -> int:
    """Waits until this activity is being carried out, and returns at that very moment which worker's process does."""
    handle, deadline = await service.handle(), time.monotonic() + seconds
    while True:
        for one in await _pending(handle):
            if one.activity_type.name == name and _started(one):
                return int(one.last_worker_identity.partition("@")[0])
        assert time.monotonic() < deadline, f"nobody carried out {name} within {seconds} s"
        await asyncio.sleep(0.002)


async def progress(service: Service, since: float, seconds: float = 40) -> float:
    """Seconds from `since` (a time of the clock) to the next sign of life: a heartbeat, an attempt, a decision."""
    handle, deadline = await service.handle(), time.monotonic() + seconds
    known = 0
    while True:
        try:
            description = await handle.describe()
            signs = [at for one in description.raw_description.pending_activities for at in _signs(one) if at > since]
            if description.history_length != known:
                known = description.history_length
                signs += [at for kind, at in await _events(handle) if kind in PROGRESS and at > since]
        except RPCError:
            signs = []
        if signs:
            return min(signs) - since
        assert time.monotonic() < deadline, f"no progress within {seconds} s"
        await asyncio.sleep(0.03)


def _started(one: PendingActivityInfo) -> bool:
    return bool(one.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED)


def _signs(one: PendingActivityInfo) -> list[float]:
    if not _started(one):
        return []
    return [at.ToDatetime(UTC).timestamp() for at in (one.last_heartbeat_time, one.last_started_time)]


async def _pending(handle: WorkflowHandle[Any, Any]) -> list[PendingActivityInfo]:
    try:
        return list((await handle.describe()).raw_description.pending_activities)
    except RPCError:
        return []


async def _events(handle: WorkflowHandle[Any, Any]) -> list[tuple[EventType.ValueType, float]]:
    return [
        (event.event_type, event.event_time.ToDatetime(UTC).timestamp())
        async for event in handle.fetch_history_events()
    ]


@dataclass(frozen=True)
class Watched:
    """One watch, in the history.

    Attributes:
        promised: seconds from its beginning to the deadline that the workflow decided.
        lasted: seconds until the next thing that the deployment asked for.
        attempts: how often it was begun.
    """

    promised: float
    lasted: float
    attempts: int


async def watches(service: Service) -> list[Watched]:
    """All watches of the newest deployment that were followed by something."""
    handle = await service.handle()
    asked: list[tuple[datetime, str, int]] = []
    deadlines: dict[int, datetime] = {}
    attempts: dict[int, int] = {}
    async for event in handle.fetch_history_events():
        at = event.event_time.ToDatetime(UTC)
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            about = event.activity_task_scheduled_event_attributes
            asked.append((at, about.activity_type.name, event.event_id))
            if about.activity_type.name == WATCH:
                order = (await (await service.living.client()).data_converter.decode(about.input.payloads))[0]
                deadlines[event.event_id] = datetime.fromisoformat(order["deadline"])
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            started = event.activity_task_started_event_attributes
            attempts[started.scheduled_event_id] = started.attempt
    return [
        Watched(
            (deadlines[number] - at).total_seconds(), (asked[i + 1][0] - at).total_seconds(), attempts.get(number, 0)
        )
        for i, (at, name, number) in enumerate(asked[:-1])
        if name == WATCH
    ]


async def kept_their_time(service: Service, late: float = 6.0) -> list[Watched]:
    """Every watch lasted as long as it was meant to: not shortened, and not begun anew."""
    found = await watches(service)
    assert found
    for watched in found:
        assert watched.lasted >= watched.promised - 0.05, f"shortened: {watched}"
        assert watched.lasted <= watched.promised + late, f"begun anew: {watched}"
    return found

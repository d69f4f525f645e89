"""How long a killed worker is missed."""

import asyncio
import time

from temporalio.api.enums.v1 import PendingActivityState

from activities import activity_stubs
from bench.rows import Row, make_row
from bench.world import Handle, World
from examples.load import Load
from models.outcome import Outcome

TIMES = 8
GOAL = 3.0
_WATCHED = {"kind": "canary", "steps": [{"weight": 50, "watch": "8s"}, {"weight": 100, "watch": "0s"}], "bake": "0s"}


async def after_a_kill(world: World) -> list[Row]:
    """From `kill -9` of the worker in the middle of a watch to the begin of the watch's next attempt."""
    gaps = []
    await world.deploy(world.spec("1.0.0"))
    for n in range(TIMES):
        with Load(world.url, 50) as load:
            handle = await world.start(world.spec(f"5.0.{n}", strategy=_WATCHED))
            await world.until_weight(handle, 50)
            await asyncio.sleep(1)
            killed = time.time()
            world.kill_worker()
            gaps.append(await _next_attempt(handle) - killed)
            report = await world.ended(handle)
            seen = load.stop()
        assert report.outcome is Outcome.DEPLOYED, report.failure
        world.count(seen)
    return [make_row("kill -9 of the worker → next progress", "s", gaps, p50=GOAL, p95=GOAL)]


async def _next_attempt(handle: Handle) -> float:
    async with asyncio.timeout(60):
        while True:
            description = await handle.describe()
            for pending in description.raw_description.pending_activities:
                started = pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
                if pending.activity_type.name == activity_stubs.WATCH.name and pending.attempt > 1 and started:
                    return pending.last_started_time.ToMicroseconds() / 1e6
            await asyncio.sleep(0.02)

"""What the product weighs: the command line's start, the worker's memory at rest and with deployments that wait."""

import asyncio
import subprocess
import sys
import time

import psutil

from bench.rows import Row, make_row
from bench.world import ROOT, Handle, World
from models.messages import Approval
from workflows import wire_names

WAITING = 100
BEFORE = 60
GOAL_KIB = 65.0
HELP_TIMES = 20
EVENTS_OF_PREFLIGHT = 25


async def help_time(_: World) -> list[Row]:
    """`python starter.py --help`, and an empty Python beside it, alternating."""
    helps, empties = [], []
    for _n in range(HELP_TIMES):
        helps.append(await asyncio.to_thread(_timed, [sys.executable, str(ROOT / "starter.py"), "--help"]))
        empties.append(await asyncio.to_thread(_timed, [sys.executable, "-c", "pass"]))
    ratio = [a / b for a, b in zip(helps, empties, strict=True)]
    return [make_row("starter.py --help", "s", helps), make_row("  the same, in starts of an empty Python", "×", ratio)]


def _timed(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=60)
    return time.perf_counter() - began


async def memory(world: World) -> list[Row]:
    """The worker's resident memory at rest, and what a hundred deployments that wait for approval add to it.

    Some deployments wait already when the hundred begin: what they add is then the deployments, not code that is
    loaded with the first one.
    """
    process = psutil.Process(world.worker_pid())
    at_rest = process.memory_info().rss
    first = await _let_wait(world, "a", BEFORE)
    before = process.memory_info().rss
    more = await _let_wait(world, "b", WAITING)
    after = process.memory_info().rss
    for handle in [*first, *more]:
        await handle.signal(wire_names.REJECT, Approval(by="bench"))
    for handle in [*first, *more]:
        await world.ended(handle)
    each = (after - before) / WAITING / 1024
    return [
        make_row("worker at rest, resident", "MiB", [at_rest / 2**20]),
        make_row(f"worker with {BEFORE + WAITING} waiting deployments", "MiB", [after / 2**20]),
        make_row("each waiting deployment", "KiB", [each], p50=GOAL_KIB),
    ]


async def _let_wait(world: World, name: str, count: int) -> list[Handle]:
    approvals = {"before": ["deploy"], "expires": "1h"}
    port = world.port
    handles = []
    for n in range(count):
        world.port = 20000 - n - 1
        handles.append(await world.start(world.spec("1.0.0", service=f"{name}{n}", approvals=approvals)))
    world.port = port
    for handle in handles:
        await _waits(handle)
    return handles


async def _waits(handle: Handle) -> None:
    """Until nothing is under way for it; asked of the server, as a query would wake the worker and be measured too."""
    quiet = 0
    async with asyncio.timeout(120):
        while quiet < 3:
            raw = (await handle.describe()).raw_description
            busy = raw.HasField("pending_workflow_task") or raw.pending_activities
            quiet = 0 if busy or raw.workflow_execution_info.history_length < EVENTS_OF_PREFLIGHT else quiet + 1
            await asyncio.sleep(0.1)

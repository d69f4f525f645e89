"""A worker that was believed dead wakes up and goes on with what it was doing: it must come too late."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest

from home.paths import Home
from tests.support.cli_process import STARTER
from tests.support.history_reader import at_work
from tests.support.product_env import CANARY, NEW, ProductEnv, ended, kill
from tests.support.scenarios import side_by_side

pytestmark = pytest.mark.chaos

FROZEN_FOR, WATCHED_FOR = 10.0, 3.0
STEPS = {**CANARY, "steps": [{"weight": 40, "watch": "3s"}, {"weight": 100, "watch": "1m"}], "bake": "1s"}


@asynccontextmanager
async def another_worker(living: ProductEnv) -> AsyncIterator[None]:
    """A second worker of the same home; the first one is replaced afterwards."""
    address = (await living.components())["temporal"]["address"]
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        str(STARTER.with_name("worker.py")),
        env=living.environment() | {"TEMPORAL_ADDRESS": address},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        worker.kill()
        await worker.wait()
        first = (await living.components())["worker"]["pid"]
        await kill(first, signal.SIGKILL)
        await living.healthy()


@side_by_side
async def test_a_worker_that_wakes_up_after_the_rollback_moves_nothing(living: ProductEnv) -> None:
    service = living.service(STEPS)
    await service.serving()
    async with another_worker(living), service.users():
        command = await service.deploying(NEW)
        await service.doing("step_40: watched")
        # The next shift waits for the target's lock: whoever carries it out is frozen right before its effect.
        with Home(living.home).lock(f"target.{service.name}.{service.target}"):
            zombie = psutil.Process(await at_work(service, "shift"))
            zombie.suspend()
        frozen = time.monotonic()
        try:
            ended(await service.rollback(), "rolled-back", 10)
            ended(await command.done(), "rolled-back", 10)
            await service.is_old()
            before = (service.fenced(), service.state())
            await asyncio.sleep(max(0.0, frozen + FROZEN_FOR - time.monotonic()))
        finally:
            zombie.resume()
        awake = time.monotonic()
        while time.monotonic() - awake < WATCHED_FOR:
            assert (service.fenced(), service.state()) == before
            await asyncio.sleep(0.02)
        await service.is_old()

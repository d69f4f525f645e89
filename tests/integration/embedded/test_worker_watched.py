"""A worker is watched from outside, by its pulse and by its metrics: neither says that all is well when it is not."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes

from activities.worker_health import polls
from home import worker_heartbeat
from home.paths import Home
from tests.support.cli_process import STARTER, a_worker, start_temporal
from tests.support.free_ports import free_port
from workflows.wire_names import DEPLOYMENT_WORKFLOW, SERVICE_KEY, TARGET_KEY, TASK_QUEUE

WORKER = STARTER.parent / "worker.py"
ADDRESS = "127.0.0.1"


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with await start_temporal() as environment:
        yield environment.client


async def start(client: Client, folder: Path, metrics: str) -> asyncio.subprocess.Process:
    """Starts the worker as a process of its own."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TEMPORAL_ADDRESS": client.service_client.config.target_host,
        "DEPLOYMENT_SPECIALIST_HOME": str(folder / "home"),
        "DEPLOYMENT_SPECIALIST_METRICS": metrics,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, str(WORKER), env=environment, stderr=asyncio.subprocess.PIPE
    )


def measured(address: str) -> str:
    try:
        return httpx.get(f"http://{address}/metrics", timeout=5, trust_env=False).text
    except httpx.TransportError:
        return ""


async def until(condition: Callable[[], bool]) -> None:
    """Waits for something, in a thread: asking may take its time."""
    async with asyncio.timeout(60):
        for attempt in range(1000):
            if await asyncio.to_thread(condition):
                return
            await asyncio.sleep(min(0.05 * (attempt + 1), 0.5))


async def test_a_worker_shows_its_pulse_and_what_is_open(client: Client, tmp_path: Path) -> None:
    # Nobody works on it yet: it stays open.
    await client.start_workflow(
        DEPLOYMENT_WORKFLOW,
        id="deploy/shop/staging",
        task_queue="elsewhere",
        search_attributes=TypedSearchAttributes(
            [SearchAttributePair(SERVICE_KEY, "shop"), SearchAttributePair(TARGET_KEY, "staging")]
        ),
    )
    address = f"{ADDRESS}:{free_port()}"
    worker = await start(client, tmp_path, address)
    try:
        await until(lambda: not worker_heartbeat.complaint(tmp_path / "home"))
        await until(lambda: "deployments_open{" in measured(address))
        text = measured(address)
        worker.send_signal(signal.SIGTERM)
        _, said = await asyncio.wait_for(worker.communicate(), 30)
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()

    lines = [line for line in text.splitlines() if 'service="shop"' in line and 'target="staging"' in line]
    assert [line.split()[-1] for line in lines if line.startswith("deployments_open{")] == ["1"]
    begun = [line for line in lines if line.startswith("deployments_ended_total{")]
    assert len(begun) == 10 and all(line.endswith(" 0") for line in begun)
    assert worker.returncode == 0
    assert b"stopped; what was under way goes on" in said
    assert worker_heartbeat.complaint(tmp_path / "home") == "the worker's process has ended"


@pytest.mark.parametrize("address", ["9464", "everywhere:9464", "0.0.0.0:9464/metrics"])
async def test_an_address_that_makes_no_sense_is_a_sentence(client: Client, tmp_path: Path, address: str) -> None:
    worker = await start(client, tmp_path, address)

    _, said = await asyncio.wait_for(worker.communicate(), 30)

    assert worker.returncode == 1
    assert b"DEPLOYMENT_SPECIALIST_METRICS is an IP address and a port, like 0.0.0.0:9464." in said


async def test_who_does_not_poll_has_no_pulse(client: Client, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert not await polls(client, TASK_QUEUE)

    async with a_worker(client), asyncio.timeout(20):
        # The stand-in offers no activities: nobody would carry out what is decided.
        assert not await polls(client, TASK_QUEUE)

    assert worker_heartbeat.complaint(home.path)

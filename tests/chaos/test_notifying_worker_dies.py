"""A worker that is killed after it has sent an event and before it has said so."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from models.notifications import Delivery, EventKind, NotificationsOrder, NotificationsRecord
from tests.integration.checks.test_notifications import KEY, RUN, STARTED, Endpoint, event, receiver
from tests.workflows.conftest import start_real_server
from workflows import options, wire_names

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.chaos


@asynccontextmanager
async def worker(server: WorkflowEnvironment, home: Path, to: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {
        **os.environ,
        "DEPLOYMENT_SPECIALIST_HOME": str(home),
        "TEMPORAL_ADDRESS": server.client.service_client.config.target_host,
        "NOTIFY_TO": to,
        "NOTIFY_KEY": KEY,
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "worker.py", cwd=ROOT, env=environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def test_an_event_is_sent_again_with_its_id_after_the_attempts_window_and_before_newer_ones(
    tmp_path: Path,
) -> None:
    endpoint = Endpoint(answers=[None])
    to = receiver("webhook", signing_key="env:NOTIFY_KEY")
    async with (
        await asyncio.start_server(endpoint.serve, "127.0.0.1", 0) as listening,
        start_real_server() as server,
        asyncio.timeout(110),
    ):
        endpoint.port = listening.sockets[0].getsockname()[1]
        order = NotificationsOrder(
            service="shop",
            target="staging",
            version="1.1.0",
            deployment_id="deploy/shop/staging",
            deployment_run=RUN,
            started=STARTED,
            receivers=(to,),
        )
        handle = await server.client.start_workflow(
            wire_names.NOTIFICATIONS_WORKFLOW, order, id="notify", task_queue=wire_names.TASK_QUEUE,
            result_type=NotificationsRecord,
        )  # fmt: skip
        first, second = event(EventKind.STARTED, id="one", sequence=1), event(id="two", sequence=2, last=True)
        for each in (first, second):
            await handle.signal(wire_names.ANNOUNCE, each)
        async with worker(server, tmp_path / "home", endpoint.url) as dies:
            while not endpoint.got:  # noqa: ASYNC110  another process moves it
                await asyncio.sleep(0.05)
            sent = time.monotonic()
            dies.send_signal(signal.SIGKILL)
            await dies.wait()
        async with worker(server, tmp_path / "home", endpoint.url):
            record = await handle.result()

    window = options.ANNOUNCE["start_to_close_timeout"].total_seconds()
    assert [headers["webhook-id"] for headers, _ in endpoint.got] == ["one", "one", "two"]
    assert endpoint.got[0][1] == endpoint.got[1][1]
    assert time.monotonic() - sent > window - 5
    assert [(each.event_id, each.state, each.attempts) for each in record.notified] == [
        ("one", Delivery.DELIVERED, 2),
        ("two", Delivery.DELIVERED, 1),
    ]

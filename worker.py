"""The Temporal worker: carries out deployments until it is told to stop.

SIGTERM and SIGINT end it gracefully: activities learn of it at once and their next attempt starts on another worker,
or on this one's successor, within a second. Whatever kills it without asking costs a heartbeat's time-out.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from temporalio.client import Client
from temporalio.common import MetricMeter
from temporalio.envconfig import ClientConfig
from temporalio.runtime import Runtime
from temporalio.service import RPCError
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities import telemetry
from activities.registry import make_activities
from activities.worker_health import show_presence
from home import worker_heartbeat
from home.paths import Home
from models.errors import StackError
from workflows.converter import strict_data_converter
from workflows.deployment import DeploymentWorkflow
from workflows.notifications import NotificationsWorkflow
from workflows.planning import PlanWorkflow
from workflows.queueing import QueueWorkflow
from workflows.restoring import BackupsWorkflow, RestoreWorkflow
from workflows.wire_names import TASK_QUEUE

READY_FILE = "worker.ready"
# A cached one takes 0.8 MiB; one that is not costs nothing, and is replayed in some hundred milliseconds when woken.
CACHED_WORKFLOWS = 60
# Activities are asynchronous and mostly wait. Many, so that an emergency never queues behind watches.
ACTIVITIES = 200
CONNECT_FOR = 60.0

# Loaded once: the sandbox would read the workflow's file again for each deployment, and meet another release's while
# an upgrade is under way. The tests run it in the sandbox as it is.
OWN_CODE = SandboxRestrictions.default.with_passthrough_modules("workflows", "models", "activities")

log = logging.getLogger("worker")


async def connect(runtime: Runtime | None = None) -> Client:
    """Connects as the environment says, trying for a minute: the server may still be starting.

    Args:
        runtime: what serves the metrics of this process; none are served without one.

    Raises:
        RuntimeError: nothing answered.
    """
    config = ClientConfig.load_client_connect_config()
    config.setdefault("target_host", "localhost:7233")
    deadline = asyncio.get_running_loop().time() + CONNECT_FOR
    while True:
        try:
            return await Client.connect(**config, data_converter=strict_data_converter, runtime=runtime)
        except (RuntimeError, RPCError):
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.2)


def make_worker(client: Client, home: Home, meter: MetricMeter = MetricMeter.noop) -> Worker:
    """The worker, with its limits."""
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[
            DeploymentWorkflow,
            PlanWorkflow,
            QueueWorkflow,
            BackupsWorkflow,
            RestoreWorkflow,
            NotificationsWorkflow,
        ],
        activities=make_activities(home, meter),
        workflow_runner=SandboxedWorkflowRunner(restrictions=OWN_CODE),
        max_cached_workflows=CACHED_WORKFLOWS,
        max_concurrent_activities=ACTIVITIES,
        # A cancellation is noticed with a heartbeat: often enough that a rollback does not wait for it.
        max_heartbeat_throttle_interval=timedelta(milliseconds=500),
        default_heartbeat_throttle_interval=timedelta(milliseconds=500),
        # Decisions of deployments whose worker was killed move to the next one after this time, not after ten seconds.
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
        graceful_shutdown_timeout=timedelta(seconds=8),
    )


async def work() -> None:
    """Works until a signal comes."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # By default a few, by the number of cores: activities would queue for one behind those that wait for a lock.
    loop.set_default_executor(ThreadPoolExecutor(ACTIVITIES, "activity"))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    home = Home.from_environment()
    worker_heartbeat.forget(home)
    # Made before the client that measures with it.
    runtime = telemetry.make_runtime(os.environ.get(telemetry.VARIABLE))
    client = await connect(runtime)
    meter = runtime.metric_meter if runtime else None
    worker = make_worker(client, home, meter or MetricMeter.noop)
    # What is loaded now stays for ever: not looking through it again makes collecting what evicted workflows leave
    # cheap, and so frequent that memory stays flat.
    gc.collect()
    gc.freeze()
    async with worker:
        home.write(home.path / READY_FILE, f"{os.getpid()}\n")
        log.info("working for %s", home.path)
        presence = asyncio.create_task(show_presence(client, TASK_QUEUE, home, meter))
        await stop.wait()
        log.info("stopping")
        presence.cancel()
    log.info("stopped; what was under way goes on elsewhere, or when a worker is back")


def main() -> None:
    """Runs the worker; the exit code is 0 after a signal and 1 after an error."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    code = 0
    try:
        asyncio.run(work())
    except StackError as error:
        log.error("the worker cannot begin: %s", error)
        code = 1
    except Exception:  # the last one who can say why; the exit code tells the supervisor
        log.exception("the worker ended")
        code = 1
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # A process with a Temporal client can crash while the interpreter shuts down; nothing is left to do here.
    os._exit(code)


if __name__ == "__main__":
    main()

"""What a scope of tasks promises: when it is left, everything that it began has ended."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio import activity, workflow
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer, Worker

with workflow.unsafe.imports_passed_through():
    from activities.activity_stubs import Signature
    from models.base import WireModel
    from workflows.concurrency import Tasks, sleep, wait_until
    from workflows.converter import strict_data_converter
    from workflows.options import ActivityOptions
    from workflows.platform_client import execute


class Said(WireModel):
    """What an activity is given, and gives."""

    text: str = ""


SLOW = Signature("slow", Said, Said)
FAILS = Signature("fails", Said, Said)
NOTE = Signature("note", Said, Said)
OPTIONS = ActivityOptions(start_to_close_timeout=timedelta(seconds=30), heartbeat_timeout=timedelta(seconds=5))


class Noted:
    """The activities, and what they saw."""

    def __init__(self) -> None:
        self.running: set[str] = set()
        self.began: list[str] = []
        self.beside: list[set[str]] = []

    @activity.defn(name="slow")
    async def slow(self, order: Said) -> Said:
        self.began.append(order.text)
        self.running.add(order.text)
        try:
            while True:
                activity.heartbeat()
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            if order.text.startswith("answers"):
                return Said(text="answered")
            raise
        finally:
            self.running.discard(order.text)

    @activity.defn(name="fails")
    async def fails(self, order: Said) -> Said:
        while not self.running:  # noqa: ASYNC110  the other activity says it by being there
            await asyncio.sleep(0.02)
        raise ApplicationError("broken", type="Broken", non_retryable=True)

    @activity.defn(name="note")
    async def note(self, order: Said) -> Said:
        self.beside.append(set(self.running))
        return order


@workflow.defn(name="scoped")
class Scoped:
    """Leaves a scope in one of the ways there are, and lets it be noted what still runs then."""

    @workflow.init
    def __init__(self, way: Said) -> None:
        self._way = way.text
        self._result = ""

    @workflow.run
    async def run(self, way: Said) -> Said:
        try:
            async with Tasks() as tasks:
                slow = tasks.start(self._slow())
                match self._way:
                    case "one fails":
                        tasks.start(execute(FAILS, Said(), OPTIONS, "fails"))
                    case "body fails":
                        await execute(FAILS, Said(), OPTIONS, "fails")
                    case "ended":
                        await workflow.sleep(0.2)
                        tasks.cancel()
                    case "answers" | "answers, sleeps" | "answers, waits" | "goes on":
                        await workflow.sleep(0.2)
                        tasks.cancel()
            self._result = "" if slow.cancelled() else slow.result().text
        except ActivityError:
            self._result = "failed"
        except asyncio.CancelledError:
            self._result = "cancelled"
        # In a task of its own: the workflow's was cancelled, and begins no activity any more.
        async with Tasks() as tasks:
            tasks.start(execute(NOTE, Said(), OPTIONS, "note"))
        return Said(text=self._result)

    async def _slow(self) -> Said:
        said = Said(text=self._way)
        try:
            answer = await execute(SLOW, said, OPTIONS, "slow")
            if self._way == "answers, sleeps":
                await sleep(timedelta(hours=1), "a sleep that nobody waits for")
            if self._way == "answers, waits":
                await wait_until(lambda: False, timedelta(hours=1), "a wait that nobody waits for")
            return answer
        except asyncio.CancelledError:
            if self._way != "goes on":
                raise
        return await execute(SLOW, Said(text="after it was asked to end"), OPTIONS, "slow")


@pytest.fixture
async def noted() -> AsyncIterator[Noted]:
    activities = Noted()
    yield activities
    assert activities.running == set()


async def _run(server: WorkflowEnvironment, noted: Noted, way: str) -> str:
    queue = str(uuid.uuid4())
    async with Worker(
        server.client,
        task_queue=queue,
        workflows=[Scoped],
        activities=[noted.slow, noted.fails, noted.note],
        workflow_failure_exception_types=[Exception],
        max_heartbeat_throttle_interval=timedelta(milliseconds=50),
    ):
        handle = await server.client.start_workflow(
            "scoped", Said(text=way), id=queue, task_queue=queue, result_type=Said
        )
        if way == "cancelled":
            while not noted.running:  # noqa: ASYNC110  the activity says it by being there
                await asyncio.sleep(0.02)
            await handle.cancel()
        try:
            result: Said = await asyncio.wait_for(handle.result(), 30)
        except WorkflowFailureError as error:
            assert is_cancelled_exception(error.cause), error.cause
            return "workflow cancelled"
    replayer = Replayer(workflows=[Scoped], data_converter=strict_data_converter)
    await replayer.replay_workflow(await handle.fetch_history())
    return result.text


@pytest.mark.parametrize(
    ("way", "result"),
    [
        ("one fails", "failed"),
        ("body fails", "failed"),
        ("ended", ""),
        ("cancelled", "cancelled"),
        ("answers", "answered"),
        ("answers, sleeps", ""),
        ("answers, waits", ""),
        ("goes on", ""),
    ],
)
async def test_what_was_begun_has_ended_when_the_scope_is_left(
    real_server: WorkflowEnvironment, noted: Noted, way: str, result: str
) -> None:
    assert await _run(real_server, noted, way) == result
    assert noted.began == [way]
    assert noted.beside == [set()]

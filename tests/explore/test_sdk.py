"""What the explorer uses of the SDK's insides is there, and does what it relies on.

When this fails after an upgrade of `temporalio`, and nothing else does, `tests/explore/sdk.py` is what has to follow.
"""

from datetime import timedelta

import pytest
from temporalio import workflow
from temporalio.common import TypedSearchAttributes

from models.messages import Request
from tests.explore import sdk
from tests.explore.server import BEGINNING


@workflow.defn(name="small", sandboxed=False)
class Small:
    """Waits for a signal for an hour, if it is patched."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @workflow.run
    async def run(self, request: Request) -> str:
        """Ends with what was said last."""
        if workflow.patched("waits"):
            await workflow.wait_condition(lambda: bool(self.said), timeout=timedelta(hours=1))
        return self.said[-1]

    @workflow.signal
    def say(self, what: str) -> None:
        self.said.append(what)

    @workflow.update
    def ask(self, what: str) -> str:
        self.said.append(what)
        return f"heard {what}"

    @ask.validator
    def _may_ask(self, what: str) -> None:
        if not what:
            raise ValueError("nothing was asked")

    @workflow.query
    def heard(self) -> list[str]:
        return self.said


def begin() -> tuple[sdk.Instance, list[str]]:
    instance = sdk.Instance(Small, sdk.info_of(Small, "small", "run-1", BEGINNING, TypedSearchAttributes([])))
    commands, _ = instance.activate([sdk.start_job(Small, "small", Request(by="ann"), BEGINNING)], BEGINNING)
    return instance, [str(each.WhichOneof("variant")) for each in commands]


def test_a_workflow_begins_waits_and_ends() -> None:
    instance, commands = begin()
    assert commands == ["set_patch_marker", "start_timer"]
    assert any("condition" in each for each in instance.unended())

    commands_then, _ = instance.activate([sdk.signal_job("say", ["yes"])], BEGINNING)

    assert [each.WhichOneof("variant") for each in commands_then] == ["cancel_timer", "complete_workflow_execution"]
    assert sdk.from_payload(commands_then[1].complete_workflow_execution.result) == "yes"
    assert instance.unended() == []
    assert instance.workflow.said == ["yes"]
    assert instance.query("heard", list[str], BEGINNING) == ["yes"]


def test_an_update_is_refused_or_answered() -> None:
    instance, _ = begin()
    refused, _ = instance.activate([sdk.update_job("1", "ask", "")], BEGINNING)
    assert refused[0].update_response.rejected.message == "nothing was asked"
    answered, _ = instance.activate([sdk.update_job("2", "ask", "why")], BEGINNING)
    assert answered[0].update_response.HasField("accepted")
    assert sdk.from_payload(answered[1].update_response.completed) == "heard why"
    instance.evict()


def test_a_replay_knows_its_patches() -> None:
    first, commands = begin()
    first.evict()
    info = sdk.info_of(Small, "small", "run-1", BEGINNING, TypedSearchAttributes([]))
    job = sdk.start_job(Small, "small", Request(by="ann"), BEGINNING)
    instance = sdk.Instance(Small, info)
    again, _ = instance.activate([sdk.patch_job("waits"), job], BEGINNING, replaying=True)
    assert [each.WhichOneof("variant") for each in again] == commands
    instance.evict()


def test_a_bug_in_a_workflow_fails_its_task() -> None:
    instance, _ = begin()
    with pytest.raises(sdk.WorkflowTaskFailed, match="Failed finding activity handle"):
        instance.activate([sdk.timer_job(1), sdk.completed_job(99, "x")], BEGINNING)

"""Waiting for one's turn from the command line: seen, left, attached to again, withdrawn, and ended with its code.

The queue is the real one; the deployments that it starts do what a test tells them.
"""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.preflight.lock import LockActivities
from models.names import queue_id
from models.outcome import Outcome
from tests.support import cli_reports as reports
from tests.support.cli_process import Command, World, temporal
from tests.support.fake_workflow import FakeWorkflow
from workflows.queueing import QueueWorkflow
from workflows.wire_names import TASK_QUEUE


@pytest_asyncio.fixture(scope="module")
async def client() -> AsyncIterator[Client]:
    lock = LockActivities()
    async with (
        temporal() as client,
        Worker(
            client,
            task_queue=TASK_QUEUE,
            workflows=[FakeWorkflow, QueueWorkflow],
            activities=[lock.wait_for_turn, lock.start_deployment],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ),
    ):
        yield client


@pytest_asyncio.fixture
async def world(client: Client, tmp_path: Path) -> AsyncIterator[World]:
    world = World(client, tmp_path)
    yield world
    await world.end()
    query = f"WorkflowId = '{queue_id(world.service, 'staging')}' AND ExecutionStatus = 'Running'"
    async for run in client.list_workflows(query):
        await client.get_workflow_handle(run.id, run_id=run.run_id).terminate()


async def queueing(world: World, *more: str, number: int = 1) -> Command:
    command = await world.start("deploy", str(world.spec), "--queue", "--json", *more)
    await command.said(f"queued, number {number} of {number}")
    return command


def ticket_in(text: str) -> str:
    return text.partition(", ticket ")[2][:12]


async def test_several_wait_at_once_and_each_gets_its_own_code(world: World) -> None:
    running = await world.deploying("--json")
    second = await queueing(world, "--version", "1.2.0")
    third = await queueing(world, "--version", "1.3.0", "--as", "bob", number=2)

    status = await world.run("status", world.subject, "--json")
    assert [(each["version"], each["by"]) for each in status.document["queue"]] == [("1.2.0", "ann"), ("1.3.0", "bob")]
    told = await world.run("status", world.subject)
    assert "queued, number 2: 1.3.0 by bob" in told.out

    await world.show(reports.finished(Outcome.ROLLED_BACK))
    assert (await running.done()).code == 10
    await second.said("1.2.0, canary")
    await world.show(reports.finished(Outcome.DEPLOYED, version="1.2.0"))
    done = await second.done()
    assert (done.code, done.document["version"], done.document["outcome"]) == (0, "1.2.0", "deployed")
    await third.said("1.3.0, canary")
    await world.show(reports.finished(Outcome.PREFLIGHT_FAILED, version="1.3.0"))
    done = await third.done()
    assert (done.code, done.document["version"]) == (14, "1.3.0")


async def test_ctrl_c_leaves_it_in_the_queue_and_the_ticket_attaches_again(world: World) -> None:
    running = await world.deploying()
    second = await queueing(world, "--version", "1.2.0")
    second.process.send_signal(signal.SIGINT)

    done = await second.done()

    assert (done.code, done.document["outcome"], done.document["exit_code"]) == (130, "queued", 130)
    ticket = done.document["ticket"]
    assert f"watch {world.subject} --ticket {ticket}" in done.err and "stays in the queue" in done.err
    again = await world.start("watch", world.subject, "--ticket", ticket, "--json")
    await again.said("queued, number 1 of 1")
    await world.show(reports.finished(Outcome.DEPLOYED))
    assert (await running.done()).code == 0
    await again.said("1.2.0, canary")
    await world.show(reports.finished(Outcome.DEPLOYED, version="1.2.0"))
    assert (await again.done()).document["version"] == "1.2.0"


async def test_a_wait_that_is_over_says_queued(world: World) -> None:
    await world.deploying()

    done = await world.run("deploy", str(world.spec), "--queue", "--wait", "2s", "--json")

    assert (done.code, done.document["outcome"], done.document["exit_code"]) == (124, "queued", 124)
    assert {"workflow_id", "service", "target", "version", "strategy", "stages", "failure"} <= set(done.document)
    assert "--wait is over" in done.err


async def test_no_wait_says_the_ticket_and_leaves(world: World) -> None:
    await world.deploying()

    done = await world.run("deploy", str(world.spec), "--queue", "--no-wait", "--json")

    assert (done.code, done.document["outcome"], done.document["exit_code"]) == (0, "queued", 0)
    assert done.document["ticket"] in done.err
    watched = await world.start("watch", world.subject)
    await watched.said(f"ticket {done.document['ticket']}")


async def test_one_that_is_withdrawn_ends_as_rejected_and_says_by_whom(world: World) -> None:
    await world.deploying()
    second = await queueing(world, "--version", "1.2.0")
    status = await world.run("status", world.subject, "--json")
    ticket = status.document["queue"][0]["ticket"]

    told = await world.run("withdraw", world.subject, ticket, "--as", "bob", "--reason", "not today", "--json")

    assert (told.code, told.document["what"], told.document["by"]) == (0, "withdraw 1.2.0", "bob")
    done = await second.done()
    assert (done.code, done.document["outcome"]) == (13, "rejected")
    assert done.document["failure"]["reason"] == "withdrawn from the queue by bob: not today"
    again = await world.run("withdraw", world.subject, ticket, "--as", "bob")
    assert again.code == 2 and "it waits no more" in again.err


async def test_superseding_asks_for_the_rollback_and_is_deployed_then(world: World) -> None:
    running = await world.deploying("--json")
    second = await world.start("deploy", str(world.spec), "--supersede", "--version", "1.2.0", "--json")
    await second.said("the older deployment is asked to roll back")
    await running.said("superseded by 1.2.0, which ann deploys")
    await world.show(reports.finished(Outcome.ROLLED_BACK))
    assert (await running.done()).code == 10
    await second.said("1.2.0, canary")
    await world.show(reports.finished(Outcome.DEPLOYED, version="1.2.0"))

    done = await second.done()

    assert (done.code, done.document["version"]) == (0, "1.2.0")


async def test_what_the_spec_says_counts_and_the_command_line_overrides_it(world: World) -> None:
    await world.deploying()
    queued = await world.start("deploy", str(world.spec), "--set", "conflict=queue", "--json")
    await queued.said("queued, number 1 of 1")

    refused = await world.run("deploy", str(world.spec))
    both = await world.run("deploy", str(world.spec), "--queue", "--supersede")

    assert refused.code == 2 and "deploy with --queue, or --supersede" in refused.err
    assert both.code == 2 and "exclude each other" in both.err


async def test_a_ticket_that_nobody_knows_gets_a_sentence(world: World) -> None:
    watched = await world.run("watch", world.subject, "--ticket", "0" * 12, "--json")
    withdrawn = await world.run("withdraw", world.subject, "0" * 12, "--as", "ann", "--json")

    assert watched.code == 2 and "with the ticket 000000000000 is known" in watched.err
    assert withdrawn.code == 2 and f"no deployment of {world.subject} waits" in withdrawn.err


async def test_a_queue_that_is_ended_from_outside_is_no_success(world: World) -> None:
    await world.deploying()
    second = await queueing(world, "--version", "1.2.0")
    queue = world.client.get_workflow_handle(queue_id(world.service, "staging"))
    await queue.terminate("by hand")

    done = await second.done()

    assert done.code == 2 and "the queue of" in done.err and "nothing was started" in done.err
    assert (await queue.describe()).status is WorkflowExecutionStatus.TERMINATED


async def test_a_ticket_is_found_after_its_queue_has_forgotten_it(world: World) -> None:
    first = await world.start("deploy", str(world.spec), "--queue", "--no-wait", "--json")
    ticket = (await first.done()).document["ticket"]
    following = await world.start("watch", world.subject, "--ticket", ticket)
    await following.said("1.1.0, canary")
    await world.client.get_workflow_handle(queue_id(world.service, "staging")).terminate()
    second = await queueing(world, "--version", "1.2.0")
    again = await world.start("watch", world.subject, "--ticket", ticket, "--json")
    await again.said("1.1.0, canary")

    await world.show(reports.finished(Outcome.DEPLOYED))

    assert (await following.done()).code == 0
    assert (await again.done()).document["version"] == "1.1.0"
    await second.said("1.2.0, canary")


@pytest.mark.parametrize("command", ["status", "watch"])
async def test_a_target_on_which_somebody_only_waits_is_not_unknown(world: World, command: str) -> None:
    running = await world.deploying()
    second = await queueing(world, "--version", "1.2.0")

    done = await (await world.start(command, world.subject, *(["--wait", "1s"] if command == "watch" else []))).done()

    assert "1.2.0 by ann" in done.out + done.err
    assert second.process.returncode is None and running.process.returncode is None

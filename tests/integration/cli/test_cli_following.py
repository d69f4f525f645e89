"""`deploy` and `watch` follow a deployment to its end and say how it ended by their exit code and one document."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.client import Client, WorkflowExecutionStatus

from models.outcome import EXIT_CODES, Outcome
from tests.support import cli_reports as reports
from tests.support.cli_process import World, a_worker, temporal


@pytest_asyncio.fixture(scope="module")
async def server() -> AsyncIterator[Client]:
    async with temporal() as client:
        yield client


@pytest_asyncio.fixture(scope="module")
async def client(server: Client) -> AsyncIterator[Client]:
    async with a_worker(server):
        yield server


@pytest_asyncio.fixture
async def world(client: Client, tmp_path: Path) -> AsyncIterator[World]:
    world = World(client, tmp_path)
    yield world
    await world.end()


async def test_a_deployment_is_told_line_by_line_and_ends_with_one_document(world: World) -> None:
    command = await world.deploying("--json", "--reason", "a new basket")
    await world.show(reports.preflight())
    await command.said("preflight: started")
    await world.show(reports.second_step(5))
    await command.said("step 2 of 5: step_25: watched for 5m, until")
    await world.show(reports.second_step(25))
    await command.said("traffic: 25 % 1.1.0-abc123, 75 % 1.0.0-fed321")
    await world.show(reports.finished(Outcome.DEPLOYED))

    done = await command.done()

    assert done.code == 0
    assert "preflight: pass, 3 checks, 0.4s" in done.err
    assert "deployed: 1.1.0 serves" in done.err
    assert "report: /somewhere/report.md" in done.err
    assert "Traceback" not in done.err and "\x1b" not in done.err
    document = done.document
    assert (document["outcome"], document["exit_code"], document["reason"]) == ("deployed", 0, "a new basket")
    assert document["workflow_id"] == f"deploy/{world.service}/staging"
    assert [stage["stage"] for stage in document["stages"]][:2] == ["preflight", "deploy"]
    assert not (world.folder / "home").exists()


@pytest.mark.parametrize(
    "outcome",
    [Outcome.ROLLED_BACK, Outcome.ROLLBACK_FAILED, Outcome.REJECTED, Outcome.FROZEN, Outcome.PREFLIGHT_FAILED],
)
async def test_each_way_to_fail_has_its_exit_code(world: World, outcome: Outcome) -> None:
    command = await world.deploying("--json")
    await world.show(reports.finished(outcome))

    done = await command.done()

    assert done.code == EXIT_CODES[outcome] == done.document["exit_code"]
    assert done.document["outcome"] == outcome
    assert done.document["failure"]["type"] == "deployment_failed"


async def test_an_inconclusive_watch_ends_the_following_at_once_and_says_how_to_go_on(world: World) -> None:
    command = await world.deploying("--json")
    await world.show(reports.held())

    done = await command.done()

    assert (done.code, done.document["outcome"]) == (15, "held")
    assert f"resume {world.subject}" in done.err and f"rollback {world.subject} --reason" in done.err
    assert (await world.handle.describe()).status is WorkflowExecutionStatus.RUNNING


async def test_a_failed_rollback_ends_the_following_at_once_with_what_is_left(world: World) -> None:
    command = await world.deploying("--json")
    await world.show(reports.rollback_failed())

    done = await command.done()

    assert (done.code, done.document["outcome"]) == (11, "rollback-failed")
    assert "left: failed: the candidate 1.1.0-abc123 (StackError: it does not end)" in done.err
    for way in ("retry", "skip", "take-over"):
        assert f"resolve {world.subject} {way}" in done.err


async def test_an_approval_is_waited_for_until_the_wait_is_over(world: World) -> None:
    command = await world.deploying("--json", "--wait", "4s")
    await world.show(reports.awaiting())

    done = await command.done()

    assert (done.code, done.document["outcome"]) == (12, "awaiting-approval")
    assert done.err.count("waiting for a person") == 1
    assert "may decide: ann, bob" in done.err and f"approve {world.subject} --as NAME" in done.err


async def test_a_deployment_that_takes_longer_than_the_wait_goes_on(world: World) -> None:
    done = await world.run("deploy", str(world.spec), "--json", "--wait", "1s")

    assert (done.code, done.document["outcome"], done.document["exit_code"]) == (124, "running", 124)
    assert (await world.handle.describe()).status is WorkflowExecutionStatus.RUNNING


async def test_no_wait_starts_and_leaves(world: World) -> None:
    done = await world.run("deploy", str(world.spec), "--no-wait", "--json")

    assert (done.code, done.document["outcome"], done.document["exit_code"]) == (0, "running", 0)
    assert done.document["run_id"] == (await world.handle.describe()).run_id
    assert f"watch {world.subject}" in done.err


@pytest.mark.parametrize("times", [1, 2])
async def test_ctrl_c_detaches_and_the_deployment_goes_on(world: World, times: int) -> None:
    command = await world.deploying("--json")
    for _ in range(times):
        command.process.send_signal(signal.SIGINT)

    done = await command.done()

    assert (done.code, done.document["exit_code"], done.document["outcome"]) == (130, 130, "running")
    assert "goes on" in done.err and f"watch {world.subject}" in done.err
    assert "Traceback" not in done.err
    description = await world.handle.describe()
    assert description.status is WorkflowExecutionStatus.RUNNING

    again = await world.start("watch", world.subject, "--json")
    await again.said("canary")
    await world.show(reports.finished(Outcome.DEPLOYED))
    assert (await again.done()).code == 0


async def test_a_pipeline_that_is_told_to_stop_detaches_as_well(world: World) -> None:
    command = await world.deploying()
    command.process.terminate()

    done = await command.done()

    assert done.code == 143 and "goes on" in done.err


async def test_a_second_deployment_of_a_target_is_refused_with_who_is_in_the_way(world: World) -> None:
    await world.deploying("--as", "bob")
    await world.show(reports.second_step())
    first = (await world.handle.describe()).run_id

    done = await world.run("deploy", str(world.spec), "--version", "1.2.0", "--json")

    assert done.code == done.document["exit_code"] == 2 and done.document["outcome"] is None
    assert "bob is deploying 1.1.0" in done.err and "step 2 of 5" in done.err and "nothing was started" in done.err
    assert (await world.handle.describe()).run_id == first


async def test_a_terminated_deployment_is_no_success(world: World) -> None:
    command = await world.deploying("--json")
    await world.show(reports.rolling_back())
    await command.said("rolling back")
    await world.handle.terminate("by hand")

    done = await command.done()

    assert (done.code, done.document["outcome"]) == (11, "rollback-failed")
    assert "terminated" in done.err


async def test_watching_what_has_ended_says_how_it_ended(world: World) -> None:
    command = await world.deploying()
    await world.show(reports.finished(Outcome.ROLLED_BACK))
    assert (await command.done()).code == 10

    done = await world.run("watch", world.subject, "--json")

    assert (done.code, done.document["outcome"]) == (10, "rolled-back")
    assert "rolled back: 1.0.0 serves" in done.err


async def test_progress_that_nobody_reads_stops_nothing(world: World) -> None:
    command = await world.start("deploy", str(world.spec), "--json")
    await command.said("canary")
    transport = command.process._transport  # type: ignore[attr-defined]
    transport.get_pipe_transport(2).close()
    await world.show(reports.second_step())
    await world.show(reports.finished(Outcome.DEPLOYED))

    assert command.process.stdout is not None
    out = await asyncio.wait_for(command.process.stdout.read(), 30)

    assert await command.process.wait() == 0
    assert b'"deployed"' in out

"""Worker or Temporal are away for a while: the command line says so once and goes on when they are back."""

from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.client import WorkflowFailureError

from cli.spec.reader import read_spec
from models.messages import DeploymentRequest
from models.outcome import Outcome
from tests.support import cli_reports as reports
from tests.support.cli_process import World, a_worker, start_temporal, temporal
from tests.support.free_ports import free_port


async def test_a_worker_that_is_away_is_mentioned_once_and_waited_for(tmp_path: Path) -> None:
    async with temporal() as client:
        world = World(client, tmp_path)
        try:
            async with a_worker(client):
                command = await world.deploying("--json")
            await command.said("does not answer; trying on")
            await world.show(reports.finished(Outcome.DEPLOYED))
            async with a_worker(client):
                done = await command.done()
        finally:
            await world.end()

    assert done.code == 0
    assert done.err.count("does not answer") == 1 and "answers again" in done.err


async def test_a_rollback_waits_in_the_queue_for_a_worker_that_is_away(tmp_path: Path) -> None:
    async with temporal() as client:
        world = World(client, tmp_path)
        try:
            async with a_worker(client):
                await world.deploying()
            told = await world.run("rollback", world.subject, "--reason", "errors", "--no-wait")
            async with a_worker(client):
                decisions = (await world.handle.query("status"))["decisions"]
        finally:
            await world.end()

    assert told.code == 0
    assert [(each["what"], each["by"], each["reason"]) for each in decisions] == [("rollback", "ann", "errors")]


async def test_a_temporal_server_that_is_restarted_is_waited_for(tmp_path: Path) -> None:
    options = {"port": free_port(), "dev_server_database_filename": str(tmp_path / "temporal.db")}
    environment = await start_temporal(**options)
    world = World(environment.client, tmp_path)
    async with a_worker(environment.client):
        command = await world.deploying("--json")
    await environment.shutdown()
    await command.said("trying on")
    environment = await start_temporal(**options)
    try:
        world.client = environment.client
        async with a_worker(environment.client):
            await world.show(reports.finished(Outcome.ROLLED_BACK))
            done = await command.done()
    finally:
        await world.end()
        await environment.shutdown()

    assert (done.code, done.document["outcome"]) == (10, "rolled-back")
    assert "answers again" in done.err


async def test_temporal_that_is_not_there_is_said_within_seconds(tmp_path: Path) -> None:
    async with temporal() as client:
        world = World(client, tmp_path)

    done = await world.run("deploy", str(world.spec), "--json")

    assert done.code == done.document["exit_code"] == 2
    assert "Temporal does not answer at" in done.err and "TEMPORAL_ADDRESS" in done.err
    assert "Traceback" not in done.err


async def test_a_deployment_that_was_terminated_while_no_worker_was_there_says_by_whom_and_why(tmp_path: Path) -> None:
    async with temporal() as client:
        world = World(client, tmp_path)
        try:
            started = await world.run("deploy", str(world.spec), "--no-wait")
            waiting = await world.start("deploy", str(world.spec), "--queue", "--no-wait")
            await waiting.done()
            followed = await world.start("watch", world.subject, "--json")
            await followed.said("does not answer; trying on")
            await world.handle.terminate(reason="the wrong button")
            done = await followed.done()
            status = await world.run("status", world.subject)
            asked = (await world.run("status", world.subject, "--json")).document
            report = await world.run("report", world.subject)
            runs = (await world.run("history", world.subject, "--json")).document["runs"]
            table = await world.run("history", world.subject)
        finally:
            await world.end()

    assert started.code == 0
    assert (done.code, done.document["outcome"]) == (14, "preflight-failed")
    reason = done.document["failure"]["reason"]
    assert reason.startswith("the workflow was terminated by ") and "the wrong button" in reason
    assert "it had changed nothing; deploy again" in reason
    assert asked["failure"] == done.document["failure"] and asked["exit_code"] == 14
    assert "the wrong button" in status.out and "the wrong button" in report.err and report.code == 2
    assert runs[0]["outcome"] == "terminated" and runs[0]["why"].endswith(": the wrong button")
    assert "the wrong button" in table.out
    for each in (done.err, status.out, report.err, table.out):
        assert "start a worker" not in each


async def test_a_deployment_whose_time_limit_was_over_says_that(tmp_path: Path) -> None:
    async with temporal() as client:
        world = World(client, tmp_path)
        request = DeploymentRequest(spec=read_spec(str(world.spec), on_this_machine=False), by="ann")
        limit = timedelta(milliseconds=300)
        await client.start_workflow("deployment", request, id=world.handle.id, task_queue="none", run_timeout=limit)
        with pytest.raises(WorkflowFailureError):
            await world.handle.result()
        done = await world.run("watch", world.subject, "--json")
        await world.end()

    assert (done.code, done.document["version"]) == (14, request.spec.release.version)
    assert "a time limit of the workflow was over" in done.document["failure"]["reason"]

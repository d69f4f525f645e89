"""Worker or Temporal are away for a while: the command line says so once and goes on when they are back."""

from pathlib import Path

from models.outcome import Outcome
from tests import cli_reports as reports
from tests.free_ports import free_port
from tests.integration.commanding import World, a_worker, start_temporal, temporal


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

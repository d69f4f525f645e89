"""Without a target, `status` and `history` say what there is."""

from pathlib import Path

from models.outcome import Outcome
from tests.support import cli_reports as reports
from tests.support.cli_process import World, a_worker, temporal


async def test_all_targets_are_listed_with_their_last_version(tmp_path: Path) -> None:
    async with temporal() as client, a_worker(client):
        worlds = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            worlds.append(World(client, tmp_path / name))
        first, second = worlds
        try:
            nothing = await first.run("status")
            for world in worlds:
                command = await world.deploying()
                await world.show(reports.finished(Outcome.DEPLOYED))
                await command.done()
            table = await first.run("status")
            document = (await first.run("status", "--json")).document
            runs = await first.run("history")
            json_runs = (await first.run("history", "--json")).document["runs"]
        finally:
            for world in worlds:
                await world.end()

    subjects = {first.subject, second.subject}
    assert "no deployment is known" in nothing.err
    assert {line.split()[0] for line in table.out.splitlines()[1:]} == subjects
    assert all("1.1.0" in line for line in table.out.splitlines()[1:])
    assert {each["target"] for each in document["targets"]} == subjects
    assert all(subject in runs.out for subject in subjects)
    assert {each["subject"] for each in json_runs} == subjects

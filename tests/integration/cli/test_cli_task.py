"""`deploy --task`: the command claims the task, closes it at the end, and repairs later what it could not tell."""

import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from models.outcome import Outcome
from tests.support import cli_reports as reports
from tests.support.cli_process import World, a_worker, temporal

FAKE = Path(__file__).parents[2] / "support" / "fake_bd.py"


class Tasks:
    """A repository of Beads with one task, and the environment in which a command meets it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "beads"
        program = self.folder / "bin" / "bd"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!{sys.executable}\n{FAKE.read_text()}")
        program.chmod(0o755)
        memory = program.with_name("cm")
        memory.write_text(f"#!{sys.executable}\n{FAKE.with_name('fake_cm.py').read_text()}")
        memory.chmod(0o755)
        task: dict[str, Any] = {"id": "dep-0", "title": "Deploy", "status": "open", "needs": [], "comments": []}
        task["metadata"] = {"stage": 6, "version": "1.3.0", "quality_gates": ["smoke"]}
        (self.folder / "db.json").write_text(json.dumps({"dep-0": task}))
        self.environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "BEADS_DIR": str(self.folder)}
        self.environment["CASS_MEMORY_HOME"] = str(self.folder)

    @property
    def issues(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = json.loads((self.folder / "db.json").read_text())
        return found


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with temporal() as client, a_worker(client):
        here = World(client, tmp_path)
        try:
            yield here
        finally:
            await here.end()


@pytest.fixture
def tasks(tmp_path: Path) -> Tasks:
    return Tasks(tmp_path)


async def test_the_task_is_claimed_decides_the_version_and_is_closed(world: World, tasks: Tasks) -> None:
    command = await world.start("deploy", str(world.folder), "--task", "dep-0", **tasks.environment)
    await command.said("canary")
    request = (await world.handle.fetch_history()).events[0].workflow_execution_started_event_attributes.input
    document = json.loads(request.payloads[0].data)
    assert (document["spec"]["release"]["version"], document["task"]) == ("1.3.0", "dep-0")
    assert document["required_gates"] == ["gate_smoke_tests_pass"]
    assert tasks.issues["dep-0"]["status"] == "in_progress"

    await world.show(reports.finished(Outcome.DEPLOYED))
    done = await command.done()

    assert done.code == 0
    assert "task dep-0: closed" in done.err
    assert "known (b-1): Warm the cache before 50 %" in done.err
    assert "cass memory: success, 1 of 1 rules" in done.err
    assert tasks.issues["dep-0"]["status"] == "closed"


async def test_what_beads_was_not_told_changes_no_exit_code_and_is_told_later(world: World, tasks: Tasks) -> None:
    command = await world.start("deploy", str(world.spec), "--task", "dep-0", **tasks.environment)
    await command.said("canary")
    (tasks.folder / "db.json").rename(tasks.folder / "away.json")
    ended = reports.finished(Outcome.ROLLED_BACK).model_copy(update={"task": "dep-0"})
    await world.show(ended)
    done = await command.done()
    assert done.code == 10
    assert "BEADS WAS NOT TOLD" in done.err

    (tasks.folder / "away.json").rename(tasks.folder / "db.json")
    again = ["deploy", str(world.spec), "--task", "dep-0", "--finish-tracking"]
    first = await world.run(*again, **tasks.environment)
    second = await world.run(*again, **tasks.environment)

    assert (first.code, second.code) == (0, 0)
    fixes = [each for each in tasks.issues.values() if each.get("issue_type") == "bug"]
    assert len(fixes) == 1
    assert tasks.issues["dep-0"]["close_reason"] == f"Failed - created fix task {fixes[0]['id']}"


async def test_a_tracker_that_is_not_there_starts_nothing(world: World, tasks: Tasks) -> None:
    done = await world.run("deploy", str(world.spec), "--task", "dep-9", **tasks.environment)

    assert done.code == 2
    assert "there is no task dep-9" in done.err
    assert [run async for run in world.client.list_workflows()] == []

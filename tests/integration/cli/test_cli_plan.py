"""`plan` asks what serves and what preflight would find, says it, and changes nothing."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.preflight.lock import LockActivities
from cli.render import plan
from models.verdict import Verdict
from tests.support.cli_process import World, temporal
from tests.workflows.conftest import old_revision
from tests.workflows.simulated import SimulatedTarget
from workflows.planning import PlanWorkflow
from workflows.wire_names import TASK_QUEUE

LOOKED_AT = {"artifacts", "environment", "disk", "memory", "load", "descriptors", "address", "ci"}
READ_ONLY = {"capabilities", "snapshot", "examine"} | LOOKED_AT


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with temporal() as found:
        yield found


def a_planner(client: Client, target: SimulatedTarget) -> Worker:
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[PlanWorkflow],
        activities=[*target.activities(), LockActivities().check_conflict],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_heartbeat_throttle_interval=timedelta(milliseconds=100),
    )


def serving(verdicts: dict[str, Verdict] | None = None) -> SimulatedTarget:
    target = SimulatedTarget(verdicts=verdicts or {})
    target.serve(old_revision())
    return target


async def test_what_the_checks_found_is_shown_worst_first_and_nothing_is_changed(
    client: Client, tmp_path: Path
) -> None:
    target = serving(verdicts={"environment": Verdict.FAIL, "memory": Verdict.ERROR})
    world = World(client, tmp_path)
    async with a_planner(client, target):
        text = await world.run("plan", str(world.spec))
        document = (await world.run("plan", str(world.spec), "--json")).document
    await world.end()

    lines = text.out.splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith("preflight, as of now: "))
    assert text.code == 0
    assert lines[begin].endswith("a deployment would stop here: environment, memory")
    assert [line.split()[0] for line in lines[begin + 1 : begin + 3]] == ["fail", "error"]
    assert re.search(r"^ *skipped +ci +the spec does not say where the tests", text.out, re.MULTILINE)
    assert (document["known"], document["previous_version"]) == (True, "1.0.0")
    assert document["preflight"] == {"verdict": "fail", "closed_by": ["environment", "memory"]}
    assert {check["name"]: check["verdict"] for check in document["checks"]}["artifacts"] == "pass"
    assert set(target.calls) <= READ_ONLY


async def test_ci_is_asked_and_not_waited_for(client: Client, tmp_path: Path) -> None:
    target = serving(verdicts={"ci": Verdict.INCONCLUSIVE})
    world = World(client, tmp_path)
    with world.spec.open("a") as file:
        file.write("preflight: {ci: {kind: github, repository: acme/shop, wait: 20m}}\n")
    async with a_planner(client, target):
        done = await world.run("plan", str(world.spec), "--json", "--set", f"release.revision={'a' * 40}")
    await world.end()

    assert done.document["preflight"]["closed_by"] == ["ci"]
    assert [question.deadline for question in target.ci_questions] == [None]


async def test_a_check_that_breaks_is_an_error_among_the_others(client: Client, tmp_path: Path) -> None:
    target = serving()
    target.breaking["disk"] = -1
    world = World(client, tmp_path)
    async with a_planner(client, target):
        done = await world.run("plan", str(world.spec), "--json")
    await world.end()

    found = {check["name"]: check for check in done.document["checks"]}
    assert (found["disk"]["verdict"], "disk is broken" in found["disk"]["reason"]) == ("error", True)
    assert found["artifacts"]["verdict"] == "pass"


async def test_offline_asks_nobody(client: Client, tmp_path: Path) -> None:
    target = serving()
    world = World(client, tmp_path)
    async with a_planner(client, target):
        text = await world.run("plan", str(world.spec), "--offline")
        document = (await world.run("plan", str(world.spec), "--offline", "--json")).document
    await world.end()

    assert "what serves now is not known: nobody was asked (--offline)" in text.out
    assert (document["known"], document["checks"], "preflight" in document) == (False, [], False)
    assert target.calls == []


async def test_without_a_worker_it_is_said_before_the_checks_could_have_ended(client: Client, tmp_path: Path) -> None:
    world = World(client, tmp_path)

    done = await world.run("plan", str(world.spec))
    left = [run async for run in client.list_workflows("ExecutionStatus = 'Running'")]

    assert timedelta(seconds=plan._TAKEN_UP_WITHIN) < plan._ANSWER_WITHIN
    assert (done.code, "no worker has taken the question up" in done.out) == (0, True)
    assert left == []

"""The GitHub action and the GitLab component, run in a shell as their runners do, against a Temporal server."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from models.outcome import Outcome
from models.report import DeploymentReport
from tests.integration.cli.test_cli_plan import a_planner, serving
from tests.support import cli_reports as reports
from tests.support.ci_runners import Ran, run_action, run_component
from tests.support.cli_process import STARTER, World, a_worker, temporal


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with temporal() as client:
        here = World(client, tmp_path)
        try:
            yield here
        finally:
            await here.end()


@pytest.fixture
def program(tmp_path: Path) -> str:
    file = tmp_path / "program"
    file.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STARTER}" "$@"\n')
    file.chmod(0o755)
    return str(file)


async def has_begun(world: World) -> bool:
    query = f"WorkflowId = '{world.handle.id}'"
    return bool([run async for run in world.client.list_workflows(query)])


def read(file: str) -> str:
    return Path(file).read_text()


@asynccontextmanager
async def ending(world: World, report: DeploymentReport) -> AsyncIterator[None]:
    """Tells the deployment how it ends, as soon as there is one."""

    async def show() -> None:
        async with asyncio.timeout(60):
            found = False
            while not found:
                await asyncio.sleep(0.1)
                found = await has_begun(world)
        await world.show(report)

    async with a_worker(world.client):
        telling = asyncio.ensure_future(show())
        try:
            yield
        finally:
            await telling


def without(world: World, *names: str) -> dict[str, str]:
    return {name: value for name, value in world.environment.items() if name not in names}


async def act(world: World, program: str, **inputs: str) -> Ran:
    address = world.environment["TEMPORAL_ADDRESS"]
    environment = without(world, "TEMPORAL_ADDRESS")
    return await run_action(
        world.folder, environment, executable=program, spec="deployment.yaml", temporal_address=address, **inputs
    )


async def test_the_action_deploys_and_says_so(world: World, program: str) -> None:
    async with ending(world, reports.finished(Outcome.DEPLOYED)):
        ran = await act(world, program, version="1.1.0", set="strategy.kind=rolling\nplatform.instances=3\n", wait="5m")
    events = (await world.handle.fetch_history()).events
    spec = json.loads(events[0].workflow_execution_started_event_attributes.input.payloads[0].data)["spec"]

    assert ran.code == 0, ran.log
    assert (spec["strategy"]["kind"], spec["platform"]["instances"]) == ("rolling", 3)
    assert (ran.outputs["outcome"], ran.outputs["version"], ran.outputs["exit-code"]) == ("deployed", "1.1.0", "0")
    assert json.loads(read(ran.outputs["report"]))["run_id"] == ran.outputs["run-id"]
    assert "is live on staging" in ran.summary.splitlines()[0]
    assert "::error" not in ran.log


async def test_a_failed_deployment_fails_the_step_with_its_code_and_an_annotation(world: World, program: str) -> None:
    async with ending(world, reports.finished(Outcome.ROLLED_BACK)):
        ran = await act(world, program)

    assert ran.code == 10
    lines = ran.log.splitlines()
    token = next(line.removeprefix("::stop-commands::") for line in lines if line.startswith("::stop-commands::"))
    annotation = next(n for n, line in enumerate(lines) if line.startswith("::error file=deployment.yaml,title=deploy"))
    assert len(token) == 32 and annotation > lines.index(f"::{token}::")
    assert (ran.outputs["outcome"], ran.outputs["exit-code"]) == ("rolled-back", "10")
    assert "step\\_25" in ran.summary


async def test_a_spec_that_is_wrong_is_an_annotation_and_nothing_is_started(world: World, program: str) -> None:
    ran = await act(world, program, set="plattform.instances=3")

    assert (ran.code, ran.outputs["outcome"]) == (2, "")
    assert "::error file=deployment.yaml,title=not started::" in ran.log
    assert [run async for run in world.client.list_workflows()] == []


async def test_an_input_is_never_a_part_of_a_script(world: World, program: str, tmp_path: Path) -> None:
    ran = await act(world, program, version=f'"; touch {tmp_path}/pwned; "', arguments=f"$(touch {tmp_path}/pwned)")

    assert ran.code == 2
    assert not (tmp_path / "pwned").exists()


async def test_a_runner_without_temporal_deploys_nothing_to_itself(world: World, program: str) -> None:
    ran = await run_action(world.folder, without(world, "TEMPORAL_ADDRESS"), executable=program)

    assert ran.code == 2
    assert "::error title=no Temporal server::" in ran.log
    assert not (world.folder / "home").exists()


async def test_the_action_plans_for_a_comment(world: World, program: str) -> None:
    target = serving()
    async with a_planner(world.client, target):
        ran = await act(world, program, command="plan")

    assert ran.code == 0, ran.log
    comment = read(ran.outputs["comment"])
    assert comment.startswith(f"<!-- deployment-specialist plan {world.subject} -->\n")
    assert '- release.version: "1.0.0"\n+ release.version: "1.1.0"\n' in comment
    assert ran.summary == comment


async def test_the_component_deploys_and_leaves_what_gitlab_reads(world: World, program: str) -> None:
    inputs = {"temporal_address": world.environment["TEMPORAL_ADDRESS"], "image": "any", "executable": program}
    async with ending(world, reports.finished(Outcome.ROLLED_BACK)):
        ran = await run_component(world.folder, without(world, "TEMPORAL_ADDRESS"), version="1.1.0", **inputs)

    assert ran.code == 10, ran.log
    assert "DEPLOYMENT_OUTCOME=rolled-back\n" in (world.folder / "deployment.env").read_text()
    assert (world.folder / "deployment.md").read_text().startswith("## ")
    assert "<failure" in (world.folder / "deployment-junit.xml").read_text()

"""What people tell a deployment is answered: noted, or refused with the reason; and what happened can be read later."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.client import Client

from models.outcome import Outcome
from tests.support import cli_reports as reports
from tests.support.cli_process import World, a_worker, temporal


@pytest_asyncio.fixture(scope="module")
async def client() -> AsyncIterator[Client]:
    async with temporal() as client, a_worker(client):
        yield client


@pytest_asyncio.fixture
async def world(client: Client, tmp_path: Path) -> AsyncIterator[World]:
    world = World(client, tmp_path)
    yield world
    await world.end()


async def deployed(world: World, *more: str) -> None:
    command = await world.deploying(*more)
    await world.show(reports.finished(Outcome.DEPLOYED))
    assert (await command.done()).code == 0


@pytest.mark.parametrize("command", ["approve", "reject"])
async def test_a_decision_is_noted_with_its_name_and_reason(world: World, command: str) -> None:
    await world.run("deploy", str(world.spec), "--no-wait")
    await world.show(reports.awaiting())

    done = await world.run(command, world.subject, "--as", "ann", "--reason", "looks good", "--json")

    assert done.code == 0, done.err
    assert done.document | {"at": ""} == {
        "exit_code": 0, "service": world.service, "target": "staging",
        "what": f"{command} deploy", "by": "ann", "at": "", "reason": "looks good",
    }  # fmt: skip


async def test_an_approval_that_nobody_waits_for_is_refused_with_the_reason(world: World) -> None:
    await world.run("deploy", str(world.spec), "--no-wait")

    done = await world.run("approve", world.subject, "--as", "ann", "--json")

    assert done.code == 2
    assert done.document["error"] == f"{world.subject}: nothing waits for an approval now"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["hold"], "hold"),
        (["resume"], "resume"),
        (["resolve", "retry"], "retry"),
        (["resolve", "skip", "--reason", "it is gone"], "skip"),
        (["resolve", "take-over", "--as", "bob"], "take-over"),
    ],
)
async def test_each_thing_that_can_be_said_is_noted(world: World, arguments: list[str], what: str) -> None:
    await world.run("deploy", str(world.spec), "--no-wait")

    done = await world.run(arguments[0], world.subject, *arguments[1:], "--json")

    assert done.code == 0, done.err
    assert done.document["what"] == what
    assert done.document["by"] == ("bob" if "bob" in arguments else "ann")


@pytest.mark.parametrize(
    "arguments",
    [
        ["approve", "--as", "ann"], ["hold"], ["resume"], ["resolve", "retry"], ["status"], ["watch"], ["report"],
        ["rollback", "--reason", "errors"],
    ],
)  # fmt: skip
async def test_what_was_never_deployed_gets_a_sentence(world: World, arguments: list[str]) -> None:
    done = await world.run(arguments[0], world.subject, *arguments[1:], "--json")

    assert done.code == done.document["exit_code"] == 2
    assert world.subject in done.err and "Traceback" not in done.err


async def test_a_rollback_of_a_running_deployment_is_followed_through_an_older_hold(world: World) -> None:
    await world.run("deploy", str(world.spec), "--no-wait")
    await world.show(reports.held())

    command = await world.start("rollback", world.subject, "--reason", "checkout is slow", "--json")
    await command.said("ann decided")
    await world.show(reports.finished(Outcome.ROLLED_BACK))
    done = await command.done()

    assert (done.code, done.document["outcome"]) == (10, "rolled-back")
    decision = done.document["decisions"][-1]
    assert (decision["what"], decision["reason"]) == ("rollback", "checkout is slow")


async def test_a_rollback_after_the_end_is_a_new_run_with_the_spec_of_the_last_one_that_changed_something(
    world: World,
) -> None:
    await deployed(world, "--set", "platform.instances=3")
    command = await world.deploying("--set", "platform.instances=4")
    await world.show(reports.finished(Outcome.PREFLIGHT_FAILED))
    assert (await command.done()).code == 14

    command = await world.start("rollback", world.subject, "--reason", "late errors", "--json")
    await command.said("going back to the release before")
    await command.said("rollback to")
    await world.show(reports.rollback_done())
    done = await command.done()

    assert (done.code, done.document["outcome"], done.document["kind"]) == (10, "rolled-back", "rollback")
    assert "rolled back: 1.0.0 serves" in done.err
    started = await anext(world.handle.fetch_history_events(page_size=1))
    request = started.workflow_execution_started_event_attributes.input.payloads[0].data
    assert b'"instances":3' in request and b'"kind":"rollback"' in request and b"late errors" in request


async def test_status_history_and_report_tell_what_happened(world: World) -> None:
    written = world.folder / "report.md"
    written.write_text("# shop 1.1.0\n\nfine \x1b[31mred\n")
    command = await world.deploying("--reason", "a new basket")
    await world.show(reports.finished(Outcome.DEPLOYED, report=str(written)))
    assert (await command.done()).code == 0
    command = await world.deploying("--version", "1.2.0", "--as", "bob")
    await world.show(reports.finished(Outcome.ROLLED_BACK, report=str(written)))
    assert (await command.done()).code == 10

    status = await world.run("status", world.subject)
    as_json = await world.run("status", world.subject, "--json")
    report = await world.run("report", world.subject)
    history = await world.run("history", world.subject, "--json")
    table = await world.run("history", world.subject)

    assert status.code == 0 and "rolled back: 1.0.0 serves" in status.out
    assert (as_json.code, as_json.document["exit_code"]) == (0, 10)
    assert report.code == 0 and report.out == "# shop 1.1.0\n\nfine  [31mred\n"
    runs = history.document["runs"]
    assert [(r["version"], r["outcome"], r["by"], r["reason"]) for r in runs] == [
        ("1.2.0", "rolled-back", "bob", ""),
        ("1.1.0", "deployed", "ann", "a new basket"),
    ]
    assert all(r["seconds"] >= 0 and r["run_id"] in table.out for r in runs)
    assert runs[0]["why"] and not runs[1]["why"]
    assert f"\n    {runs[0]['why']}\n" in table.out
    assert f"this is {written}" in report.err


async def test_a_report_on_another_machine_is_pointed_to(world: World) -> None:
    await deployed(world)

    done = await world.run("report", world.subject)
    document = await world.run("report", world.subject, "--json")

    assert done.code == 2 and "/somewhere/report.md" in done.err and "--json" in done.err
    assert document.document["outcome"] == "deployed"

"""People decide, and missing facts stop a deployment before it begins: each with its outcome and exit code."""

import asyncio
import json
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil

from tests.support.product_env import CANARY, NEW, NEWER, OLD, ProductEnv, Service, ended, found
from tests.support.scenarios import side_by_side

LONG = {**CANARY, "steps": [{"weight": 40, "watch": "12s"}, {"weight": 100, "watch": "1s"}], "bake": "1s"}
# Nothing that occurs by chance: it is searched for in everything.
SECRET = "zgV7-only-the-service-may-know-this-Qp2"
MAY_HOLD_SECRETS = ("secrets", "programs", "targets")


@side_by_side
async def test_production_waits_for_a_person_who_approves(living: ProductEnv) -> None:
    service = living.service(target="production")
    first = await service.deploy(OLD, more=("--wait", "2s"))
    ended(first, "awaiting-approval", 12)
    assert not (living.home / "targets" / service.name).exists()
    done = await living.run("approve", service.subject, "--as", "ada", "--reason", "load test was fine", "--json")
    assert (done.code, done.document["by"]) == (0, "ada"), done.err
    watched = await living.run("watch", service.subject, "--json")
    document = ended(watched, "deployed", 0)
    assert [(decision["by"], decision["reason"]) for decision in document["decisions"]] == [
        ("ada", "load test was fine")
    ]
    await service.is_new(OLD)


@side_by_side
async def test_a_rejected_deployment_changes_nothing(living: ProductEnv) -> None:
    service = living.service(approvals={"before": ["deploy"]})
    command = await service.deploying(OLD)
    await service.until(lambda report: report.waiting_for)
    done = await living.run("reject", service.subject, "--as", "grace", "--reason", "not before the sale")
    assert done.code == 0, done.err
    document = ended(await command.done(), "rejected", 13)
    assert "not before the sale" in document["failure"]["reason"]
    assert not (living.home / "targets" / service.name).exists()


@side_by_side
async def test_a_hold_keeps_the_weights_until_it_is_resumed(living: ProductEnv) -> None:
    service = living.service(LONG)
    await service.serving()
    async with service.users():
        command = await service.deploying(NEW)
        await service.doing("step_40: watched")
        held = await living.run("hold", service.subject, "--reason", "looking at a log")
        assert held.code == 0, held.err
        await service.doing("held")
        assert service.weights() == {OLD: 60, NEW: 40}
        resumed = await living.run("resume", service.subject)
        assert resumed.code == 0, resumed.err
        ended(await command.done(), "deployed", 0)
        await service.is_new(NEW)


@side_by_side
async def test_a_hold_leaves_nobody_who_judges_the_instances_that_the_rehearsal_stops(living: ProductEnv) -> None:
    # Long enough to start that a watcher which was left behind would look while the rehearsal has them down.
    service = living.service(LONG, rehearse={"enabled": True})
    await service.serving()
    async with service.users():
        command = await service.deploying(NEW, "platform.environment.APP_SLOW_START_S=12", "strategy.deadline=40s")
        await service.doing("step_40: watched")
        assert (await living.run("hold", service.subject)).code == 0
        await service.doing("held")
        assert (await living.run("resume", service.subject)).code == 0
        document = ended(await command.done(), "deployed", 0)
        await service.is_new(NEW)
    assert found(document, "rehearse", "redeployed")["verdict"] == "pass"


@side_by_side
async def test_a_held_candidate_that_falls_ill_loses_its_traffic(living: ProductEnv) -> None:
    service = living.service(LONG)
    await service.serving()
    async with service.users(bad=NEW):
        command = await service.deploying(NEW, f"platform.environment.APP_SICK_IF={service.sick}")
        await service.doing("step_40: watched")
        assert (await living.run("hold", service.subject)).code == 0
        await service.doing("held")
        service.sick.touch()
        document = ended(await command.done(), "rolled-back", 10)
        await service.is_old()
    assert document["failure"]["type"] == "deployment_failed"


@side_by_side
async def test_without_traffic_a_canary_is_held_and_a_person_lets_it_go_on(living: ProductEnv) -> None:
    service = living.service(judge_for_few())
    await service.serving()
    began = time.monotonic()
    document = ended(await service.deploy(NEW), "held", 15)
    # Two watches of a second each, and what a deployment needs besides: no waiting for something else.
    assert time.monotonic() - began < 25
    assert "0 requests to the candidate" in document["waiting_for"]
    assert service.weights() == {OLD: 60, NEW: 40}
    async with service.users():
        assert (await living.run("resume", service.subject, "--as", "ada")).code == 0
        document = ended(await living.run("watch", service.subject, "--json"), "deployed", 0)
    step = found(document, "deploy", "step_40")
    assert (step["verdict"], step["evidence"]["let_go_on_by"]) == ("skipped", "ada")
    await service.is_new(NEW)


def judge_for_few() -> dict[str, object]:
    return {**CANARY, "judge": {"min_requests": 5, "probe_every": "250ms"}}


@side_by_side
async def test_a_missing_artifact_fails_preflight_and_changes_nothing(living: ProductEnv) -> None:
    service = living.service()
    await service.serving()
    before = service.state()
    async with service.users():
        document = ended(
            await service.deploy(NEW, 'release.artifacts=[{"path": "app/missing.tar"}]'), "preflight-failed", 14
        )
    assert "missing.tar" in document["failure"]["reason"]
    assert document["failure"]["type"] == "pre_deployment_checks_failed"
    assert service.state() == before
    await service.is_old()


@side_by_side
async def test_an_address_of_somebody_else_fails_preflight(living: ProductEnv) -> None:
    service = living.service()
    host, port = service.listen.split(":")
    other = await asyncio.start_server(lambda _, writer: writer.close(), host, int(port))
    try:
        document = ended(await service.deploy(OLD), "preflight-failed", 14)
    finally:
        other.close()
        await other.wait_closed()
    assert service.listen in document["failure"]["reason"]
    assert not (living.home / "targets" / service.name).exists()
    ended(await service.deploy(OLD), "deployed", 0)


@side_by_side
async def test_a_second_deployment_of_the_same_target_is_refused_and_says_whose_runs(living: ProductEnv) -> None:
    service = living.service(LONG)
    await service.serving()
    async with service.users():
        command = await service.deploying(NEW, more=("--as", "ada"))
        await service.doing("step_40: watched")
        second = await service.deploy(NEWER, more=("--as", "grace"))
        assert second.code == 2
        assert "ada is deploying 1.1.0" in second.err
        assert second.document["exit_code"] == 2
        ended(await command.done(), "deployed", 0)
        await service.is_new(NEW)


@side_by_side
async def test_a_secret_reaches_the_service_and_nothing_else(living: ProductEnv) -> None:
    service = living.service(
        platform={"environment": {"APP_TOLD": {"secret": "env:TOLD_SECRETLY"}}},
        verify={"smoke": [{"name": "told", "request": {"path": "/told"}, "expect": {"json": {"told": SECRET[::-1]}}}]},
    )
    # Its smoke test fails: so an answer that contains the secret is reported, and everything is rolled back.
    failed = await service.deploy(OLD, TOLD_SECRETLY=SECRET)
    document = ended(failed, "rolled-back", 10)
    assert document["failure"]["type"] == "smoke_tests_failed"
    ended(await service.deploy(NEW, "verify.smoke=[]", TOLD_SECRETLY=SECRET), "deployed", 0)
    assert await _told(service) == SECRET
    for text in (failed.out, failed.err, await _histories(service), _command_lines()):
        assert SECRET not in text
    holders = await asyncio.to_thread(_holders, living.home)
    assert holders, "not even the service's own environment has it"
    for path in holders:
        whole = living.home / path
        assert path.parts[0] in MAY_HOLD_SECRETS, f"the secret is in {path}"
        assert whole.stat().st_mode & 0o077 == 0, f"others can read {path}"
        assert path.suffix not in (".log", ".yml"), f"the secret is in {path}"


async def _told(service: Service) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        return str((await client.get(service.url)).json()["told"])


async def _histories(service: Service) -> str:
    client, text = await service.living.client(), ""
    async for run in client.list_workflows(f"WorkflowId = 'deploy/{service.subject}'"):
        handle = client.get_workflow_handle(run.id, run_id=run.run_id)
        text += json.dumps((await handle.fetch_history()).to_json_dict())
        async for event in handle.fetch_history_events():
            text += str(event.SerializeToString())
    assert "APP_TOLD" in text, "no history was read"
    return text


def _command_lines() -> str:
    return "\n".join(" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))


def _holders(home: Path) -> set[Path]:
    found = set()
    for path in home.rglob("*"):
        with suppress(FileNotFoundError):  # others work in this home meanwhile
            if path.is_file() and SECRET.encode() in path.read_bytes():
                found.add(path.relative_to(home))
    return found


@side_by_side
async def test_error_tracking_that_refuses_ends_the_deployment(living: ProductEnv) -> None:
    service = living.service(observe={"sentry": {"dsn": "env:SHOP_DSN"}})
    ended(await service.deploy(OLD, "observe={}"), "deployed", 0)
    refuser = await asyncio.start_server(_refuse, "127.0.0.1", 0)
    port = refuser.sockets[0].getsockname()[1]
    dsn = f"http://0123456789abcdef0123456789abcdef@127.0.0.1:{port}/1"
    try:
        async with service.users():
            document = ended(await service.deploy(NEW, SHOP_DSN=dsn), "rolled-back", 10)
            await service.is_old()
    finally:
        refuser.close()
        await refuser.wait_closed()
    assert document["failure"]["type"] == "error_tracking_not_configured"
    assert document["failure"]["stage"] == "observe"
    assert found(document, "observe", "error_tracking")["verdict"] == "fail"


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()
    writer.close()

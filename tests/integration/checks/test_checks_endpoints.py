"""What a service says of itself is asked for, and anything else than a clear yes is told apart."""

import asyncio
from datetime import timedelta

import pytest
from temporalio.testing import ActivityEnvironment

from activities.verify import VerifyActivities
from models.checks import EndpointCheck
from models.health import HealthSpec
from models.verdict import CheckResult, Verdict
from tests.support.serving import (
    Behaviour,
    dripping,
    endless,
    hanging_up,
    running_shop,
    saying,
    serving,
    silent,
    speaking_something_else,
)

RULE = HealthSpec().rule(None)
PATHS = {"health": "/health", "ready": "/ready", "live": "/healthz", "metrics": "/metrics", "version": "/version"}


async def ask(base_url: str, endpoint: str, path: str | None = None, seconds: float = 5) -> CheckResult:
    check = EndpointCheck(
        endpoint=endpoint,
        base_url=base_url,
        path=path or PATHS[endpoint],
        version="1.1.0",
        timeout=timedelta(seconds=seconds),
        health=RULE.model_copy(update={"within": timedelta(seconds=seconds)}),
    )
    return await ActivityEnvironment().run(VerifyActivities().check_endpoint, check)


async def ask_server(behaviour: Behaviour, endpoint: str, seconds: float = 5) -> CheckResult:
    async with serving(behaviour) as base_url:
        return await ask(base_url, endpoint, seconds=seconds)


@pytest.mark.parametrize("endpoint", list(PATHS))
async def test_the_shop_passes_every_check(endpoint: str) -> None:
    with running_shop() as (base_url, _):
        found = await ask(base_url, endpoint)

    assert found.verdict is Verdict.PASS, found.reason
    assert found.name == f"endpoint_{endpoint}"
    assert found.evidence["status"] == 200


async def test_an_endpoint_that_the_service_does_not_have_is_skipped_with_its_key() -> None:
    check = EndpointCheck(
        endpoint="metrics", base_url="http://127.0.0.1:1", path=None, version="1", timeout=timedelta(seconds=1)
    )

    found = await ActivityEnvironment().run(VerifyActivities().check_endpoint, check)

    assert found.verdict is Verdict.SKIPPED
    assert found.reason == "the service has no metrics endpoint (verify.endpoints.metrics: null)"


async def test_another_version_fails_with_both() -> None:
    with running_shop(VERSION="1.0.0") as (base_url, _):
        found = await ask(base_url, "version")

    assert (found.verdict, found.reason) == (Verdict.FAIL, "/version says version 1.0.0, expected 1.1.0")


@pytest.mark.parametrize("status", ["healthy", "ok", "UP", "pass", "Passing"])
async def test_words_for_healthy_pass(status: str) -> None:
    assert (await ask_server(saying("200 OK", f'{{"status": "{status}"}}'), "health")).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("health", "fine"),
        ("health", ""),
        ("health", "[1]"),
        ("health", '{"uptime": 3}'),
        ("ready", ""),
        ("ready", '{"ready": true}'),
        ("live", "\x00\x01"),
    ],
)
async def test_200_is_enough_where_the_body_says_nothing_else(endpoint: str, body: str) -> None:
    assert (await ask_server(saying("200 OK", body), endpoint)).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("endpoint", "body", "reason"),
    [
        ("health", '{"status": "degraded"}', "says status degraded"),
        ("health", '{"status": null}', "says status None"),
        ("health", '{"status": ["ok"]}', "says status"),
        ("ready", '{"ready": false}', "says that it is not ready"),
        ("version", "1.1.0", 'must answer {"version": "1.1.0"}'),
        ("version", "{}", "must answer"),
        ("version", '{"version": 1.1}', "says version 1.1"),
        ("version", "[" * 100_000, "must answer"),
        ("metrics", "<html>hello</html>", "is no Prometheus text"),
        ("metrics", 'up{instance="a" 1\n', "is no Prometheus text"),
        ("metrics", "# HELP up nothing follows\n", "without a single sample"),
        ("metrics", b"\xff\xfe 1\n", "is no Prometheus text"),
    ],
)
async def test_200_with_a_body_that_says_otherwise_fails(endpoint: str, body: str | bytes, reason: str) -> None:
    found = await ask_server(saying("200 OK", body), endpoint)

    assert found.verdict is Verdict.FAIL
    assert reason in found.reason


async def test_openmetrics_are_read_as_such() -> None:
    kind = "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8"

    whole = await ask_server(saying("200 OK", "# TYPE up gauge\nup 1\n# EOF\n", kind), "metrics")
    cut = await ask_server(saying("200 OK", "# TYPE up gauge\nup 1\n", kind), "metrics")

    assert (whole.verdict, cut.verdict) == (Verdict.PASS, Verdict.FAIL)
    assert "is no OpenMetrics text" in cut.reason


async def test_404_tells_how_to_say_that_there_is_none() -> None:
    found = await ask_server(saying("404 Not Found"), "ready")

    assert found.verdict is Verdict.FAIL
    assert "set verify.endpoints.ready to null" in found.reason


async def test_an_unhealthy_service_fails_with_what_it_said() -> None:
    with running_shop(UNHEALTHY_AFTER_S="0") as (base_url, _):
        found = await ask(base_url, "health")

    assert found.verdict is Verdict.FAIL
    assert found.reason == '/health answered 503, expected 200: {"status": "unhealthy"}'


async def test_a_redirect_is_not_followed() -> None:
    with running_shop() as (elsewhere, _):
        found = await ask_server(saying("302 Found", "", f"Location: {elsewhere}/health"), "health")

    assert found.verdict is Verdict.FAIL
    assert f"redirects to {elsewhere}/health, which is not followed" in found.reason


@pytest.mark.parametrize(
    ("behaviour", "seconds", "reason"),
    [
        (silent, 0.2, "no whole answer within 0.2s"),
        (dripping, 0.3, "no whole answer within 0.3s"),
        (hanging_up, 5, "is not HTTP, or ended early"),
        (speaking_something_else, 5, "is not HTTP, or ended early"),
    ],
    ids=["silent", "dripping", "hanging-up", "no-http"],
)
async def test_what_users_would_not_get_an_answer_from_fails(behaviour: Behaviour, seconds: float, reason: str) -> None:
    found = await ask_server(behaviour, "health", seconds)

    assert found.verdict is Verdict.FAIL
    assert reason in found.reason


async def test_a_body_without_end_says_nothing_of_health_and_is_not_read_on() -> None:
    """A router sees the status alone; what it takes for healthy is refused by nobody after users were moved."""
    assert (await ask_server(endless, "health", 20)).verdict is Verdict.PASS
    found = await ask_server(endless, "version", 20)
    assert found.verdict is Verdict.FAIL
    assert "larger than 1 MiB" in found.reason


async def test_one_late_answer_is_no_verdict() -> None:
    late = [True, True]

    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if late:
            late.pop()
            await reader.read()
        await saying("200 OK")(reader, writer)

    assert (await ask_server(behaviour, "health", 1)).verdict is Verdict.PASS


async def test_a_closed_front_door_fails() -> None:
    async with serving(silent) as base_url:
        pass

    found = await ask(base_url, "live")

    assert (found.verdict, found.reason) == (Verdict.FAIL, "/healthz did not answer: connection refused")


async def test_a_question_that_cannot_be_put_is_an_error() -> None:
    assert (await ask("ftp://127.0.0.1", "live")).verdict is Verdict.ERROR
    assert (await ask("http://127.0.0.1:99999", "live")).verdict is Verdict.ERROR


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

    with running_shop() as (base_url, _):
        assert (await ask(base_url, "live")).verdict is Verdict.PASS

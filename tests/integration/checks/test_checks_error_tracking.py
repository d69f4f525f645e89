"""Error tracking counts when its server has accepted an event; what keeps it from that is told apart."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment

from activities.observe import ObserveActivities, error_tracking
from activities.secrets import resolver
from models.checks import SentryCheck
from models.observability import SentrySpec
from models.release import Release
from models.verdict import CheckResult, Verdict
from tests.servers.bugsink import Bugsink, another_key, running_bugsink
from tests.support.serving import Behaviour, hanging_up, read_request, saying, serving, silent

KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOYMENT_SPECIALIST_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(resolver, "_known", set())
    monkeypatch.setattr(resolver, "_pattern", None)
    monkeypatch.setattr(error_tracking, "AGAIN_AFTER", 0.01)


@pytest.fixture(scope="module")
def bugsink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bugsink]:
    with running_bugsink(tmp_path_factory.mktemp("bugsink")) as server:
        yield server


async def send(dsn: str, monkeypatch: pytest.MonkeyPatch, environment: str | None = None) -> CheckResult:
    monkeypatch.setenv("SHOP_SENTRY_DSN", dsn)
    check = SentryCheck(
        sentry=SentrySpec(dsn="env:SHOP_SENTRY_DSN", environment=environment),
        release=Release(service="shop", version="1.1.0"),
        target="staging",
    )
    return await ActivityEnvironment().run(ObserveActivities({}).check_error_tracking, check)


async def send_to(behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch) -> CheckResult:
    async with serving(behaviour) as base_url:
        return await send(base_url.replace("://", f"://{KEY}@") + "/7", monkeypatch)


@pytest.mark.platform
@pytest.mark.timeout(900)
async def test_a_real_server_has_the_event_with_release_and_environment(
    bugsink: Bugsink, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await send(bugsink.dsn, monkeypatch)

    assert found.verdict is Verdict.PASS, found.reason
    event = await asyncio.to_thread(bugsink.find_event, found.evidence["event_id"])
    assert event["message"] == "deployment-specialist: test event"
    assert (event["release"], event["environment"], event["level"]) == ("shop@1.1.0", "staging", "info")
    assert event["tags"] == {"service": "shop", "target": "staging", "version": "1.1.0"}
    assert "shop@1.1.0" in bugsink.releases()


@pytest.mark.platform
@pytest.mark.timeout(900)
async def test_the_environment_can_be_named(bugsink: Bugsink, monkeypatch: pytest.MonkeyPatch) -> None:
    found = await send(bugsink.dsn, monkeypatch, environment="pre-production")

    event = await asyncio.to_thread(bugsink.find_event, found.evidence["event_id"])
    assert event["environment"] == "pre-production"


@pytest.mark.platform
@pytest.mark.timeout(900)
async def test_a_real_server_refuses_another_key(bugsink: Bugsink, monkeypatch: pytest.MonkeyPatch) -> None:
    dsn = another_key(bugsink.dsn)

    found = await send(dsn, monkeypatch)

    assert found.verdict is Verdict.FAIL
    assert "answered 403: the key of the DSN is not allowed" in found.reason
    assert dsn.split("://")[1].split("@")[0] not in found.model_dump_json()


@pytest.mark.parametrize(
    ("status", "cause"), [("401 No", "missing or wrong"), ("404 No", "no such project"), ("400 No", "understand")]
)
async def test_an_answer_that_will_not_change_fails_with_its_cause(
    status: str, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await send_to(saying(status, f"key {KEY} rejected"), monkeypatch)

    assert found.verdict is Verdict.FAIL
    assert cause in found.reason
    assert "key *** rejected" in found.reason
    assert KEY not in found.model_dump_json()


async def test_a_limit_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[bytes] = []

    async def busy_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await read_request(reader))
        status, after = ("429 Busy", "0") if len(requests) == 1 else ("200 OK", "9")
        writer.write(
            f"HTTP/1.1 {status}\r\nRetry-After: {after}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )

    found = await send_to(busy_once, monkeypatch)

    assert found.verdict is Verdict.PASS
    assert len(requests) == 2
    assert requests[0].startswith(b"POST /api/7/envelope/ HTTP/1.1\r\n")


@pytest.mark.parametrize("at_a_date", [False, True], ids=["in seconds", "at a date"])
async def test_a_limit_that_lasts_too_long_is_an_error(at_a_date: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    after = format_datetime(datetime.now(UTC) + timedelta(hours=1)) if at_a_date else "3600"
    found = await send_to(saying("429 Busy", "", f"Retry-After: {after}"), monkeypatch)

    assert found.verdict is Verdict.ERROR
    assert "it wants to be asked again in 3" in found.reason


async def test_a_server_that_fails_each_time_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await send_to(saying("503 Down", "maintenance"), monkeypatch)

    assert found.verdict is Verdict.ERROR
    assert "answered 503: maintenance" in found.reason


@pytest.mark.parametrize("behaviour", [silent, hanging_up])
async def test_a_server_that_does_not_answer_is_an_error(behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_tracking, "WITHIN", timedelta(seconds=0.1))

    found = await send_to(behaviour, monkeypatch)

    assert found.verdict is Verdict.ERROR
    assert "did not answer" in found.reason


async def test_a_server_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(silent) as base_url:
        pass

    found = await send(base_url.replace("://", f"://{KEY}@") + "/7", monkeypatch)

    assert found.verdict is Verdict.ERROR
    assert "connection refused" in found.reason


@pytest.mark.parametrize(
    "value",
    [
        "not-a-dsn-but-secret",
        "https://sentry.example/7",
        f"https://{KEY}@sentry.example/",
        f"https://{KEY}@sentry.example:x/7",
    ],
)
async def test_a_value_that_is_no_dsn_fails_without_being_told(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = await send(value, monkeypatch)

    assert found.verdict is Verdict.FAIL
    assert found.reason == "observe.sentry.dsn: the value of env:SHOP_SENTRY_DSN is no Sentry DSN"


async def test_a_reference_that_leads_nowhere_fails_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_DSN", raising=False)
    check = SentryCheck(
        sentry=SentrySpec(dsn="env:NO_SUCH_DSN"), release=Release(service="shop", version="1.1.0"), target="staging"
    )

    found = await ActivityEnvironment().run(ObserveActivities({}).check_error_tracking, check)

    assert found.verdict is Verdict.FAIL
    assert "env:NO_SUCH_DSN" in found.reason

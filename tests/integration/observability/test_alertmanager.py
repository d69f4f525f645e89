"""A real Alertmanager: whoever is to be woken by an alert is seen to be woken, before there is a reason."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from models.verdict import CheckResult, Verdict
from tests.servers import cache
from tests.servers.prometheus import installed, running_alertmanager
from tests.support.watched_service import WatchedService

pytestmark = [pytest.mark.platform, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    try:
        installed()
    except cache.NotInstalledError as error:
        cache.unavailable(error)


@contextmanager
def receiving(status: int = 200) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook that answers so; gives its address, and what it was told."""
    told: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", told
        finally:
            server.shutdown()
            thread.join(10)


def routed_to(url: str, wait: str = "0s") -> dict[str, Any]:
    receiver = {"name": "on-call", "webhook_configs": [{"url": url}]} if url else {"name": "nobody"}
    route = {"receiver": receiver["name"], "group_wait": wait, "group_interval": "1s", "repeat_interval": "1h"}
    return {"route": route, "receivers": [receiver]}


def active(url: str) -> Any:
    return httpx.get(f"{url}/api/v2/alerts", params={"active": "true"}, trust_env=False).json()


def silence(url: str) -> None:
    begins = datetime.now(UTC)
    document = {
        "matchers": [{"name": "service_name", "value": "shop", "isRegex": False}],
        "startsAt": begins.isoformat(),
        "endsAt": (begins + timedelta(hours=1)).isoformat(),
        "createdBy": "ann",
        "comment": "quiet",
    }
    answer = httpx.post(f"{url}/api/v2/silences", json=document, trust_env=False)
    assert answer.status_code == 200, answer.text


async def ask(url: str, within: str = "5s") -> CheckResult:
    service = WatchedService("shop", {"alertmanager": {"url": url, "within": within}})
    return (await service.set_up())["alertmanager"]


async def test_a_test_alert_is_delivered_and_resolved(tmp_path: Path) -> None:
    with receiving() as (receiver, told), running_alertmanager(tmp_path, routed_to(receiver)) as url:
        found = await ask(url)
        assert found.verdict is Verdict.PASS, found.reason
        assert found.reason == "the test alert was delivered to on-call by webhook"
        labels = told[0]["alerts"][0]["labels"]
        assert (labels["alertname"], labels["service_name"]) == ("DeploymentSpecialistTest", "shop")
        assert active(url) == []


@pytest.mark.parametrize("status", [400, 503])
async def test_a_receiver_that_refuses_is_found(status: int, tmp_path: Path) -> None:
    with receiving(status) as (receiver, _), running_alertmanager(tmp_path, routed_to(receiver)) as url:
        found = await ask(url, "3s")

    assert found.verdict is Verdict.FAIL
    assert found.reason == "the test alert could not be delivered to on-call: webhook failed"


async def test_a_receiver_that_tells_nobody_is_found(tmp_path: Path) -> None:
    with running_alertmanager(tmp_path, routed_to("")) as url:
        found = await ask(url)

    assert (found.verdict, found.reason) == (Verdict.FAIL, "the alert is routed to nobody, which tells nobody")


async def test_a_silence_is_found(tmp_path: Path) -> None:
    with receiving() as (receiver, told), running_alertmanager(tmp_path, routed_to(receiver)) as url:
        silence(url)
        found = await ask(url)

    assert found.verdict is Verdict.FAIL
    assert "silenced or inhibited" in found.reason
    assert told == []


async def test_a_group_that_waits_longer_is_seen_active(tmp_path: Path) -> None:
    with receiving() as (receiver, _), running_alertmanager(tmp_path, routed_to(receiver, "1h")) as url:
        found = await ask(url, "1s")

    assert found.verdict is Verdict.PASS
    assert "active at on-call; it was not delivered yet" in found.reason


async def test_no_alertmanager_is_an_error_and_another_server_a_failure(tmp_path: Path) -> None:
    gone = await ask("http://127.0.0.1:9")
    with receiving() as (other, _):
        wrong = await ask(other)

    assert gone.verdict is Verdict.ERROR
    assert "connection refused" in gone.reason
    assert wrong.verdict in (Verdict.FAIL, Verdict.ERROR)

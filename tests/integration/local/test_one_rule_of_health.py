"""Staging, probes, the router and verify call the same answers healthy: a corpus of answers, asked by each of them.

Every row is a path of one little server. The router is a real Traefik, told what targets tell theirs; what it holds of
each row is what its API says after it has asked a few times.
"""

import asyncio
import gzip
import json
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from kubernetes.aio.client import Configuration

from activities.platforms.kubernetes.api import KubernetesApi
from activities.platforms.kubernetes.pods import PATIENCE, Proxied
from activities.platforms.probes import ask_health, ask_ready, make_client
from activities.platforms.traefik.config import Backend, dynamic_configuration, static_configuration
from activities.verify.endpoints import check_endpoint
from embedded import ports
from embedded.binaries import find
from models.checks import EndpointCheck
from models.health import HealthRule, HealthSpec
from models.platforms import LocalPlatformSpec
from models.release import Release, Revision
from models.spec import Endpoints
from models.verdict import Verdict
from tests.harness.target import until
from tests.support.serving import read_request, serving

HOST = "shop.example.com"
PATIENT = HealthSpec(within=timedelta(seconds=10)).rule(None)
QUICK = HealthSpec(within=timedelta(seconds=1)).rule(None)
ANY = HealthSpec(status="any", within=timedelta(seconds=10)).rule(None)
NAMED = HealthSpec(within=timedelta(seconds=10)).rule(HOST)
BODILESS = HealthSpec(body=None, within=timedelta(seconds=10)).rule(None)


@dataclass(frozen=True)
class Row:
    """One answer.

    Attributes:
        healthy: by the rule.
        router: where the router can only be kinder: it sees no body.
    """

    name: str
    status: str
    body: bytes
    healthy: bool
    rule: HealthRule = PATIENT
    router: bool | None = None
    headers: tuple[str, ...] = ()
    protocol: str = "HTTP/1.1"
    delay: float = 0.0
    body_delay: float = 0.0
    raw: bytes = b""
    wants_host: str = field(default="")

    @property
    def path(self) -> str:
        return f"/{self.name}"


def status_of(status: int, healthy: bool, rule: HealthRule = PATIENT, suffix: str = "") -> Row:
    location = (f"Location: /{GOOD.name}",) if 300 <= status < 400 else ()
    return Row(f"status-{status}{suffix}", f"{status} Said", b"", healthy, rule, headers=location)


def body_of(name: str, body: bytes, healthy: bool, rule: HealthRule = PATIENT, kind: str = "application/json") -> Row:
    return Row(f"body-{name}", "200 OK", body, healthy, rule, router=True, headers=(f"Content-Type: {kind}",))


GOOD = Row("good", "200 OK", b'{"status": "ok"}', True)
CHUNKED = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n{"stat\r\n8\r\nus":1, }\r\n0\r\n\r\n'
ROWS = [
    GOOD,
    *(status_of(status, status == 200) for status in (200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308)),
    *(status_of(status, False) for status in (400, 401, 403, 404, 405, 410, 418, 421, 429, 500, 501, 502, 503, 504)),
    *(status_of(status, status < 400, ANY, "-any") for status in (200, 204, 301, 302, 308, 400, 401, 404, 500, 503)),
    *(
        status_of(status, status == wanted, HealthSpec(status=wanted, within=timedelta(seconds=10)).rule(None), "-one")
        for status, wanted in ((204, 204), (302, 302), (401, 401), (403, 200))
    ),
    *(
        body_of(word.lower().replace(" ", "-"), json.dumps({"status": word}).encode(), healthy)
        for word, healthy in {
            "UP": True,
            "Healthy": True,
            "pass": True,
            "running": True,
            "down": False,
            "OUT_OF_SERVICE": False,
            "fail": False,
            "error": False,
            "degraded": False,
            "unhealthy": False,
            "starting": False,
            "": False,
        }.items()
    ),
    body_of("actuator", b'{"status":"UP","components":{"db":{"status":"DOWN"}}}', True),
    body_of("health-json", b'{"status":"fail","version":"1"}', False, kind="application/health+json"),
    body_of("microprofile", b'{"status":"DOWN","checks":[]}', False),
    body_of("number", b'{"status": 200}', True),
    body_of("number-bad", b'{"status": 503}', False),
    body_of("true", b'{"status": true}', True),
    body_of("null", b'{"status": null}', False),
    body_of("list", b'{"status": ["ok"]}', False),
    body_of("not-healthy", b'{"healthy": false}', False),
    body_of("not-ok", b'{"ok":false}', False),
    body_of("state", b'{"state": "down"}', False),
    body_of("mark", b'\xef\xbb\xbf{"status":"down"}', False),
    body_of("word", b"DOWN\n", False, kind="text/plain"),
    body_of("quoted", b'"fail"', False),
    body_of("prose", b"nothing is down", True, kind="text/plain"),
    body_of("html", b"<html>hello</html>", True, kind="text/html"),
    body_of("wrong-type", b'{"status":"down"}', False, kind="image/png"),
    body_of("array", b'[{"status":"down"}]', True),
    body_of("cut", b'{"status":"down"', True),
    body_of("deep", b'{"status":' + b"[" * 20_000, True),
    body_of("huge", b'{"status":"down","more":"' + b"a" * (3 << 20) + b'"}', True),
    body_of("ignored", b'{"status":"down"}', True, BODILESS),
    body_of(
        "own-word", b'{"status":"warn"}', True, HealthSpec(body=("warn",), within=timedelta(seconds=10)).rule(None)
    ),
    Row(
        "packed", "200 OK", gzip.compress(b'{"status":"down"}'), True, headers=("Content-Encoding: gzip",), router=True
    ),
    Row("chunked", "", b"", True, raw=CHUNKED),
    Row(
        "early-hints",
        "",
        b"",
        True,
        raw=b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ),
    Row("no-length", "", b"", True, raw=b"HTTP/1.1 200 OK\r\n\r\nfine"),
    Row("http-1.0", "", b"", True, raw=b"HTTP/1.0 200 OK\r\n\r\nfine"),
    Row("http-1.0-down", "", b"", False, router=True, raw=b'HTTP/1.0 200 OK\r\n\r\n{"status":"down"}'),
    Row("nothing", "", b"", False, raw=b" "),
    Row("no-http", "", b"", False, raw=b"220 mail.example ESMTP\r\n\r\n"),
    # Slower than any limit that one of them might have of its own, and within the one of the spec.
    Row("slow", "200 OK", b"", True, delay=2.5),
    Row("too-slow", "200 OK", b"", False, QUICK, delay=60),
    Row("body-too-slow", "200 OK", b"fine", False, QUICK, router=True, body_delay=60),
    Row("known-host", "200 OK", b"", True, NAMED, wants_host=HOST),
    Row("unknown-host", "200 OK", b"", False, PATIENT, wants_host=HOST),
]
BY_PATH = {row.path: row for row in ROWS}
BY_NAME = {row.name: row for row in ROWS}


def test_every_row_has_a_name_of_its_own() -> None:
    assert [name for name, count in Counter(row.name for row in ROWS).items() if count > 1] == []


class Corpus:
    """Answers as the rows say, and counts how often the router has been answered."""

    def __init__(self) -> None:
        self.routers: Counter[str] = Counter()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        path = request.split(b" ", 2)[1].decode().partition("?")[0]
        row = BY_PATH[path]
        if b"user-agent: go-http-client" in request.lower():
            self.routers[row.name] += 1
        await asyncio.sleep(row.delay)
        if row.raw:
            writer.write(row.raw)
            return
        status, body = row.status, row.body
        if row.wants_host and f"\r\nhost: {row.wants_host}\r\n".encode() not in request.lower():
            status, body = "400 Bad Request", b"this host is not served"
        head = [f"{row.protocol} {status}", f"Content-Length: {len(body)}", "Connection: close", *row.headers]
        writer.write("\r\n".join(head).encode() + b"\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(row.body_delay)
        writer.write(body)


@pytest.fixture(scope="module")
async def corpus() -> AsyncIterator[tuple[str, Corpus]]:
    behaviour = Corpus()
    async with serving(behaviour) as base_url:
        yield base_url, behaviour


@pytest.fixture(scope="module")
async def held_ill(corpus: tuple[str, Corpus], tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The rows that the router holds for ill."""
    (base_url, behaviour), folder = corpus, tmp_path_factory.mktemp("router")
    users, api = (f"127.0.0.1:{port}" for port in ports.choose(2))
    backends = [Backend(row.name, (base_url,), 1, row.path, rule=row.rule) for row in ROWS]
    dynamic = folder / "dynamic.yml"
    dynamic.write_text(dynamic_configuration(1, backends))
    (folder / "static.yml").write_text(static_configuration(users, api, dynamic))
    with running(folder / "static.yml"):
        # The third question to a server comes after the answer to the first one has counted.
        await until(lambda: all(behaviour.routers[row.name] >= 3 for row in ROWS if row.delay < 10), 120)
        async with httpx.AsyncClient(trust_env=False) as client:

            async def ill() -> set[str]:
                raw: dict[str, Any] = (await client.get(f"http://{api}/api/rawdata")).json()
                stated = {row.name: raw["services"][f"{row.name}@file"]["serverStatus"] for row in ROWS}
                return {name for name, status in stated.items() if status != {base_url: "UP"}}

            async def slowest_is() -> bool:
                return "too-slow" in await ill()

            await until(slowest_is, 60)
            return await ill()


@pytest.mark.parametrize("name", list(BY_NAME))
async def test_what_stands_behind_an_api_server_is_judged_alike(name: str, corpus: tuple[str, Corpus]) -> None:
    """A server that hands on each request as it is, and each answer, stands for the proxy of pods."""
    row, (base_url, _) = BY_NAME[name], corpus

    async def load() -> Configuration:
        return Configuration(host=base_url)

    api = KubernetesApi(load)
    client = httpx.AsyncClient(transport=Proxied(api), trust_env=False, timeout=PATIENCE)
    try:
        wrong = await ask_health(client, "http://behind-the-api-server", revision(row, health=row.path))
    finally:
        await client.aclose()
        await api.aclose()
    assert (not wrong) is row.healthy, wrong


@contextmanager
def running(static: Path) -> Iterator[None]:
    with (static.parent / "log").open("wb") as log:
        process = subprocess.Popen([find("traefik"), f"--configFile={static}"], stdout=log, stderr=log)
        try:
            yield
        finally:
            process.kill()
            process.wait(10)


def revision(row: Row, **endpoints: str) -> Revision:
    none = dict.fromkeys(("health", "ready", "live", "metrics", "version"))
    return Revision(
        id="1.0.0-abc123",
        release=Release(service="shop", version="1.0.0"),
        platform=LocalPlatformSpec(kind="local", run=("app",), listen="127.0.0.1:1"),
        endpoints=Endpoints(**{**none, **endpoints}),
        health=row.rule,
    )


@pytest.mark.parametrize("name", list(BY_NAME))
async def test_everybody_who_asks_says_the_same(name: str, corpus: tuple[str, Corpus], held_ill: set[str]) -> None:
    row, (base_url, _) = BY_NAME[name], corpus
    client = make_client()
    try:
        probed, staged, falling_back = await asyncio.gather(
            ask_health(client, base_url, revision(row, health=row.path)),
            ask_ready(client, base_url, revision(row, ready=row.path)),
            ask_health(client, base_url, revision(row, ready=row.path)),
        )
    finally:
        await client.aclose()
    checks = [
        EndpointCheck(
            endpoint=endpoint,
            base_url=base_url,
            path=row.path,
            version="1.0.0",
            timeout=timedelta(seconds=30),
            health=row.rule,
        )
        for endpoint in ("health", "ready", "live")
    ]
    verified = await asyncio.gather(*(check_endpoint(check) for check in checks))

    assert {"probe": not probed, "staging": not staged, "without health": not falling_back} == dict.fromkeys(
        ("probe", "staging", "without health"), row.healthy
    ), (probed, staged)
    assert {found.verdict is Verdict.PASS for found in verified} == {row.healthy}, [each.reason for each in verified]
    expected_of_router = row.healthy if row.router is None else row.router
    assert (name not in held_ill) == expected_of_router
    # What the router holds for ill passes nowhere else.
    assert not (row.healthy and name in held_ill)

"""Behind the front proxy a service sees what it saw without one: the same bytes are sent both ways and compared."""

import asyncio
import dataclasses
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Harness
from tests.harness.target import Target, needs_own_door, until
from tests.support.free_ports import free_port
from tests.support.front_proxy import CONVERSATIONS, Address, Case, Line, differences, exchange, request_of, seen
from tests.support.front_proxy_corpus import CASES
from tests.support.front_proxy_explained import EXPLAINED, REFUSED, unexplained

ECHO = Path(__file__).parents[2] / "apps" / "echo.py"


@pytest.fixture(scope="module")
def alone() -> Iterator[Address]:
    """The service without anything in front of it."""
    address = ("127.0.0.1", free_port())
    environment = {**os.environ, "HOST": address[0], "PORT": str(address[1]), "VERSION": "1.0.0"}
    process = subprocess.Popen([sys.executable, "-SE", ECHO], env=environment)
    try:
        _wait_for(address)
        yield address
    finally:
        process.kill()
        process.wait()


def _wait_for(address: Address) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(address).close()
            return
        except OSError:
            assert time.monotonic() < deadline, f"nobody listens at {address}"
            time.sleep(0.01)


@pytest.fixture(scope="module")
async def behind(platform_under_test: Harness, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Address]:
    """The same service behind the platform's front proxy."""
    target = Target(platform_under_test, tmp_path_factory.mktemp("echo"))
    try:
        yield await _echoing(target)
    finally:
        await target.wipe()


async def _echoing(target: Target, version: str = "1.0.0", **settings: Any) -> Address:
    folder = target.release(f"echo-{version}")
    (folder / "app.py").write_bytes(ECHO.read_bytes())
    await target.live(version, directory=folder, **settings)
    host, _, port = target.listen.rpartition(":")
    return host, int(port)


async def test_what_arrives_differs_only_in_what_is_explained(
    platform_under_test: Harness, alone: Address, behind: Address
) -> None:
    gateway = not platform_under_test.has_own_front_proxy
    found: dict[str, set[str]] = {}

    def compare() -> None:
        for case in CASES:
            named = dataclasses.replace(case, name=f"{case.name}-behind")
            found[case.name] = differences(exchange(case, alone), exchange(named, behind))

    await asyncio.to_thread(compare)

    strange = {name: unexplained(each, gateway=gateway) for name, each in found.items()}
    assert {name: each for name, each in strange.items() if each} == {}
    # No row of the page is about what does not happen.
    seen_of_all = {f"{part}" for each in found.values() for part in each}
    rows = [
        row
        for row in EXPLAINED
        if (row.gateway if gateway else row.ours) and row.pattern.startswith(("request", "answer", "("))
    ]
    assert [row.what for row in rows if not any(re.fullmatch(row.pattern, each) for each in seen_of_all)] == []


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=lambda each: each.__name__)
async def test_conversations_go_on_as_they_do_without_a_proxy(
    platform_under_test: Harness, alone: Address, behind: Address, conversation: Callable[[Address], list[object]]
) -> None:
    one = await asyncio.to_thread(conversation, alone)
    other = await asyncio.to_thread(conversation, behind)

    found = {f"{conversation.__name__}: {other} instead of {one}"} if one != other else set()
    assert unexplained(found, gateway=not platform_under_test.has_own_front_proxy) == set()


async def test_what_can_be_read_in_two_ways_is_refused(behind: Address) -> None:
    def answers() -> Iterator[tuple[str, str]]:
        for name, request, _ in REFUSED:
            line, _, rest = request.partition(b"\r\n")
            with Line(behind) as connection:
                connection.send(line + b"\r\nX-Case: refused\r\n" + rest)
                yield name, connection.answer().line.split()[1]

    assert dict(await asyncio.to_thread(lambda: list(answers()))) == {name: str(code) for name, _, code in REFUSED}
    assert await asyncio.to_thread(seen, behind, "refused") == b""


async def test_a_body_with_two_ends_arrives_with_one(behind: Address) -> None:
    after = b"GET /after HTTP/1.1\r\nHost: x\r\nX-Case: after\r\nConnection: close\r\n\r\n"
    head = b"POST /both HTTP/1.1\r\nHost: x\r\nX-Case: both\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n"

    def ask() -> list[str]:
        with Line(behind) as line:
            line.send(head % (5 + len(after)) + b"0\r\n\r\n" + after)
            return [line.answer().line, line.answer().line]

    assert await asyncio.to_thread(ask) == ["HTTP/1.1 200 OK"] * 2
    both, then = [request_of(await asyncio.to_thread(seen, behind, name)) for name in ("both", "after")]
    assert (both.framing, both.values("content-length"), both.body) == ("chunked", [], b"")
    assert (then.line, then.body) == ("GET /after HTTP/1.1", b"")


FORWARDED = Case(
    "told",
    b"GET / HTTP/1.1\r\nHost: shop.example.com\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n"
    b"X-Forwarded-Host: www.example.com\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Prefix: /shop\r\n\r\n",
)


def forwarded(front: Address, name: str = "told") -> dict[str, list[str]]:
    """What the service is told of whom it is asked for, when a client says it is a proxy."""
    request = exchange(dataclasses.replace(FORWARDED, name=name), front).seen
    assert request is not None
    names = (
        "host",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-prefix",
    )
    return {name: request.values(name) for name in names}


async def test_forwarded_headers_are_believed_from_trusted_proxies_only(target: Target) -> None:
    needs_own_door(target)
    # Docker may show all that come from this machine as its own gateway.
    everybody = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
    front = await _echoing(target, trusted_proxies=everybody)

    told = await asyncio.to_thread(forwarded, front)

    assert told.pop("x-forwarded-for")[0].startswith("203.0.113.7, ")
    assert told == {
        "host": ["shop.example.com"],
        "x-forwarded-proto": ["https"],
        "x-forwarded-host": ["www.example.com"],
        "x-forwarded-port": ["443"],
        "x-forwarded-prefix": ["/shop"],
    }


async def test_who_is_not_trusted_is_not_believed(target: Target) -> None:
    needs_own_door(target)
    front = await _echoing(target, trusted_proxies=["203.0.113.0/24", "2001:db8::/32"])

    told = await asyncio.to_thread(forwarded, front)

    assert "203.0.113.7" not in told["x-forwarded-for"][0]
    assert told["x-forwarded-proto"] == ["http"]
    assert told["x-forwarded-host"] == ["shop.example.com"]
    assert told["x-forwarded-prefix"] == []


async def test_who_is_believed_changes_with_the_release_and_back(target: Target) -> None:
    needs_own_door(target)
    everybody = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
    folder = target.release("echo")
    (folder / "app.py").write_bytes(ECHO.read_bytes())
    old = await target.live("1.0.0", directory=folder)
    before = await target.snapshot()
    host, _, port = target.listen.rpartition(":")
    new = target.revision("1.1.0", directory=folder, trusted_proxies=everybody)

    async def believed() -> bool:
        told = await asyncio.to_thread(forwarded, (host, int(port)), "change")
        return told["x-forwarded-proto"] == ["https"]

    assert not await believed()
    await target.stage(new)
    await target.shift(new, old, 100)
    await until(believed, within=target.patience(5))

    await target.restore(before)

    async def doubted() -> bool:
        return not await believed()

    await until(doubted, within=target.patience(5))

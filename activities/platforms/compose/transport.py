"""Containers of a Docker host elsewhere cannot be reached from here: they are asked from inside that host instead.

Two transports for httpx, so that whoever asks an instance or a router needs not know where it is: an ordinary one for
addresses of this machine, and one that runs `busybox wget` in the target's router, which reaches all instances.
"""

import asyncio
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

import httpx
from docker.models.containers import Container

from activities.platforms.compose import network
from activities.platforms.compose.cli import inside
from activities.platforms.compose.engine import Engine
from activities.platforms.compose.state import FRONT_PROXY, ComposeStore
from activities.platforms.probes import PROBE_SECONDS, Connects, connects, failed, make_client
from models.errors import PlatformError

LARGEST = 8 << 20
CONNECTS = "X-Only-Connect"
_AT_ONCE = 8
# Longer than any of them takes: one that is given up goes on, and would stand in the way of the next.
_ALL_SECONDS = 15.0

FindRouter = Callable[[], Container | None]


class Inside(httpx.AsyncBaseTransport, httpx.BaseTransport):
    """Asks from inside a router's container.

    Args:
        engine: the host.
        find: gives a container that runs, or None.
    """

    def __init__(self, engine: Engine, find: FindRouter) -> None:
        self._engine = engine
        self._find = find
        # Each question is a process on the other machine.
        self._room = threading.Semaphore(_AT_ONCE)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await asyncio.to_thread(self.handle_request, request)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        # Its own limit (-T) makes some builds of wget fall over.
        within = request.extensions.get("within", PROBE_SECONDS)
        limit = ("busybox", "timeout", str(math.ceil(within)), "busybox")
        if CONNECTS in request.headers:
            code, _, said = self._run(*limit, "nc", "-w", "1", url.host, str(url.port), request=request)
            if code:
                raise httpx.ConnectError(said.decode(errors="replace").strip() or "refused", request=request)
            return httpx.Response(204, request=request)
        host = request.headers["Host"]
        named = ("--header", f"Host: {host}") if host != url.netloc.decode() else ()
        code, body, said = self._run(*limit, "wget", "-q", "-S", "-O", "-", *named, str(url), request=request)
        status = _status(said)
        if status is not None and 300 <= status < 400:
            body = b""  # of whatever it led to
        if status is None:
            words = said.decode(errors="replace").strip().splitlines() or [f"ended with {code}"]
            raise httpx.ConnectError(words[-1][:200], request=request)
        return httpx.Response(status, content=body, request=request)

    def _run(self, *command: str, request: httpx.Request) -> tuple[int, bytes, bytes]:
        with self._room:
            try:
                router = self._find()
                if router is None:
                    raise httpx.ConnectError(
                        "the router, from which instances are asked, does not run", request=request
                    )
                code, out, err = inside(self._engine, router, *command)
            except PlatformError as error:
                raise httpx.ConnectError(f"Docker does not answer: {error}"[:300], request=request) from error
        return code, out[:LARGEST], err


def _status(headers: bytes) -> int | None:
    """The status of the first answer that is one: wget follows where it is sent, nobody else does."""
    for line in headers.splitlines():
        words = line.split()
        if len(words) > 1 and words[0].startswith(b"HTTP/") and words[1].isdigit() and int(words[1]) >= 200:
            return int(words[1])
    return None


@dataclass(frozen=True)
class Transport:
    """How the instances and routers of one target are asked.

    Attributes:
        near: they can be reached from this machine directly.
        connects: sees whether one accepts connections.
    """

    near: bool
    client: httpx.AsyncClient
    metrics: httpx.Client
    connects: Connects


class Transports:
    """The ways to all targets of a worker."""

    def __init__(self) -> None:
        self._near = Transport(True, make_client(), httpx.Client(trust_env=False), connects)
        self._known: dict[str, Transport] = {}

    def of(self, store: ComposeStore) -> Transport:
        """The way to a target; before it has a network, its host is asked."""
        if store.name in self._known:
            return self._known[store.name]
        target_network = network.find(store)
        near = store.engine.is_near(target_network.gateway) if target_network else store.engine.is_here()
        found = self._near if near else _from_inside(store)
        if target_network:
            self._known[store.name] = found
        return found

    async def aclose(self) -> None:
        """Close all connections."""
        for reach in (self._near, *self._known.values()):
            await reach.client.aclose()
            reach.metrics.close()


def _from_inside(store: ComposeStore) -> Transport:
    transport = Inside(store.engine, lambda: _running(store))
    # wget has its own limit; around it are a process there and often a handshake with that machine.
    client = httpx.AsyncClient(transport=transport, timeout=_ALL_SECONDS)
    return Transport(False, client, httpx.Client(transport=transport), _connects_inside)


def _running(store: ComposeStore) -> Container | None:
    return next((proxy for proxy in store.containers(FRONT_PROXY) if proxy.status == "running"), None)


async def _connects_inside(client: httpx.AsyncClient, base: str) -> str:
    try:
        await client.get(base, headers={CONNECTS: "1"})
    except httpx.HTTPError as error:
        return failed("the port", error)
    return ""

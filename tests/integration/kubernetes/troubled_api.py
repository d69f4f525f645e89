"""An API server on a bad day: a small proxy before the real one, on the loopback, that troubles a share of requests.

Which ones is decided by a seed. A request is refused before it reached the server, or it is carried out and its answer
is lost: the two that a client cannot tell apart.
"""

import base64
import json
import random
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.support.kubernetes_world import World

SEED = 7
# Of the connection: what stands in it means the connection, not the message.
_HOP = frozenset({"host", "connection", "transfer-encoding", "content-length", "content-encoding", "accept-encoding"})
_REASONS = {409: "Conflict", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}
# What can come too late: what is new meets nobody, and a question changes nothing.
_CHANGING = ("PUT", "PATCH")


@dataclass(frozen=True)
class Trouble:
    """What happens.

    Attributes:
        share: of the requests that are troubled.
        status: what they are answered; 0: they are carried out, and the connection breaks without an answer.
        retry_after: seconds in the header of that name; none, when 0.
        changes_only: reading and creating go well.
        only: part of the path of what is troubled; everything is, when it is empty.
    """

    share: float
    status: int
    retry_after: int = 0
    changes_only: bool = False
    only: str = ""


class TroubledApi:
    """A proxy before the API server.

    Attributes:
        asked: how many requests came.
        troubled: how many of them were troubled.
        changed: the paths of objects that were to be changed, in order.
    """

    def __init__(self, world: World, trouble: Trouble) -> None:
        self.asked = self.troubled = 0
        self.changed: list[str] = []
        self._known: dict[str, Any] = json.loads(Path(world.kubeconfig).read_text())
        self._trouble = trouble
        self._moods = random.Random(SEED)  # noqa: S311  the same in each run
        self._times: Counter[int] = Counter()
        self.port = 0

    def kubeconfig(self, path: Path) -> str:
        """Writes the worker's kubeconfig with this address in it."""
        cluster = {"name": "troubled", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}
        context = {**self._known["contexts"][0], "context": {"cluster": "troubled", "user": "worker"}}
        path.touch(0o600)
        path.write_text(json.dumps({**self._known, "clusters": [cluster], "contexts": [context]}))
        return str(path)

    def fastest_burst(self) -> int:
        """The most requests within one second of the clock."""
        return max(self._times.values(), default=0)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """The proxy runs meanwhile."""
        cluster = self._known["clusters"][0]["cluster"]
        context = ssl.create_default_context(cadata=_authority(cluster))
        async with aiohttp.ClientSession(cluster["server"], connector=aiohttp.TCPConnector(ssl=context)) as session:
            app = web.Application(client_max_size=8 << 20)

            async def answer(request: web.Request) -> web.StreamResponse:
                return await self._answer(session, request)

            app.router.add_route("*", "/{path:.*}", answer)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            try:
                site = web.TCPSite(runner, "127.0.0.1", 0)
                await site.start()
                self.port = int(runner.addresses[0][1])
                yield
            finally:
                await runner.cleanup()

    async def _answer(self, session: aiohttp.ClientSession, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        self._times[int(time.time())] += 1
        trouble = self._trouble
        changes = request.method in _CHANGING
        if changes:
            self.changed.append(request.path)
        meant = trouble.only in request.path and (changes or not trouble.changes_only)
        troubled = meant and self._moods.random() < trouble.share
        self.troubled += troubled
        if troubled and trouble.status:
            return _refusal(trouble)
        answer = await self._forward(session, request)
        if troubled:
            # Carried out; nobody will ever hear of it.
            assert request.transport is not None
            request.transport.abort()
        return answer

    async def _forward(self, session: aiohttp.ClientSession, request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        async with session.request(
            request.method, request.rel_url, data=await request.read(), headers=headers, allow_redirects=False
        ) as found:
            kept = {name: value for name, value in found.headers.items() if name.lower() not in _HOP}
            return web.Response(status=found.status, body=await found.read(), headers=kept)


def _refusal(trouble: Trouble) -> web.Response:
    reason = _REASONS[trouble.status]
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": trouble.status}
    headers = {"Retry-After": str(trouble.retry_after)} if trouble.retry_after else {}
    return web.json_response({**status, "message": "a bad day"}, status=trouble.status, headers=headers)


def _authority(cluster: dict[str, str]) -> str:
    return base64.b64decode(cluster["certificate-authority-data"]).decode()


@asynccontextmanager
async def troubled(world: World, trouble: Trouble) -> AsyncIterator[TroubledApi]:
    """The proxy, for as long as this lasts."""
    api = TroubledApi(world, trouble)
    async with api.serving():
        yield api

"""A process that runs may still answer nothing: what is believed of an instance is what it answers for itself.

One question, one bounded answer. A question never raises: its answer says what was wrong, in a few words.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

import httpx

from models.spec import Endpoints

PROBE_SECONDS = 1.5
LARGEST_BODY = 64 << 10

Connects = Callable[[httpx.AsyncClient, str], Awaitable[str]]


def make_client() -> httpx.AsyncClient:
    """The client that instances and routers on this machine are asked with."""
    # No proxy of the environment stands between us and loopback.
    return httpx.AsyncClient(trust_env=False, timeout=PROBE_SECONDS, limits=httpx.Limits(max_connections=200))


async def connects(client: httpx.AsyncClient, base: str) -> str:
    """Why the instance does not accept a connection; empty when it does."""
    url = httpx.URL(base)
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(url.host, url.port)
    except (TimeoutError, OSError) as error:
        return failed("the port", error)
    writer.close()
    return ""


async def ask_health(client: httpx.AsyncClient, base: str, endpoints: Endpoints, connects: Connects = connects) -> str:
    """What is wrong with the instance's health; empty when nothing is.

    One without a health endpoint is asked whether it is ready, one without either whether it accepts a connection.
    """
    path = endpoints.health or endpoints.ready
    return await (connects(client, base) if path is None else _answers(client, base, path))


async def first_good(questions: Iterable[Awaitable[str]]) -> bool:
    """Whether one of these questions has an answer that finds nothing wrong; the first such one ends the wait."""
    asked = [asyncio.ensure_future(question) for question in questions]
    try:
        for answer in asyncio.as_completed(asked):
            if not await answer:
                return True
        return False
    finally:
        for one in asked:
            one.cancel()


async def ask_ready(client: httpx.AsyncClient, base: str, endpoints: Endpoints) -> str:
    """What keeps the instance from taking traffic; empty when nothing does."""
    return "" if endpoints.ready is None else await _answers(client, base, endpoints.ready)


async def ask_version(client: httpx.AsyncClient, base: str, endpoints: Endpoints) -> tuple[str | None, str]:
    """The version that the instance reports, and why there is none where one was expected."""
    path = endpoints.version
    if path is None:
        return None, ""
    try:
        async with asyncio.timeout(_limit(client)):
            status, body = await _get(client, base + path, LARGEST_BODY)
    except (TimeoutError, httpx.HTTPError) as error:
        return None, failed(path, error, _limit(client))
    if status != 200:
        return None, f"{path} answered {status}"
    try:
        return _version_in(body), ""
    except ValueError as error:
        return None, f"{path} {error}"


async def ask_as_user(client: httpx.AsyncClient, base: str, endpoints: Endpoints) -> tuple[int, str | None]:
    """What users are answered there: the status, 0 when nothing answers, and the version of who answered, if told."""
    try:
        async with asyncio.timeout(_limit(client)):
            status, body = await _get(client, base + (endpoints.version or "/"), LARGEST_BODY)
    except (TimeoutError, httpx.HTTPError):
        return 0, None
    with suppress(ValueError):
        return status, _version_in(body) if status == 200 and endpoints.version else None
    return status, None


def _version_in(body: bytes) -> str:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError("answered with something that is not JSON") from error
    version = said.get("version") if isinstance(said, dict) else None
    if not isinstance(version, str) or len(version) > 200:
        raise ValueError('did not answer {"version": "..."}')
    return version


async def _answers(client: httpx.AsyncClient, base: str, path: str) -> str:
    try:
        async with asyncio.timeout(_limit(client)):
            status, _ = await _get(client, base + path, 0)
    except (TimeoutError, httpx.HTTPError) as error:
        return failed(path, error, _limit(client))
    return "" if 200 <= status < 400 else f"{path} answered {status}"


async def _get(client: httpx.AsyncClient, url: str, most: int) -> tuple[int, bytes]:
    # A connection of its own: one that is kept open would be counted, and closed, when the instance is stopped.
    async with client.stream("GET", url, headers={"Connection": "close"}) as answer:
        body = b""
        if most:
            async for part in answer.aiter_bytes(4096):
                body += part
                if len(body) > most:
                    break
        return answer.status_code, body


def _limit(client: httpx.AsyncClient) -> float:
    """How long one question may take, in seconds: what the client was made with."""
    return client.timeout.read or PROBE_SECONDS


def failed(what: str, error: Exception, limit: float = PROBE_SECONDS) -> str:
    """Why something did not answer, in a few words."""
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return f"{what} did not answer within {limit:g} s"
    return f"{what} cannot be asked: {str(error) or type(error).__name__}"

"""An API server answers 409, 429, 500, or not at all, and may have done what it was asked for all the same.

One request, one bounded answer, as the JSON that it is: what we do not know of an object is never lost on its way
through us. What may be asked again is asked again, a few times; every write names the version of the object that it
was made for, so that asking again never does anything twice and never overwrites what somebody else wrote.
"""

import asyncio
import copy
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration

from activities.platforms.kubernetes.lanes import Lane, Throttle
from activities.system.coalescing import Shared
from models.errors import NotFoundError, PlatformError, PreconditionError, UnavailableError, WriteConflictError

Json = dict[str, Any]
Body = Json | list[Json] | None
MANAGER = "deployment-specialist"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
ANSWERS_WITHIN = 5.0
TRIES = 4
LONGEST_WAIT = 3.0
CONNECTS_WITHIN = 3.0
LARGEST_ANSWER = 32 << 20
# A list that no watch has asked for this long.
FORGOTTEN_AFTER = 60.0
_AGAIN = frozenset({429, 500, 502, 503, 504})
_NOTHING: Mapping[str, str] = {}


Selector = Mapping[str, str] | str
Objects = list[Json]


class _Lists:
    """Lists that several targets read at about the same time, by what was asked for."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Shared[list[Json]]] = {}

    def of(self, path: str, selector: str, ask: Callable[[], Awaitable[list[Json]]]) -> Shared[list[Json]]:
        if (path, selector) not in self._known:
            now = time.monotonic()
            self._known = {key: each for key, each in self._known.items() if now - each.used_at < FORGOTTEN_AFTER}
        return self._known.setdefault((path, selector), Shared(ask))

    def changed(self, path: str) -> None:
        """Something of ours was written there: lists of before do not count any more."""
        for (listed, _), each in self._known.items():
            if path == listed or path.startswith(f"{listed}/"):
                each.renew()

    async def aclose(self) -> None:
        for each in self._known.values():
            await each.aclose()


class _LaneConnection:
    """What all lanes to one API server share."""

    def __init__(self, load: Callable[[], Awaitable[Configuration]]) -> None:
        self._load = load
        self._connecting = asyncio.Lock()
        self._connected: ApiClient | None = None
        self.throttle = Throttle()
        self.lists = _Lists()
        self.unlisted: set[str] = set()

    async def client(self) -> ApiClient:
        async with self._connecting:
            if self._connected is None:
                configuration = await self._load()
                # No proxy of the environment stands between us and loopback.
                configuration.client_session_kwargs = {"trust_env": not _is_loopback(configuration.host)}
                configuration.retries = None
                configuration.trace_configs = [_following_nowhere()]
                self._connected = ApiClient(configuration)
            return self._connected

    async def reset(self) -> None:
        client, self._connected = self._connected, None
        if client is not None:
            await client.close()

    async def aclose(self) -> None:
        await self.lists.aclose()
        await self.reset()


class KubernetesApi:
    """The API server of one cluster, asked in one lane.

    Args:
        load: reads where it is and who we are; again when the server does not know us any more.
    """

    def __init__(self, load: Callable[[], Awaitable[Configuration]]) -> None:
        self._connection = _LaneConnection(load)
        self.lane = Lane.WORK

    def on(self, lane: Lane) -> "KubernetesApi":
        """The same server, with the same connections, asked in this lane."""
        other = copy.copy(self)
        other.lane = lane
        return other

    async def aclose(self) -> None:
        """Close its connections, those of all lanes."""
        await self._connection.aclose()

    async def get(self, path: str) -> Json | None:
        """The object, as of now; None when there is none."""
        with suppress(NotFoundError):
            return await self._json("GET", path)
        return None

    async def list(self, path: str, selector: Selector = "") -> Objects:
        """All objects there that carry these labels."""
        query = {"labelSelector": _selecting(selector)} if selector else {}
        found: Objects = (await self._json("GET", path, query)).get("items") or []
        return found

    async def list_lately(self, path: str, selector: Selector, within: float) -> Objects:
        """The same as it was at most `within` seconds ago, and not before a write of this worker: for watches.

        Everybody who asks at about the same time gets one answer: nobody may change what is in it. What moves traffic
        asks for itself, in its own lane.
        """
        if self.lane is Lane.MOVE:
            return await self.list(path, selector)
        return await self._list_of(path, selector).get(within)

    def listed_last(self, path: str, selector: Selector) -> Objects:
        """The same as it was read by `list_lately` last, however long ago: a guess, to be checked."""
        return self._list_of(path, selector).latest() or []

    async def get_lately(self, path: str, name: str, selector: Selector, within: float) -> Json | None:
        """The object of that name among those at `path`, as `list_lately` has it; None when there is none."""
        if path not in self._connection.unlisted and self.lane is not Lane.MOVE:
            try:
                found = await self.list_lately(path, selector, within)
            except PreconditionError:
                # This account may get each of them, and not list them.
                self._connection.unlisted.add(path)
            else:
                for each in found:
                    if each["metadata"]["name"] == name:
                        return each
        return await self.get(f"{path}/{quote(name)}")

    def _list_of(self, path: str, selector: Selector) -> Shared[Objects]:
        watching = self.on(Lane.WATCH)
        return self._connection.lists.of(path, _selecting(selector), lambda: watching.list(path, selector))

    async def create(self, path: str, body: Json, *, dry_run: bool = False) -> Json:
        """Create an object.

        Raises:
            WriteConflictError: there is one of that name.
        """
        return await self._json("POST", path, _writing(dry_run), body)

    async def replace(self, path: str, body: Json, *, dry_run: bool = False) -> Json:
        """Put the object in the place of the one that it was read as.

        Raises:
            WriteConflictError: it has been changed since, or is gone.
        """
        return await self._json("PUT", path, _writing(dry_run), body)

    async def patch(self, path: str, version: str, body: Json, *, dry_run: bool = False) -> Json:
        """Merge `body` into the object of that resource version.

        Raises:
            WriteConflictError: it has been changed since.
            NotFoundError: it is gone.
        """
        body = {**body, "metadata": {**body.get("metadata", {}), "resourceVersion": version}}
        return await self._json("PATCH", path, _writing(dry_run), body, kind=MERGE)

    async def change(self, path: str, operations: Sequence[Json]) -> Json:
        """Apply the operations of a JSON patch, those that change after those that test.

        Raises:
            WriteConflictError: what is tested is not so any more.
            NotFoundError: the object is gone.
        """
        return await self._json("PATCH", path, _writing(dry_run=False), list(operations), kind=JSON_PATCH)

    async def apply(self, path: str, body: Json, *, force: bool, dry_run: bool = False) -> Json:
        """Apply on the server's side, as our own field manager.

        Raises:
            WriteConflictError: a field belongs to another manager, and `force` is false.
        """
        query = {**_writing(dry_run), "force": "true" if force else "false"}
        return await self._json("PATCH", path, query, body, kind=APPLY)

    async def delete(self, path: str, uid: str | None = None, *, grace: int | None = None) -> None:
        """Delete the object; one that is gone, or is another one by now, is no error."""
        body: Json = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        with suppress(NotFoundError, WriteConflictError):
            await self._json("DELETE", path, body=body)

    async def text(self, path: str, query: Mapping[str, str], largest: int) -> str:
        """What the server sends as text, its end when it is longer.

        Raises:
            PlatformError: it sends none.
        """
        status, body, _ = await self._send("GET", path, query, None, "", ANSWERS_WITHIN)
        if status != HTTPStatus.OK:
            raise _refused("GET", path, status, body)
        return body[-largest:].decode(errors="replace")

    async def through(
        self, path: str, within: float, patience: float, host: str | None = None
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Status, body and headers of what answers behind the server's proxy.

        What the server says for itself (it is being restarted, nobody answers behind it) says nothing of a pod yet:
        it is asked again.

        Args:
            path: of the pod's proxy, with what it is asked.
            within: seconds in which the pod must answer.
            patience: seconds in which the server must ask it, where it has said that it has too much to do now.
            host: the `Host` that the pod gets; the server hands on the one it was asked with.

        Raises:
            UnavailableError: nothing answers in time.
        """
        began = time.monotonic()
        for number in range(TRIES):
            wait = 0.05 * 2**number * random.uniform(0.5, 1.5)  # noqa: S311  spread, not secrecy
            last, until = number + 1 == TRIES, began + within
            try:
                found = await self._send("GET", path, {}, None, "", within, host)
            except UnavailableError:
                if last or time.monotonic() + wait > until:
                    raise
            else:
                if found[0] == HTTPStatus.TOO_MANY_REQUESTS:
                    until = began + patience - within
                after = found[2].get("Retry-After", "")
                wait = max(wait, float(after) if after.isdecimal() else 0)
                own = _is_the_servers_own(*found)
                if own and found[0] == HTTPStatus.TOO_MANY_REQUESTS:
                    self._connection.throttle.close(self.lane, min(wait, LONGEST_WAIT))
                if last or time.monotonic() + wait > until or not own:
                    return found
            await asyncio.sleep(wait)
        raise UnavailableError(f"nothing answers behind the API server at {path}")

    async def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] = _NOTHING,
        body: Body = None,
        kind: str = "",
    ) -> Json:
        try:
            return await self._tried(method, path, query, body, kind)
        finally:
            if method != "GET":
                # Also when it failed: it may have been done all the same.
                self._connection.lists.changed(path)

    async def _tried(self, method: str, path: str, query: Mapping[str, str], body: Body, kind: str) -> Json:
        said: PlatformError = UnavailableError("the API server was not asked")
        for number in range(TRIES):
            wait = 0.1 * 2**number * random.uniform(0.5, 1.5)  # noqa: S311  spread, not secrecy
            try:
                status, answer, headers = await self._send(method, path, query, body, kind, ANSWERS_WITHIN)
            except UnavailableError as error:
                said = error
            else:
                if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
                    return _parsed(answer)
                # A test of a JSON patch that does not hold.
                untrue = kind == JSON_PATCH and status == HTTPStatus.UNPROCESSABLE_ENTITY
                said = _refused(method, path, HTTPStatus.CONFLICT if untrue else status, answer)
                if status == HTTPStatus.UNAUTHORIZED:
                    await self._connection.reset()
                elif status not in _AGAIN:
                    break
                after = headers.get("Retry-After", "")
                wait = max(wait, float(after) if after.isdecimal() else 0)
                if status == HTTPStatus.TOO_MANY_REQUESTS:
                    # Others of this lane would be told the same; what moves traffic does not wait for what watches.
                    self._connection.throttle.close(self.lane, min(wait, LONGEST_WAIT))
            if number + 1 == TRIES or wait > LONGEST_WAIT:
                break
            await asyncio.sleep(wait)
        raise said

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Body,
        kind: str,
        within: float,
        host: str | None = None,
    ) -> tuple[int, bytes, Mapping[str, str]]:
        await self._connection.throttle.take(self.lane)
        client = await self._connection.client()
        headers = {"Accept": "application/json", "User-Agent": MANAGER, **({"Content-Type": kind} if kind else {})}
        headers |= {"Host": host} if host else {}
        url = client.configuration.host.rstrip("/") + path + (f"?{urlencode(query)}" if query else "")
        timeout = aiohttp.ClientTimeout(total=within, connect=min(within, CONNECTS_WITHIN))
        try:
            settings: dict[str, Any] = dict(await client.configuration.auth_settings())
            headers |= {setting["key"]: setting["value"] for setting in settings.values()}
            answer = await client.call_api(method, url, headers, body, _request_timeout=timeout)
            data = await _read(answer.response)
        except _RedirectedError as redirect:
            return redirect.status, b"", redirect.headers
        except TimeoutError as error:
            raise UnavailableError(f"the API server did not answer {method} {path} within {within:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UnavailableError(f"the API server cannot be asked: {error or type(error).__name__}") from error
        if len(data) > LARGEST_ANSWER:
            raise UnavailableError(f"the API server's answer to {path} is too large")
        return answer.status, data, answer.getheaders()


def _selecting(selector: Selector) -> str:
    return selector if isinstance(selector, str) else ",".join(f"{key}={value}" for key, value in selector.items())


class _RedirectedError(Exception):
    """The answer leads elsewhere."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(status)
        self.status, self.headers = status, headers


def _following_nowhere() -> aiohttp.TraceConfig:
    """Ends a request at its first redirect: behind the proxy it is a pod's, which our credentials must not follow."""

    async def end(_: object, __: object, seen: aiohttp.TraceRequestRedirectParams) -> None:
        seen.response.close()
        raise _RedirectedError(seen.response.status, seen.response.headers)

    config = aiohttp.TraceConfig()
    config.on_request_redirect.append(end)
    return config


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """The body, or a little more than the largest one that is taken."""
    data = bytearray()
    try:
        async for part in answer.content.iter_any():
            data += part
            if len(data) > LARGEST_ANSWER:
                break
        else:
            answer.release()
    finally:
        answer.close()
    return bytes(data)


def _writing(dry_run: bool) -> dict[str, str]:
    return {"fieldManager": MANAGER, **({"dryRun": "All"} if dry_run else {})}


def _parsed(answer: bytes) -> Json:
    try:
        found = json.loads(answer)
    except ValueError as error:
        raise UnavailableError("the API server answered with something that is not JSON") from error
    if not isinstance(found, dict):
        raise UnavailableError("the API server answered with something that is no object")
    return found


def _refused(method: str, path: str, status: int, answer: bytes) -> PlatformError:
    try:
        said = json.loads(answer).get("message", "")
    except (ValueError, AttributeError):
        said = answer[:300].decode(errors="replace")
    sentence = f"{method} {path}: the API server answered {status}: {str(said)[:600]}"
    if status == HTTPStatus.NOT_FOUND:
        return NotFoundError(sentence)
    if status == HTTPStatus.CONFLICT:
        return WriteConflictError(sentence)
    # Credentials expire and are renewed: who comes later may be let in.
    return UnavailableError(sentence) if status in _AGAIN or status in (401, 408) else PreconditionError(sentence)


def _is_the_servers_own(status: int, body: bytes, headers: Mapping[str, str]) -> bool:
    """Whether this is the API server's trouble, and no answer of what stands behind it."""
    if status not in _AGAIN or not headers.get("Content-Type", "").startswith("application/json"):
        return False
    try:
        said = json.loads(body)
    except ValueError:
        return False
    return isinstance(said, dict) and (said.get("kind"), said.get("apiVersion")) == ("Status", "v1")


def _is_loopback(host: str) -> bool:
    return host.partition("://")[2].rpartition(":")[0].strip("[]") in ("127.0.0.1", "::1", "localhost")

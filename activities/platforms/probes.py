"""A process that runs may still answer nothing: what is believed of an instance is what it answers for itself.

One question, one bounded answer. A question never raises: its answer says what was wrong, in a few words.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from http import HTTPStatus

import httpx

from activities.heartbeat import not_ready
from activities.http.endpoint_answers import LARGEST_DOCUMENT, EndpointAnswer, WrongAnswerError, judge_answer
from models.health import WITHIN, HealthRule, absent, wrong_status
from models.release import Revision
from models.spec import Endpoints

PROBE_SECONDS = WITHIN.total_seconds()
# Most services answer nothing in their first moment: that is nothing to tell.
TOLD_AFTER, TOLD_EVERY = 1.0, 2.0
MOST_ASKED = 3

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


async def ask_health(client: httpx.AsyncClient, base: str, revision: Revision, connects: Connects = connects) -> str:
    """What is wrong with the instance's health; empty when nothing is.

    One without a health endpoint is asked whether it is ready, one without either whether it accepts a connection.
    """
    endpoint = revision.routers_endpoint
    return await (connects(client, base) if endpoint is None else _wrong(client, base, revision, endpoint))


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


async def ask_ready(client: httpx.AsyncClient, base: str, revision: Revision) -> str:
    """What keeps the instance from taking traffic; empty when nothing does."""
    return "" if revision.endpoints.ready is None else await _wrong(client, base, revision, "ready")


async def ask_version(client: httpx.AsyncClient, base: str, revision: Revision) -> tuple[str | None, str]:
    """The version that the instance reports, and why there is none where one was expected."""
    path = revision.endpoints.version
    if path is None:
        return None, ""
    limit = _limit(client, revision.health)
    try:
        said = await _get(client, base + path, revision.health)
    except (TimeoutError, httpx.HTTPError) as error:
        return None, failed(path, error, limit)
    if said.status != 200:
        return None, wrong_status("version", path, said.status, location=said.location, host=revision.health.host)
    try:
        return _version_in(said.body), ""
    except ValueError as error:
        return None, f"{path} {error}"


async def ask_unfit(client: httpx.AsyncClient, base: str, revision: Revision) -> dict[str, str]:
    """Endpoint → why what it answers would be refused later, with users on it; not those that were waited for."""
    names = [name for name in ("live", "metrics") if getattr(revision.endpoints, name) is not None]
    said = await asyncio.gather(*(_wrong(client, base, revision, name) for name in names))
    return {name: wrong for name, wrong in zip(names, said, strict=True) if wrong}


async def explain(client: httpx.AsyncClient, base: str, revision: Revision, detail: str) -> str:
    """Says all that is wrong with what an instance answers, with the line of the spec for what it does not have.

    `detail` is what is said where it does not answer at all.
    """
    paths = {name: path for name, path in dict(revision.endpoints).items() if path is not None}
    answers = await asyncio.gather(
        *(_get(client, base + path, revision.health) for path in paths.values()), return_exceptions=True
    )
    found = {name: said for name, said in zip(paths, answers, strict=True) if isinstance(said, EndpointAnswer)}
    wrong = {name: said for name, each in found.items() if (said := _judged(revision, name, each))}
    sentences = []
    while wrong:
        first, status = next(iter(wrong)), found[next(iter(wrong))].status
        # What is wrong with several of them for the same reason is said once.
        alike = [name for name in wrong if found[name].status == status and status >= HTTPStatus.BAD_REQUEST]
        said = wrong[first]
        if len(alike) > 1:
            asked = ", ".join(paths[name] for name in alike)
            missing = status == HTTPStatus.NOT_FOUND
            said = wrong_status(first, asked, status, host=revision.health.host)
            said = f"{asked} answered {status}; {absent(*alike)}" if missing else said
        sentences.append(said)
        wrong = {name: each for name, each in wrong.items() if name not in (first, *alike)}
    return "; ".join(sentences) or detail


class Unready:
    """Tells what instances answer while they are waited for: what a spec got wrong is known in seconds, not when the
    time is over.
    """

    def __init__(self) -> None:
        self._due = time.monotonic() + TOLD_AFTER

    async def tell(self, waited_for: Mapping[str, Callable[[], Awaitable[str]]]) -> None:
        """Asks and tells, at most once in `TOLD_EVERY` seconds.

        Args:
            waited_for: instance → what gives all that is wrong with what it answers.
        """
        if not waited_for:
            not_ready({})
        elif time.monotonic() >= self._due:
            asked = list(waited_for.items())[:MOST_ASKED]
            said = await asyncio.gather(*(explains() for _, explains in asked))
            not_ready(dict(zip((name for name, _ in asked), said, strict=True)))
            self._due = time.monotonic() + TOLD_EVERY


async def ask_as_user(
    client: httpx.AsyncClient, base: str, endpoints: Endpoints, rule: HealthRule
) -> tuple[int, str | None]:
    """What users are answered there: the status, 0 when nothing answers, and the version of who answered, if told."""
    try:
        said = await _get(client, base + (endpoints.version or "/"), rule)
    except (TimeoutError, httpx.HTTPError):
        return 0, None
    with suppress(ValueError):
        return said.status, _version_in(said.body) if said.status == 200 and endpoints.version else None
    return said.status, None


def _version_in(body: bytes) -> str:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError("answered with something that is not JSON") from error
    version = said.get("version") if isinstance(said, dict) else None
    if not isinstance(version, str) or len(version) > 200:
        raise ValueError('did not answer {"version": "..."}')
    return version


async def _wrong(client: httpx.AsyncClient, base: str, revision: Revision, endpoint: str) -> str:
    path = getattr(revision.endpoints, endpoint)
    try:
        said = await _get(client, base + path, revision.health)
    except (TimeoutError, httpx.HTTPError) as error:
        return failed(path, error, _limit(client, revision.health))
    return _judged(revision, endpoint, said)


def _judged(revision: Revision, endpoint: str, said: EndpointAnswer) -> str:
    path = getattr(revision.endpoints, endpoint)
    if endpoint == "metrics" and len(said.body) > LARGEST_DOCUMENT and said.status == HTTPStatus.OK:
        return ""
    try:
        judge_answer(endpoint, path, said, revision.rule_of(endpoint), revision.release.version, used=False)
    except WrongAnswerError as error:
        return str(error)
    return ""


async def _get(client: httpx.AsyncClient, url: str, rule: HealthRule) -> EndpointAnswer:
    limit = _limit(client, rule)
    # A connection of its own: one that is kept open would be counted, and closed, when the instance is stopped. What is
    # packed small may unpack to more than fits into memory.
    headers = {"Connection": "close", "Accept-Encoding": "identity", **rule.headers}
    async with (
        asyncio.timeout(limit),
        client.stream(
            "GET", url, headers=headers, timeout=limit, extensions={"within": rule.seconds}, follow_redirects=False
        ) as answer,
    ):
        body = await _read(answer)
    kind, location = answer.headers.get("content-type", ""), answer.headers.get("location", "")
    return EndpointAnswer(answer.status_code, body, kind, location)


async def _read(answer: httpx.Response) -> bytes:
    """The body, or a little more than the largest one that says anything."""
    if answer.is_stream_consumed:
        return answer.content  # it came by way of something else, and is here already
    body = bytearray()
    async for part in answer.aiter_raw():
        body += part
        if len(body) > LARGEST_DOCUMENT:
            break
    return bytes(body)


def _limit(client: httpx.AsyncClient, rule: HealthRule) -> float:
    """How long a question may take, in seconds: as long as its answer may, and what the way there takes."""
    return rule.seconds + max(0.0, (client.timeout.read or 0.0) - PROBE_SECONDS)


def failed(what: str, error: Exception, limit: float = PROBE_SECONDS) -> str:
    """Why something did not answer, in a few words."""
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return f"{what} did not answer within {limit:g} s"
    return f"{what} cannot be asked: {str(error) or type(error).__name__}"

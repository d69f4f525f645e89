"""An API that is asked for lists is down, slow, limited, paged, or does not know us: each with its own way out.

A limit is waited for as long as the check may wait; a server's own error is asked again a few times; everything else
has its cause in a sentence. Only page numbers are followed, never an address that an answer names.
"""

import asyncio
import json
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from activities.check_result import quote
from activities.http.client import Answer, CannotAskError, NoAnswerError
from activities.http.ssrf import reach
from activities.preflight.ci_runs import CannotTellError, NotAllowedError

WITHIN = timedelta(seconds=10)
LARGEST_PAGE = 8 << 20
# An entry may have 20 KiB: fifty of them are read and cut down to what counts before the next fifty come.
PER_PAGE = 50
MOST_PAGES = 40
TRIES = 3
AGAIN_AFTER = 1.0
SHORTEST_WAIT = 1.0


@dataclass(frozen=True)
class CiApi:
    """One server's API, as one of our checks asks it.

    Attributes:
        secret_headers: the token, under the name the server wants.
        patience: how many seconds may still be waited.
        causes: status → what it means there.
    """

    base: str
    headers: Mapping[str, str]
    secret_headers: Mapping[str, str]
    insecure: bool
    patience: Callable[[], float]
    causes: Mapping[int, str]

    @property
    def host(self) -> str:
        """For sentences."""
        return httpx.URL(self.base).netloc.decode("ascii")

    async def list_all(
        self, path: str, query: Mapping[str, str], fields: Collection[str], key: str | None = None
    ) -> list[dict[str, Any]]:
        """All items of a list, page by page.

        Args:
            path: below the API's base.
            query: besides the page.
            fields: of each item; the others are dropped.
            key: where the list is in the answer; None: the answer is the list.

        Raises:
            CannotTellError: it could not be read to its end.
        """
        items: list[dict[str, Any]] = []
        for page in range(1, MOST_PAGES + 1):
            answer = await self._get(path, {**query, "per_page": str(PER_PAGE), "page": str(page)})
            document = self._read(answer)
            found = document.get(key) if key is not None and isinstance(document, dict) else document
            if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
                raise CannotTellError(f"{self.host} answered with something else than a list")
            items += ({name: item.get(name) for name in fields} for item in found)
            total = document.get("total_count") if isinstance(document, dict) else None
            if not found or not (_has_next(answer) or (isinstance(total, int) and total > len(items))):
                return items
        raise CannotTellError(f"{self.host} has more than {MOST_PAGES * PER_PAGE:,} entries for this revision")

    @staticmethod
    async def list_each(*lists: Coroutine[Any, Any, list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
        """Several lists, asked for side by side; when more than one is refused, the first one says why.

        Raises:
            CannotTellError: one could not be read to its end.
        """
        found = await asyncio.gather(*lists, return_exceptions=True)
        for each in found:
            if isinstance(each, BaseException):
                raise each
        return [each for each in found if isinstance(each, list)]

    async def _get(self, path: str, query: dict[str, str]) -> Answer:
        failed = 0
        while True:
            answer, said = await self._try(path, query)
            if answer is not None:
                wait = _limited_for(answer)
                if wait is None and answer.status < 500:
                    return self._accepted(answer)
                said = f"answered {answer.status}"
                if wait is not None:
                    await self._wait(wait)
                    continue
            failed += 1
            if failed == TRIES:
                raise CannotTellError(f"{self.host} {said}, {TRIES} times")
            await asyncio.sleep(AGAIN_AFTER * failed)

    async def _try(self, path: str, query: dict[str, str]) -> tuple[Answer | None, str]:
        url = str(httpx.URL(self.base.rstrip("/") + path, params=query))
        try:
            reached = await reach(
                "GET",
                url,
                WITHIN,
                headers={"User-Agent": "deployment-specialist", **self.headers},
                secret_headers=self.secret_headers,
                largest=LARGEST_PAGE,
                insecure=self.insecure,
                # A renamed repository redirects once, and with its token only to the same server.
                redirects=1,
            )
        except CannotAskError as error:
            raise CannotTellError(f"{self.host} could not be asked: {error}") from None
        except NoAnswerError as error:
            return None, f"did not answer: {error}"
        return reached.answer, ""

    async def _wait(self, seconds: float) -> None:
        seconds = max(seconds, SHORTEST_WAIT)
        if seconds > self.patience():
            raise CannotTellError(
                f"{self.host} has a limit on requests and wants to be asked again in {seconds:.0f} s, "
                "longer than may be waited"
            )
        await asyncio.sleep(seconds)

    def _accepted(self, answer: Answer) -> Answer:
        if answer.status == 200:
            return answer
        cause = self.causes.get(answer.status, "")
        if 300 <= answer.status < 400:
            cause = "it redirects again; write the address that it redirects to"
        said = "; ".join(filter(None, (cause, _message(answer))))
        kind = NotAllowedError if answer.status == 401 else CannotTellError
        raise kind(f"{self.host} answered {answer.status}" + (f": {said}" if said else ""))

    def _read(self, answer: Answer) -> Any:
        return read_json(answer, self.host)


def read_json(answer: Answer, host: str) -> Any:
    """The answer's document.

    Raises:
        CannotTellError: it is none, or is nested without end.
    """
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        raise CannotTellError(f"{host} answered with something else than JSON") from None


def _message(answer: Answer) -> str:
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return ""
    said = document.get("message") if isinstance(document, dict) else None
    return f"it says: {quote(said)}" if isinstance(said, str) else ""


def _has_next(answer: Answer) -> bool:
    links = httpx.Response(200, headers={"link": answer.headers.get("link", "")}).links
    return "next" in links or answer.headers.get("x-next-page", "").isdecimal()


def _limited_for(answer: Answer) -> float | None:
    """Seconds to wait, when the answer is a limit; 403 is one only together with the headers of a limit.

    GitHub: docs.github.com/rest, "Rate limits for the REST API"; GitLab: docs.gitlab.com, "Rate limits".
    """
    headers = answer.headers
    after, reset = headers.get("retry-after", ""), headers.get("x-ratelimit-reset") or headers.get("ratelimit-reset")
    remaining = headers.get("x-ratelimit-remaining") or headers.get("ratelimit-remaining")
    if answer.status != 429 and not (answer.status == 403 and (after or remaining == "0")):
        return None
    if after.isdecimal():
        return float(after[:9])
    if after:
        try:
            return (parsedate_to_datetime(after) - _now(answer)).total_seconds()
        except (ValueError, TypeError):
            return 60.0
    if reset and reset.isdecimal():
        return float(reset[:12]) - _now(answer).timestamp()
    return 60.0


def _now(answer: Answer) -> datetime:
    """The server's own time, by which it counts."""
    try:
        said = parsedate_to_datetime(answer.headers["date"])
    except (KeyError, ValueError, TypeError):
        return datetime.fromtimestamp(time.time(), UTC)
    return said if said.tzinfo else said.replace(tzinfo=UTC)

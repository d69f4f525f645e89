"""Asking a watcher's HTTP API for JSON: with its token, and with a sentence when it does not answer as it should."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from activities.check_result import quote
from activities.http.client import Answer, CannotAskError, NoAnswerError, ask
from activities.secrets.resolver import resolve
from models.errors import WatcherRefusedError, WatcherUnavailableError

ANSWERS_WITHIN = timedelta(seconds=10)
LARGEST_ANSWER = 16 << 20
AS_JSON = "application/json"


class ServerApi:
    """One server.

    Args:
        name: what it is called in sentences.
        url: its address, with the path that its API is below.
        token: reference to a bearer token.
    """

    def __init__(self, name: str, url: str, token: str | None = None) -> None:
        self.name = name
        self.url = url.rstrip("/")
        self._token = token

    async def get(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Any:
        """The JSON that it answers.

        Raises:
            WatcherUnavailableError: it does not answer, or with an error of its own.
            WatcherRefusedError: it answers, and says no.
            SecretUnresolvedError: there is no token.
        """
        return self.read(await self.send("GET", f"{path}?{urlencode(query)}" if query else path))

    async def text(self, path: str) -> str:
        """What it answers, as text; the errors are those of `get`."""
        answer = await self.send("GET", path)
        self.demand(answer)
        return answer.text

    async def post(self, path: str, document: Any = None) -> Answer:
        """What it answers to a document, whatever that is.

        Raises:
            WatcherUnavailableError: it does not answer.
            SecretUnresolvedError: there is no token.
        """
        return await self.send("POST", path, document)

    async def send(self, method: str, path: str, document: Any = None) -> Answer:
        """One request, with its whole answer; the errors are those of `post`."""
        headers: dict[str, str] = {} if document is None else {"Content-Type": AS_JSON}
        if self._token:
            headers["Authorization"] = f"Bearer {(await asyncio.to_thread(resolve, self._token)).strip()}"
        content = None if document is None else json.dumps(document)
        return await self._ask(method, path, headers, content)

    async def _ask(self, method: str, path: str, headers: Mapping[str, str], content: str | None) -> Answer:
        try:
            return await ask(
                method,
                f"{self.url}{path}",
                ANSWERS_WITHIN,
                headers=headers,
                content=content,
                largest=LARGEST_ANSWER,
            )
        except NoAnswerError as error:
            raise WatcherUnavailableError(f"{self.name} at {self.url} did not answer: {error}") from None
        except CannotAskError as error:
            raise WatcherUnavailableError(f"{self.name} at {self.url} could not be asked: {error}") from None

    def read(self, answer: Answer) -> Any:
        """The JSON of an answer that is a good one; the errors are those of `get`."""
        self.demand(answer)
        try:
            return json.loads(answer.body)
        except ValueError:
            said = quote(answer.text)
            raise WatcherRefusedError(f"what answers at {self.url} is no {self.name}: {said}") from None

    def demand(self, answer: Answer) -> None:
        """Checks that the answer is a good one; the errors are those of `get`."""
        if answer.status < 300:
            return
        said = f"{self.name} at {self.url} answered {answer.status}: {quote(answer.text)}"
        raise WatcherUnavailableError(said) if answer.status >= 500 else WatcherRefusedError(said)

"""A service under test may answer slowly, endlessly, wrongly or not at all; asking it must stay bounded all the same.

`ask` puts one HTTP request: the whole answer within a time, its body within a size, redirects not followed, no proxy
from the environment. What keeps an answer from coming is told apart by type: the service did not answer
(`NoAnswerError`), or the question could not be put at all (`CannotAskError`).
"""

import asyncio
import errno
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import httpx

from models.units import format_duration

LARGEST_BODY = 1 << 20
# A small packed answer may unpack to more than fits into memory.
_UNPACKED = {"Accept-Encoding": "identity"}
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL}


class NoAnswerError(Exception):
    """The service refused the connection, took too long, sent too much, or did not speak HTTP."""


class NoConnectionError(NoAnswerError):
    """Nobody took the connection; another address of the same server may."""


class TooLargeError(NoAnswerError):
    """The answer is larger than was allowed; it was not read to its end."""


class CannotAskError(Exception):
    """The question could not be put from this machine: it is no valid request, or sockets have run out."""


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer.

    Attributes:
        body: at most as large as was allowed.
        seconds: from the first byte of the request to the last one of the answer.
    """

    status: int
    headers: httpx.Headers
    body: bytes
    seconds: float
    encoding: str = "utf-8"

    @property
    def text(self) -> str:
        """The body as text; what is not valid in its encoding is replaced."""
        try:
            return self.body.decode(self.encoding, "replace")
        except LookupError:
            return self.body.decode("utf-8", "replace")


async def ask(
    method: str,
    url: str,
    within: timedelta,
    *,
    headers: Mapping[str, str] | None = None,
    content: bytes | str | None = None,
    largest: int = LARGEST_BODY,
    whole: bool = True,
    connect_within: timedelta | None = None,
    tls_name: str | None = None,
) -> Answer:
    """Puts one request and reads the whole answer.

    Args:
        method: in capitals.
        url: with a scheme and a host.
        within: for the whole of it.
        headers: besides those that httpx sends itself.
        content: the body.
        largest: bytes of the answer's body.
        whole: a larger one is not an answer; otherwise it is cut a little beyond that.
        connect_within: for the connection alone; default as long as everything together.
        tls_name: the name that the server's certificate must have, where the address is a number.

    Raises:
        NoConnectionError: nobody took the connection.
        NoAnswerError: no whole answer came within the time and the size.
        CannotAskError: the request is not valid, or this machine has no socket left for it.
    """
    _check(url)
    seconds = within / timedelta(seconds=1)
    limits = httpx.Timeout(seconds, connect=min(seconds, (connect_within or within) / timedelta(seconds=1)))
    began = time.monotonic()
    try:
        async with (
            asyncio.timeout(seconds),
            httpx.AsyncClient(timeout=limits, trust_env=False, verify=_trusted(), headers=_UNPACKED) as client,
            client.stream(
                method, url, headers=headers, content=content, extensions={"sni_hostname": tls_name} if tls_name else {}
            ) as answer,
        ):
            body = await _read(answer, largest, whole=whole)
    except httpx.ConnectTimeout:
        raise NoConnectionError(f"no connection within {format_duration(connect_within or within)}") from None
    except (TimeoutError, httpx.TimeoutException):
        raise NoAnswerError(f"no whole answer within {format_duration(within)}") from None
    except (httpx.LocalProtocolError, UnicodeError) as error:
        raise CannotAskError(f"this is no valid request: {error}") from None
    except httpx.RequestError as error:
        number = _system_error(error)
        if number in _EXHAUSTED:
            raise CannotAskError(f"this machine cannot open a connection: {error}") from None
        kind = NoConnectionError if isinstance(error, httpx.ConnectError) else NoAnswerError
        raise kind(_said(error)) from None
    return Answer(
        answer.status_code, answer.headers, body, time.monotonic() - began, answer.charset_encoding or "utf-8"
    )


def _check(url: str) -> None:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise CannotAskError(f"this is no valid address: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.host or (parts.port or 0) > 65535:
        raise CannotAskError("this is no valid address of an HTTP server")


@cache
def _trusted() -> ssl.SSLContext:
    # Reading the certificates takes longer than most answers. SSL_CERT_FILE and SSL_CERT_DIR name a company's own.
    return httpx.create_ssl_context()


async def _read(answer: httpx.Response, largest: int, *, whole: bool) -> bytes:
    body = bytearray()
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) > largest:
            if whole:
                raise TooLargeError(f"the answer is larger than {largest >> 20} MiB")
            break
    return bytes(body)


def _said(error: httpx.RequestError) -> str:
    if _system_error(error) == errno.ECONNREFUSED:
        return "connection refused"
    if isinstance(error, httpx.ConnectError):
        return f"no connection: {error}"
    if isinstance(error, httpx.RemoteProtocolError):
        return f"the answer is not HTTP, or ended early: {error}"
    return f"the connection broke: {error or type(error).__name__}"


def _system_error(error: BaseException) -> int | None:
    """The system's error number behind the layers that httpx wraps around it."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, BaseExceptionGroup):
            behind = behind.exceptions[0]
        elif isinstance(behind, OSError) and behind.errno is not None:
            return behind.errno
        else:
            behind = behind.__cause__ or behind.__context__
    return None

"""Sends requests at a constant rate and says how each one ended: the users, when a deployment is tried out.

The rate does not slow down when the service does, as real users would not. Every second request opens a connection of
its own, the others keep theirs: a deployment loses both kinds in different ways. Bounded in time, count and requests
under way, so that a forgotten one ends by itself. It speaks just enough HTTP itself: a client library takes more of a
small machine than the service under load, and would measure that.

    python examples/load.py --url http://127.0.0.1:8080/products --rate 50 --seconds 30
"""

import argparse
import asyncio
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

FASTEST = 1000.0
LONGEST_S = 3600.0
MOST_REQUESTS = 1_000_000
MOST_UNDER_WAY = 1000
LARGEST_ANSWER = 8 << 20


@dataclass(frozen=True, slots=True)
class Record:
    """One request.

    Attributes:
        sent_at: seconds since 1970.
        answered_at: when the whole answer, or the error, was there.
        status: None when there was no answer.
        error: why there was none.
        version: what the answer's X-Version header says.
        kept_alive: sent over a connection that others use as well.
    """

    sent_at: float
    answered_at: float
    status: int | None
    error: str
    version: str
    kept_alive: bool

    @property
    def failed(self) -> bool:
        """No answer, or one that says the server failed."""
        return self.status is None or self.status >= 500


@dataclass(frozen=True)
class LoadResult:
    """All requests that have ended, in the order in which they ended."""

    records: tuple[Record, ...] = field(repr=False)

    @property
    def sent(self) -> int:
        """How many requests have ended, well or badly."""
        return len(self.records)

    @property
    def failed(self) -> int:
        """Requests without an answer, or with a 5xx one."""
        return sum(record.failed for record in self.records)

    @property
    def failures(self) -> tuple[Record, ...]:
        """The requests that failed."""
        return tuple(record for record in self.records if record.failed)

    def by_version(self) -> dict[str, dict[str, int]]:
        """Version → status or error → how often. Answers without X-Version stand under an empty version."""
        counts: dict[str, Counter[str]] = {}
        for record in self.records:
            said = record.error if record.status is None else str(record.status)
            counts.setdefault(record.version, Counter())[said] += 1
        return {version: dict(sorted(found.items())) for version, found in sorted(counts.items())}

    def percentile(self, share: float) -> float:
        """Seconds within which that share of the answers came; 0.0 without any answer."""
        times = sorted(r.answered_at - r.sent_at for r in self.records if r.status is not None)
        return times[min(len(times) - 1, int(share * len(times)))] if times else 0.0

    def summary(self) -> dict[str, Any]:
        """The numbers, for a terminal or as JSON."""
        return {
            "sent": self.sent,
            "failed": self.failed,
            "by_version": self.by_version(),
            "p50_ms": round(self.percentile(0.5) * 1000, 2),
            "p95_ms": round(self.percentile(0.95) * 1000, 2),
        }


class Load:
    """Constant load from a thread of its own, so that the caller's event loop neither slows it nor is slowed by it.

    Args:
        url: what is asked, with GET.
        rate: requests a second, at most 1000.
        seconds: ends by itself after this time, at most an hour.
        timeout: seconds after which a request counts as failed.
    """

    def __init__(self, url: str, rate: float, seconds: float = LONGEST_S, timeout: float = 10.0) -> None:
        if not 0 < rate <= FASTEST:
            raise ValueError(f"rate is more than 0 and at most {FASTEST:g} requests a second")
        if not 0 < seconds <= LONGEST_S:
            raise ValueError(f"seconds is more than 0 and at most {LONGEST_S:g}")
        self._url, self._rate, self._seconds, self._timeout = httpx.URL(url), rate, seconds, timeout
        self._records: list[Record] = []
        self._asked_to_stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load", daemon=True)

    def start(self) -> Self:
        """Begins to send; returns at once."""
        self._thread.start()
        return self

    def stop(self) -> LoadResult:
        """Sends nothing more, waits for the answers under way, and returns everything."""
        self._asked_to_stop.set()
        return self.wait()

    def wait(self) -> LoadResult:
        """Waits until the load has ended by itself."""
        self._thread.join()
        return self.so_far()

    def so_far(self) -> LoadResult:
        """What has ended up to now."""
        return LoadResult(tuple(self._records))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def _run(self) -> None:
        kept: list[_Connection] = []
        under_way: set[asyncio.Task[None]] = set()
        began = time.monotonic()
        for n in range(min(int(self._rate * self._seconds), MOST_REQUESTS)):
            due = began + n / self._rate
            while (early := due - time.monotonic()) > 0 and not self._asked_to_stop.is_set():  # noqa: ASYNC110  a thread asks
                await asyncio.sleep(min(early, 0.05))
            if self._asked_to_stop.is_set():
                break
            if len(under_way) >= MOST_UNDER_WAY:
                self._record(time.time(), None, f"not sent: {MOST_UNDER_WAY} requests wait for an answer", "", False)
                continue
            task = asyncio.create_task(self._send(kept if n % 2 else None))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)
        for connection in kept:
            connection.close()
        await asyncio.sleep(0)  # or the loop is gone before they are

    async def _send(self, kept: "list[_Connection] | None") -> None:
        sent_at = time.time()
        try:
            async with asyncio.timeout(self._timeout):
                status, version = await self._ask(kept)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            self._record(sent_at, None, type(error).__name__, "", kept is not None)
        else:
            self._record(sent_at, status, "", version, kept is not None)

    async def _ask(self, kept: "list[_Connection] | None") -> tuple[int, str]:
        connection = _take(kept) if kept else None
        if connection is None:
            connection = await _Connection.open(self._url)
        try:
            answer = await connection.get(self._url, keep=kept is not None)
        except BaseException:  # whatever it was goes on, a cancellation too; only the connection must not stay open
            connection.close()
            raise
        if kept is None or answer.last:
            connection.close()
        else:
            kept.append(connection)
        return answer.status, answer.version

    def _record(self, sent_at: float, status: int | None, error: str, version: str, kept_alive: bool) -> None:
        self._records.append(Record(sent_at, time.time(), status, error, version, kept_alive))


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    version: str
    last: bool


class _Connection:
    """One connection to the service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, url: httpx.URL) -> Self:
        secure = url.scheme == "https"
        port = url.port or (443 if secure else 80)
        return cls(*await asyncio.open_connection(url.host, port, ssl=secure or None))

    def gone(self) -> bool:
        """The other side has closed it."""
        return self._reader.at_eof() or self._writer.is_closing()

    def close(self) -> None:
        self._writer.transport.abort()

    async def get(self, url: httpx.URL, keep: bool) -> _Answer:
        """Asks, and reads the whole answer.

        Raises:
            OSError, EOFError: the connection broke.
            ValueError: that was no HTTP, or too much of it.
        """
        said = "keep-alive" if keep else "close"
        self._writer.write(
            b"GET " + url.raw_path + b" HTTP/1.1\r\nHost: " + url.netloc + f"\r\nConnection: {said}\r\n\r\n".encode()
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        protocol, status, *_ = head[0].split(" ")
        if not protocol.startswith("HTTP/1."):
            raise ValueError("this is no HTTP")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
        whole = await self._read_body(fields, int(status))
        last = not whole or fields.get("connection", "").lower() == "close"
        return _Answer(int(status), fields.get("x-version", ""), last)

    async def _read_body(self, fields: dict[str, str], status: int) -> bool:
        """Reads it; says whether its end was known without the connection's end."""
        if status in (204, 304):
            return True
        if fields.get("transfer-encoding", "").lower() == "chunked":
            while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
                await self._read(size + 2)
            while await self._reader.readuntil(b"\r\n") != b"\r\n":
                pass
            return True
        if "content-length" in fields:
            await self._read(int(fields["content-length"]))
            return True
        left = LARGEST_ANSWER
        while part := await self._reader.read(left):
            left -= len(part)
        if not left:
            raise ValueError("the answer is too large")
        return False

    async def _read(self, size: int) -> None:
        if not 0 <= size <= LARGEST_ANSWER:
            raise ValueError("the answer is too large")
        await self._reader.readexactly(size)


def _take(kept: list[_Connection]) -> _Connection | None:
    while kept:
        connection = kept.pop()
        if not connection.gone():
            return connection
        connection.close()
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Sends the load and prints what came of it; 1 when a request failed."""
    parser = argparse.ArgumentParser(description="Sends requests at a constant rate and says how each one ended.")
    parser.add_argument("--url", required=True, help="what is asked, like http://127.0.0.1:8080/products")
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second (50)")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long (30)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    given = parser.parse_args(arguments)
    try:
        if not httpx.URL(given.url).host or httpx.URL(given.url).scheme not in ("http", "https"):
            parser.error("--url is a whole address, like http://127.0.0.1:8080/products")
        load = Load(given.url, given.rate, given.seconds)
    except (ValueError, httpx.InvalidURL) as error:
        parser.error(str(error))
    try:
        result = load.start().wait()
    except KeyboardInterrupt:
        result = load.stop()
    if given.json:
        print(json.dumps(result.summary()))
    else:
        _print(result)
    return 1 if result.failed else 0


def _print(result: LoadResult) -> None:
    summary = result.summary()
    print(f"{result.sent} requests, {result.failed} failed; p50 {summary['p50_ms']} ms, p95 {summary['p95_ms']} ms")
    for version, found in result.by_version().items():
        print(f"  {version or '(no version)'}: " + ", ".join(f"{n} x {said}" for said, n in found.items()))


if __name__ == "__main__":
    sys.exit(main())

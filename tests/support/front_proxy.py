"""What a service sees behind the front proxy, compared with what it sees without one.

The same bytes are sent to a service (`tests/apps/echo.py`) and to the front proxy before it. What the service
received and what the client got are taken apart into messages and compared; `differences` names each thing that is
not the same. `EXPLAINED` lists those that there are for a reason: the page docs/front-proxy.md has the same list.
"""

import base64
import json
import re
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Headers = tuple[tuple[str, str], ...]
Address = tuple[str, int]
_PATIENCE = 30.0
_UNRESERVED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
_RESERVED = frozenset("/:@!$&'()*+,;=")
_NO_BODY = re.compile(r"HTTP/1\.[01] (1\d\d|204|304)")


@dataclass(frozen=True)
class Message:
    """A request or an answer.

    Attributes:
        framing: how its end is told: `length`, `chunked`, `close`, or `none` without a body.
        interim: the 1xx answers before it.
    """

    line: str
    headers: Headers
    framing: str = "none"
    body: bytes = b""
    trailers: Headers = ()
    interim: tuple["Message", ...] = ()

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each.lower() == name]


@dataclass(frozen=True)
class Case:
    """A request, as bytes, and what the service answers.

    Attributes:
        request: without the headers by which it is told from others.
        answer: as bytes; a plain 200 without one.
        waits: the body is sent when the service has said that it goes on.
    """

    name: str
    request: bytes
    answer: bytes = b""
    waits: bool = False

    def head_and_body(self) -> tuple[bytes, bytes]:
        line, _, rest = self.request.partition(b"\r\n")
        ours = f"X-Case: {self.name}\r\n"
        if self.answer:
            ours += f"X-Answer: {base64.b64encode(self.answer).decode()}\r\n"
        head, _, body = (ours.encode() + rest).partition(b"\r\n\r\n")
        return line + b"\r\n" + head + b"\r\n\r\n", body


@dataclass(frozen=True)
class Exchange:
    """What came of one request.

    Attributes:
        seen: what the service received; None when it received nothing.
        got: what the client got; None when the connection was ended without an answer.
    """

    seen: Message | None
    got: Message | None


class Line:
    """A connection of a client that reads byte by byte what it is answered."""

    def __init__(self, address: Address) -> None:
        self.sock = socket.create_connection(address, timeout=_PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def head(self) -> tuple[str, Headers]:
        """The next first line and headers.

        Raises:
            EOFError: there is none.
        """
        lines = []
        while (line := self.file.readline()) not in (b"\r\n", b"\n"):
            if not line:
                raise EOFError
            lines.append(line.decode("latin-1").rstrip("\r\n"))
        return lines[0], _headers(lines[1:])

    def chunks(self) -> Iterator[bytes]:
        """The pieces of a chunked body, as they come."""
        while size := int(self.file.readline().partition(b";")[0], 16):
            yield self.file.read(size)
            self.file.readline()

    def answer(self, head_only: bool = False) -> Message:
        """The next answer, with the interim ones before it.

        Raises:
            EOFError: there is none.
        """
        interim: list[Message] = []
        while (head := self.head())[0].split()[1].startswith("1") and head[0].split()[1] != "101":
            interim.append(Message(*head))
        line, headers = head
        framing, body = "none", b""
        trailers: Headers = ()
        lower = {name.lower(): value for name, value in headers}
        bodiless = head_only or _NO_BODY.match(line) is not None
        if lower.get("transfer-encoding") == "chunked":
            framing = "chunked"
            if not bodiless:
                body = b"".join(self.chunks())
                trailers = self._trailers()
        elif "content-length" in lower:
            framing, body = "length", b"" if bodiless else self.file.read(int(lower["content-length"]))
        elif not bodiless:
            framing, body = "close", self.file.read()
        return Message(line, headers, framing, body, trailers, tuple(interim))

    def _trailers(self) -> Headers:
        lines = []
        while (line := self.file.readline()) not in (b"\r\n", b"\n", b""):
            lines.append(line.decode("latin-1").rstrip("\r\n"))
        return _headers(lines)


def _headers(lines: Iterable[str]) -> Headers:
    return tuple((name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines))


def request_of(raw: bytes) -> Message:
    """Takes a request apart as the service received it."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = tuple((name, value) for name, value in _headers(lines[1:]) if name.lower() not in ("x-case", "x-answer"))
    lower = {name.lower(): value for name, value in headers}
    if lower.get("transfer-encoding", "").lower() != "chunked":
        return Message(lines[0], headers, "length" if "content-length" in lower else "none", rest)
    body = b""
    while size := int(rest.partition(b"\r\n")[0].partition(b";")[0], 16):
        piece = rest.partition(b"\r\n")[2]
        body, rest = body + piece[:size], piece[size + 2 :]
    trailers = rest.partition(b"\r\n")[2].decode("latin-1").split("\r\n")
    return Message(lines[0], headers, "chunked", body, _headers(line for line in trailers if line))


def exchange(case: Case, front: Address, service: Address | None = None) -> Exchange:
    """Sends a request to `front` and asks the service what it received."""
    head, body = case.head_and_body()
    got: Message | None
    with Line(front) as line:
        try:
            line.send(head)
            if case.waits:
                first = line.head()
                if first[0].startswith("HTTP/1.1 100"):
                    line.send(body)
                    got = line.answer()
                    got = Message(got.line, got.headers, got.framing, got.body, got.trailers, (Message(*first),))
                else:
                    got = Message(*first)
            else:
                line.send(body)
                got = line.answer(head_only=case.request.startswith(b"HEAD"))
        except (EOFError, ConnectionError):
            got = None
    raw = seen(service or front, case.name)
    return Exchange(request_of(raw) if raw else None, got)


def seen(address: Address, case: str) -> bytes:
    """What the service received of a case; nothing when it received none."""
    with Line(address) as line:
        line.send(f"GET /seen/{case} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        told = json.loads(line.answer().body)
    return (told or "").encode("latin-1")


def differences(alone: Exchange, behind: Exchange) -> set[str]:
    """Names everything that is not the same with and without the proxy."""
    return {
        *(f"request: {each}" for each in _between(alone.seen, behind.seen)),
        *(f"answer: {each}" for each in _between(alone.got, behind.got)),
    }


def _between(one: Message | None, other: Message | None) -> Iterator[str]:
    if one is None or other is None:
        if one is not other:
            line = one or other
            yield f"{'lost' if one else 'invented'}: {line.line if line else ''}"
        return
    if one.line != other.line:
        yield from (_between_answers if one.line.startswith("HTTP/") else _between_requests)(one.line, other.line)
    yield from _between_headers(one.headers, other.headers, "header")
    yield from _between_headers(one.trailers, other.trailers, "trailer")
    if one.framing != other.framing:
        yield f"framing: {one.framing} → {other.framing}"
    if one.body != other.body:
        yield f"body: {len(one.body)} bytes → {len(other.body)} bytes"
    if len(one.interim) != len(other.interim):
        yield f"interim: {[each.line for each in one.interim]} → {[each.line for each in other.interim]}"
    for first, second in zip(one.interim, other.interim, strict=False):
        yield from (f"interim {each}" for each in _between(first, second))


def _between_requests(one: str, other: str) -> Iterator[str]:
    (method, target, version), (method_seen, target_seen, version_seen) = one.split(" "), other.split(" ")
    if version != version_seen:
        yield f"HTTP version: {version} → {version_seen}"
    if target.startswith("http://"):
        yield "absolute target"
        target = "/" + target.removeprefix("http://").partition("/")[2]
    (path, _, query), (path_seen, _, query_seen) = target.partition("?"), target_seen.partition("?")
    if path != path_seen and _normal(path) == path_seen:
        yield "percent-encoding of the path"
        path = path_seen
    if query != query_seen and query.replace(";", "%3B") == query_seen:
        yield "semicolon in the query"
        query = query_seen
    if (method, path, query) != (method_seen, path_seen, query_seen):
        yield f"line: {one} → {other}"


def _normal(path: str) -> str:
    """The path as RFC 3986 compares it: each octet either as the sign that needs no code, or with its code."""
    octets = re.findall(r"%[0-9A-Fa-f]{2}|.", path)
    found = (chr(int(each[1:], 16)) if len(each) == 3 else each for each in octets)
    return "".join(
        sign if sign in _UNRESERVED or (len(given) == 1 and sign in _RESERVED) else f"%{ord(sign):02X}"
        for sign, given in zip(found, octets, strict=True)
    )


def _between_answers(one: str, other: str) -> Iterator[str]:
    (version, status, *reason), (version_got, status_got, *reason_got) = one.split(" ", 2), other.split(" ", 2)
    if version != version_got:
        yield f"HTTP version: {version} → {version_got}"
    if reason != reason_got:
        yield f"reason: {' '.join(reason)} → {' '.join(reason_got)}"
    if status != status_got:
        yield f"line: {one} → {other}"


def _between_headers(one: Headers, other: Headers, what: str) -> Iterator[str]:
    names, others = [name for name, _ in one], [name for name, _ in other]
    lower, others_lower = [name.lower() for name in names], [name.lower() for name in others]
    yield from (f"{what} added: {name}" for name in dict.fromkeys(others) if name.lower() not in lower)
    yield from (f"{what} removed: {name}" for name in dict.fromkeys(names) if name.lower() not in others_lower)
    both = [name for name in dict.fromkeys(lower) if name in others_lower]
    for name in both:
        values = [[value for each, value in headers if each.lower() == name] for headers in (one, other)]
        if values[0] != values[1]:
            yield f"{what} value: {name}: {values[0]!r:.100} → {values[1]!r:.100}"
        if {each for each in names if each.lower() == name} != {each for each in others if each.lower() == name}:
            yield f"{what} spelled: {name}"
    if both != [name for name in dict.fromkeys(others_lower) if name in both]:
        yield f"{what} order"


def in_a_row(front: Address) -> list[str]:
    """Three requests in one piece, on one connection: what they are answered."""
    cases = [Case(f"row-{at}", f"GET /row/{at} HTTP/1.1\r\nHost: x\r\n\r\n".encode()) for at in range(3)]
    with Line(front) as line:
        line.send(b"".join(case.head_and_body()[0] for case in cases))
        answered = [line.answer().line for _ in cases]
        line.send(cases[0].head_and_body()[0])
        answered.append(line.answer().line)
    lines = [seen(front, case.name).partition(b"\r\n")[0].decode() for case in cases]
    return answered + lines


def web_socket(front: Address) -> list[object]:
    """A connection that becomes something else: what is sent comes back at once, whatever it is."""
    head = (
        b"GET /socket?a=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: chat\r\nOrigin: http://x\r\n\r\n"
    )
    switching = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    case = Case("socket", head, switching)
    with Line(front) as line:
        line.send(case.head_and_body()[0])
        told, headers = line.head()
        found: list[object] = [told, sorted(name.lower() for name, _ in headers if name.lower() != "date")]
        for piece in (b"hello", bytes(range(256)), b"x" * 100_000):
            line.send(piece)
            found.append(line.file.read(len(piece)) == piece)
    request = request_of(seen(front, "socket"))
    names = ("connection", "upgrade", "sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol", "origin")
    return [*found, request.line, *(request.values(name) for name in names)]


def events(front: Address) -> list[str]:
    """Server-sent events: the next one is sent when the one before it has arrived."""
    case = Case("events", b"GET /events HTTP/1.1\r\nHost: x\r\nX-Play: events:4\r\nAccept: text/event-stream\r\n\r\n")
    found: list[str] = []
    with Line(front) as line, Line(front) as other:
        line.send(case.head_and_body()[0])
        line.head()
        for event in line.chunks():
            found.append(event.decode())
            if len(found) < 4:
                other.send(b"POST /next HTTP/1.1\r\nHost: x\r\n\r\n")
                other.answer()
    return found


def upload_in_pieces(front: Address) -> list[object]:
    """Of a body that is sent piece by piece: how many pieces the service had before the next one was sent."""
    head = b"POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    case, found = Case("upload", head), list[object]()
    with Line(front) as line:
        line.send(case.head_and_body()[0])
        for at in range(3):
            line.send(b"5\r\npiece\r\n")
            deadline = time.monotonic() + _PATIENCE
            while seen(front, "upload").count(b"piece") <= at and time.monotonic() < deadline:
                pass
            found.append(seen(front, "upload").count(b"piece"))
        line.send(b"0\r\n\r\n")
        return [*found, line.answer().line]


def talk(front: Address) -> list[object]:
    """Pieces that are answered while the request is still being sent; what came back of each."""
    head = b"POST /talk HTTP/1.1\r\nHost: x\r\nX-Play: duplex\r\nTransfer-Encoding: chunked\r\n\r\n"
    found: list[object] = []
    with Line(front) as line:
        line.sock.settimeout(2)
        line.send(Case("talk", head).head_and_body()[0] + b"2\r\n-0\r\n")
        try:
            line.head()
            pieces = line.chunks()
            found.append(next(pieces))
            for at in range(1, 3):
                line.send(b"2\r\n-%d\r\n" % at)
                found.append(next(pieces))
            line.send(b"0\r\n\r\n")
            return [*found, *pieces]
        except (TimeoutError, EOFError, ValueError) as error:
            return [*found, type(error).__name__]


def half_closed(front: Address) -> list[str]:
    """A client that says at once that it will send no more, and waits for its answer."""
    with Line(front) as line:
        line.send(b"GET /slow?seconds=0.3 HTTP/1.1\r\nHost: x\r\n\r\n")
        line.sock.shutdown(socket.SHUT_WR)
        try:
            return [line.answer().line]
        except (EOFError, ConnectionError) as error:
            return [type(error).__name__]


CONVERSATIONS = (in_a_row, web_socket, events, upload_in_pieces, talk, half_closed)

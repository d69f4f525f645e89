"""A service that remembers each request byte for byte, and answers with the bytes that it is told.

A request names itself in a header `X-Case`; what was received of it is told at `GET /seen/NAME`. Its answer is the
bytes in `X-Answer` (base64), or `ok`. `Expect: 100-continue` is granted unless that answer is an error. After
`Upgrade`, everything is sent back as it comes. `X-Play` asks for more than one write:

    slow:SECONDS       answers after that long
    events:N           N server-sent events; the next one is sent when `POST /next` says so
    duplex             each piece of the body is sent back before the next one is read

Nothing but the standard library; listens on $HOST:$PORT.
"""

import base64
import json
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Iterator

SEEN: dict[str, str] = {}
NEXT: queue.Queue[None] = queue.Queue()
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n"
OURS = ("/health", "/healthz", "/ready", "/version", "/metrics")


class GoneError(Exception):
    """The other side has ended the connection."""


class Connection:
    """One connection, read and written without any library in between."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._left = sock, b""

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def some(self) -> bytes:
        """What is there, at least a byte."""
        if self._left:
            found, self._left = self._left, b""
            return found
        found = self._sock.recv(65536)
        if not found:
            raise GoneError
        return found

    def until(self, end: bytes) -> bytes:
        data = b""
        while end not in data:
            data += self.some()
        at = data.index(end) + len(end)
        data, self._left = data[:at], data[at:]
        return data

    def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.some()
        data, self._left = data[:size], data[size:]
        return data

    def chunks(self) -> Iterator[bytes]:
        """A body in chunks, with its trailers, piece by piece as it was sent."""
        while True:
            line = self.until(b"\r\n")
            size = int(line.partition(b";")[0], 16)
            if size:
                yield line + self.exactly(size + 2)
                continue
            yield line
            while (line := self.until(b"\r\n")) != b"\r\n":
                yield line
            yield line
            return


def headers_of(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def framed(body: bytes, kind: str = "application/json", status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def serve(connection: Connection) -> None:
    while True:
        head = connection.until(b"\r\n\r\n")
        headers, path = headers_of(head), head.split(b" ")[1].decode("latin-1")
        if path in OURS:
            connection.send(framed(json.dumps({"version": os.environ["VERSION"]}).encode()))
        elif path.startswith("/seen/"):
            connection.send(framed(json.dumps(SEEN.get(path.removeprefix("/seen/"))).encode()))
        elif path == "/next":
            NEXT.put(None)
            connection.send(OK)
        elif path.startswith("/slow"):
            time.sleep(float(path.partition("?seconds=")[2]))
            connection.send(OK)
        elif not answer(connection, head, headers):
            return


def answer(connection: Connection, head: bytes, headers: dict[str, str]) -> bool:
    """Receives, remembers and answers one request. Returns whether there may be another one."""
    case, play = headers.get("x-case", ""), headers.get("x-play", "")
    told = base64.b64decode(headers.get("x-answer", "")) or OK
    SEEN[case] = head.decode("latin-1")
    if headers.get("expect", "").lower() == "100-continue":
        if told.split(b" ")[1][:1] in (b"4", b"5"):
            connection.send(told)
            return False
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    if play == "duplex":
        echo_pieces(connection)
        return False
    if "chunked" in headers.get("transfer-encoding", "").lower():
        for piece in connection.chunks():
            SEEN[case] += piece.decode("latin-1")
    elif headers.get("content-length"):
        SEEN[case] += connection.exactly(int(headers["content-length"])).decode("latin-1")
    if play.startswith("events:"):
        send_events(connection, int(play.partition(":")[2]))
        return False
    if "upgrade" in headers:
        connection.send(told)
        while True:
            connection.send(connection.some())
    connection.send(told)
    return b"\r\nconnection: close" not in told.lower() and b" HTTP/1.0\r\n" not in head


def send_events(connection: Connection, number: int) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    for at in range(number):
        event = f"data: {at}\n\n".encode()
        connection.send(b"%x\r\n%s\r\n" % (len(event), event))
        if at < number - 1:
            NEXT.get(timeout=30)
    connection.send(b"0\r\n\r\n")


def echo_pieces(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
    while size := int(connection.until(b"\r\n").partition(b";")[0], 16):
        connection.send(b"%x\r\n%s" % (size, connection.exactly(size + 2)))
    connection.until(b"\r\n")
    connection.send(b"0\r\n\r\n")


def keep(sock: socket.socket) -> None:
    with sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            serve(Connection(sock))
        except (GoneError, OSError, queue.Empty):
            pass


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with socket.create_server((os.environ["HOST"], int(os.environ["PORT"])), backlog=256) as listener:
        while True:
            threading.Thread(target=keep, args=(listener.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    main()

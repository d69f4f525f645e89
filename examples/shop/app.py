"""A small shop to try deployments out on. Nothing but the standard library; listens on $HOST:$PORT.

It does what a service must do to be deployed without losing a request: it answers its probes, tells its version, and
on SIGTERM takes no new connection, finishes what is under way and exits with 0. Failures are tried out by environment:

    ERROR_SHARE=0.1      a tenth of the users' requests, spread evenly, answer 500; probes never do
    LATENCY_MS=200       every user's request takes that much longer
    UNHEALTHY_AFTER_S=5  /health and /ready answer 503 from then on
    CRASH_AFTER_S=5      the process dies with exit code 1
"""

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LARGEST_BODY = 64 * 1024
STOP_WITHIN_S = 8.0
FIRST_REQUEST_WITHIN_S = 1.0
NEW, BUSY, IDLE = "new", "busy", "idle"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
PROBES = ("/health", "/ready", "/healthz", "/metrics", "/version")
PRODUCTS = {
    "A1": {"name": "Tea", "cents": 450},
    "B2": {"name": "Cup", "cents": 1200},
    "C3": {"name": "Pot", "cents": 3900},
}


@dataclass
class Shop:
    """What all requests share: the knobs, and the numbers that /metrics shows."""

    version: str
    error_share: float
    latency_s: float
    unhealthy_after_s: float | None
    started: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    orders: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    buckets: Counter[float] = field(default_factory=Counter)
    seconds: float = 0.0

    def healthy(self) -> bool:
        return self.unhealthy_after_s is None or time.monotonic() - self.started < self.unhealthy_after_s

    def next_request_fails(self) -> bool:
        """Spreads the errors evenly, so that ten requests at a share of 0.1 hold exactly one."""
        with self.lock:
            before, self.users = self.users, self.users + 1
            return int(self.users * self.error_share + 1e-9) > int(before * self.error_share + 1e-9)

    def count(self, status: int, seconds: float) -> None:
        with self.lock:
            self.answers[status] += 1
            self.seconds += seconds
            for bucket in BUCKETS:
                if seconds <= bucket:
                    self.buckets[bucket] += 1

    def metrics(self, under_way: int) -> str:
        with self.lock:
            total = sum(self.answers.values())
            lines = ["# HELP http_requests_total Answered requests.", "# TYPE http_requests_total counter"]
            lines += [f'http_requests_total{{status="{status}"}} {n}' for status, n in sorted(self.answers.items())]
            lines += [
                "# HELP http_request_duration_seconds Time to answer.",
                "# TYPE http_request_duration_seconds histogram",
            ]
            lines += [f'http_request_duration_seconds_bucket{{le="{b}"}} {self.buckets[b]}' for b in BUCKETS]
            lines += [f'http_request_duration_seconds_bucket{{le="+Inf"}} {total}']
            lines += [
                f"http_request_duration_seconds_sum {self.seconds:.6f}",
                f"http_request_duration_seconds_count {total}",
            ]
            lines += ["# HELP http_requests_in_flight Under way, this one included."]
            lines += ["# TYPE http_requests_in_flight gauge", f"http_requests_in_flight {under_way}"]
            lines += [
                "# HELP shop_info What runs.",
                "# TYPE shop_info gauge",
                f'shop_info{{version="{self.version}"}} 1',
                "",
            ]
        return "\n".join(lines)


class Server(ThreadingHTTPServer):
    """Knows its connections, so that a stop ends the idle ones and waits for the others."""

    request_queue_size = 1024
    daemon_threads = True

    def __init__(self, address: tuple[str, int], shop: Shop) -> None:
        self.shop = shop
        self.stopping = False
        self.changed = threading.Condition()
        self.connections: dict[socket.socket, str] = {}
        super().__init__(address, Handler)

    def stop(self) -> bool:
        """Takes no more connections and waits for the requests under way; True when all of them were answered."""
        self.stopping = True
        self.shutdown()
        self._accept_what_waits()
        self.server_close()
        deadline = time.monotonic() + STOP_WITHIN_S
        with self.changed:
            self._hang_up(IDLE)
            self.changed.wait_for(lambda: NEW not in self.connections.values(), FIRST_REQUEST_WITHIN_S)
            self._hang_up(NEW)
            return self.changed.wait_for(lambda: not self.connections, deadline - time.monotonic())

    def _hang_up(self, state: str) -> None:
        """Ends reading: a request that has arrived is still read and answered, then the connection is closed."""
        for connection, found in self.connections.items():
            if found == state:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)

    def _accept_what_waits(self) -> None:
        """Who is in the listening queue has connected, and would be reset by the close of the socket."""
        self.socket.setblocking(False)
        with contextlib.suppress(OSError):
            while True:
                connection, address = self.socket.accept()
                connection.setblocking(True)
                self.process_request(connection, address)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.changed:
            self.connections[request] = NEW
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self.changed:
            self.connections.pop(request, None)
            self.changed.notify_all()

    def begins_request(self, connection: socket.socket) -> None:
        with self.changed:
            self.connections[connection] = BUSY
            self.changed.notify_all()

    def under_way(self) -> int:
        with self.changed:
            return sum(state == BUSY for state in self.connections.values())

    def may_wait_for_another(self, connection: socket.socket) -> bool:
        with self.changed:
            self.connections[connection] = IDLE
            return not self.stopping

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers one connection's requests, one after the other."""

    server: Server
    protocol_version = "HTTP/1.1"
    # One write an answer: two small ones wait for each other's acknowledgement.
    wbufsize = -1
    # Longer than a router keeps an idle connection, or it would send a request into one that closes.
    timeout = 120

    def handle_one_request(self) -> None:
        super().handle_one_request()
        if not self.close_connection and not self.server.may_wait_for_another(self.connection):
            self.close_connection = True

    def parse_request(self) -> bool:
        self.began = time.monotonic()
        self.server.begins_request(self.connection)
        return super().parse_request()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        shop = self.server.shop
        if path not in PROBES and self._trouble():
            return
        match path:
            case "/":
                self._answer(200, {"service": "shop", "version": shop.version})
            case "/products":
                self._answer(200, {"items": [{"sku": sku, **product} for sku, product in PRODUCTS.items()]})
            case "/health":
                healthy = shop.healthy()
                self._answer(200 if healthy else 503, {"status": "healthy" if healthy else "unhealthy"})
            case "/ready":
                ready = shop.healthy() and not self.server.stopping
                self._answer(200 if ready else 503, {"ready": ready})
            case "/healthz":
                self._answer(200, {"status": "ok"})
            case "/version":
                self._answer(200, {"version": shop.version})
            case "/metrics":
                self._send(
                    200, "text/plain; version=0.0.4; charset=utf-8", shop.metrics(self.server.under_way()).encode()
                )
            case _:
                self._answer(404, {"error": "there is no such page"})

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            self.close_connection = True
            self._answer(
                413 if length.isdecimal() else 411, {"error": f"send at most {LARGEST_BODY} bytes, and say how many"}
            )
            return
        body = self.rfile.read(int(length))
        if self._trouble():
            return
        if self.path != "/checkout":
            self._answer(404, {"error": "there is no such page"})
            return
        try:
            sku = json.loads(body)["sku"]
            product = PRODUCTS[sku]
        except (ValueError, TypeError, KeyError):
            self._answer(422, {"error": f"send a JSON object with a sku, one of {', '.join(PRODUCTS)}"})
            return
        with self.server.shop.lock:
            self.server.shop.orders += 1
            number = self.server.shop.orders
        self._answer(200, {"order": number, "sku": sku, "cents": product["cents"], "version": self.server.shop.version})

    def _trouble(self) -> bool:
        """Plays the failures that the environment asks for; True when the request is answered with that."""
        shop = self.server.shop
        if shop.latency_s:
            time.sleep(shop.latency_s)
        if shop.next_request_fails():
            self._answer(500, {"error": "this release is broken on purpose"})
            return True
        return False

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(document).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.server.stopping or self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.server.shop.count(status, time.monotonic() - self.began)

    def end_headers(self) -> None:
        self.send_header("X-Version", self.server.shop.version)
        super().end_headers()

    def version_string(self) -> str:
        return "shop"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Stays silent: at hundreds of requests a second the router's counters say more."""


def number(name: str, lowest: float, highest: float) -> float | None:
    """Reads a knob from the environment; ends the process with a sentence when it is no such number."""
    text = os.environ.get(name, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not lowest <= value <= highest:
        sys.exit(f"{name} must be a number between {lowest:g} and {highest:g}, not {text!r}")
    return value


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    shop = Shop(
        version=os.environ.get("VERSION", "0.0.0"),
        error_share=number("ERROR_SHARE", 0, 1) or 0.0,
        latency_s=(number("LATENCY_MS", 0, 60_000) or 0.0) / 1000,
        unhealthy_after_s=number("UNHEALTHY_AFTER_S", 0, 1e9),
    )
    crash_after_s = number("CRASH_AFTER_S", 0, 1e6)
    port = number("PORT", 0, 65535)
    server = Server((os.environ.get("HOST", "127.0.0.1"), 8000 if port is None else int(port)), shop)
    asked_to_stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: asked_to_stop.set())
    if crash_after_s is not None:
        crash = threading.Timer(crash_after_s, os._exit, [1])
        crash.daemon = True
        crash.start()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    print(f"shop {shop.version} listens on {server.server_address[0]!s}:{server.server_address[1]}", flush=True)
    asked_to_stop.wait()
    sys.exit(0 if server.stop() else f"some requests were not answered within {STOP_WITHIN_S:g} s")


if __name__ == "__main__":
    main()

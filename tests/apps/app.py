"""A service for tests that misbehaves on request. Nothing but the standard library; listens on $HOST:$PORT.

    APP_FAIL_SHARE=0.1     a tenth of the users' requests, spread evenly, answer 500; probes never do
    APP_CRASH_AFTER_S=2    the process dies with exit code 3
    APP_CRASH_IF=PATH      dies at once while that file is there
    APP_NEVER_READY=1      /ready answers 503
    APP_SICK_IF=PATH       /health answers 503 while that file is there
    APP_HEALTH_STATUS=204  what /health answers
    APP_HEALTH_BODY=TEXT   what /health says
    APP_HEALTH_SLOW_S=2    how long /health takes
    APP_HOSTS=HOST         whatever is asked about the service itself answers 400, unless the Host is this one
    APP_ILL_FOR=AGENT      /health answers 503 to whoever says to be that in User-Agent
    APP_LACKS=/a,/b        these answer 404
    APP_SLOW_START_S=1     listens only after that long
    APP_IGNORE_SIGTERM=1   goes on serving after SIGTERM
    APP_PRINT=TEXT         printed when it starts

`GET /slow?seconds=2` answers after that long; everything else at once, with the version, the revision and $APP_TOLD.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

VERSION = os.environ["VERSION"]
FAIL_SHARE = float(os.environ.get("APP_FAIL_SHARE", "0"))
HOSTS = os.environ.get("APP_HOSTS", "")
LACKS = [path for path in os.environ.get("APP_LACKS", "").split(",") if path]
OWN = ("/health", "/ready", "/healthz", "/version", "/metrics")
COUNTED = threading.Lock()
COUNTS = {"requests": 0, "failed": 0, "under_way": 0}


def there(name: str) -> bool:
    return bool(os.environ.get(name)) and Path(os.environ[name]).exists()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        path = urlsplit(self.path)
        if path.path in LACKS:
            self.say(404, "there is no such page")
            return
        if HOSTS and path.path in OWN and self.headers.get("Host") != HOSTS:
            self.say(400, "this host is not served")
            return
        match path.path:
            case "/health":
                self.answer_health()
            case "/ready":
                self.say(503 if os.environ.get("APP_NEVER_READY") else 200, "ready")
            case "/healthz":
                self.say(200, "live")
            case "/version":
                self.say(200, json.dumps({"version": VERSION}), "application/json")
            case "/metrics":
                self.say(200, f"# TYPE app_requests_total counter\napp_requests_total {COUNTS['requests']}\n")
            case _:
                self.answer_user(float(parse_qs(path.query).get("seconds", ["0"])[0]))

    def answer_health(self) -> None:
        time.sleep(float(os.environ.get("APP_HEALTH_SLOW_S", "0")))
        ill_for = os.environ.get("APP_ILL_FOR")
        ill = there("APP_SICK_IF") or bool(ill_for and ill_for in self.headers.get("User-Agent", ""))
        status = int(os.environ.get("APP_HEALTH_STATUS", "200"))
        self.say(503 if ill else status, os.environ.get("APP_HEALTH_BODY", "" if status == 204 else "health"))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.answer_user(0)

    def answer_user(self, seconds: float) -> None:
        with COUNTED:
            COUNTS["requests"] += 1
            COUNTS["under_way"] += 1
            fails = int(COUNTS["requests"] * FAIL_SHARE) > COUNTS["failed"]
            COUNTS["failed"] += fails
        try:
            time.sleep(seconds)
            told = {
                "version": VERSION,
                "revision": os.environ.get("REVISION"),
                "told": os.environ.get("APP_TOLD"),
                "file": Path("told.txt").read_text() if Path("told.txt").exists() else None,
                "pid": os.getpid(),
                "under_way": COUNTS["under_way"],
            }
            self.say(500 if fails else 200, json.dumps(told), "application/json")
        finally:
            with COUNTED:
                COUNTS["under_way"] -= 1

    def say(self, status: int, text: str, kind: str = "text/plain") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Version", VERSION)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def stop(server: Server) -> None:
    """Ends as a careless service does: what is under way when it is told to stop is lost."""
    server.socket.close()
    os._exit(0)


def main() -> None:
    sys.stdout.write(os.environ.get("APP_PRINT", "starting") + "\n")
    sys.stdout.flush()
    if there("APP_CRASH_IF"):
        sys.exit("I was told to crash")
    time.sleep(float(os.environ.get("APP_SLOW_START_S", "0")))
    server = Server((os.environ["HOST"], int(os.environ["PORT"])), Handler)
    if os.environ.get("APP_IGNORE_SIGTERM"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: stop(server))
    if os.environ.get("APP_CRASH_AFTER_S"):
        threading.Timer(float(os.environ["APP_CRASH_AFTER_S"]), lambda: os._exit(3)).start()
    server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    main()

"""Requests are counted once, also when the router that counted them is gone, or has dropped a revision meanwhile."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from activities.platforms.traefik import api as counting
from activities.platforms.traefik.api import CounterStore, parse_metrics
from home.paths import Home
from models.errors import UnavailableError
from models.release import Counters

A, B = "1.0.0-abc123", "1.1.0-def456"


def metrics(started: float, **counted: dict[str, int]) -> str:
    """As Traefik 3.7 writes it."""
    lines = [f"process_start_time_seconds {started}", "process_open_fds 14"]
    for revision, codes in counted.items():
        name = {"a": A, "b": B}[revision]
        lines += [
            f'traefik_service_requests_total{{code="{code}",method="GET",service="{name}@file"}} {number}'
            for code, number in codes.items()
        ]
    return "\n".join(lines) + "\n"


class Router:
    """Shows a text as its metrics. The text is what the real one writes; a real one cannot be told when to forget."""

    def __init__(self) -> None:
        self.text = metrics(1)
        shows = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(shows.text.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self.api = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def router() -> Iterator[Router]:
    found = Router()
    yield found
    found.close()


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False) as found:
        yield found


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def ledger(home: Home, client: httpx.Client) -> CounterStore:
    return CounterStore(home, client, file_in(home), "counters")


@pytest.fixture
def another(home: Home, client: httpx.Client) -> CounterStore:
    """Another worker's, of the same target."""
    return CounterStore(home, client, file_in(home), "counters")


def file_in(home: Home) -> Path:
    return home.target("shop", "staging") / "counters.json"


def test_server_errors_count_as_errors_and_impatient_users_do_not() -> None:
    text = metrics(1.5, a={"200": 90, "404": 3, "499": 2, "500": 4, "502": 1})
    assert parse_metrics(text) == ("1.5", {A: Counters(requests=100, errors=5)})


def test_what_is_no_router_is_told_apart() -> None:
    with pytest.raises(ValueError, match="no metrics of a router"):
        parse_metrics("<html>")


def test_a_new_life_of_the_router_adds_to_the_old_one(ledger: CounterStore, router: Router) -> None:
    router.text = metrics(1, a={"200": 10, "500": 1})
    assert ledger.read({"door": router.api}, {A})[A] == Counters(requests=11, errors=1)
    router.text = metrics(2, a={"200": 50})
    assert ledger.read({"door": router.api}, {A})[A] == Counters(requests=61, errors=1)
    router.text = metrics(2, a={"200": 51})
    assert ledger.read({"door": router.api}, {A})[A] == Counters(requests=62, errors=1)


def test_a_revision_that_was_away_goes_on_counting(ledger: CounterStore, router: Router) -> None:
    router.text = metrics(1, a={"200": 10}, b={"200": 5})
    ledger.read({"door": router.api}, {A, B})
    router.text = metrics(1, a={"200": 20})
    assert ledger.read({"door": router.api}, {A, B})[B].requests == 5
    router.text = metrics(1, a={"200": 30}, b={"200": 7})
    assert ledger.read({"door": router.api}, {A, B}) == {
        A: Counters(requests=30),
        B: Counters(requests=12),
    }


def test_two_doors_are_added_up(ledger: CounterStore, router: Router) -> None:
    router.text = metrics(1, a={"200": 10})
    counted = ledger.read({"one": router.api, "two": router.api}, {A})
    assert counted[A].requests == 20


def test_a_known_revision_without_any_request_has_zero(ledger: CounterStore, router: Router) -> None:
    assert ledger.read({"door": router.api}, {A}) == {A: Counters()}


def test_a_revision_that_is_not_known_any_more_is_dropped(ledger: CounterStore, router: Router) -> None:
    router.text = metrics(1, a={"200": 10}, b={"200": 5})
    ledger.read({"door": router.api}, {A, B})
    assert ledger.read({"door": router.api}, {A}) == {A: Counters(requests=10)}


def test_a_router_that_does_not_answer_is_worth_another_try(ledger: CounterStore, router: Router) -> None:
    router.text = metrics(1, a={"200": 10})
    ledger.read({"door": router.api}, {A})
    router.text = "not metrics"
    with pytest.raises(UnavailableError):
        ledger.read({"door": router.api}, {A})
    router.text = metrics(1, a={"200": 11})
    assert ledger.read({"door": router.api}, {A})[A].requests == 11


def test_readers_side_by_side_count_nothing_twice(ledger: CounterStore, router: Router) -> None:
    seen: list[int] = []

    def read(times: int) -> None:
        seen.extend(ledger.read({"door": router.api}, {A})[A].requests for _ in range(times))

    threads = [threading.Thread(target=read, args=(10,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1, 40):
        router.text = metrics(1, a={"200": number})
    for thread in threads:
        thread.join()
    assert max(seen) <= 39
    assert ledger.read({"door": router.api}, {A})[A].requests == 39


def test_counts_that_only_rise_are_not_written_each_time_they_are_read(
    home: Home, ledger: CounterStore, router: Router
) -> None:
    noted = []
    for number in range(5):
        router.text = metrics(1, a={"200": number})
        assert ledger.read({"door": router.api}, {A})[A].requests == number
        noted.append(file_in(home).read_text())
    assert len(set(noted)) == 1
    # What no router can tell any more is written at once.
    router.text = metrics(2, a={"200": 1})
    assert ledger.read({"door": router.api}, {A})[A].requests == 5
    assert file_in(home).read_text() != noted[0]


def test_another_worker_goes_on_from_what_was_written(
    ledger: CounterStore, another: CounterStore, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "NOTED_EVERY", 0.0)
    for number in (10, 20):
        router.text = metrics(1, a={"200": number})
        ledger.read({"door": router.api}, {A})
    router.text = metrics(2, a={"200": 5})
    assert another.read({"door": router.api}, {A})[A].requests == 25


def test_what_another_worker_has_written_takes_nothing_from_what_this_one_has_seen(
    ledger: CounterStore, another: CounterStore, router: Router
) -> None:
    for number in (10, 20):
        router.text = metrics(1, a={"200": number})
        ledger.read({"door": router.api}, {A})
    router.text = metrics(2, a={"200": 5})
    # It knows no more than what was written a moment before the router ended.
    assert another.read({"door": router.api}, {A})[A].requests == 15
    router.text = metrics(2, a={"200": 6})
    assert ledger.read({"door": router.api}, {A})[A].requests == 26
    router.text = metrics(2, a={"200": 7})
    assert another.read({"door": router.api}, {A})[A].requests == 27


def test_a_target_that_was_forgotten_begins_anew(home: Home, ledger: CounterStore, router: Router) -> None:
    router.text = metrics(1, a={"200": 10})
    ledger.read({"door": router.api}, {A})
    file_in(home).unlink()
    router.text = metrics(2, a={"200": 3})
    assert ledger.read({"door": router.api}, {A})[A].requests == 3

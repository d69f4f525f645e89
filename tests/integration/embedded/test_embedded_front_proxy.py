"""The users' address never refuses: real Traefik, real load, real kills."""

import http.server
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from embedded.ingress.front_proxy import front_proxy_program, routers, runs_with
from embedded.supervision.processes import identify, wait_for_end
from embedded.supervision.supervisor import Supervisor
from home.paths import Home
from tests.support.embedded_homes import ODD, home_at, running, until
from tests.support.free_ports import free_port

NAME = "door@shop.staging"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with home_at(tmp_path / ODD) as found:
        yield found


@pytest.fixture
def supervisor(home: Home) -> Supervisor:
    return Supervisor(home)


class SlowAnswer(http.server.BaseHTTPRequestHandler):
    """Answers after as many seconds as the path says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        time.sleep(float(self.path.strip("/") or 0))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def backend() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SlowAnswer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def open_door(supervisor: Supervisor, home: Home, listen: str, backend: int) -> None:
    """Opens a front proxy to the backend and waits for its first answer."""
    folder = home.target("shop", "staging")
    routes = {
        "http": {
            "routers": {"all": {"rule": "PathPrefix(`/`)", "service": "all", "entryPoints": ["users"]}},
            "services": {"all": {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{backend}"}]}}},
        }
    }
    home.write(folder / "routes.json", json.dumps(routes))
    (folder / "routes.json").rename(folder / "routes.yml")  # JSON is YAML; Traefik goes by the name
    configure(home, listen)
    supervisor.put(front_proxy_program(home, NAME, listen, folder / "traefik.yml", folder))
    until(lambda: answer(listen))


def configure(home: Home, listen: str, **settings: object) -> str:
    """Writes what Traefik is started with, each time with another address for its API; returns it."""
    folder = home.target("shop", "staging")
    config = {
        "entryPoints": {
            "users": {"address": listen, **settings, "transport": {"lifeCycle": {"graceTimeOut": "5s"}}},
            "traefik": {"address": f"127.0.0.1:{free_port()}"},
        },
        "api": {"insecure": True, "dashboard": False},
        "providers": {"file": {"filename": str(folder / "routes.yml")}},
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"level": "ERROR"},
    }
    text = json.dumps(config)
    home.write(folder / "traefik.yml", text)
    return text


def answer(listen: str) -> bool:
    try:
        status = httpx.get(f"http://{listen}/", timeout=5, trust_env=False).status_code
    except httpx.TransportError:
        return False
    # Traefik answers 404 before it has read its routes: nobody may get to see that.
    assert status == 200
    return True


def answers_at(api: str) -> bool:
    """Whether a router says what it has read: from then on it reads no other configuration."""
    try:
        return bool(httpx.get(f"http://{api}/api/http/routers", timeout=5, trust_env=False).is_success)
    except httpx.TransportError:
        return False


def traefik_pid(home: Home) -> int:
    return int(json.loads((home.programs / NAME / "traefik.json").read_text())["pid"])


def kill_traefik(home: Home) -> None:
    """Kills it, and waits until the next one has said that it is there."""
    old = traefik_pid(home)
    process = identify(old)
    os.kill(old, signal.SIGKILL)
    assert process is None or wait_for_end(process, 5)
    until(lambda: traefik_pid(home) != old and identify(traefik_pid(home)))


@dataclass
class Load:
    answered: int = 0
    unconnected: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@contextmanager
def load_on(listen: str, users: int = 4) -> Iterator[Load]:
    """New connections all the time, one request each."""
    load, over = Load(), threading.Event()

    def user() -> None:
        while not over.is_set():
            try:
                with httpx.Client(timeout=10, trust_env=False) as client:
                    client.get(f"http://{listen}/", headers={"Connection": "close"}).raise_for_status()
                load.answered += 1
            except (httpx.ConnectError, httpx.TimeoutException) as error:
                load.unconnected.append(repr(error))
            except httpx.HTTPStatusError as error:
                load.wrong.append(str(error))
            except httpx.HTTPError as error:
                load.broken.append(repr(error))

    threads = [threading.Thread(target=user) for _ in range(users)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_connections_queue_while_a_killed_router_is_restarted(home: Home, supervisor: Supervisor, backend: int) -> None:
    listen = f"127.0.0.1:{free_port()}"
    open_door(supervisor, home, listen, backend)
    with load_on(listen) as load:
        for _ in range(3):
            before = load.answered
            until(lambda before=before: load.answered > before + 20)  # type: ignore[misc]
            kill_traefik(home)
        before = load.answered
        until(lambda: load.answered > before + 20)
    assert load.unconnected + load.wrong == []
    # One request per user may have been inside the process that was killed.
    assert len(load.broken) <= 3 * 4
    assert supervisor.states()[NAME].starts == 1


def test_a_killed_door_loses_no_request_and_the_next_one_keeps_the_same_router(
    home: Home, supervisor: Supervisor, backend: int
) -> None:
    listen = f"localhost:{free_port()}"
    open_door(supervisor, home, listen, backend)
    router = traefik_pid(home)
    with load_on(listen) as load:
        until(lambda: load.answered > 20)
        os.kill(running(supervisor, NAME).pid or 0, signal.SIGKILL)
        running(supervisor, NAME, starts=2)
        until(lambda: "adopted" in supervisor.log_tail(NAME))
        before = load.answered
        until(lambda: load.answered > before + 20)
    assert load.unconnected + load.broken + load.wrong == []
    assert traefik_pid(home) == router
    # The one that adopted it brings it back as well.
    kill_traefik(home)
    until(lambda: answer(listen))


def test_a_door_that_is_closed_lets_its_requests_finish(home: Home, supervisor: Supervisor, backend: int) -> None:
    listen = f"127.0.0.1:{free_port()}"
    open_door(supervisor, home, listen, backend)
    router = traefik_pid(home)
    answers: list[int] = []
    slow = threading.Thread(
        target=lambda: answers.append(httpx.get(f"http://{listen}/1.5", timeout=10, trust_env=False).status_code)
    )
    slow.start()
    until(lambda: _established(int(listen.rpartition(":")[2])))
    supervisor.remove(NAME)
    slow.join()
    assert answers == [200]
    assert identify(router) is None
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{listen}/", timeout=5, trust_env=False)


def follows(home: Home, before: int, configuration: str) -> bool:
    """Whether another Traefik runs, with this configuration, and the one before it has ended."""
    found = routers(home.programs / NAME)
    return (
        runs_with(home.programs / NAME, configuration)
        and [each.pid for each in found] == [traefik_pid(home)]
        and traefik_pid(home) != before
    )


@pytest.mark.parametrize("times", [3])
def test_a_new_configuration_is_taken_up_and_nobody_is_refused(
    home: Home, supervisor: Supervisor, backend: int, times: int
) -> None:
    listen = f"127.0.0.1:{free_port()}"
    open_door(supervisor, home, listen, backend)
    door = running(supervisor, NAME).pid or 0
    with load_on(listen) as load:
        for at in range(times):
            before, answered = traefik_pid(home), load.answered
            wanted = configure(home, listen, http={"sanitizePath": bool(at % 2)})
            os.kill(door, signal.SIGHUP)
            until(lambda before=before, wanted=wanted: follows(home, before, wanted))  # type: ignore[misc]
            until(lambda answered=answered: load.answered > answered + 20)  # type: ignore[misc]
    assert load.unconnected + load.broken + load.wrong == []
    assert running(supervisor, NAME).pid == door
    # What follows is as well looked after as what was there before.
    kill_traefik(home)
    until(lambda: answer(listen))


def test_a_configuration_that_changes_again_meanwhile_keeps_nobody_waiting(
    home: Home, supervisor: Supervisor, backend: int
) -> None:
    listen = f"127.0.0.1:{free_port()}"
    open_door(supervisor, home, listen, backend)
    before = traefik_pid(home)
    old = identify(before)
    with load_on(listen) as load:
        api = json.loads(configure(home, listen, http={"sanitizePath": False}))["entryPoints"]["traefik"]["address"]
        os.kill(running(supervisor, NAME).pid or 0, signal.SIGHUP)
        until(lambda: answers_at(api))
        configure(home, listen, http={"sanitizePath": True})
        assert old is None or wait_for_end(old, 30)
        answered = load.answered
        until(lambda: load.answered > answered + 200)
    assert load.unconnected + load.broken + load.wrong == []


def test_a_door_that_adopts_a_router_of_the_version_before_replaces_it_and_nobody_is_refused(
    home: Home, supervisor: Supervisor, backend: int
) -> None:
    listen = f"127.0.0.1:{free_port()}"
    open_door(supervisor, home, listen, backend)
    for _ in range(2):
        before, record = traefik_pid(home), home.programs / NAME / "traefik.json"
        # As that version wrote it, which ended at this signal.
        record.write_text(json.dumps({key: json.loads(record.read_text())[key] for key in ("pid", "started")}))
        with load_on(listen) as load:
            until(lambda load=load: load.answered > 20)  # type: ignore[misc]
            wanted = configure(home, listen, http={"sanitizePath": False})
            os.kill(running(supervisor, NAME).pid or 0, signal.SIGKILL)
            until(lambda before=before, wanted=wanted: follows(home, before, wanted))  # type: ignore[misc]
            answered = load.answered
            until(lambda load=load, answered=answered: load.answered > answered + 20)  # type: ignore[misc]
        assert load.unconnected + load.broken + load.wrong == []
    for _ in range(2):
        # Whatever has become of the places of its sockets: connections queue while nobody serves, and are answered.
        with load_on(listen) as load:
            kill_traefik(home)
            until(lambda load=load: load.answered > 20)  # type: ignore[misc]
        assert load.unconnected + load.wrong == []


def test_a_configuration_that_does_not_work_changes_nothing(home: Home, supervisor: Supervisor, backend: int) -> None:
    listen = f"127.0.0.1:{free_port()}"
    open_door(supervisor, home, listen, backend)
    before = traefik_pid(home)
    with load_on(listen) as load:
        configure(home, listen, http={"noSuchKey": True})
        os.kill(running(supervisor, NAME).pid or 0, signal.SIGHUP)
        until(lambda: "does not come up with its new configuration" in supervisor.log_tail(NAME))
        answered = load.answered
        until(lambda: load.answered > answered + 20)
    assert load.unconnected + load.broken + load.wrong == []
    assert traefik_pid(home) == before


def _established(port: int) -> bool:
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "01" for row in rows)


def test_an_address_that_is_taken_is_named_in_the_log_and_had_when_it_is_free(
    home: Home, supervisor: Supervisor, backend: int
) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        listen = f"127.0.0.1:{stranger.getsockname()[1]}"
        folder = home.target("shop", "staging")
        supervisor.put(front_proxy_program(home, NAME, listen, folder / "traefik.yml", folder))
        until(lambda: f"Nobody can listen at {listen}" in supervisor.log_tail(NAME))
    open_door(supervisor, home, listen, backend)


def test_a_door_on_ipv6(home: Home, supervisor: Supervisor, backend: int) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        # Containers often have none, and no test can give it to a kernel that was started without.
        pytest.skip("this machine has no IPv6")
    open_door(supervisor, home, f"[::1]:{free_port()}", backend)

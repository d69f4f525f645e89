"""Somebody else may take a port between its choice and its use: that is noticed, also when the stranger answers 200."""

import threading
from collections.abc import AsyncIterator, Collection, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from activities.platforms.traefik.state import TargetStore
from embedded import ports
from embedded.supervision.supervisor import Supervisor
from tests.harness.local import LocalHarness
from tests.harness.target import Target


class Stranger(BaseHTTPRequestHandler):
    """Answers everything with 200."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
async def ground() -> AsyncIterator[LocalHarness]:
    found = LocalHarness()
    try:
        yield found
    finally:
        await found.aclose()


@pytest.fixture
async def target(ground: LocalHarness, tmp_path: Path) -> AsyncIterator[Target]:
    found = Target(ground, tmp_path)
    try:
        yield found
    finally:
        await found.wipe()


@pytest.fixture
def stranger() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


async def test_an_instance_whose_port_was_taken_gets_another_one(
    target: Target, stranger: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_choose = ports.choose
    # The front proxy's own port, then the instance's.
    chosen = [*really_choose(1), stranger]

    def choose(count: int = 1, avoid: Collection[int] = ()) -> list[int]:
        return [chosen.pop(0)] if chosen else really_choose(count, avoid)

    monkeypatch.setattr(ports, "choose", choose)
    staged = await target.stage(target.revision("1.0.0"))
    assert not chosen
    assert staged.preview != (f"http://127.0.0.1:{stranger}",)
    assert [(each.healthy, each.version) for each in staged.inspection.instances] == [(True, "1.0.0")]


async def test_a_door_whose_own_port_was_taken_gets_another_one(target: Target, ground: LocalHarness) -> None:
    revision = await target.live("1.0.0")
    before = await target.snapshot()
    store = TargetStore(ground.home, target.service, "staging")
    door = store.read().doors[target.listen]
    Supervisor(ground.home).remove(door.program)
    server = ThreadingHTTPServer(("127.0.0.1", door.api_port), Stranger)
    try:
        split = await target.restore(before)
    finally:
        server.server_close()
    assert split.weights == {revision.id: 100}
    assert store.read().doors[target.listen].api_port != door.api_port
    assert await target.shares(10) == {"1.0.0": 100}

"""A real server of the Sentry protocol, with an API that finds an event again. Installed once, outside the checkout."""

import fcntl
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.free_ports import free_port

VERSION = "2.6.1"
API = "/api/canonical/0"


@dataclass(frozen=True)
class Bugsink:
    """A running server with one project in it."""

    dsn: str
    project: int
    client: httpx.Client

    def find_event(self, event_id: str, within: float = 10) -> dict[str, Any]:
        """The event as the server stored it."""
        deadline = time.monotonic() + within
        while True:
            for issue in self._list("issues", project=self.project):
                for event in self._list("events", issue=issue["id"]):
                    if event["event_id"].replace("-", "") == event_id:
                        stored: dict[str, Any] = self.client.get(f"{API}/events/{event['id']}/").json()["data"]
                        return stored
            assert time.monotonic() < deadline, f"the server has no event {event_id}"
            time.sleep(0.1)

    def releases(self) -> list[str]:
        """The releases that it has seen."""
        return [release["version"] for release in self._list("releases", project=self.project)]

    def _list(self, what: str, **query: Any) -> list[dict[str, Any]]:
        answer = self.client.get(f"{API}/{what}/", params=query)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["results"]
        return found


@contextmanager
def running_bugsink(folder: Path) -> Iterator[Bugsink]:
    """The server on a free port of loopback, with its data in `folder`; ended at the end."""
    programs = _install() / "bin"
    port = free_port()
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(folder), "LANG": "C.UTF-8"}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{command[0]} failed: {done.stderr[-2000:]}"
        return done.stdout.strip()

    run(f"{programs}/bugsink-create-conf", "--template=local", "--host=127.0.0.1", f"--port={port}")
    run(f"{programs}/bugsink-manage", "migrate")
    run(f"{programs}/bugsink-manage", "migrate", "snappea", "--database=snappea")
    token = run(f"{programs}/bugsink-manage", "create_auth_token").split()[-1]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [f"{programs}/gunicorn", f"--bind=127.0.0.1:{port}", "--workers=1", "--threads=4", "bugsink.wsgi"],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False) as client:
            _wait(client, server, folder / "server.log")
            team = _create(client, "teams", name="shop")["id"]
            project = int(_create(client, "projects", name="shop", team=team)["id"])
            yield Bugsink(client.get(f"{API}/projects/{project}/").json()["dsn"], project, client)
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(10)


def _install() -> Path:
    """Its own virtual environment below the user's cache; a half-made one is made again."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deployment-specialist"
    cache.mkdir(parents=True, exist_ok=True)
    environment, done = cache / f"bugsink-{VERSION}", cache / f"bugsink-{VERSION}" / "installed"
    with (cache / f"bugsink-{VERSION}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(environment, ignore_errors=True)
            for command in (
                [sys.executable, "-m", "venv", str(environment)],
                [str(environment / "bin" / "pip"), "install", "--quiet", f"bugsink=={VERSION}"],
            ):
                made = subprocess.run(command, capture_output=True, text=True, timeout=600)
                assert made.returncode == 0, f"bugsink cannot be installed: {made.stderr[-2000:]}"
            done.touch()
    return environment


def _wait(client: httpx.Client, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert server.poll() is None, f"bugsink did not start: {log.read_text()[-2000:]}"
        try:
            if client.get(f"{API}/teams/").status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, f"bugsink does not answer: {log.read_text()[-2000:]}"
        time.sleep(0.1)


def _create(client: httpx.Client, what: str, **fields: str) -> dict[str, Any]:
    answer = client.post(f"{API}/{what}/", json=fields)
    answer.raise_for_status()
    created: dict[str, Any] = answer.json()
    return created


def another_key(dsn: str) -> str:
    """The same project, with a key that nobody gave out."""
    scheme, _, rest = dsn.partition("://")
    return f"{scheme}://{uuid.uuid4().hex}@{rest.partition('@')[2]}"

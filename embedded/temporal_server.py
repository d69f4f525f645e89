"""The home's own Temporal server: what starts it, and when it is ready.

Its ports are chosen once and kept in `stack.json`, so that an address that was noted down stays right. They are chosen
anew only when a stranger has taken one. A server counts as ours only when our own process listens at the port: the
server of another home would answer just as well.
"""

import json
import os
from datetime import timedelta
from typing import Any

import httpx

from embedded import binaries, ports
from embedded.supervision.launch import read
from embedded.supervision.programs import Program
from home.paths import Home
from models.errors import StackError

NAME = "temporal"
NAMESPACE = "default"
RETENTION = timedelta(days=30)
SEARCH_ATTRIBUTES = ("DeployService", "DeployTarget", "DeployVersion", "DeployStage", "DeployOutcome")
_PORTS = ("port", "ui-port", "http-port", "metrics-port")
_ATTEMPT = 5.0
_LONGEST_ANSWER = 1024 * 1024


def kept_ports(home: Home) -> dict[str, int]:
    """The server's ports by the names of its options; empty before it was first started."""
    kept = read(str(home.path / "stack.json")).get(NAME)
    if not isinstance(kept, dict) or not all(isinstance(kept.get(name), int) for name in _PORTS):
        return {}
    return {name: kept[name] for name in _PORTS}


def choose_ports(home: Home) -> dict[str, int]:
    """The ports to start the server with: those it had, as long as all are free. The server does not run now."""
    kept = kept_ports(home)
    if not kept or not all(ports.is_free(port) for port in kept.values()):
        kept = dict(zip(map(str, _PORTS), ports.choose(len(_PORTS)), strict=True))
        home.write(home.path / "stack.json", json.dumps({NAME: kept}, indent=1))
    return kept


def program(home: Home, chosen: dict[str, int]) -> Program:
    """The development server with a database file, answering on the loopback only.

    Raises:
        StackError: the program `temporal` is not installed.
    """
    folder = home.path / NAME
    folder.mkdir(mode=0o700, exist_ok=True)
    options = {
        "ip": "127.0.0.1",
        **{name: str(port) for name, port in chosen.items()},
        # Relative to the folder it runs in: it becomes part of a URL, in which # and % would name another file.
        "db-filename": "temporal.db",
        "log-level": "error",
        # The default of 20 a second would hold back every workflow: it has only one history shard.
        "dynamic-config-value": "history.transferProcessorMaxPollRPS=1000",
    }
    argv = [str(binaries.find("temporal")), "server", "start-dev", "--disable-config-file", "--disable-config-env"]
    argv += [part for name, value in options.items() for part in (f"--{name}", value)]
    argv += [part for name in SEARCH_ATTRIBUTES for part in ("--search-attribute", f"{name}=Keyword")]
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "TZ", "TMPDIR") if name in os.environ}
    return Program(NAME, tuple(argv), folder, environment, stop_seconds=10.0)


def answers(chosen: dict[str, int], pid: int | None) -> bool:
    """Whether the process `pid` is the Temporal server at these ports, and its namespace is ready for us."""
    if pid is None or not {chosen["port"], chosen["http-port"]} <= ports.listening(pid):
        return False
    found = _ask("GET", chosen, "")
    if found is None:
        return False
    aliases = found.get("config", {}).get("customSearchAttributeAliases", {})
    return set(SEARCH_ATTRIBUTES) <= set(aliases.values())


def set_retention(chosen: dict[str, int]) -> None:
    """Keeps finished deployments in the server for 30 days.

    Raises:
        StackError: the server did not take it.
    """
    wanted = {"workflowExecutionRetentionTtl": f"{RETENTION.total_seconds():.0f}s"}
    found = _ask("GET", chosen, "") or {}
    if wanted.items() <= found.get("config", {}).items():
        return
    taken = _ask("POST", chosen, "/update", {"config": wanted}) or {}
    if not wanted.items() <= taken.get("config", {}).items():
        raise StackError("The Temporal server did not take the retention of its namespace.")


def _ask(method: str, chosen: dict[str, int], path: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """Asks the server's HTTP interface, which needs no client library to be loaded; None when it does not answer."""
    url = f"http://127.0.0.1:{chosen['http-port']}/api/v1/namespaces/{NAMESPACE}{path}"
    try:
        with (
            httpx.Client(timeout=_ATTEMPT, trust_env=False) as client,
            client.stream(method, url, json=body) as response,
        ):
            text = b""
            for part in response.iter_bytes():
                text += part
                if len(text) > _LONGEST_ANSWER:
                    return None
            if response.status_code != 200:
                return None
        found = json.loads(text)
    except (httpx.HTTPError, ValueError):
        return None
    return found if isinstance(found, dict) else None

"""One `up`, one `down`: the real Temporal server, a worker of a few lines, real kills."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cli.client.connection import find_server
from embedded import stack as stack_module
from embedded import temporal_server
from embedded.stack import Component, Stack
from embedded.supervision import supervisord
from embedded.supervision.processes import identify
from embedded.supervision.supervisor import Supervisor
from home.paths import Home
from models.errors import StackError
from tests.support.embedded_homes import ODD, ROOT, home_at, pid_of, processes_that_know, python, running, until

WORKER = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
home = pathlib.Path(os.environ["DEPLOYMENT_SPECIALIST_HOME"])
print(os.environ["TEMPORAL_ADDRESS"], os.environ["TEMPORAL_NAMESPACE"], os.environ.get("TEMPORAL_API_KEY"), flush=True)
(home / "worker.ready").write_text(str(os.getpid()))
time.sleep(600)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with home_at(tmp_path / ODD) as found:
        yield found


@pytest.fixture
def worker(tmp_path: Path) -> Path:
    file = tmp_path / "worker script.py"
    file.write_text(WORKER)
    return file


@pytest.fixture
def stack(home: Home, worker: Path) -> Stack:
    return Stack(home, worker)


def part(stack: Stack, name: str) -> Component:
    return next(component for component in stack.components() if component.name == name)


def pids(stack: Stack) -> dict[str, int | None]:
    return {component.name: component.pid for component in stack.components()}


def test_up_is_ready_when_it_returns_and_a_second_up_changes_nothing(
    stack: Stack, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "elsewhere:7233")
    monkeypatch.setenv("TEMPORAL_API_KEY", "of-another-server")
    said: list[str] = []
    stack.up(said.append)
    assert said == ["Starting the Temporal server", "Starting the worker"]
    assert stack.running()
    assert [component.name for component in stack.components()] == ["supervisor", "guardian", "temporal", "worker"]
    assert all(component.healthy and component.pid and not component.detail for component in stack.components())
    assert part(stack, "temporal").address == stack.temporal_address
    assert Supervisor(home).log_tail("worker") == f"{stack.temporal_address} default None\n"
    assert "<html" in httpx.get(stack.ui_url, trust_env=False, follow_redirects=True).text.lower()
    before = pids(stack)
    monkeypatch.setenv("ANOTHER_TERMINAL", "yes")
    stack.up(said.append)
    assert pids(stack) == before
    assert len(said) == 2


def test_the_namespace_keeps_thirty_days_and_knows_our_attributes(stack: Stack, home: Home) -> None:
    stack.up()
    port = temporal_server.kept_ports(home)["http-port"]
    url = f"http://127.0.0.1:{port}/api/v1/namespaces/default"
    config = httpx.get(url, trust_env=False).json()["config"]
    assert config["workflowExecutionRetentionTtl"] == "2592000s"
    assert set(config["customSearchAttributeAliases"].values()) == {
        "DeployService",
        "DeployTarget",
        "DeployVersion",
        "DeployStage",
        "DeployOutcome",
    }


def test_what_is_killed_comes_back_at_the_same_address(stack: Stack, home: Home) -> None:
    stack.up()
    address = stack.temporal_address
    supervisor = Supervisor(home)
    for name in ("temporal", "worker"):
        old = pid_of(supervisor, name)
        os.kill(old, signal.SIGKILL)
        until(lambda name=name, old=old: (now := part(stack, name)).healthy and now.pid != old)  # type: ignore[misc]
    assert stack.temporal_address == address
    assert stack.running()


def test_two_ups_at_once_make_one_stack(home: Home, worker: Path, stack: Stack) -> None:
    code = (
        "import sys; from pathlib import Path; from home.paths import Home; from embedded.stack import Stack\n"
        "Stack(Home(Path(sys.argv[1])), Path(sys.argv[2])).up()\n"
    )
    command = [sys.executable, "-c", code, str(home.path), str(worker)]
    both = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    assert [one.wait(timeout=60) for one in both] == [0, 0]
    assert stack.running()
    assert {state.starts for state in Supervisor(home).states().values()} == {1}


def test_down_leaves_services_and_up_goes_on_beside_them(stack: Stack, home: Home) -> None:
    stack.up()
    address = stack.temporal_address
    supervisor = Supervisor(home)
    supervisor.put(python(home, "shop-1", PORT="20001"))
    service = running(supervisor, "shop-1")
    stack.down(everything=False)
    assert not stack.running()
    assert part(stack, "temporal") == Component("temporal", None, "", False, "it was not started")
    assert part(stack, "shop-1") == Component("shop-1", service.pid, "127.0.0.1:20001", True)
    assert part(stack, "supervisor").healthy
    assert part(stack, "guardian").healthy
    stack.up()
    assert stack.temporal_address == address
    assert supervisor.states()["shop-1"] == service
    stack.down(everything=True)
    assert processes_that_know(home) == []


def test_down_without_services_stops_all(stack: Stack, home: Home) -> None:
    stack.up()
    stack.down(everything=False)
    assert processes_that_know(home) == []
    stack.down(everything=False)
    stack.down(everything=True)


def test_down_with_everything_also_finds_orphans(stack: Stack, home: Home) -> None:
    stack.up()
    supervisor = Supervisor(home)
    supervisor.put(python(home, "shop-1"))
    forgetful = "import os, sys\nos.execve(sys.executable, [sys.executable, '-c', 'import time; time.sleep(600)'], {})"
    supervisor.put(python(home, "shop-2", forgetful))
    orphan = pid_of(supervisor, "shop-2")
    until(lambda: Path(f"/proc/{orphan}/environ").read_text() == "")
    guardian, process = pid_of(supervisor, "guardian"), supervisord.process_of(home)
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    os.kill(guardian, signal.SIGKILL)
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: not supervisor.alive())
    stack.down(everything=True)
    assert processes_that_know(home) == []
    assert identify(orphan) is None
    # What served is known still: the next `up` brings it back.
    stack.up()
    running(supervisor, "shop-1", starts=2)


def test_an_upgraded_worker_is_replaced(stack: Stack, home: Home, worker: Path) -> None:
    stack.up()
    before = pids(stack)
    worker.write_text(WORKER + "\n# a newer release\n")
    said: list[str] = []
    stack.up(said.append)
    assert said == ["Replacing the worker"]
    after = pids(stack)
    assert after.pop("worker") != before.pop("worker")
    assert after == before


def test_a_deploy_replaces_a_worker_of_other_code_and_says_so(
    stack: Stack, home: Home, worker: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEPLOYMENT_SPECIALIST_HOME", str(home.path))
    monkeypatch.delenv("TEMPORAL_ADDRESS", raising=False)
    monkeypatch.setattr("embedded.worker_program.script", lambda: worker)
    stack.up()
    before = {c.name: c.pid for c in stack.components()}
    find_server(start=True)
    assert {c.name: c.pid for c in stack.components()} == before
    assert capsys.readouterr().err == ""

    with worker.open("a") as file:
        file.write("# newer\n")
    find_server(start=True)

    after = {c.name: c.pid for c in stack.components()}
    assert "the worker of this home runs other code than this command" in capsys.readouterr().err
    assert after["worker"] != before["worker"]
    assert after["temporal"] == before["temporal"]


def test_a_supervisor_of_another_installation_is_replaced_and_nobody_notices(stack: Stack, home: Home) -> None:
    stack.up()
    before = pids(stack)
    folder = home.path / "supervisor"
    text = (folder / "launch.json").read_text()
    home.write(folder / "launch.json", text.replace("launch.py", "of-an-older-release.py"))
    stack.up()
    after = pids(stack)
    assert after.pop("supervisor") != before.pop("supervisor")
    assert after == before


def test_a_port_that_a_stranger_took_is_chosen_anew(stack: Stack, home: Home) -> None:
    stack.up()
    address = stack.temporal_address
    stack.down(everything=True)
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", int(address.rpartition(":")[2])))
        stranger.listen()
        stack.up()
        assert stack.temporal_address != address
        assert stack.running()
        assert stack.temporal_address in Supervisor(home).log_tail("worker")


def test_two_homes_have_their_own_temporal(home: Home, stack: Stack, worker: Path, tmp_path: Path) -> None:
    with home_at(tmp_path / "other") as other:
        second = Stack(other, worker)
        stack.up()
        second.up()
        kept = temporal_server.kept_ports(home)
        assert set(kept.values()).isdisjoint(temporal_server.kept_ports(other).values())
        # A server of another home that answers at our port is not ours.
        assert not temporal_server.answers(kept, part(second, "temporal").pid)
        second.down(everything=True)
        assert stack.running()


def test_a_worker_that_does_not_live_is_an_error_with_its_last_words(
    stack: Stack, home: Home, worker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_module, "_PATIENCE_WITH_ENDS", 1)
    worker.write_text("raise SystemExit('no module named anything')")
    with pytest.raises(StackError, match=r"worker keeps ending.*no module named anything"):
        stack.up()
    assert not part(stack, "worker").healthy
    worker.write_text(WORKER)
    stack.up()
    assert stack.running()


def test_without_up_there_is_no_address(stack: Stack) -> None:
    assert not stack.running()
    assert [component.healthy for component in stack.components()] == [False] * 4
    with pytest.raises(StackError, match="never started"):
        _ = stack.temporal_address

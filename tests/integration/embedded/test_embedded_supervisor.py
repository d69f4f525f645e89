"""Programs keep running: real supervisord, real processes, real kills."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from embedded.supervision import supervisord
from embedded.supervision.client import Client
from embedded.supervision.processes import identify, wait_for_end
from embedded.supervision.supervisor import Program, Supervisor
from home.paths import Home
from models.errors import StackError
from tests.support.embedded_homes import ODD, ROOT, home_at, pid_of, python, running, until

SAYS_BYE = """
import os, signal, time
def end(*_):
    os.write(1, b"bye")  # not print: the signal may come in the middle of one
    os._exit(0)
signal.signal(signal.SIGTERM, end)
print("started", flush=True)
time.sleep(600)
"""
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
print("started", os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with home_at(tmp_path / ODD) as found:
        yield found


@pytest.fixture
def supervisor(home: Home) -> Supervisor:
    return Supervisor(home)


def kill(pid: int) -> None:
    process = identify(pid)
    os.kill(pid, signal.SIGKILL)
    assert process is None or wait_for_end(process, 5)


def supervisor_pid(home: Home) -> int:
    process = until(lambda: supervisord.process_of(home))
    assert process is not None
    return process.pid


def test_a_program_gets_its_own_environment_and_nobody_else_reads_it(home: Home, supervisor: Supervisor) -> None:
    code = "import os, time; print(sorted(os.environ), os.getcwd(), flush=True); time.sleep(600)"
    supervisor.put(python(home, "web@1.0_a-b", code, TOKEN="s3cret-value", EMPTY=""))
    state = running(supervisor, "web@1.0_a-b")
    said = until(lambda: supervisor.log_tail("web@1.0_a-b"))
    assert "'EMPTY', " in said
    assert "'TOKEN'" in said
    assert "PATH" not in said
    assert str(home.path) in said
    process = psutil.Process(state.pid)
    assert process.environ()["TOKEN"] == "s3cret-value"
    for path in (file for file in home.path.rglob("*") if file.is_file()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    holding = [path.name for path in home.path.rglob("*") if path.is_file() and b"s3cret-value" in path.read_bytes()]
    assert holding == ["launch.json"]
    assert not any("s3cret-value" in word for found in psutil.process_iter() for word in _cmdline(found))


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_new_program_starts_at_once(home: Home, supervisor: Supervisor) -> None:
    supervisor.put(python(home, "first"))
    client = Client(home.supervisor_socket)
    for number in range(5):
        supervisor.put(python(home, f"a{number}"))
        # Its process is there when `put` returns; supervisord by itself looks once a second.
        assert client.call("getProcessInfo", f"a{number}")["pid"] > 0


def test_putting_the_same_leaves_it_alone_and_putting_another_replaces_it(home: Home, supervisor: Supervisor) -> None:
    supervisor.put(python(home, "a"))
    before = running(supervisor, "a")
    supervisor.put(python(home, "a"))
    assert supervisor.states()["a"] == before
    supervisor.put(python(home, "a", KEY="value"))
    after = running(supervisor, "a")
    assert after.pid != before.pid
    assert after.starts == 1
    assert identify(before.pid or 0) is None


def test_a_killed_program_is_started_again_and_counted(home: Home, supervisor: Supervisor) -> None:
    supervisor.put(python(home, "a"))
    first = running(supervisor, "a")
    kill(pid_of(supervisor, "a"))
    second = running(supervisor, "a", starts=2)
    assert second.starts == 2
    assert second.pid != first.pid
    assert first.started_at is not None
    assert second.started_at is not None
    assert second.started_at > first.started_at


def test_a_killed_supervisor_takes_nothing_down_and_nothing_is_started_twice(
    home: Home, supervisor: Supervisor
) -> None:
    for name in ("a", "b"):
        supervisor.put(python(home, name, SAYS_BYE))
        until(lambda name=name: "started" in supervisor.log_tail(name))  # type: ignore[misc]
    before = {name: running(supervisor, name) for name in ("a", "b", "guardian")}
    old = supervisor_pid(home)
    begun = time.monotonic()
    kill(old)
    until(lambda: supervisor.alive())
    assert time.monotonic() - begun < 5
    assert supervisor_pid(home) != old
    until(lambda: all("adopted" in supervisor.log_tail(name) for name in before))
    assert {name: supervisor.states()[name] for name in before} == before
    # What was adopted is restarted, and stopped, like anything else.
    kill(before["a"].pid or 0)
    assert running(supervisor, "a", starts=2).starts == 2
    supervisor.remove("b")
    assert "bye" in supervisor.log_tail("b")
    assert identify(before["b"].pid or 0) is None


def test_a_killed_guardian_comes_back(home: Home, supervisor: Supervisor) -> None:
    supervisor.put(python(home, "a"))
    before = running(supervisor, "a")
    old = supervisor_pid(home)
    kill(pid_of(supervisor, "guardian"))
    running(supervisor, "guardian", starts=2)
    assert supervisor_pid(home) == old
    assert supervisor.states()["a"] == before


def test_with_both_watchmen_dead_the_next_one_who_asks_heals_it(home: Home, supervisor: Supervisor) -> None:
    supervisor.put(python(home, "a"))
    before = running(supervisor, "a")
    guardian, process = pid_of(supervisor, "guardian"), supervisor_pid(home)
    os.kill(process, signal.SIGSTOP)
    kill(guardian)
    kill(process)
    assert not supervisor.alive()
    assert supervisor.states()["a"] == before
    assert supervisor.states()["guardian"].detail == "the supervisor does not answer"
    supervisor.put(python(home, "b"))
    running(supervisor, "b")
    running(supervisor, "guardian", starts=2)
    assert supervisor.states()["a"] == before


def test_a_supervisor_that_hangs_is_replaced(
    home: Home, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.put(python(home, "a"))
    before = running(supervisor, "a")
    supervisor.remove("guardian")
    old = supervisor_pid(home)
    os.kill(old, signal.SIGSTOP)
    monkeypatch.setattr(supervisord, "STARTS_WITHIN", 2.0)
    supervisor.ensure()
    assert supervisor_pid(home) != old
    assert supervisor.states()["a"] == before


def test_a_program_that_ends_at_once_is_tried_for_ever(
    home: Home, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # supervisord gives up at the first end, so that the test need not wait for the fifth.
    monkeypatch.setattr(supervisord, "QUICK_ENDS", 0)
    supervisor.put(python(home, "crash", "raise SystemExit('no database')"))
    state = until(lambda: (s := supervisor.states()["crash"]).starts >= 3 and not s.running and s)
    assert state
    assert state.detail
    assert "no database" in supervisor.log_tail("crash")
    supervisor.remove("crash")
    assert "crash" not in supervisor.states()


def test_what_cannot_be_started_says_so_in_its_log(home: Home, supervisor: Supervisor) -> None:
    supervisor.put(Program("none", (str(home.path / "no such file"),), home.path, {}))
    until(lambda: "cannot be started" in supervisor.log_tail("none"))
    # It is tried again and again, and is a process for a moment each time.
    until(lambda: not supervisor.states()["none"].running)


def test_remove_ends_a_stubborn_program_and_what_escaped_from_it(home: Home, supervisor: Supervisor) -> None:
    supervisor.put(Program("tough", (sys.executable, "-I", "-c", STUBBORN), home.path, {}, stop_seconds=0.3))
    until(lambda: supervisor.log_tail("tough").count("started") == 2)
    pids = [int(word) for word in supervisor.log_tail("tough").split() if word.isdigit()]
    supervisor.remove("tough")
    assert [pid for pid in pids if identify(pid)] == []
    assert not (home.programs / "tough").exists()
    assert "started" in supervisor.log_tail("tough")
    supervisor.remove("tough")


def test_restart_stops_and_starts(home: Home, supervisor: Supervisor) -> None:
    supervisor.put(python(home, "a", SAYS_BYE))
    until(lambda: "started" in supervisor.log_tail("a"))
    before = pid_of(supervisor, "a")
    supervisor.restart("a")
    assert running(supervisor, "a", starts=2).pid != before
    assert "bye" in supervisor.log_tail("a")
    with pytest.raises(StackError, match="no program b"):
        supervisor.restart("b")


def test_two_homes_do_not_meet(tmp_path: Path) -> None:
    with home_at(tmp_path / "one") as one, home_at(tmp_path / "two") as two:
        first, second = Supervisor(one), Supervisor(two)
        first.put(python(one, "same"))
        second.put(python(two, "same"))
        kept = running(second, "same")
        assert pid_of(first, "same") != kept.pid
        first.remove("same")
        kill(supervisor_pid(one))
        assert second.states()["same"] == kept


def test_many_at_once_start_each_program_once(home: Home, supervisor: Supervisor) -> None:
    code = (
        "import sys; from pathlib import Path; from home.paths import Home\n"
        "from embedded.supervision.supervisor import *\n"
        "home = Home(Path(sys.argv[1]))\n"
        "Supervisor(home).put(Program('shared', ('/bin/sleep', '600'), home.path, {}))\n"
    )
    command = [sys.executable, "-c", code, str(home.path)]
    others = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(supervisor.put, python(home, f"t{i % 4}")) for i in range(8)]:
            done.result(timeout=30)
    assert [other.wait(timeout=30) for other in others] == [0, 0]
    for name in ("t0", "t1", "t2", "t3", "shared", "guardian"):
        assert running(supervisor, name).starts == 1


def test_a_home_too_long_for_a_socket_works(tmp_path: Path) -> None:
    with home_at(tmp_path / ("long" * 30)) as home:
        assert not home.supervisor_socket.is_relative_to(home.path)
        assert len(os.fsencode(home.supervisor_socket)) < 100
        supervisor = Supervisor(home)
        supervisor.put(python(home, "a"))
        running(supervisor, "a")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a b", "a\n[b]", "a%b", "x" * 201, "é"])
def test_a_name_that_would_go_elsewhere_is_refused(home: Home, supervisor: Supervisor, name: str) -> None:
    with pytest.raises(StackError, match="cannot name a program"):
        supervisor.put(python(home, name))
    with pytest.raises(StackError, match="cannot name a program"):
        supervisor.remove(name)


def test_a_home_that_was_removed_is_not_built_again(tmp_path: Path) -> None:
    with home_at(tmp_path / "gone") as home:
        supervisor = Supervisor(home)
        supervisor.put(python(home, "web", SAYS_BYE))
        web = identify(pid_of(supervisor, "web"))
        watchers = [identify(supervisor_pid(home)), identify(pid_of(supervisor, supervisord.GUARDIAN))]
        assert web is not None

        shutil.rmtree(home.path)

        assert all(process is None or wait_for_end(process, 10) for process in watchers)
        assert not wait_for_end(web, 0.5)  # what serves users is left alone ...
        assert not home.path.exists()
        os.kill(web.pid, signal.SIGKILL)
        assert wait_for_end(web, 5)


def test_a_supervisor_that_has_nothing_to_do_does_nothing(home: Home, supervisor: Supervisor) -> None:
    """Whatever was started, asked and ended before: numbers of files that are used again are no reason to spin."""
    for n in range(4):
        supervisor.put(python(home, f"p{n}", SAYS_BYE))
        running(supervisor, f"p{n}")
        supervisor.restart(f"p{n}")
        kill(running(supervisor, f"p{n}", starts=2).pid or 0)
        running(supervisor, f"p{n}", starts=3)
    process = psutil.Process(supervisor_pid(home))
    before, seconds = sum(process.cpu_times()[:2]), 2.0
    time.sleep(seconds)
    assert sum(process.cpu_times()[:2]) - before < 0.1 * seconds

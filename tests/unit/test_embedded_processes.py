"""Which process is which."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from embedded import worker_program
from embedded.ingress.front_proxy import address
from embedded.supervision import launch, processes
from embedded.supervision.launch import rotate
from embedded.supervision.processes import Identity, alive, identify, signal_group, wait_for_end
from home.paths import Home
from models.errors import StackError

SLEEP = [sys.executable, "-IS", "-c", "import time; time.sleep(600)"]


def test_a_process_is_known_by_its_start_not_by_its_pid() -> None:
    me = identify(os.getpid())
    assert me is not None
    assert alive(me)
    assert me == identify(os.getpid())
    assert not alive(Identity(me.pid, "another start"))
    assert not alive(None)


@pytest.mark.parametrize("pidfd", [True, False])
def test_the_end_of_a_process_is_seen_before_its_parent_looks(pidfd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not pidfd:
        monkeypatch.setattr(processes, "_pidfd", lambda pid: None)
    with subprocess.Popen(SLEEP) as child:
        known = identify(child.pid)
        assert known is not None
        assert not wait_for_end(known, 0.05)
        child.kill()
        assert wait_for_end(known, 5)
        assert not alive(known)
        assert wait_for_end(known, 5)
        signal_group(known, signal.SIGTERM)


def test_ps_knows_the_same_where_there_is_no_proc() -> None:
    with subprocess.Popen(SLEEP) as child:
        first = processes._started_ps(child.pid)
        assert first
        assert processes._started_ps(child.pid) == first
        child.kill()
    assert processes._started_ps(child.pid) is None


def test_a_signal_reaches_the_group_of_its_leader() -> None:
    code = "import os, time; member = os.fork(); member and print(member, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE) as leader:
        assert leader.stdout is not None
        member = identify(int(leader.stdout.readline()))
        known = identify(leader.pid)
        assert member is not None
        assert known is not None
        signal_group(known, signal.SIGKILL)
        assert wait_for_end(member, 5)
        assert wait_for_end(known, 5)


def test_a_record_that_was_cut_off_is_no_record(tmp_path: Path) -> None:
    for text in ("", '{"pid": 1', "[]", "\0\0"):
        (tmp_path / "process.json").write_text(text)
        assert launch.read(str(tmp_path / "process.json")) == {}
    assert launch.read(str(tmp_path / "none")) == {}
    assert launch.identity({}) is None


def test_a_log_that_grew_too_large_is_rotated_under_the_pen_of_its_program(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with log.open("a") as pen:
        pen.write("x" * 100)
        pen.flush()
        rotate(str(log), largest=200)
        assert log.stat().st_size == 100
        rotate(str(log), largest=99)
        pen.write("and on")
    assert log.read_text() == "and on"
    assert (tmp_path / "a.log.1").exists()
    assert (tmp_path / "a.log.1").stat().st_mode & 0o777 == 0o600
    rotate(str(tmp_path / "none"), largest=0)


@pytest.mark.parametrize("lines", [101, 1000, 50_000])
def test_what_is_kept_of_a_log_is_bounded_however_fast_it_grew(tmp_path: Path, lines: int) -> None:
    log = tmp_path / "a.log"
    log.write_text("".join(f"line {number:05d}\n" for number in range(lines)))

    rotate(str(log), largest=1000)

    kept = (tmp_path / "a.log.1").read_text()
    assert 900 < len(kept) <= 1000
    assert kept.startswith("line ") and kept.endswith(f"line {lines - 1:05d}\n")
    assert log.read_text() == ""


def test_a_program_that_starts_keeps_the_bound_as_well(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with log.open("wb") as file:
        file.truncate(3 * launch.LARGEST_LOG)

    subprocess.run(
        [
            *(sys.executable, "-c"),
            f"from embedded.supervision import launch; launch.redirect({str(log)!r}); print('on', flush=True)",
        ],
        cwd=Path(__file__).parents[2],
        check=True,
        timeout=30,
    )

    assert (tmp_path / "a.log.1").stat().st_size <= launch.LARGEST_LOG
    assert log.read_text() == "on\n"


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [("127.0.0.1:8080", "127.0.0.1", 8080), ("localhost:1", "127.0.0.1", 1), ("[::1]:65535", "::1", 65535)],
)
def test_an_address_is_read(listen: str, host: str, port: int) -> None:
    assert address(listen)[1:] == (host, port)


@pytest.mark.parametrize("listen", ["", "8080", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "::1:80", "a.b:80"])
def test_what_is_no_address_is_refused(listen: str) -> None:
    with pytest.raises(StackError, match="not an address"):
        address(listen)


def test_a_worker_changes_with_its_code_and_its_temporal_not_with_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, file = Home(tmp_path / "home"), tmp_path / "worker.py"
    file.write_text("one")
    (tmp_path / "workflows").mkdir()
    one = worker_program.program(home, "127.0.0.1:1", file)
    monkeypatch.setenv("ANOTHER_TERMINAL", "yes")
    assert worker_program.same(one, worker_program.program(home, "127.0.0.1:1", file))
    assert not worker_program.same(one, worker_program.program(home, "127.0.0.1:2", file))
    (tmp_path / "workflows" / "deployment.py").write_text("new")
    assert not worker_program.same(one, worker_program.program(home, "127.0.0.1:1", file))
    assert not worker_program.same(None, one)

"""What the tests of the embedded stack share: homes with names that break careless code, and nothing left behind."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil

from embedded.supervision import cleanup
from embedded.supervision.supervisor import Program, ProgramState, Supervisor
from home.paths import Home

T = TypeVar("T")
ODD = "a b%(x)s ;#ü'\"[x]:$HOME"
ROOT = Path(__file__).parents[2]
SLEEPS = "import time; print('started', flush=True); time.sleep(600)"


@contextmanager
def home_at(path: Path) -> Iterator[Home]:
    """A home that is swept clean in the end, whatever the test did."""
    home = Home(path)
    try:
        yield home
    finally:
        cleanup.end_processes(home, grace=0.0)
        home.supervisor_socket.unlink(missing_ok=True)
        assert processes_that_know(home) == []


def until(condition: Callable[[], T], seconds: float = 15.0) -> T:
    """Waits for something true and returns it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.005)
    return found


def processes_that_know(home: Home) -> list[int]:
    """Every process with this home in its command line or its environment, but for the tests themselves."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(home.path) in word for word in words):
            found.append(process.pid)
    return found


def python(home: Home, name: str, code: str = SLEEPS, **environment: str) -> Program:
    """A program of a few lines."""
    return Program(name, (sys.executable, "-I", "-c", code), home.path, environment, stop_seconds=5.0)


def running(supervisor: Supervisor, name: str, starts: int = 1) -> ProgramState:
    """Waits until a program runs that was started at least so often."""

    def look() -> ProgramState | None:
        state = supervisor.states(name).get(name)
        return state if state and state.running and state.starts >= starts else None

    state = until(look)
    assert state is not None
    return state


def pid_of(supervisor: Supervisor, name: str) -> int:
    """The process of a program that runs."""
    pid = running(supervisor, name).pid
    assert pid is not None
    return pid

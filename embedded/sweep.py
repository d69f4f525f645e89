"""Finds and ends what a supervised program left behind, wherever it went.

Ending a process group is not enough: a program may start others in sessions of their own, and a killed supervisor
leaves orphans. All of them inherited two marks in their environment, which say to which home and program they belong.
"""

import os
import time
from collections.abc import Iterable

import psutil

from embedded.paths import Home
from embedded.programs import HOME_MARK, NAME_MARK

_GRACE = 5.0
_LONGEST = 15.0


def processes_of(home: Home, program: str | None = None) -> list[psutil.Process]:
    """The home's supervised processes, or those of one program; never the caller or those that started it."""
    mine = os.getuid()
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid in spared or process.uids().real != mine:
                continue
            environment = process.environ()
        except psutil.Error:
            continue
        if environment.get(HOME_MARK) == str(home.path) and program in (None, environment.get(NAME_MARK)):
            found.append(process)
    return found


def end_processes(home: Home, program: str | None = None) -> None:
    """Ends them: SIGTERM, and SIGKILL five seconds later, until none is left."""
    deadline = time.monotonic() + _LONGEST
    grace = _GRACE
    while (left := processes_of(home, program)) and time.monotonic() < deadline:
        _end(left, grace)
        grace = 0.0  # What appears while we are at it was started by what we ended.


def _end(processes: Iterable[psutil.Process], grace: float) -> None:
    alive = list(processes)
    if grace:
        for process in alive:
            _signal(process, "terminate")
        _, alive = psutil.wait_procs(alive, timeout=grace)
    for process in alive:
        _signal(process, "kill")
    psutil.wait_procs(alive, timeout=_GRACE)


def _signal(process: psutil.Process, how: str) -> None:
    try:
        getattr(process, how)()
    except psutil.NoSuchProcess:
        return

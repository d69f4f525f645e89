"""Finds and ends what a supervised program left behind, wherever it went.

Ending a process group is not enough: a program may start others in sessions of their own, and a killed supervisor
leaves orphans. All of them inherited two marks in their environment, which say to which home and program they belong.
"""

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress

import psutil

from embedded.supervision.processes import Identity, alive, identify, wait_for_end
from embedded.supervision.programs import HOME_MARK, NAME_MARK
from home.paths import Home

_LONGEST = 20.0


def processes_of(home: Home, program: str | None = None) -> list[Identity]:
    """The home's supervised processes, or those of one program; never the caller or those that started it."""
    mine = os.getuid()
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        known = identify(process.pid)
        try:
            if known is None or process.pid in spared or process.uids().real != mine:
                continue
            environment = process.environ()
        except psutil.Error:
            continue
        if environment.get(HOME_MARK) == str(home.path) and program in (None, environment.get(NAME_MARK)):
            found.append(known)
    return found


def end_processes(home: Home, program: str | None = None, grace: float = 5.0) -> None:
    """Ends them: SIGTERM, and SIGKILL `grace` seconds later, until none is left."""
    deadline = time.monotonic() + grace + _LONGEST
    # Seen by nobody in one look: a process whose parent was listed, started it, and was gone when it was looked at.
    looks = 2
    while looks and time.monotonic() < deadline:
        if left := processes_of(home, program):
            end(left, grace)
            grace = 0.0  # What appears while we are at it was started by what we ended.
            looks = 2
        else:
            looks -= 1


def end(processes: Iterable[Identity], grace: float) -> None:
    """Ends these processes, each by itself: SIGTERM, and SIGKILL to those that are there `grace` seconds later."""
    known = list(processes)
    deadline = time.monotonic() + grace
    if grace:
        for process in known:
            _signal(process, signal.SIGTERM)
    for process in known:
        if not wait_for_end(process, max(0.0, deadline - time.monotonic())):
            _signal(process, signal.SIGKILL)
    for process in known:
        wait_for_end(process, _LONGEST)


def _signal(process: Identity, number: signal.Signals) -> None:
    if alive(process):
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)

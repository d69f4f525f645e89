"""Which process is which, for longer than a pid means anything.

A pid is given away again soon after its process has ended. A process is therefore known by its pid and the moment
the kernel started it. Standard library only: this is used where nothing else can be imported.
"""

import functools
import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Identity:
    """One process, never mistaken for a later one with the same pid.

    Attributes:
        started: the kernel's word for when it started; compared only, never read.
    """

    pid: int
    started: str


def identify(pid: int) -> Identity | None:
    """The process that has this pid now; None when there is none, or it has ended and nobody has looked at its end."""
    started = _started_linux(pid) if os.path.exists("/proc/self/stat") else _started_ps(pid)
    return Identity(pid, started) if started else None


def alive(process: Identity | None) -> bool:
    """Whether this very process still runs."""
    return process is not None and process.pid > 0 and identify(process.pid) == process


def wait_for_end(process: Identity, timeout: float) -> bool:
    """Waits for a process that need not be a child. Returns whether it has ended; `timeout` is in seconds."""
    descriptor = _pidfd(process.pid)
    if descriptor is None:
        deadline = time.monotonic() + timeout
        while alive(process) and time.monotonic() < deadline:
            time.sleep(0.02)
        return not alive(process)
    try:
        if not alive(process):
            return True
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(timeout * 1000))
    finally:
        os.close(descriptor)


def signal_group(process: Identity, number: signal.Signals) -> None:
    """Sends a signal to a process and to those it started, if it leads a group; one that ended is no error."""
    if not alive(process):
        return
    with suppress(ProcessLookupError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, number)
        else:
            os.kill(process.pid, number)


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _started_linux(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        if fields[0] in (b"Z", b"X"):
            return None
        return f"{_boot()}{fields[19].decode()}"
    except (OSError, IndexError):
        return None


@functools.cache
def _boot() -> str:
    # Start times are counted from the boot: without this a process of today could pass for one of yesterday.
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read()[:8] + "-"
    except OSError:
        return ""


def _started_ps(pid: int) -> str | None:
    said = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, timeout=10, check=False
    ).stdout.split(maxsplit=1)
    return said[1].strip() if len(said) == 2 and not said[0].startswith("Z") else None

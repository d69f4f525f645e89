"""Watches the supervisor, which watches this program: either heals the other.

supervisord notices a dead child only once a second, gives up on what keeps dying, and nobody starts it again when it
is killed. So this asks it for its state five times a second, and at the very moment a program's process ends (being
asked wakes it), starts what it gave up, starts a new supervisord when the old one died, and rotates the logs.

Run as `python -IS watchdog.py HOME`.
"""

import sys

if not __package__:  # run as a file, isolated: only the standard library can be found
    from os.path import abspath, dirname

    sys.path.insert(0, dirname(dirname(dirname(abspath(__file__)))))

import os
import select
import signal
import time
from contextlib import suppress
from pathlib import Path

from embedded.supervision import supervisord
from embedded.supervision.client import Client, FaultCode
from embedded.supervision.launch import rotate, say
from embedded.supervision.processes import Identity, signal_group
from embedded.supervision.programs import Definitions
from home.paths import Home
from models.errors import DeploymentSpecialistError, UnavailableError

EVERY = 0.2
GAVE_UP_EVERY = 1.0
LOGS_EVERY = 5.0
AFTER_AN_ERROR = 0.5


class Ends:
    """Wakes up when a program's process ends; where the kernel cannot tell, it just waits."""

    def __init__(self, programs: Definitions) -> None:
        self._programs = programs
        self._watched: dict[Identity, int] = {}

    def wait(self, seconds: float) -> None:
        """Waits until one ends, or the time is over."""
        self._refresh()
        poll = select.poll()
        for descriptor in self._watched.values():
            poll.register(descriptor, select.POLLIN)
        poll.poll(seconds * 1000)

    def _refresh(self) -> None:
        running = {process for name in self._programs.names() if (process := self._programs.process(name))}
        for gone in self._watched.keys() - running:
            os.close(self._watched.pop(gone))
        for process in running - self._watched.keys():
            with suppress(AttributeError, OSError):
                self._watched[process] = os.pidfd_open(process.pid)


class Watchdog:
    """The loop."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._folder = identity_of(home.path)
        self._supervisor: Identity | None = None
        self._programs = Definitions(home)
        self._client = Client(home.supervisor_socket, timeout=5.0)
        self._due = {self._start_given_up: 0.0, self._rotate: 0.0}
        self._every = {self._start_given_up: GAVE_UP_EVERY, self._rotate: LOGS_EVERY}

    def run(self) -> None:
        """Watches until it is told to end."""
        ends = Ends(self._programs)
        while True:
            leave_if_gone(self._home.path, self._folder, self._supervisor)
            try:
                self._look()
            except DeploymentSpecialistError as error:
                say(str(error))
                time.sleep(AFTER_AN_ERROR)
            ends.wait(EVERY)

    def _look(self) -> None:
        try:
            self._client.call("getState")
        except UnavailableError:
            say("the supervisor does not answer; it is started again")
            supervisord.ensure(self._home)
        for work, due in self._due.items():
            if time.monotonic() >= due:
                self._due[work] = time.monotonic() + self._every[work]
                work()

    def _start_given_up(self) -> None:
        self._supervisor = supervisord.process_of(self._home) or self._supervisor
        for info in self._client.call("getAllProcessInfo"):
            if info["statename"] == "FATAL":
                self._client.call(
                    "startProcess",
                    info["name"],
                    False,
                    but=(
                        FaultCode.BAD_NAME,
                        FaultCode.ALREADY_STARTED,
                        FaultCode.SPAWN_ERROR,
                    ),
                )

    def _rotate(self) -> None:
        for name in self._programs.names():
            rotate(str(self._programs.log(name)))


def identity_of(folder: Path) -> tuple[int, int] | None:
    """Which folder it is, also when another one has its name by now; None when there is none."""
    try:
        about = folder.stat()
    except FileNotFoundError:
        return None
    return about.st_dev, about.st_ino


def leave_if_gone(home: Path, folder: tuple[int, int] | None, supervisor: Identity | None = None) -> None:
    """Ends this program and its supervisor when somebody removed the home.

    Healing would build the home again, once a second and by each supervisor that ever ran in it. What serves users is
    left alone: `down --all` finds it by its environment.
    """
    if folder is not None and identity_of(home) == folder:
        return
    if os.getppid() > 1:
        os.kill(os.getppid(), signal.SIGKILL)
    if supervisor is not None:
        signal_group(supervisor, signal.SIGKILL)
    os._exit(0)


def main(arguments: list[str]) -> None:
    def end(*_: object) -> None:
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    home = Path(arguments[0])
    # Asked before `Home` makes the folder: a guardian that comes too late must not begin a new world.
    leave_if_gone(home, identity_of(home) if (home / "supervisord.conf").exists() else None)
    Watchdog(Home(home)).run()


if __name__ == "__main__":
    main(sys.argv[1:])

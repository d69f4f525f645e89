"""Keeps the users' address open whatever happens to the router behind it.

A router that binds the users' address itself takes the address with it when it dies: until its successor listens,
users are refused. So this program binds it and hands the listening socket to Traefik by systemd's socket activation;
while Traefik is restarted, connections queue in the socket and are served a moment later. Only requests that were in
flight in the dead process are lost.

When this program dies itself, Traefik serves on and the next one adopts it.

Run as `python -IS door.py --listen 127.0.0.1:8080 --state DIR -- /path/of/traefik --configfile=FILE`.
"""

import sys

if not __package__:  # run as a file, isolated: only the standard library can be found
    from os.path import abspath, dirname

    sys.path.insert(0, dirname(dirname(abspath(__file__))))

import argparse
import errno
import json
import os
import re
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from embedded.launch import identity, read, say
from embedded.paths import Home
from embedded.processes import Identity, alive, identify, signal_group, wait_for_end
from embedded.programs import Program
from models.errors import StackError

ENTRY_POINT = "users"
BACKLOG = 4096
FIRST_FD = 3  # where socket activation expects the first socket (sd_listen_fds(3))
GRACE_SECONDS = 12.0
_BIND_WITHIN = 3.0
_LONGEST_PAUSE = 2.0
_LISTEN = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+|localhost)):([0-9]{1,5})", re.ASCII)


def door_program(home: Home, name: str, listen: str, config_file: Path, directory: Path) -> Program:
    """The program of a front door: Traefik behind a socket that stays open. Its entry point is called `users`.

    Args:
        home: the home it belongs to.
        name: the program's name.
        listen: the users' address, like `127.0.0.1:8080`, `[::1]:8080` or `localhost:8080`.
        config_file: Traefik's static configuration.
        directory: where Traefik runs.

    Raises:
        StackError: the address cannot be read, or Traefik is not installed.
    """
    from embedded import binaries  # not on the way of the door itself, which runs with the standard library alone

    address(listen)
    argv = (
        *(sys.executable, "-IS", str(Path(__file__).absolute())),
        *("--listen", listen, "--state", str(home.programs / name), "--"),
        *(str(binaries.find("traefik")), f"--configfile={config_file}"),
    )
    environment = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TZ") if key in os.environ}
    return Program(name, argv, directory, environment, stop_seconds=GRACE_SECONDS + 2)


def address(listen: str) -> tuple[socket.AddressFamily, str, int]:
    """Reads the users' address; `localhost` is 127.0.0.1.

    Raises:
        StackError: it is none.
    """
    match = _LISTEN.fullmatch(listen)
    if match is None or not 0 < int(match[3]) < 65536:
        raise StackError(f"{listen!r} is not an address to listen at, like 127.0.0.1:8080 or [::1]:8080.")
    if match[1]:
        return socket.AF_INET6, match[1], int(match[3])
    return socket.AF_INET, "127.0.0.1" if match[2] == "localhost" else match[2], int(match[3])


def listen_at(where: tuple[socket.AddressFamily, str, int]) -> socket.socket:
    """Opens the address for users: from here on connections queue."""
    family, host, port = where
    users = socket.socket(family, socket.SOCK_STREAM)
    try:
        users.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            users.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        users.bind((host, port))
        users.listen(BACKLOG)
    except BaseException:
        users.close()
        raise
    return users


class Door:
    """One address and the Traefik behind it."""

    def __init__(self, listen: str, state: Path, argv: list[str]) -> None:
        self._listen = listen
        self._where = address(listen)
        self._record = state / "traefik.json"
        self._argv = argv
        self._users: socket.socket | None = None
        self._traefik: Identity | None = None
        self._asked_at: float | None = None

    def run(self) -> None:
        """Keeps Traefik running until SIGTERM, then waits for its graceful end.

        Raises:
            StackError: the address cannot be had.
        """
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        pause = 0.0
        while self._asked_at is None:
            self._traefik = self._running() or self._start()
            began = time.monotonic()
            if self._asked_at is not None:
                # Asked while it was being started, when there was nobody yet to pass it on to.
                signal_group(self._traefik, signal.SIGTERM)
            self._wait(self._traefik)
            if self._asked_at is None:
                say(f"traefik (process {self._traefik.pid}) has ended; connections queue until it is back")
                pause = 0.0 if time.monotonic() - began > 1 else min(_LONGEST_PAUSE, pause * 2 or 0.05)
                self._rest(pause)

    def _stop(self, number: int, _: object) -> None:
        if self._asked_at is not None:
            return
        self._asked_at = time.monotonic()
        if self._users is not None:
            self._users.close()
        if self._traefik is not None:
            signal_group(self._traefik, signal.SIGTERM)

    def _running(self) -> Identity | None:
        found = identity(read(str(self._record)))
        if not alive(found):
            return None
        say(f"traefik (process {found.pid if found else 0}) runs already and was adopted")
        return found

    def _start(self) -> Identity:
        deadline = time.monotonic() + _BIND_WITHIN
        while self._users is None:
            try:
                self._users = listen_at(self._where)
            except OSError as error:
                # A Traefik of the door before this one may hold it, and have had no time yet to say so.
                if running := self._running():
                    return running
                if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                    raise StackError(f"Nobody can listen at {self._listen}: {error.strerror}.") from error
                time.sleep(0.02)
        pid = os.fork()
        if pid == 0:
            self._become_traefik(self._users)
        return identify(pid) or Identity(pid, "")

    def _become_traefik(self, users: socket.socket) -> NoReturn:
        try:
            # A session of its own: signals for the door's group are the door's to pass on.
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            me = identify(os.getpid())
            temporary = self._record.with_name(f"{self._record.name}.{os.getpid()}")
            temporary.write_text(json.dumps({"pid": os.getpid(), "started": me.started if me else ""}))
            temporary.replace(self._record)
            if users.fileno() == FIRST_FD:
                os.set_inheritable(FIRST_FD, True)
            else:
                os.dup2(users.fileno(), FIRST_FD)
            activation = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": ENTRY_POINT}
            os.execve(self._argv[0], self._argv, {**os.environ, **activation})  # noqa: S606  no shell is wanted
        except OSError as error:
            say(f"{self._argv[0]} cannot be started: {error.strerror}")
        finally:
            os._exit(127)

    def _wait(self, traefik: Identity) -> None:
        while not wait_for_end(traefik, 0.25):
            if self._asked_at is not None and time.monotonic() > self._asked_at + GRACE_SECONDS:
                say(f"traefik did not end within {GRACE_SECONDS:.0f} seconds and was killed")
                signal_group(traefik, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(traefik.pid, 0)

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._asked_at is None and time.monotonic() < until:
            time.sleep(0.02)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="door.py")
    parser.add_argument("--listen", required=True)
    parser.add_argument("--state", required=True, type=Path)
    parser.add_argument("argv", nargs="+")
    given = parser.parse_args(arguments)
    try:
        Door(given.listen, given.state, given.argv).run()
    except StackError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Keeps the users' address open whatever happens to the router behind it.

A router that binds the users' address itself takes the address with it when it dies: until its successor serves,
users are refused. So this program holds the address (`reception.py`) and hands a listening socket to Traefik by
systemd's socket activation. While Traefik is restarted, connections queue, and are passed on a moment later. Only
requests that were in flight in the dead process are lost.

When this program dies itself, Traefik serves on and the next one adopts it.

Run as `python -IS door.py --listen 127.0.0.1:8080 --state DIR [--api HOST:PORT] -- /path/of/traefik --configfile=FILE`.
"""

import sys

if not __package__:  # run as a file, isolated: only the standard library can be found
    from os.path import abspath, dirname

    sys.path.insert(0, dirname(dirname(abspath(__file__))))

import argparse
import asyncio
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
from embedded.processes import Identity, alive, identify, signal_group
from embedded.programs import Program
from embedded.reception import Address, Reception, accept_all, listen_at
from embedded.relay import has_routes, pass_on
from models.errors import StackError

__all__ = ["address", "door_program", "listen_at"]
ENTRY_POINT = "users"
FIRST_FD = 3  # where socket activation expects the first socket (sd_listen_fds(3))
GRACE_SECONDS = 12.0
_BIND_WITHIN = 3.0
_READY_WITHIN = 10.0
_LONGEST_PAUSE = 2.0
_LISTEN = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+|localhost)):([0-9]{1,5})", re.ASCII)


def door_program(home: Home, name: str, listen: str, config_file: Path, directory: Path) -> Program:
    """The program of a front door: Traefik behind an address that stays open. Its entry point is called `users`.

    Users are let in once Traefik has read its routes, if `config_file` (as JSON) opens Traefik's API on an entry
    point `traefik` (`api.insecure`) for the door to ask; otherwise at once.

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
    argv = [sys.executable, "-IS", str(Path(__file__).absolute())]
    argv += ["--listen", listen, "--state", str(home.programs / name)]
    static = read(str(config_file))
    if static.get("api", {}).get("insecure"):
        argv += ["--api", static["entryPoints"]["traefik"]["address"]]
    argv += ["--", str(binaries.find("traefik")), f"--configfile={config_file}"]
    environment = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TZ") if key in os.environ}
    return Program(name, tuple(argv), directory, environment, stop_seconds=GRACE_SECONDS + 2)


def address(listen: str) -> Address:
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


class Door:
    """One address and the Traefik behind it."""

    def __init__(self, listen: str, state: Path, api: str | None, argv: list[str]) -> None:
        self._listen = listen
        self._where = address(listen)
        self._api = address(api)[1:] if api else None
        self._record = state / "traefik.json"
        self._argv = argv
        self._reception: Reception | None = None
        self._traefik: Identity | None = None
        self._stopping = asyncio.Event()
        self._passing: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Keeps Traefik running until SIGTERM, then waits for its graceful end.

        Raises:
            StackError: the address cannot be had.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        pause = 0.0
        while not self._stopping.is_set():
            began = time.monotonic()
            self._traefik = self._running() or await self._start()
            if self._stopping.is_set():
                # Asked while it was being started, when there was nobody yet to pass it on to.
                signal_group(self._traefik, signal.SIGTERM)
            await self._serve(self._traefik)
            if not self._stopping.is_set():
                say(f"traefik (process {self._traefik.pid}) has ended; connections queue until it is back")
                pause = 0.0 if time.monotonic() - began > 1 else min(_LONGEST_PAUSE, pause * 2 or 0.05)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)

    def _stop(self) -> None:
        if self._stopping.is_set():
            return
        self._stopping.set()
        if self._reception is not None:
            asyncio.get_running_loop().remove_reader(self._reception.hall)
            self._reception.close()
        if self._traefik is not None:
            signal_group(self._traefik, signal.SIGTERM)

    def _running(self) -> Identity | None:
        found = identity(read(str(self._record)))
        if found is None or not alive(found):
            return None
        say(f"traefik (process {found.pid}) runs already and was adopted")
        return found

    async def _start(self) -> Identity:
        deadline = time.monotonic() + _BIND_WITHIN
        while self._reception is None:
            try:
                self._reception = Reception(self._where)
            except OSError as error:
                # A Traefik of the door before this one may hold it, and have had no time yet to say so.
                if running := self._running():
                    return running
                if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                    raise StackError(f"Nobody can listen at {self._listen}: {error.strerror}.") from error
                await asyncio.sleep(0.02)
        users = self._reception.listener()
        pid = os.fork()
        if pid == 0:
            self._become_traefik(users)
        return identify(pid) or Identity(pid, "")

    def _become_traefik(self, users: socket.socket) -> NoReturn:
        try:
            # A session of its own: signals for the door's group are the door's to pass on.
            os.setsid()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
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

    async def _serve(self, traefik: Identity) -> None:
        admitting = asyncio.create_task(self._admit_when_ready()) if self._reception else None
        killed_at = float("inf")
        while not await _ended(traefik, 0.25):
            if self._stopping.is_set():
                killed_at = min(killed_at, time.monotonic() + GRACE_SECONDS)
            if time.monotonic() > killed_at:
                say(f"traefik did not end within {GRACE_SECONDS:.0f} seconds and was killed")
                signal_group(traefik, signal.SIGKILL)
        if self._reception is not None and not self._stopping.is_set():
            asyncio.get_running_loop().remove_reader(self._reception.hall)
            self._reception.withhold()
        if admitting is not None:
            admitting.cancel()
            await asyncio.wait([admitting])
        with suppress(ChildProcessError):
            os.waitpid(traefik.pid, os.WNOHANG)  # noqa: ASYNC222  it has ended: this does not wait

    async def _admit_when_ready(self) -> None:
        deadline = time.monotonic() + _READY_WITHIN
        while self._api is not None and not await has_routes(self._api):
            if time.monotonic() > deadline:
                say(f"traefik has no routes after {_READY_WITHIN:.0f} seconds; users are let in all the same")
                break
            await asyncio.sleep(0.005)
        if self._reception is None or self._stopping.is_set():
            return
        for connection in self._reception.admit():
            self._pass_on(connection)
        if self._reception.shared:
            # Those that queued in the hall, and the last ones that were on their way there.
            asyncio.get_running_loop().add_reader(self._reception.hall, self._empty_hall)

    def _empty_hall(self) -> None:
        if self._reception is not None:
            for connection in accept_all(self._reception.hall):
                self._pass_on(connection)

    def _pass_on(self, connection: socket.socket) -> None:
        task = asyncio.create_task(pass_on(connection, self._where))
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)


async def _ended(process: Identity, seconds: float) -> bool:
    """Waits, without holding up anything else, for the end of a process. Returns whether it has ended."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        await asyncio.sleep(0.02 if alive(process) else 0)
        return not alive(process)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        if alive(process):
            await asyncio.wait_for(ended.wait(), seconds)
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return True


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="door.py")
    parser.add_argument("--listen", required=True)
    parser.add_argument("--state", required=True, type=Path)
    parser.add_argument("--api", help="where Traefik's API answers")
    parser.add_argument("argv", nargs="+")
    given = parser.parse_args(arguments)

    async def keep() -> None:
        await Door(given.listen, given.state, given.api, given.argv).run()

    try:
        asyncio.run(keep())
    except StackError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

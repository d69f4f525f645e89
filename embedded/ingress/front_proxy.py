"""Keeps the users' address open whatever happens to the router behind it.

A router that binds the users' address itself takes the address with it when it dies: until its successor serves,
users are refused. So this program holds the address (`listener.py`) and hands a listening socket to Traefik by
systemd's socket activation. While Traefik is restarted, connections queue, and are passed on a moment later. Only
requests that were in flight in the dead process are lost.

When this program dies itself, Traefik serves on and the next one adopts it.

What Traefik is started with can be changed while it serves: at SIGHUP, and when it adopts, this program compares the
configuration file with the one that Traefik was started with. If it is another, a second Traefik is started, and gets
new connections when it has read its routes; the first one ends when its last requests are answered.

Run as `python -IS front_proxy.py --listen 127.0.0.1:8080 --state DIR -- /path/of/traefik --configfile=FILE`.
"""

import sys

if not __package__:  # run as a file, isolated: only the standard library can be found
    from os.path import abspath, dirname

    sys.path.insert(0, dirname(dirname(dirname(abspath(__file__)))))

import argparse
import asyncio
import errno
import hashlib
import json
import os
import re
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from embedded.ingress.forwarder import has_routes, pass_on
from embedded.ingress.listener import Address, Listener, accept_all, listen_at
from embedded.supervision.launch import identity, read, say
from embedded.supervision.processes import Identity, alive, identify, signal_group
from embedded.supervision.programs import Program
from home.paths import Home
from models.errors import StackError

__all__ = ["address", "front_proxy_program", "listen_at"]
ENTRY_POINT = "users"
FIRST_FD = 3  # where socket activation expects the first socket (sd_listen_fds(3))
GRACE_SECONDS = 12.0
_BIND_WITHIN = 3.0
_READY_WITHIN = 10.0
_TURNED_OVER_WITHIN = 3.0
# So long one that was replaced may still get requests on connections that it has just accepted.
_LINGERS = 0.5
_LONGEST_PAUSE = 2.0
_CONFIGURATION = "--configfile="
_LISTEN = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+|localhost)):([0-9]{1,5})", re.ASCII)


def front_proxy_program(home: Home, name: str, listen: str, config_file: Path, directory: Path) -> Program:
    """The program of a front proxy: Traefik behind an address that stays open. Its entry point is called `users`.

    Users are let in once Traefik has read its routes, if `config_file` (as JSON) opens Traefik's API on an entry
    point `traefik` (`api.insecure`) for the front proxy to ask; otherwise at once. A new `config_file` is taken up at
    SIGHUP; its API must have another address.

    Args:
        home: the home it belongs to.
        name: the program's name.
        listen: the users' address, like `127.0.0.1:8080`, `[::1]:8080` or `localhost:8080`.
        config_file: Traefik's static configuration.
        directory: where Traefik runs.

    Raises:
        StackError: the address cannot be read, or Traefik is not installed.
    """
    from embedded import (
        binaries,
    )  # not on the way of the front proxy itself, which runs with the standard library alone

    address(listen)
    argv = [sys.executable, "-IS", str(Path(__file__).absolute())]
    argv += ["--listen", listen, "--state", str(home.programs / name)]
    argv += ["--", str(binaries.find("traefik")), f"{_CONFIGURATION}{config_file}"]
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


def routers(state: Path) -> list[Identity]:
    """The processes of Traefik behind a front proxy that run now: one, or two while one follows the other.

    Args:
        state: the folder of the front proxy's program.
    """
    record = read(str(state / "traefik.json"))
    found = (identity(record), identity(record.get("before") or {}))
    return [process for process in found if process is not None and alive(process)]


def runs_with(state: Path, configuration: str) -> bool:
    """Whether the Traefik behind a front proxy was started with this text as its configuration."""
    return read(str(state / "traefik.json")).get("configuration") == _digest(configuration.encode())


def _digest(configuration: bytes) -> str:
    return hashlib.sha256(configuration).hexdigest()


class FrontProxy:
    """One address and the Traefik behind it."""

    def __init__(self, listen: str, state: Path, argv: list[str]) -> None:
        self._listen = listen
        self._where = address(listen)
        self._record = state / "traefik.json"
        self._argv = argv
        self._reception: Listener | None = None
        self._traefik: Identity | None = None
        # The one that was seen to be ready before it followed another.
        self._ready: Identity | None = None
        self._stopping = asyncio.Event()
        self._asked_to_compare = False
        self._passing: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Keeps Traefik running until SIGTERM, then waits for its graceful end.

        Raises:
            StackError: the address cannot be had.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._compare)
        pause, successor = 0.0, None
        while successor or not self._stopping.is_set():
            began = time.monotonic()
            self._traefik = successor or self._running() or await self._start()
            if self._stopping.is_set():
                # Asked while it was being started, when there was nobody yet to pass it on to.
                signal_group(self._traefik, signal.SIGTERM)
            successor = await self._serve(self._traefik)
            if successor is None and not self._stopping.is_set():
                say(f"traefik (process {self._traefik.pid}) has ended; connections queue until it is back")
                pause = 0.0 if time.monotonic() - began > 1 else min(_LONGEST_PAUSE, pause * 2 or 0.05)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._stopping.wait()

    def _stop(self) -> None:
        if self._stopping.is_set():
            return
        self._stopping.set()
        if self._reception is not None:
            asyncio.get_running_loop().remove_reader(self._reception.hall)
            self._reception.close()
        if self._traefik is not None:
            signal_group(self._traefik, signal.SIGTERM)

    def _compare(self) -> None:
        self._asked_to_compare = True

    def _running(self) -> Identity | None:
        record = read(str(self._record))
        found = identity(record)
        if found is None or not alive(found):
            return None
        say(f"traefik (process {found.pid}) runs already and was adopted")
        if before := identity(record.get("before") or {}):
            # It was followed by a front proxy that did not live to see its end.
            signal_group(before, signal.SIGTERM)
        self._asked_to_compare = True
        return found

    async def _start(self) -> Identity:
        deadline = time.monotonic() + _BIND_WITHIN
        while self._reception is None:
            try:
                self._reception = Listener(self._where)
            except OSError as error:
                # A Traefik of the front proxy before this one may hold it, and have had no time yet to say so.
                if running := self._running():
                    return running
                if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                    raise StackError(f"Nobody can listen at {self._listen}: {error.strerror}.") from error
                await asyncio.sleep(0.02)
        return self._fork(self._reception.listener())

    def _fork(self, users: socket.socket, before: Identity | None = None) -> Identity:
        pid = os.fork()
        if pid == 0:
            self._become_traefik(users, before)
        return identify(pid) or Identity(pid, "")

    def _become_traefik(self, users: socket.socket, before: Identity | None) -> NoReturn:
        try:
            # A session of its own: signals for the front proxy's group are the front proxy's to pass on.
            os.setsid()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            me = identify(os.getpid()) or Identity(os.getpid(), "")
            self._note(me, _digest(self._configuration()), before)
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

    def _note(self, process: Identity, configuration: str, before: Identity | None) -> None:
        """Writes down who serves, with what, and who did before."""
        found = {"pid": process.pid, "started": process.started, "configuration": configuration}
        temporary = self._record.with_name(f"{self._record.name}.{os.getpid()}")
        temporary.write_text(json.dumps(found | ({"before": vars(before)} if before else {})))
        temporary.replace(self._record)

    def _configuration(self) -> bytes:
        """What Traefik is to be started with, as it is now."""
        files = (each.removeprefix(_CONFIGURATION) for each in self._argv if each.startswith(_CONFIGURATION))
        with suppress(OSError):
            return b"".join(Path(file).read_bytes() for file in files)
        return b""

    def _api(self) -> tuple[str, int] | None:
        """Where Traefik can be asked for its routes; None where it cannot."""
        with suppress(ValueError, KeyError, TypeError):
            static = json.loads(self._configuration())
            if static["api"]["insecure"]:
                return address(static["entryPoints"]["traefik"]["address"])[1:]
        return None

    async def _serve(self, traefik: Identity) -> Identity | None:
        """Keeps users coming to Traefik until it ends. Returns the one that follows it, if it was replaced before."""
        admitting = asyncio.create_task(self._admit_when_ready(traefik)) if self._reception else None
        killed_at = float("inf")
        while not await _ended(traefik, 0.25):
            if self._asked_to_compare and not self._stopping.is_set() and (admitting is None or admitting.done()):
                self._asked_to_compare = False
                if successor := await self._replace(traefik):
                    return successor
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
        _reap(traefik)
        return None

    async def _replace(self, traefik: Identity) -> Identity | None:
        """Lets a Traefik with the configuration as it is now follow the one that serves, without losing a request.

        Returns it; None when there is nothing to change, or it does not come up.
        """
        record, wanted = read(str(self._record)), _digest(self._configuration())
        api = self._api()
        if record.get("configuration") == wanted or api is None or not _is_free(api):
            return None
        if self._reception is None:
            with suppress(OSError):
                self._reception = Listener(self._where, beside=True)
        if self._reception is None or not self._reception.shared:
            say(f"traefik (process {traefik.pid}) is stopped, to be started with its new configuration")
            signal_group(traefik, signal.SIGTERM)
            return None
        successor = self._fork(self._reception.successor(), traefik)
        deadline = time.monotonic() + _READY_WITHIN
        while not await has_routes(api):
            if not alive(successor) or time.monotonic() > deadline or self._stopping.is_set():
                say("traefik does not come up with its new configuration; the one that runs serves on")
                signal_group(successor, signal.SIGKILL)
                self._reception.without_successor()
                self._note(traefik, str(record.get("configuration", "")), None)
                self._keep(asyncio.create_task(self._see_out(successor)))
                return None
            await asyncio.sleep(0.005)
        self._ready = successor
        await self._turn_over(traefik, self._reception)
        say(f"traefik (process {successor.pid}) follows process {traefik.pid}, with a new configuration")
        return successor

    async def _turn_over(self, old: Identity, reception: Listener) -> None:
        reception.lead_to_successor()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGERS):
                await self._stopping.wait()
        if self._stopping.is_set():
            return signal_group(old, signal.SIGTERM)
        loop, deadline = asyncio.get_running_loop(), time.monotonic() + _TURNED_OVER_WITHIN
        loop.remove_reader(reception.hall)
        reception.queue()
        while not self._stopping.is_set():
            if not any(reception.before()) or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.001)
        waiting = reception.let_go()
        signal_group(old, signal.SIGTERM)
        # Its socket is in the way until it is closed.
        while not self._stopping.is_set() and reception.before() and alive(old):
            if time.monotonic() > deadline:
                signal_group(old, signal.SIGKILL)
            await asyncio.sleep(0.001)
        if not self._stopping.is_set():
            reception.turn_over()
        for connection in waiting:
            self._pass_on(connection)
        self._keep(asyncio.create_task(self._see_out(old)))

    async def _see_out(self, old: Identity) -> None:
        """Waits for the end of a Traefik that was replaced: its last users get their answers."""
        deadline = time.monotonic() + GRACE_SECONDS
        while not await _ended(old, 0.25):
            if time.monotonic() > deadline:
                signal_group(old, signal.SIGKILL)
        _reap(old)

    async def _admit_when_ready(self, traefik: Identity) -> None:
        # What is written now may be newer than what it was started with, and name another address to ask.
        deadline, api = time.monotonic() + _READY_WITHIN, None if traefik == self._ready else self._api()
        while api is not None and not await has_routes(api):
            if time.monotonic() > deadline:
                say(f"traefik has no routes after {_READY_WITHIN:.0f} seconds; users are let in all the same")
                break
            await asyncio.sleep(0.005)
        if self._reception is None or self._stopping.is_set():
            return
        for connection in self._reception.admit():
            self._pass_on(connection)
        if self._reception.shared:
            # Those that queued in the holding socket, and the last ones that were on their way there.
            asyncio.get_running_loop().add_reader(self._reception.hall, self._empty_hall)

    def _empty_hall(self) -> None:
        if self._reception is not None:
            for connection in accept_all(self._reception.hall):
                self._pass_on(connection)

    def _pass_on(self, connection: socket.socket) -> None:
        self._keep(asyncio.create_task(pass_on(connection, self._where)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)


def _reap(process: Identity) -> None:
    with suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)


def _is_free(api: tuple[str, int]) -> bool:
    family = socket.AF_INET6 if ":" in api[0] else socket.AF_INET
    try:
        listen_at((family, *api)).close()
    except OSError:
        return False
    return True


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
            async with asyncio.timeout(seconds):
                await ended.wait()
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
    parser.add_argument("--api", help="not used any more; programs that were defined before have it")
    parser.add_argument("argv", nargs="+")
    given = parser.parse_args(arguments)

    async def keep() -> None:
        await FrontProxy(given.listen, given.state, given.argv).run()

    try:
        asyncio.run(keep())
    except StackError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

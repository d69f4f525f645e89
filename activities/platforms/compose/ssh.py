"""Docker behind ssh: each connection would pay for a handshake of its own, and each question needs several.

A socket on this machine stands for the one over there. Whoever connects to it is joined to `docker system dial-stdio`
on the other machine, as the `docker` command does it, and all of them share one ssh connection.
"""

import os
import socket
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from activities.heartbeat import shorten
from models.errors import PreconditionError

_CONNECTS_WITHIN = 10
# The shared connection ends so long after the last one that uses it, also when this process was killed.
_LINGERS = 30
_ENDS_WITHIN = 5.0


class Tunnel:
    """The way to one Docker host behind ssh.

    Args:
        host: `ssh://[user@]host[:port][/path/of/its/socket]`.

    Raises:
        PreconditionError: that is no such address.
    """

    def __init__(self, host: str) -> None:
        self._where, self._remote = _command(host)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._listener: socket.socket | None = None
        self._joined: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def open(self) -> str:
        """What `DOCKER_HOST` says on this side."""
        with self._lock:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="docker-ssh-", ignore_cleanup_errors=True)
                self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._listener.bind(f"{self._folder.name}/docker.sock")
                self._listener.listen(64)
                threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
            return f"unix://{self._folder.name}/docker.sock"

    def last_words(self) -> str:
        """What ssh said when it was last asked for a connection; empty when it said nothing."""
        if self._folder is None:
            return ""
        try:
            said = Path(self._folder.name, "words").read_text(errors="replace")
        except OSError:
            return ""
        return shorten(" ".join(said.split()), 300)

    def close(self) -> None:
        """End all connections."""
        with self._lock:
            folder, self._folder = self._folder, None
            listener, self._listener = self._listener, None
            joined = list(self._joined)
        if folder is None or listener is None:
            return
        with suppress(OSError):
            # Closing alone does not wake up who waits in `accept`.
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for process in joined:
            process.terminate()
        with suppress(OSError, subprocess.TimeoutExpired):
            shared = ["ssh", *_shared(folder.name), "-O", "exit", *self._where]
            subprocess.run(shared, stdin=subprocess.DEVNULL, capture_output=True, timeout=_ENDS_WITHIN)
        folder.cleanup()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                self._join(connection)

    def _join(self, connection: socket.socket) -> None:
        with self._lock:
            if self._folder is None:
                return
            folder = self._folder.name
        command = ["ssh", *_shared(folder), *self._where, *self._remote]
        with open(f"{folder}/words", "wb") as words:
            try:
                process = subprocess.Popen(command, stdin=connection.fileno(), stdout=connection.fileno(), stderr=words)
            except OSError as error:
                words.write(f"there is no program ssh on the worker's PATH: {error.strerror}".encode())
                return
        with self._lock:
            self._joined.add(process)
        threading.Thread(target=self._wait, args=(process,), daemon=True).start()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        with self._lock:
            self._joined.discard(process)


def _shared(folder: str) -> list[str]:
    chosen = {
        "BatchMode": "yes",
        "ConnectTimeout": str(_CONNECTS_WITHIN),
        # A network that has gone away is noticed within half a minute.
        "ServerAliveInterval": "10",
        "ServerAliveCountMax": "3",
        "ControlMaster": "auto",
        "ControlPath": f"{folder}/shared",
        "ControlPersist": str(_LINGERS),
    }
    return ["-T", *(part for name, value in chosen.items() for part in ("-o", f"{name}={value}"))]


def _command(host: str) -> tuple[list[str], list[str]]:
    """Where ssh goes, and what it runs there."""
    url = urlsplit(host)
    try:
        port = url.port
    except ValueError:
        port = 0
    if not url.hostname or port == 0 or url.password or url.query or url.fragment:
        raise PreconditionError(
            f"{_shown(url)} is no Docker host: what is meant is ssh://[user@]host[:port], without a password"
        )
    where = [*(("-l", url.username) if url.username else ()), *(("-p", str(port)) if port else ())]
    path = url.path.rstrip("/")
    docker = ["docker", *(("--host", f"unix://{path}") if path else ()), "system", "dial-stdio"]
    return [*where, "--", url.hostname], docker


def _shown(url: SplitResult) -> str:
    return f"ssh://{url.netloc.rpartition('@')[2]}{os.path.normpath(url.path) if url.path else ''}"

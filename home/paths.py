"""Where everything of one home is kept.

All state of the embedded stack and of the local platform lives below one folder that only its owner can read, so that
two homes never meet and a home can be looked at, copied or thrown away as a whole.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from models.errors import StackError, UnavailableError

VARIABLE = "DEPLOYMENT_SPECIALIST_HOME"
# A unix socket's address has 104 bytes on macOS and 108 on Linux; supervisord binds a name with its pid appended.
LONGEST_SOCKET = 90
# Not TMPDIR: it differs between terminals, and all must find the same socket.
_TEMPORARY = Path("/tmp")  # noqa: S108  the folder below it is checked to be ours


def _folder(path: Path) -> Path:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(f"The folder {path} cannot be made: {error.strerror}.") from error
    return path


def _own_folder(path: Path) -> Path:
    _folder(path)
    about = path.lstat()
    if about.st_uid != os.getuid():
        raise StackError(f"The folder {path} belongs to somebody else.")
    if about.st_mode & 0o077:
        path.chmod(0o700)
    return path


def _part(name: str) -> str:
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise StackError(f"{name!r} cannot name a folder.")
    return name


@dataclass(frozen=True)
class Home:
    """The folder that holds all state. It and its folders are made, for the owner only, when they are asked for.

    Raises:
        StackError: the folder cannot be made, or belongs to somebody else.
    """

    path: Path

    def __post_init__(self) -> None:
        # Links are resolved so that one folder is one home, whatever it is called.
        object.__setattr__(self, "path", self.path.expanduser().resolve())
        _own_folder(self.path)

    @classmethod
    def from_environment(cls) -> "Home":
        """The home of `DEPLOYMENT_SPECIALIST_HOME`, or the one in the user's state folder.

        Raises:
            StackError: the folder cannot be made, or belongs to somebody else.
        """
        given = os.environ.get(VARIABLE)
        if given:
            return cls(Path(given))
        state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        return cls(Path(state) / "deployment-specialist")

    @property
    def programs(self) -> Path:
        """One folder per supervised program."""
        return _folder(self.path / "programs")

    @property
    def logs(self) -> Path:
        """What the programs print: `NAME.log`, and `NAME.log.1` before it."""
        return _folder(self.path / "logs")

    @property
    def secrets(self) -> Path:
        """Values handed to this home's worker."""
        return _own_folder(self.path / "secrets")

    def reports(self, service: str, target: str) -> Path:
        """Reports of the deployments of one service to one target."""
        return _folder(self.path / "reports" / _part(service) / _part(target))

    def target(self, service: str, target: str) -> Path:
        """What the local platform keeps for one service on one target."""
        return _folder(self.path / "targets" / _part(service) / _part(target))

    @property
    def supervisor_socket(self) -> Path:
        """The socket of supervisord's interface; outside a home whose own path is too long for a socket."""
        near = self.path / "supervisor.sock"
        if len(os.fsencode(near)) <= LONGEST_SOCKET:
            return near
        short = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        folder = _own_folder(_TEMPORARY / f"deployment-specialist-{os.getuid()}")
        return folder / f"{short}.sock"

    def write(self, path: Path, text: str, mode: int = 0o600) -> None:
        """Replaces a file's text at once: a reader, also after a crash, sees the old text or the new one.

        Raises:
            StackError: the file cannot be written.
        """
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            try:
                with open(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                    os.fchmod(descriptor, mode)
                    file.write(text)
                    file.flush()
                    os.fsync(descriptor)
                temporary.replace(path)
            except BaseException:  # whatever it was goes on; only the half-written file must not stay
                temporary.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise StackError(f"{path} cannot be written: {error.strerror}.") from error

    @contextmanager
    def lock(self, name: str, timeout: float = 60.0) -> Iterator[None]:
        """Holds a lock that excludes other threads and processes; the kernel drops it with its holder.

        It is not reentrant.

        Raises:
            UnavailableError: somebody else held it for `timeout` seconds.
        """
        path = _folder(self.path / "locks") / _part(name)
        deadline = time.monotonic() + timeout
        while (descriptor := _try_lock(path)) is None:
            if time.monotonic() > deadline:
                raise UnavailableError(f"Another process has held the lock {path} for {timeout:.0f} seconds.")
            time.sleep(0.005)
        try:
            yield
        finally:
            # Removed while held: who waits for it sees that the file it locked is not there any more, and asks anew.
            with suppress(FileNotFoundError):
                path.unlink()
            os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None

"""A release is a directory that people and programs go on writing to: what was checked must be what is run.

A directory has one digest, over everything in it that counts; a copy of it is made file by file and has the same one.
"""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Literal

from models.errors import Impossible, Unavailable
from models.units import format_size

MOST_FILES = 100_000
MOST_BYTES = 2 << 30


@dataclass(frozen=True)
class Entry:
    """One thing in a tree.

    Attributes:
        path: relative to the tree's root, with forward slashes.
        size: bytes of a file; 0 for the others.
    """

    path: str
    kind: Literal["file", "link", "directory"]
    executable: bool = False
    size: int = 0


def is_excluded(path: str, exclude: tuple[str, ...]) -> bool:
    """Whether a glob names this path; one with a slash is compared with the whole path, others with the name."""
    name = PurePosixPath(path).name
    return any(fnmatchcase(path if "/" in glob else name, glob.strip("/")) for glob in exclude)


def is_state_directory(path: str | Path) -> bool:
    """Whether this program keeps its own state there: sockets, logs, secrets and copies of releases belong to none."""
    return os.path.isfile(os.path.join(path, "supervisord.conf")) and os.path.isdir(os.path.join(path, "programs"))


def list_tree(root: Path, exclude: tuple[str, ...]) -> list[Entry]:
    """Everything below `root` that is not excluded, sorted by path; links are not followed, state is left out.

    Raises:
        Impossible: it is no readable directory, is too large, or holds what cannot be copied.
    """
    _see(root)
    try:
        entries = sorted(_walk(root, "", exclude, _Budget()), key=lambda entry: os.fsencode(entry.path))
    except OSError as error:
        raise Impossible(f"{error.filename or root} cannot be read: {error.strerror}") from error
    return entries


def _see(root: Path) -> None:
    """Raises what is wrong with the directory itself; who wrote the path may sit at another machine."""
    try:
        found = root.stat()
    except FileNotFoundError:
        raise Impossible(
            f"the directory {root} is not there, seen from the worker: paths are those of its machine or container"
        ) from None
    except OSError as error:
        raise Impossible(f"the worker cannot look into the directory {root}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise Impossible(f"{root} is no directory")


def tree_digest(path: str | Path, exclude: tuple[str, ...] = ()) -> str:
    """sha256 over a directory: each relative path with its kind, whether it is executable, and its content's sha256.

    Times, owners and other permissions do not count. A link counts by where it points to.

    Raises:
        Impossible: it is no readable directory, is too large, or holds what cannot be copied.
    """
    return digest_of(Path(path), list_tree(Path(path), exclude))


def digest_of(root: Path, entries: list[Entry]) -> str:
    """The same over these entries of a directory, in their order.

    Raises:
        Impossible: one of them cannot be read.
    """
    digest = hashlib.sha256()
    for entry in entries:
        try:
            content = _content(root / entry.path, entry)
        except OSError as error:
            raise Impossible(f"{error.filename or entry.path} cannot be read: {error.strerror}") from error
        for part in (os.fsencode(entry.path), entry.kind.encode(), b"x" if entry.executable else b"-", content):
            digest.update(len(part).to_bytes(8) + part)
    return digest.hexdigest()


def copy_tree(source: Path, destination: Path, exclude: tuple[str, ...]) -> None:
    """Make a copy at `destination`, which must not be there yet; only the owner may read it.

    Raises:
        Impossible: the source is no readable directory, is too large, or holds what cannot be copied.
        Unavailable: the copy could not be written.
    """
    entries = list_tree(source, exclude)
    try:
        destination.mkdir(mode=0o700)
        for entry in entries:
            to = destination / entry.path
            if entry.kind == "directory":
                to.mkdir(mode=0o700)
            elif entry.kind == "link":
                to.symlink_to(os.readlink(source / entry.path))
            else:
                shutil.copyfile(source / entry.path, to, follow_symlinks=False)
                to.chmod(0o700 if entry.executable else 0o600)
    except OSError as error:
        raise Unavailable(f"{error.filename or source} could not be copied: {error.strerror}") from error


class _Budget:
    def __init__(self) -> None:
        self.files, self.bytes = 0, 0

    def spend(self, root: Path, size: int) -> None:
        self.files, self.bytes = self.files + 1, self.bytes + size
        if self.files > MOST_FILES or self.bytes > MOST_BYTES:
            raise Impossible(
                f"{root} holds more than {MOST_FILES:,} files or {format_size(MOST_BYTES)}: "
                "name what the service does not need under platform.exclude"
            )


def _walk(root: Path, below: str, exclude: tuple[str, ...], budget: _Budget) -> Iterator[Entry]:
    with os.scandir(root / below) as found:
        items = list(found)
    for item in items:
        path = f"{below}/{item.name}" if below else item.name
        if is_excluded(path, exclude) or is_state_directory(item.path):
            continue
        entry = _entry(root, path, item.stat(follow_symlinks=False))
        budget.spend(root, entry.size)
        yield entry
        if entry.kind == "directory":
            yield from _walk(root, path, exclude, budget)


def _entry(root: Path, path: str, status: os.stat_result) -> Entry:
    if stat.S_ISDIR(status.st_mode):
        return Entry(path, "directory")
    if stat.S_ISREG(status.st_mode):
        return Entry(path, "file", bool(status.st_mode & stat.S_IXUSR), status.st_size)
    if not stat.S_ISLNK(status.st_mode):
        raise Impossible(f"{root / path} is a device, a socket or a pipe: a release is made of files")
    aim = os.readlink(root / path)
    if not os.path.isabs(aim) and os.path.normpath(os.path.join(os.path.dirname(path), aim)).startswith(".."):
        raise Impossible(f"the link {root / path} leads out of its directory: its copy would point somewhere else")
    return Entry(path, "link")


def _content(path: Path, entry: Entry) -> bytes:
    if entry.kind == "directory":
        return b""
    if entry.kind == "link":
        return os.fsencode(os.readlink(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()

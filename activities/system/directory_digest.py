"""A release is a directory that people and programs go on writing to: what was checked must be what is run.

A directory has one digest, over everything in it that counts; a copy of it is made file by file and has the same one.
Mounts and hard links are copied by what is in them. A link that leads out would make the copy run what nobody has
measured: it is refused, but for the interpreter of a virtual environment, which counts with its content.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Literal

from models.errors import PreconditionError, UnavailableError
from models.units import format_size

MOST_FILES = 100_000
MOST_BYTES = 2 << 30
MOST_NAMED = 5
_PART = 1 << 20
_REMEDY = "what is there is neither copied nor measured; put a copy in its place, or name it under platform.exclude"
_RELATIVE = "make it a relative one, or name it under platform.exclude"
_INTERPRETER = re.compile(r"(python|pypy)[0-9.]*", re.ASCII)


@dataclass(frozen=True)
class TreeEntry:
    """One thing in a tree.

    Attributes:
        path: relative to the tree's root, with forward slashes.
        kind: an interpreter is a link of a virtual environment to a program that is not in the tree.
        size: bytes of a file; 0 for the others.
    """

    path: str
    kind: Literal["file", "link", "directory", "interpreter"]
    executable: bool = False
    size: int = 0


def is_excluded(path: str, exclude: tuple[str, ...]) -> bool:
    """Whether a glob names this path; one with a slash is compared with the whole path, others with the name."""
    name = PurePosixPath(path).name
    return any(fnmatchcase(path if "/" in glob else name, glob.strip("/")) for glob in exclude)


def is_state_directory(path: str | Path) -> bool:
    """Whether this program keeps its own state there: sockets, logs, secrets and copies of releases belong to none."""
    return os.path.isfile(os.path.join(path, "supervisord.conf")) and os.path.isdir(os.path.join(path, "programs"))


def list_tree(root: Path, exclude: tuple[str, ...]) -> list[TreeEntry]:
    """Everything below `root` that is not excluded, sorted by path; links are not followed, state is left out.

    Raises:
        PreconditionError: it is no readable directory, is too large, or holds what cannot be copied.
    """
    _see(root)
    astray: list[str] = []
    try:
        entries = sorted(_walk(root, "", exclude, _Budget(), astray), key=lambda entry: os.fsencode(entry.path))
    except OSError as error:
        raise PreconditionError(f"{error.filename or root} cannot be read: {error.strerror}") from error
    if astray:
        more = f"; and {len(astray) - MOST_NAMED:,} more links" if len(astray) > MOST_NAMED else ""
        raise PreconditionError(f"{'; '.join(sorted(astray)[:MOST_NAMED])}{more}")
    return entries


def _see(root: Path) -> None:
    """Raises what is wrong with the directory itself; who wrote the path may sit at another machine."""
    try:
        found = root.stat()
    except FileNotFoundError:
        raise PreconditionError(
            f"the directory {root} is not there, seen from the worker: paths are those of its machine or container"
        ) from None
    except OSError as error:
        raise PreconditionError(f"the worker cannot look into the directory {root}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise PreconditionError(f"{root} is no directory")


def tree_digest(path: str | Path, exclude: tuple[str, ...] = ()) -> str:
    """sha256 over a directory: each relative path with its kind, whether it is executable, and its content's sha256.

    Times, owners and other permissions do not count. A link counts by where it points to, the interpreter of a virtual
    environment also by the content that it leads to.

    Raises:
        PreconditionError: it is no readable directory, is too large, or holds what cannot be copied.
    """
    return digest_of(Path(path), list_tree(Path(path), exclude))


def digest_of(root: Path, entries: list[TreeEntry]) -> str:
    """The same over these entries of a directory, in their order.

    Raises:
        PreconditionError: one of them cannot be read.
    """
    digest = hashlib.sha256()
    for entry in entries:
        try:
            content = _content(root / entry.path, entry)
        except OSError as error:
            raise PreconditionError(f"{error.filename or entry.path} cannot be read: {error.strerror}") from error
        for part in (os.fsencode(entry.path), entry.kind.encode(), b"x" if entry.executable else b"-", content):
            digest.update(len(part).to_bytes(8) + part)
    return digest.hexdigest()


def copy_tree(source: Path, destination: Path, exclude: tuple[str, ...]) -> None:
    """Make a copy at `destination`, which must not be there yet; only the owner may read it.

    Raises:
        PreconditionError: the source is no readable directory, is too large, or holds what cannot be copied.
        UnavailableError: the copy could not be written.
    """
    entries = list_tree(source, exclude)
    try:
        destination.mkdir(mode=0o700)
        for entry in entries:
            to = destination / entry.path
            if entry.kind == "directory":
                to.mkdir(mode=0o700)
            elif entry.kind in ("link", "interpreter"):
                to.symlink_to(os.readlink(source / entry.path))
            else:
                _copy_file(source / entry.path, to, entry)
    except OSError as error:
        raise UnavailableError(f"{error.filename or source} could not be copied: {error.strerror}") from error


class _Budget:
    def __init__(self) -> None:
        self.files, self.bytes = 0, 0

    def spend(self, root: Path, size: int) -> None:
        self.files, self.bytes = self.files + 1, self.bytes + size
        if self.files > MOST_FILES or self.bytes > MOST_BYTES:
            raise PreconditionError(
                f"{root} holds more than {MOST_FILES:,} files or {format_size(MOST_BYTES)}: "
                "name what the service does not need under platform.exclude"
            )


def _walk(root: Path, below: str, exclude: tuple[str, ...], budget: _Budget, astray: list[str]) -> Iterator[TreeEntry]:
    with os.scandir(root / below) as found:
        items = list(found)
    for item in items:
        path = f"{below}/{item.name}" if below else item.name
        if is_excluded(path, exclude) or is_state_directory(item.path):
            continue
        status = item.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            entry, wrong = _link(root, path)
            astray += [wrong] if wrong else []
        else:
            entry = _entry(root, path, status)
        budget.spend(root, entry.size)
        yield entry
        if entry.kind == "directory":
            yield from _walk(root, path, exclude, budget, astray)


def _entry(root: Path, path: str, status: os.stat_result) -> TreeEntry:
    if stat.S_ISDIR(status.st_mode):
        return TreeEntry(path, "directory")
    if stat.S_ISREG(status.st_mode):
        return TreeEntry(path, "file", bool(status.st_mode & stat.S_IXUSR), status.st_size)
    raise PreconditionError(f"{root / path} is a device, a socket or a pipe: a release is made of files")


def _link(root: Path, path: str) -> tuple[TreeEntry, str]:
    """A link, and what is wrong with where it leads to."""
    aim = os.readlink(root / path)
    entry, out = TreeEntry(path, "link"), f"the link {root / path} leads out of its directory, to {aim}"
    if not os.path.isabs(aim):
        wrong = "" if _stays(root, path, aim) else f"{out}: {_REMEDY}"
    elif _is_below(aim, root) or _is_below(os.path.realpath(aim), Path(os.path.realpath(root))):
        wrong = f"the link {root / path} leads by an absolute path into {root} itself, not into its copy: {_RELATIVE}"
    elif _is_interpreter(root, path, aim):
        entry, wrong = TreeEntry(path, "interpreter"), ""
    else:
        wrong = f"{out}: {_REMEDY}"
    return entry, wrong


def _stays(root: Path, path: str, aim: str) -> bool:
    """Whether a relative link ends within the tree: as it is written, and through the links that it passes."""
    if os.path.normpath(os.path.join(os.path.dirname(path), aim)).split("/")[0] == "..":
        return False
    # The last part may be a link of its own, which is looked at by itself.
    head, last = os.path.split(aim)
    passed = head if last not in ("", ".", "..") else aim
    end = os.path.realpath(os.path.join(root, os.path.dirname(path), passed))
    return _is_below(end, Path(os.path.realpath(root)))


def _is_below(path: str, root: Path) -> bool:
    return Path(os.path.normpath(path)).is_relative_to(root)


def _is_interpreter(root: Path, path: str, aim: str) -> bool:
    folder = root / PurePosixPath(path).parent
    return (
        folder.name == "bin"
        and (folder.parent / "pyvenv.cfg").is_file()
        and _INTERPRETER.fullmatch(PurePosixPath(path).name) is not None
        and os.path.isfile(aim)
        and os.access(aim, os.X_OK)
    )


def _open(path: Path) -> BufferedReader:
    # What was a file a moment ago may be a link or a pipe by now.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file any more", str(path))
    return file


def _copy_file(source: Path, to: Path, entry: TreeEntry) -> None:
    """Copies as much as there was when the tree was listed: a file that grows meanwhile fills no disk."""
    left = entry.size
    with _open(source) as reading, to.open("xb") as writing:
        while left and (part := reading.read(min(left, _PART))):
            writing.write(part)
            left -= len(part)
    to.chmod(0o700 if entry.executable else 0o600)


def _content(path: Path, entry: TreeEntry) -> bytes:
    match entry.kind:
        case "directory":
            return b""
        case "link":
            return os.fsencode(os.readlink(path))
        case "interpreter":
            with path.open("rb") as file:
                return os.fsencode(os.readlink(path)) + hashlib.file_digest(file, "sha256").digest()
        case _:
            with _open(path) as file:
                return hashlib.file_digest(file, "sha256").digest()

"""Configuration files belong to a backup; a link in them must not carry anything else into it.

Every folder on the way is opened in its parent without following links, from a root that the spec names. So what is
archived lies below that root, also when somebody changes it meanwhile.
"""

import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from models.errors import DatabaseRefusedError

MOST_ENTRIES = 100_000
LARGEST = 2 << 30
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass
class _Archive:
    """A tar file under way, within its bounds."""

    tar: tarfile.TarFile
    entries: int = 0
    size: int = 0

    def add(
        self, name: str, about: os.stat_result, kind: bytes, content: IO[bytes] | None = None, to: str = ""
    ) -> None:
        self.entries += 1
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.mtime = kind, stat.S_IMODE(about.st_mode), int(about.st_mtime)
        entry.uid, entry.gid, entry.linkname = about.st_uid, about.st_gid, to
        entry.size = about.st_size if content is not None else 0
        self.size += entry.size
        if self.entries > MOST_ENTRIES or self.size > LARGEST:
            raise DatabaseRefusedError(
                f"preflight.backup.configuration is more than {MOST_ENTRIES:,} files or {LARGEST >> 30} GiB"
            )
        self.tar.addfile(entry, content)


def archive(paths: tuple[str, ...], roots: tuple[str, ...], into: IO[bytes]) -> int:
    """Writes a tar archive of the paths, with their absolute names but for the first slash; returns how many entries.

    Links are archived as links. What is neither file, folder nor link is left out.

    Raises:
        DatabaseRefusedError: a path lies outside of all roots, leads through a link, or cannot be read.
    """
    with tarfile.open(fileobj=into, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        filling = _Archive(tar)
        for path in paths:
            _add_path(filling, Path(path), roots)
    return filling.entries


def _add_path(filling: _Archive, path: Path, roots: tuple[str, ...]) -> None:
    root = next((Path(each) for each in roots if path.is_relative_to(each) and ".." not in path.parts), None)
    if root is None:
        raise DatabaseRefusedError(f"{path} lies in none of the roots of preflight.backup: {', '.join(roots)}")
    inside = path.relative_to(root).parts
    try:
        # The root may be a link: whoever wrote the spec named it.
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in inside[:-1]:
                deeper = os.open(part, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = deeper
            _add(filling, descriptor, inside[-1] if inside else ".", str(path).lstrip("/"), first=True)
        finally:
            os.close(descriptor)
    except (OSError, tarfile.TarError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DatabaseRefusedError(f"{path} cannot be archived without following a link: {reason}") from None


def _add(filling: _Archive, parent: int, name: str, known_as: str, *, first: bool = False) -> None:
    about = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if stat.S_ISLNK(about.st_mode):
        if first:
            raise DatabaseRefusedError(f"/{known_as} is a link; name what it leads to")
        filling.add(known_as, about, tarfile.SYMTYPE, to=os.readlink(name, dir_fd=parent))
    elif stat.S_ISDIR(about.st_mode):
        filling.add(known_as, about, tarfile.DIRTYPE)
        with _opened(name, parent, _FOLDER) as folder:
            for inner in sorted(os.listdir(folder)):
                _add(filling, folder, inner, f"{known_as}/{inner}")
    elif stat.S_ISREG(about.st_mode):
        with _opened(name, parent, _FILE) as descriptor:
            # Of what was opened, not of what was there before.
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise DatabaseRefusedError(f"/{known_as} changed while it was archived")
            with open(descriptor, "rb", closefd=False) as content:
                filling.add(known_as, about, tarfile.REGTYPE, content)


@contextmanager
def _opened(name: str, parent: int, flags: int) -> Iterator[int]:
    descriptor = os.open(name, flags, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)

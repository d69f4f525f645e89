"""Where backups are kept: a folder for each, with its name only once it was proven.

A backup is made in a folder whose name begins with a dot, locked by whoever makes it; the lock goes with the process,
and the next run removes what nobody holds. So what has a backup's name is a whole and proven backup.
"""

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from activities.system.safe_open import open_regular
from home.paths import Home
from models.errors import DatabaseRefusedError, DiskFullError, PreconditionError
from models.names import Name
from models.preflight.backup import BackupId, BackupLine, BackupManifest, BackupSpec, StoredFile

MANIFEST = "manifest.json"
LARGEST_MANIFEST = 32 << 20
_ID: TypeAdapter[str] = TypeAdapter(BackupId)
_NAME: TypeAdapter[str] = TypeAdapter(Name)


class BackupStore:
    """The backups of one service's target.

    Args:
        base: the folder that holds all backups; this target has its own in it.
    """

    def __init__(self, base: Path, service: str, target: str) -> None:
        self.path = base / f"{_NAME.validate_python(service)}.{_NAME.validate_python(target)}"

    @classmethod
    def of(cls, spec: BackupSpec, home: Home, service: str, target: str) -> "BackupStore":
        """Where the spec says, or below the worker's home."""
        base = Path(spec.directory) if spec.directory is not None else home.path / "backups"
        return cls(base, service, target)

    @contextmanager
    def making(self) -> Iterator[tuple[str, Path]]:
        """An id and a folder to make a backup in; the folder is gone afterwards, unless `keep` renamed it.

        Raises:
            PreconditionError: the folder cannot be made.
        """
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        folder = self.path / f".{name}.partial"
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise PreconditionError(f"no backup can be kept in {self.path}: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield name, folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)

    def keep(self, folder: Path, manifest: BackupManifest) -> Path:
        """Writes the manifest, and gives the backup its name, all at once and for good."""
        path = folder / MANIFEST
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(manifest.model_dump_json(indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        final = self.path / manifest.id
        _sync(folder)
        folder.rename(final)
        _sync(self.path)
        return final

    def sweep(self) -> list[str]:
        """Removes what was begun and never finished, and is nobody's any more; returns what."""
        removed = []
        for folder in sorted(self.path.glob(".*.partial")) if self.path.is_dir() else ():
            try:
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder.name)
            except BlockingIOError:
                continue
            finally:
                os.close(descriptor)
        return removed

    def ids(self) -> list[str]:
        """The backups, the newest first."""
        if not self.path.is_dir():
            return []
        return sorted((each.name for each in self.path.iterdir() if _is_id(each.name) and each.is_dir()), reverse=True)

    def retire(self, keep: int) -> list[str]:
        """Removes all but the newest ones; returns the ids that went."""
        gone = self.ids()[keep:]
        for name in gone:
            # Its name goes first: what is half removed is no backup any more.
            folder = self.path / f".{name}.partial"
            (self.path / name).rename(folder)
            shutil.rmtree(folder, ignore_errors=True)
        return gone

    def manifest(self, backup: str) -> BackupManifest:
        """What is known of a backup.

        Raises:
            PreconditionError: there is none of that id, or its manifest cannot be read.
        """
        if not _is_id(backup) or not (self.path / backup).is_dir():
            raise PreconditionError(f"there is no backup with that id in {self.path}")
        try:
            with open_regular(self.path / backup / MANIFEST) as file:
                found = BackupManifest.model_validate_json(file.read(LARGEST_MANIFEST))
        except OSError as error:
            raise PreconditionError(
                f"the manifest of the backup {backup} cannot be read: {error.strerror or error}"
            ) from None
        except ValidationError:
            raise PreconditionError(f"the manifest of the backup {backup} is damaged") from None
        if found.id != backup or any("/" in each.name for each in _files(found)):
            raise PreconditionError(f"the manifest of the backup {backup} is not its own")
        return found

    def verify(self, manifest: BackupManifest, *, whole: bool = True) -> None:
        """Sees that the files are those that were proven: their sizes, and with `whole` every byte.

        Raises:
            DatabaseRefusedError: one is gone, cut, or changed.
        """
        for stored in _files(manifest):
            try:
                with open_regular(self.path / manifest.id / stored.name) as file:
                    size = os.fstat(file.fileno()).st_size
                    if size != stored.bytes or size == 0:
                        said = f"{stored.name} of the backup {manifest.id} has {size} bytes, not {stored.bytes}"
                        raise DatabaseRefusedError(f"{said}: it was cut, or changed")
                    if whole and hashlib.file_digest(file, "sha256").hexdigest() != stored.sha256:
                        raise DatabaseRefusedError(
                            f"{stored.name} of the backup {manifest.id} is damaged: its sha256 is another one"
                        )
            except OSError as error:
                raise DatabaseRefusedError(
                    f"{stored.name} of the backup {manifest.id} cannot be read: {error.strerror or error}"
                ) from None

    def line(self, backup: str) -> BackupLine:
        """One backup for a list; what is wrong with it is said, not raised."""
        try:
            found = self.manifest(backup)
        except PreconditionError as error:
            return BackupLine(id=backup, wrong=str(error))
        wrong = ""
        try:
            self.verify(found, whole=False)
        except DatabaseRefusedError as error:
            wrong = str(error)
        size = sum(each.bytes for each in _files(found))
        return BackupLine(
            id=backup,
            made=found.made,
            bytes=size,
            tables=len(found.counts),
            rows=found.rows,
            encrypted=found.encrypted,
            wrong=wrong,
        )


class Writer:
    """A file that is measured while it is written, and never fills the disk.

    Args:
        path: made anew, for its owner only.
        reserve: bytes that stay free on the file system.
    """

    def __init__(self, path: Path, reserve: int) -> None:
        self._path = path
        self._reserve = reserve
        self._hash = hashlib.sha256()
        self._written = 0
        self._asked = 0
        self._file = open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb", buffering=0)

    def __call__(self, piece: memoryview) -> None:
        """Writes a piece.

        Raises:
            DiskFullError: the disk does not have enough space for it.
        """
        if self._written >= self._asked:
            self._see_room()
        self._hash.update(piece)
        self._written += len(piece)
        try:
            while piece:
                piece = piece[self._file.write(piece) or 0 :]
        except OSError as error:
            raise DiskFullError(f"{self._path.parent.parent} took {self._written} bytes: {error.strerror}") from None

    def _see_room(self) -> None:
        self._asked = self._written + (32 << 20)
        about = os.statvfs(self._path.parent)
        free = about.f_bavail * about.f_frsize
        if free < self._reserve:
            raise DiskFullError(
                f"only {free >> 20} MiB are free in {self._path.parent.parent} after {self._written >> 20} MiB of the "
                f"backup; {self._reserve >> 20} MiB must stay free (preflight.disk_free_bytes)"
            )

    def finish(self) -> StoredFile:
        """Everything is on the disk."""
        os.fsync(self._file.fileno())
        self._file.close()
        return StoredFile(name=self._path.name, bytes=self._written, sha256=self._hash.hexdigest())

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()


def _files(manifest: BackupManifest) -> tuple[StoredFile, ...]:
    return (manifest.dump,) if manifest.configuration is None else (manifest.dump, manifest.configuration)


def _is_id(name: str) -> bool:
    try:
        return bool(_ID.validate_python(name))
    except ValidationError:
        return False


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

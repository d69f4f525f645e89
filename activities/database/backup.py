"""Makes a backup and proves it: restores it into a scratch database and compares that with what was dumped.

The dump and the counting of the rows share one snapshot, so that the comparison is exact however much is written
meanwhile. The proof reads the file that was kept, every byte of it; where a backup is encrypted and this worker cannot
open it, the same bytes go to the proof and to the encryption at once.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from activities.database import configuration
from activities.database.backup_store import BackupStore, Writer
from activities.database.connection import Connection, Database, fetch_one
from activities.database.encryption import Seal
from activities.database.pipeline import Pipeline, Running, find, into, plumbing
from activities.database.schema_diff import Contents, read_contents, server_major
from activities.database.scratch import owner_mark, read_like, scratch_database, sweep
from home.paths import Home
from models.errors import DatabaseRefusedError, NotProvenError
from models.preflight.backup import BackupManifest, BackupSpec, StoredFile
from models.spec import DeploymentSpec

LOCK_WAIT_MS = 60_000
MOST_DIFFERENCES = 5


@dataclass(frozen=True)
class BackupPrograms:
    """PostgreSQL's own programs, not older than the server."""

    dump: str
    restore: str


Use = Callable[[Database], Awaitable[None]]


async def _nothing(_: Database) -> None:
    """Nobody has a use for what was restored."""


async def make_backup(spec: DeploymentSpec, backup: BackupSpec, home: Home, use: Use = _nothing) -> BackupManifest:
    """Makes, proves and keeps a backup; on any failure nothing of it stays.

    Args:
        spec: whose backup it is.
        backup: how it is made.
        home: below which it is kept where the spec does not say where.
        use: what is done with the restored database after it was compared, and before it is dropped.

    Raises:
        NotProvenError: what came back is not what was dumped.
        DatabaseRefusedError: a program or the server refused, or the disk is full.
        UnavailableError: the server does not answer, or went away.
        PreconditionError: a program, a folder or a key is not there.
        SecretUnresolvedError: the connection string cannot be read.
    """
    began = time.monotonic()
    database = Database.of(backup.database.secret)
    server = database if backup.scratch is None else Database.of(backup.scratch.secret)
    seal = None if backup.encrypt is None else Seal(backup.encrypt)
    if seal is not None:
        await seal.check()
    backups = BackupStore.of(backup, home, spec.service, spec.target)
    mark = owner_mark(spec.service, spec.target)
    await asyncio.to_thread(backups.sweep)
    await sweep(server, mark)
    with backups.making() as (name, folder):
        work = _Work(spec, backup, database, server, seal, folder, mark, use)
        manifest = await work.do(name)
        manifest = manifest.model_copy(update={"seconds": round(time.monotonic() - began, 3)})
        await asyncio.to_thread(backups.keep, folder, manifest)
    await asyncio.to_thread(backups.retire, backup.keep)
    return manifest


async def use_backup(
    spec: DeploymentSpec, backup: BackupSpec, backups: BackupStore, manifest: BackupManifest, use: Use
) -> None:
    """Restores a kept backup into a scratch database for some use, and drops it.

    Raises:
        DatabaseRefusedError: it cannot be opened or restored.
        PreconditionError: a program or a key is not there.
        UnavailableError: the server does not answer, or went away.
    """
    source = Database.of(backup.database.secret)
    server = source if backup.scratch is None else Database.of(backup.scratch.secret)
    seal = None if backup.encrypt is None or not manifest.encrypted else Seal(backup.encrypt)
    if seal is not None and not await seal.can_open():
        raise DatabaseRefusedError("the backup that is used again is encrypted, and this worker cannot open it")
    mark = owner_mark(spec.service, spec.target)
    await sweep(server, mark)
    async with source.connected() as connection:
        like = await read_like(connection)
    programs = await find_programs(backup, manifest.server_version)
    async with scratch_database(like, server, mark) as scratch:
        await restore_file(backups.path / manifest.id, manifest.dump, seal, programs, scratch, own=False)
        await use(scratch)


@dataclass
class _Work:
    """One backup under way."""

    spec: DeploymentSpec
    backup: BackupSpec
    database: Database
    server: Database
    seal: Seal | None
    folder: Path
    mark: str
    use: Use = _nothing

    async def do(self, name: str) -> BackupManifest:
        made = datetime.now(UTC)
        opens = self.seal is None or await self.seal.can_open()
        async with self.database.connected() as source:
            major, like = await server_major(source), await read_like(source)
            programs = await find_programs(self.backup, major)
            if opens:
                stored, contents = await self._dump(source, programs, None)
            else:
                async with scratch_database(like, self.server, self.mark) as scratch:
                    stored, contents = await self._dump(source, programs, scratch)
                    await self._compare(contents, scratch)
                    await self.use(scratch)
        # From here on nothing holds the source back: a long transaction keeps it from cleaning up.
        if opens:
            async with scratch_database(like, self.server, self.mark) as scratch:
                await restore_file(self.folder, stored, self.seal, programs, scratch, own=False)
                await self._compare(contents, scratch)
                await self.use(scratch)
        else:
            await asyncio.to_thread(_see_again, self.folder, stored)
        archived, entries = await self._configuration()
        return BackupManifest(
            id=name,
            service=self.spec.service,
            target=self.spec.target,
            made=made,
            source=self.database.place,
            server_version=major,
            dump=stored,
            encrypted=self.seal.kind if self.seal else "",
            configuration=archived,
            configuration_entries=entries,
            counts=contents.counts,
            shape=contents.shape,
            proof=f"a scratch database beside {self.server.place}",
        )

    async def _dump(
        self, source: Connection, programs: BackupPrograms, tee: Database | None
    ) -> tuple[StoredFile, Contents]:
        """Dumps what a snapshot shows and counts what it shows, both at once; with `tee`, restores it as it comes."""
        await source.rollback()
        await source.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await source.set_read_only(True)
        snapshot = str(await fetch_one(source, "SELECT pg_export_snapshot()"))
        encoding = str(await fetch_one(source, "SELECT current_setting('server_encoding')"))
        suffix = "dump" if self.seal is None else f"dump.{self.seal.kind}"
        with writing(self.folder / f"database.{suffix}", self.spec.preflight.disk_free_bytes) as writer:
            dumping = asyncio.ensure_future(self._stream(programs, snapshot, encoding, writer, tee))
            try:
                contents = await read_contents(source, locked=True)
                await dumping
            finally:
                dumping.cancel()
                await asyncio.wait([dumping])
            stored = await asyncio.to_thread(writer.finish)
        await source.rollback()
        if stored.bytes == 0:
            raise DatabaseRefusedError("the backup is empty")
        return stored, contents

    async def _stream(
        self, programs: BackupPrograms, snapshot: str, encoding: str, writer: Writer, tee: Database | None
    ) -> None:
        command = [programs.dump, "--format=custom", "--no-password", f"--snapshot={snapshot}"]
        # Bytes as they lie there: what a role's or a client's own encoding would make of them may not be possible.
        command += [f"--encoding={encoding}"]
        command += [f"--lock-wait-timeout={LOCK_WAIT_MS}", f"--dbname={self.database.argument}"]
        with self.database.environment() as environment:
            async with plumbing() as pipes:
                plain, dumped = pipes.pipe()
                running = [await pipes.run(command, environment, stdout=dumped)]
                if self.seal is None:
                    poured = [pipes.pour(plain, [writer])]
                else:
                    sealed, sealing = pipes.pipe()
                    if tee is None:
                        running.append(await self.seal.start_sealing(pipes, plain, sealing))
                        poured = []
                    else:
                        inner, outer = pipes.pipe()
                        running.append(await self.seal.start_sealing(pipes, inner, sealing))
                        reading, feeding = pipes.pipe()
                        with tee.environment() as theirs:
                            running.append(await _start_restore(pipes, programs, tee, theirs, reading, own=False))
                            poured = [pipes.pour(plain, [into(outer), into(feeding)], [outer, feeding])]
                            poured.append(pipes.pour(sealed, [writer]))
                            await _all(running, poured)
                        return
                    poured.append(pipes.pour(sealed, [writer]))
                await _all(running, poured)

    async def _compare(self, contents: Contents, scratch: Database) -> None:
        async with scratch.connected() as connection:
            restored = await read_contents(connection, locked=False)
        differences = contents.differences(restored)
        if differences:
            shown = "; ".join(differences[:MOST_DIFFERENCES])
            raise NotProvenError(f"what was restored is not what was dumped, {len(differences)} differences: {shown}")

    async def _configuration(self) -> tuple[StoredFile | None, int]:
        if not self.backup.configuration:
            return None, 0
        roots = self.backup.roots or (self.spec.platform.directory,)
        suffix = "tar" if self.seal is None else f"tar.{self.seal.kind}"
        with writing(self.folder / f"configuration.{suffix}", self.spec.preflight.disk_free_bytes) as writer:
            async with plumbing() as pipes:
                plain, filling = pipes.pipe()
                running: list[Running] = []
                if self.seal is None:
                    poured = pipes.pour(plain, [writer])
                else:
                    sealed, sealing = pipes.pipe()
                    running.append(await self.seal.start_sealing(pipes, plain, sealing))
                    poured = pipes.pour(sealed, [writer])
                entries = await asyncio.to_thread(_archive, self.backup.configuration, roots, os.dup(filling))
                pipes.close(filling)
                await _all(running, [poured])
            return await asyncio.to_thread(writer.finish), entries


def _archive(paths: tuple[str, ...], roots: tuple[str, ...], descriptor: int) -> int:
    with open(descriptor, "wb") as pipe:
        return configuration.archive(paths, roots, pipe)


async def _all(running: list[Running], poured: "list[asyncio.Future[int]]") -> None:
    """Waits until all have ended; the first failure is told, and what a broken pipe hides is told by its program."""
    work = [asyncio.ensure_future(program.ended()) for program in running]
    both: list[asyncio.Future[Any]] = [*work, *poured]
    try:
        done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
        broken = [error for each in done if (error := each.exception()) is not None]
        if broken and all(isinstance(error, BrokenPipeError) for error in broken):
            # Whoever does not read any more has ended, or is about to say why.
            await asyncio.wait(work, return_when=asyncio.FIRST_EXCEPTION, timeout=10)
            broken += [error for each in work if each.done() and (error := each.exception()) is not None]
        first = next((error for error in broken if not isinstance(error, BrokenPipeError)), next(iter(broken), None))
        if isinstance(first, OSError):
            raise DatabaseRefusedError(f"the stream of the backup broke: {first.strerror}")
        if first is not None:
            raise first
    finally:
        for each in work:
            each.cancel()
        if work:
            await asyncio.wait(work)


@contextmanager
def writing(path: Path, reserve: int) -> Iterator[Writer]:
    """A measured file, closed at the end of the block."""
    writer = Writer(path, reserve)
    try:
        yield writer
    finally:
        writer.close()


async def find_programs(backup: BackupSpec, major: int) -> BackupPrograms:
    """pg_dump and pg_restore that may be used with a server of this major version."""
    return BackupPrograms(
        await find("pg_dump", backup.programs, major), await find("pg_restore", backup.programs, major)
    )


def _see_again(folder: Path, stored: StoredFile) -> None:
    with open(folder / stored.name, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != stored.sha256:
            raise NotProvenError(f"{stored.name} reads differently than it was written: the disk is damaged")


async def _start_restore(
    pipes: Pipeline, programs: BackupPrograms, database: Database, environment: dict[str, str], stdin: int, *, own: bool
) -> Running:
    command = [programs.restore, "--exit-on-error", "--no-password", "--no-subscriptions"]
    if not own:
        command += ["--no-owner", "--no-privileges"]
    return await pipes.run([*command, f"--dbname={database.argument}"], environment, stdin=stdin)


async def restore_file(
    folder: Path, stored: StoredFile, seal: Seal | None, programs: BackupPrograms, database: Database, *, own: bool
) -> None:
    """Restores a kept file into an empty database, reading every byte of it once.

    Raises:
        DatabaseRefusedError: the file is not the one that was written, or cannot be restored.
    """
    measured = hashlib.sha256()
    with database.environment() as environment:
        async with plumbing() as pipes:
            source = pipes.own(os.open(folder / stored.name, os.O_RDONLY | os.O_CLOEXEC))
            reading, feeding = pipes.pipe()
            running: list[Running] = []
            if seal is not None:
                plain, opened = pipes.pipe()
                running.append(await seal.start_opening(pipes, reading, opened))
                reading = plain
            running.append(await _start_restore(pipes, programs, database, environment, reading, own=own))
            poured = pipes.pour(source, [measured.update, into(feeding)], [feeding])
            await _all(running, [poured])
    if measured.hexdigest() != stored.sha256:
        raise NotProvenError(f"{stored.name} reads differently than it was written: it is damaged")

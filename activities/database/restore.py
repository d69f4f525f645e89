"""Brings a backup back, next to what is there: nothing that holds data is written over or dropped.

The backup goes into a new database and is compared with what was counted when it was made. Only then, and only when a
person asked for it, the two databases change names: whoever replaced the wrong one changes them back.

Every step may run again after a worker died: the new database's name belongs to the restore, and a comment on it says
that it is whole.
"""

import asyncio
import time

import psycopg
from psycopg import sql

from activities.database.backup import find_programs, restore_file
from activities.database.backup_store import BackupStore
from activities.database.connection import Connection, Database, fetch, named
from activities.database.encryption import Seal
from activities.database.pipeline import to_the_end
from activities.database.schema_diff import Contents, count_differences, read_contents, server_major
from activities.database.scratch import make_database, read_like
from home.paths import Home
from models.errors import DatabaseRefusedError, PreconditionError, UnavailableError
from models.preflight.backup import BackupList, BackupManifest, BackupOrder, BackupSpec, Restored

LONGEST_NAME = 63
SESSIONS_END_WITHIN = 15.0
MOST_DIFFERENCES = 5
_END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"


def list_backups(spec: BackupSpec, home: Home, service: str, target: str) -> BackupList:
    """What there is, the newest first; changes nothing."""
    backups = BackupStore.of(spec, home, service, target)
    return BackupList(directory=str(backups.path), backups=tuple(backups.line(name) for name in backups.ids()))


async def restore(order: BackupOrder, home: Home) -> Restored:
    """Restores one backup, and compares it.

    Raises:
        PreconditionError: there is no such backup, or a program or an identity is missing.
        DatabaseRefusedError: the backup is damaged, the server refused, or what came back is different.
        UnavailableError: the server does not answer; worth another try.
    """
    began = time.monotonic()
    backups = BackupStore.of(order.spec, home, order.service, order.target)
    manifest = backups.manifest(order.backup)
    await asyncio.to_thread(backups.verify, manifest)
    source = Database.of(order.spec.database.secret)
    aim = source.called(_new_name(source.name, order)) if order.into is None else Database.of(order.into)
    await _fill(order, manifest, backups, aim)
    kept, place = "", aim.place
    if order.replace:
        kept = await swap(source, fresh=aim.name, kept=_fitting(source.name, f"_before_{order.key}"))
        place = source.place
    return Restored(
        backup=manifest.id,
        database=place,
        kept=kept,
        tables=len(manifest.counts),
        rows=manifest.rows,
        seconds=round(time.monotonic() - began, 3),
        switch=tuple(_switch(order, manifest, backups, source, aim, kept)),
    )


async def _fill(order: BackupOrder, manifest: BackupManifest, backups: BackupStore, aim: Database) -> None:
    """The database is there, holds the backup and nothing else, and says so in its comment."""
    done, begun = (f"deployment-specialist: {word} {manifest.id}, {order.key}" for word in ("restored", "restoring"))
    admin = await _maintenance(aim)
    state = await _state_of(admin, aim.name)
    if state == done:
        return
    if state is not None and (order.into is None or state == begun):
        # An earlier attempt of this restore made it, and was interrupted.
        await _drop(admin, aim.name)
        state = None
    ours = state is None
    if ours:
        like = await _like(admin, None if order.into else Database.of(order.spec.database.secret))
        await make_database(like, admin, aim.name)
    try:
        if ours:
            await _note(aim, begun)
        await _restore_into(order, manifest, backups, aim)
        await _note(aim, done)
    except (DatabaseRefusedError, PreconditionError, asyncio.CancelledError):
        if ours:
            await to_the_end(_drop(admin, aim.name))
        raise


async def _restore_into(order: BackupOrder, manifest: BackupManifest, backups: BackupStore, aim: Database) -> None:
    async with aim.connected() as connection:
        major = await server_major(connection)
        lasting = await aim.lasting(connection)
        there = await read_contents(connection, locked=False)
        if there.counts:
            raise DatabaseRefusedError(
                f"{aim.place} is not empty: it has {len(there.counts)} tables; nothing was restored into it"
            )
    programs = await find_programs(order.spec, manifest.server_version)
    seal = None if order.spec.encrypt is None or not manifest.encrypted else Seal(order.spec.encrypt)
    await restore_file(backups.path / manifest.id, manifest.dump, seal, programs, lasting, own=order.own)
    await _compare(manifest, aim, same_server=major == manifest.server_version)
    async with aim.connected(autocommit=True) as connection:
        await connection.execute("ANALYZE")


async def _note(database: Database, text: str) -> None:
    async with database.connected(autocommit=True) as connection:
        await connection.execute(named("COMMENT ON DATABASE {} IS ", database.name) + sql.Literal(text))


async def _like(admin: Database, source: Database | None) -> sql.Composed:
    """Like the one that was backed up, where that is still there; else like the server's own."""
    for model in filter(None, (source, admin)):
        try:
            async with model.connected() as connection:
                return await read_like(connection)
        except (UnavailableError, DatabaseRefusedError):
            if model is admin:
                raise
    raise UnavailableError(f"no database of {admin.place} answers")


async def _compare(manifest: BackupManifest, aim: Database, *, same_server: bool) -> None:
    async with aim.connected() as connection:
        restored: Contents = await read_contents(connection, locked=False)
    differences = count_differences(manifest.counts, restored.counts)
    if same_server and not restored.has_shape(manifest.shape):
        differences.append("the schema is not the one that was backed up")
    if differences:
        shown = "; ".join(differences[:MOST_DIFFERENCES])
        raise DatabaseRefusedError(f"what came back into {aim.place} is not what was backed up: {shown}")


async def swap(source: Database, *, fresh: str, kept: str) -> str:
    """The fresh database takes the name of the source, which goes on under another name. Sessions of both are ended.
    Returns that other name; nothing where there was no source any more.

    Raises:
        UnavailableError: somebody keeps coming back; the names are as they were.
        DatabaseRefusedError: this role may not do that; the names are as they were.
    """
    name, admin = source.name, await _maintenance(source)
    async with admin.connected(autocommit=True) as connection:
        names = await _names(connection, fresh, name, kept)
        if fresh not in names:
            if name in names:
                return kept if kept in names else ""  # done by an earlier attempt
            raise PreconditionError(f"the database {fresh} is gone; nothing was replaced")
        if name in names:
            await _rename(connection, name, kept)
        try:
            await _rename(connection, fresh, name)
        except (psycopg.Error, UnavailableError):
            if kept in await _names(connection, kept):
                await _rename(connection, kept, name)
            raise
        return kept if kept in await _names(connection, kept) else ""


async def _rename(connection: Connection, old: str, new: str) -> None:
    """Renames a database that nobody gets into meanwhile."""
    deadline = time.monotonic() + SESSIONS_END_WITHIN
    await connection.execute(named("ALTER DATABASE {} ALLOW_CONNECTIONS false", old))
    now = old
    try:
        while True:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (old,)
            )
            try:
                await connection.execute(named("ALTER DATABASE {} RENAME TO {}", old, new))
            except psycopg.errors.ObjectInUse:
                if time.monotonic() > deadline:
                    raise UnavailableError(f"sessions of the database {old} do not end") from None
                await asyncio.sleep(0.1)
            else:
                now = new
                return
    finally:
        await connection.execute(named("ALTER DATABASE {} ALLOW_CONNECTIONS true", now))


async def _maintenance(database: Database) -> Database:
    """A database of the same server from which others are made and renamed."""
    problem: UnavailableError | DatabaseRefusedError | None = None
    for name in ("postgres", "template1"):
        candidate = database.called(name)
        try:
            async with candidate.connected():
                return candidate
        except (UnavailableError, DatabaseRefusedError) as error:
            problem = problem or error
    assert problem is not None  # noqa: S101  the loop ran
    raise problem


async def _names(connection: Connection, *wanted: str) -> set[str]:
    """Which of these databases are there."""
    query = "SELECT datname FROM pg_database WHERE datname = ANY(%s)"
    return {str(row[0]) for row in await fetch(connection, query, list(wanted))}


async def _state_of(admin: Database, name: str) -> str | None:
    """The comment of a database, which may be empty; None when it is not there."""
    async with admin.connected() as connection:
        query = "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = %s"
        rows = await fetch(connection, query, name)
        return str(rows[0][0]) if rows else None


async def _drop(admin: Database, name: str) -> None:
    async with admin.connected(autocommit=True) as connection:
        await connection.execute(named("DROP DATABASE IF EXISTS {} WITH (FORCE)", name))


def _new_name(name: str, order: BackupOrder) -> str:
    return _fitting(name, f"_restored_{order.key}")


def _fitting(name: str, suffix: str) -> str:
    kept = name.encode()[: LONGEST_NAME - len(suffix)].decode("utf-8", "ignore")
    return f"{kept}{suffix}"


def _switch(
    order: BackupOrder, manifest: BackupManifest, backups: BackupStore, source: Database, aim: Database, kept: str
) -> list[str]:
    """What is left for a person, in sentences and statements."""
    said = []
    if order.replace:
        back = (
            f"what it held before is in {kept}. To change back, with nobody "
            f'connected: ALTER DATABASE "{source.name}" RENAME TO "{aim.name}"; ALTER DATABASE "{kept}" RENAME TO '
            f'"{source.name}"; when it is not needed any more: DROP DATABASE "{kept}"'
        )
        said.append(f"{source.name} holds the backup now; {back if kept else 'there was none of that name before'}")
    elif order.into is None:
        said.append(
            f"nothing that serves has changed. To use it: point the service to {aim.name}; or run the same command "
            "with --replace, which restores once more and changes the names"
        )
    said.append("owner, rights and settings of the database itself (ALTER DATABASE … SET) are no part of a backup")
    if manifest.configuration is not None:
        where = backups.path / manifest.id / manifest.configuration.name
        said.append(f"the configuration was not touched; it is in {where}")
    return said

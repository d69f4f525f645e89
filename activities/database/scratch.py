"""A proof needs a database that nobody else sees and that never stays: also not when the worker is killed.

Its name says whose it is and when it was made, and who uses it keeps a connection to it. The server does not drop a
database that somebody is connected to, so the next run drops what nobody holds, and nothing else.
"""

import hashlib
import re
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import psycopg
from psycopg import sql

from activities.database.connection import Connection, Database, fetch, fetch_one, named
from activities.database.pipeline import to_the_end
from models.errors import DatabaseRefusedError

# Between its making and its maker's connection a database is nobody's.
YOUNG = 60.0
# Since this version a session that has ended has been counted.
COUNTS_SESSIONS = 150000
_NAME = re.compile(r"ds_scratch_([0-9a-f]{10})_(\d{10})_[0-9a-f]{8}", re.ASCII)


def owner_mark(service: str, target: str) -> str:
    """What the names of this target's scratch databases have in common."""
    return hashlib.sha256(f"{service}/{target}".encode()).hexdigest()[:10]


@asynccontextmanager
async def scratch_database(like: sql.Composed, server: Database, mark: str) -> AsyncIterator[Database]:
    """Makes an empty database like the source's, and drops it in every ending that leaves this process alive.

    Raises:
        DatabaseRefusedError: this role may make no databases there.
    """
    name = f"ds_scratch_{mark}_{int(time.time()):010d}_{secrets.token_hex(4)}"
    await make_database(like, server, name)
    try:
        async with server.called(name).connected(autocommit=True) as holder:
            await holder.execute("SET tcp_keepalives_idle = 30")
            await flush_statistics(holder)
            yield await server.called(name).lasting(holder)
    finally:
        await to_the_end(drop(server, name))


async def flush_statistics(connection: Connection) -> None:
    """What this session did is counted from now on: whoever counts the sessions of a database counts this one."""
    if connection.info.server_version >= COUNTS_SESSIONS:
        await connection.execute("SELECT pg_stat_force_next_flush()")


async def make_database(like: sql.Composed, server: Database, name: str) -> None:
    """An empty database with the encoding and the locale of the source's, on a server.

    Raises:
        DatabaseRefusedError: this role may make no databases there.
    """
    try:
        async with server.connected(autocommit=True) as admin:
            await admin.execute(named("CREATE DATABASE {} TEMPLATE template0 ", name) + like)
    except DatabaseRefusedError as error:
        raise DatabaseRefusedError(
            f"{error}: the role needs CREATEDB; preflight.backup.scratch can name another"
        ) from None


async def read_like(source: Connection) -> sql.Composed:
    """How a database is to be made so that it is like this one."""
    row = (
        await fetch(
            source,
            "SELECT pg_encoding_to_char(encoding), datcollate, datctype, to_jsonb(d) ->> 'datlocprovider', "
            "coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') "
            "FROM pg_database d WHERE datname = current_database()",
        )
    )[0]
    encoding, collate, ctype, provider, locale = cast("tuple[str, str, str, str | None, str | None]", row)
    literal, text = sql.Literal, sql.SQL
    parts = text("ENCODING {} LC_COLLATE {} LC_CTYPE {}").format(literal(encoding), literal(collate), literal(ctype))
    if provider == "i" and locale:
        return parts + text(" LOCALE_PROVIDER icu ICU_LOCALE {}").format(literal(locale))
    if provider == "b" and locale:
        return parts + text(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}").format(literal(locale))
    return parts


async def drop(server: Database, name: str) -> None:
    """Drops a scratch database, whoever is connected to it."""
    async with server.connected(autocommit=True) as admin:
        await admin.execute(named("DROP DATABASE IF EXISTS {} WITH (FORCE)", name))


async def sweep(server: Database, mark: str, *, younger: float = YOUNG) -> list[str]:
    """Drops this target's scratch databases that nobody is connected to; returns their names."""
    dropped = []
    async with server.connected(autocommit=True) as admin:
        now = int(str(await fetch_one(admin, "SELECT extract(epoch FROM now())::bigint")))
        # Only ours are read: a name of another database may be in another encoding than this one's.
        query = "SELECT datname FROM pg_database WHERE starts_with(datname::text, 'ds_scratch_') ORDER BY 1"
        names = [str(row[0]) for row in await fetch(admin, query)]
        for name in names:
            match = _NAME.fullmatch(name)
            if match is None or match[1] != mark or now - int(match[2]) < younger:
                continue
            try:
                await admin.execute(named("DROP DATABASE IF EXISTS {}", name))
            except (psycopg.errors.ObjectInUse, psycopg.errors.InsufficientPrivilege):
                continue
            dropped.append(name)
    return dropped

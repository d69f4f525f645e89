"""Runs what is pending on a copy of the database, and sees what it does: the strongest proof that there is.

The copy is the backup that was just restored. The tool is given nothing but the copy's connection string; before it may
run anything, it must be seen to use that one: a tool whose configuration names the real database would migrate that.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, LiteralString, cast

from psycopg import sql

from activities.check_result import quote
from activities.database.connection import Connection, Database, fetch, fetch_one, named
from activities.database.scratch import COUNTS_SESSIONS, flush_statistics
from activities.migrations.classify import Known, classify
from activities.migrations.facts import read_facts
from activities.migrations.runner import MigrationRunner
from activities.migrations.schema import SchemaState, compare, read_state, rewritten
from activities.migrations.tools import MOST, Adapter, Script, adapter_of
from models.errors import DatabaseRefusedError, PreconditionError, SecretUnresolvedError, UnavailableError
from models.preflight.migrations import Difference, Effect, MigrationsSpec, Tried
from models.spec import DeploymentSpec
from models.units import format_duration

# Beyond the run itself: the questions, and the reading of every row before and after.
BESIDE = timedelta(minutes=10)
SAMPLE_EVERY = 0.01
SESSIONS_SEEN_WITHIN = 10.0
MOST_DIFFERENCES = 50
LONGEST = 200
_STRONG = {
    "AccessExclusiveLock": "ACCESS EXCLUSIVE",
    "ExclusiveLock": "EXCLUSIVE",
    "ShareRowExclusiveLock": "SHARE ROW EXCLUSIVE",
    "ShareLock": "SHARE",
}


class _UndecidedError(Exception):
    """It cannot be tried; the reason is a sentence."""


async def try_on(scratch: Database, deployment: DeploymentSpec, spec: MigrationsSpec) -> Tried:
    """Tries what is pending. Whatever goes wrong is an answer: the backup that lent its copy stays good."""
    began = time.monotonic()
    limit = spec.timeout + BESIDE
    try:
        async with asyncio.timeout(limit.total_seconds()):
            tried = await _try(scratch, deployment, spec)
    except TimeoutError:
        tried = Tried(undecided=f"it took longer than {format_duration(limit)}")
    except (_UndecidedError, SecretUnresolvedError, PreconditionError, DatabaseRefusedError, UnavailableError) as error:
        tried = Tried(undecided=quote(str(error), 500))
    return tried.model_copy(update={"seconds": round(time.monotonic() - began, 3)})


async def _try(scratch: Database, deployment: DeploymentSpec, spec: MigrationsSpec) -> Tried:
    real = Database.of(spec.database.secret)
    # The scratch server's connection string says nothing of where this database's tables are.
    scratch = replace(scratch, schemas=real.schemas)
    await _take_settings(real, scratch)
    bench = MigrationRunner(deployment, spec, scratch)
    adapter = adapter_of(bench)
    scripts = await adapter.pending(bench)
    if not scripts:
        return Tried()
    if len(scripts) > MOST:
        raise _UndecidedError(f"more than {MOST} migrations are pending")
    await _stays_inside(scratch, bench, scripts)
    digests = {quote(each.id): each.digest for each in scripts}
    async with scratch.connected(autocommit=True) as connection:
        await _uses_the_copy(connection, bench, adapter)
        before = await read_state(connection)
        count = await _sessions(connection)
        async with _locks_watched(connection, before) as locks:
            failed = await _run(bench, adapter)
        if not await _more_sessions(connection, count):
            raise _UndecidedError("the tool ran, and not on the copy")
        failed = failed or await _left(bench, adapter)
        if failed:
            return Tried(digests=digests, failed=failed, locks=tuple(locks))
        after = await read_state(connection, before)
    own = {(spec.table or adapter.bookkeeping).rpartition(".")[2], *adapter.own_tables} - {""}
    differences = compare(before, after, frozenset(own), frozenset(adapter.appended))
    return Tried(
        digests=digests,
        differences=_shortened(differences),
        locks=(*locks, *rewritten(before, after)),
    )


def _shortened(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    """The worst first; the rest is counted."""
    order = (Effect.DESTRUCTIVE, Effect.UNKNOWN, Effect.ADDITIVE)
    found = sorted(differences, key=lambda each: (order.index(each.effect), each.rights, each.text))
    shown = [each.model_copy(update={"text": quote(each.text, LONGEST)}) for each in found[:MOST_DIFFERENCES]]
    if rest := found[MOST_DIFFERENCES:]:
        shown.append(rest[0].model_copy(update={"text": f"{len(rest)} more differences"}))
    return tuple(shown)


async def _take_settings(real: Database, scratch: Database) -> None:
    """The copy has the settings of the database: a search path that leads elsewhere would be another database."""
    query: LiteralString = (
        "SELECT unnest(setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase "
        "WHERE d.datname = current_database() AND s.setrole = 0"
    )
    async with real.connected() as connection:
        settings = [str(row[0]).partition("=") for row in await fetch(connection, query)]
    async with scratch.connected(autocommit=True) as connection:
        for name, _, value in settings:
            await connection.execute("SELECT set_config(%s, %s, false)", (name, value))
            change = named("ALTER DATABASE {} SET ", scratch.name) + sql.SQL("{} FROM CURRENT").format(
                sql.SQL(".").join(sql.Identifier(part) for part in name.split("."))
            )
            await connection.execute(change)


async def _stays_inside(scratch: Database, bench: MigrationRunner, scripts: Sequence[Script]) -> None:
    """What can be seen to reach beyond the copy is not run on it: the server is the real one."""
    known = Known(bench.spec.table or adapter_of(bench).bookkeeping, await read_facts(scratch))
    for script in scripts:
        if script.sql is not None and classify(script.sql, known).outside:
            raise _UndecidedError(f"{script.id} changes what belongs to the whole server, or calls another one")
    async with scratch.connected() as connection:
        if await fetch_one(connection, "SELECT count(*) FROM pg_foreign_server"):
            raise _UndecidedError("the database has foreign servers, which a copy of it would write to")


async def _uses_the_copy(connection: Connection, bench: MigrationRunner, adapter: Adapter) -> None:
    """The tool is asked something that changes nothing, and must have connected to the copy.

    Raises:
        _UndecidedError: it did not, or that cannot be seen.
    """
    if connection.info.server_version < COUNTS_SESSIONS:
        raise _UndecidedError("a server older than PostgreSQL 15 does not say whether the tool uses the copy")
    count = await _sessions(connection)
    await bench.ask(adapter.question(bench))
    if not await _more_sessions(connection, count):
        raise _UndecidedError(
            f"{bench.spec.tool} did not connect to the copy: does it take its database from {bench.spec.variable}?"
        )


async def _sessions(connection: Connection) -> int:
    """How many sessions the copy has had: exactly, as nobody but us and its holder is connected any more."""
    await flush_statistics(connection)
    others: LiteralString = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND backend_type = 'client backend'"
    )
    deadline = time.monotonic() + SESSIONS_SEEN_WITHIN
    while cast("int", await fetch_one(connection, others)) > 1:
        if time.monotonic() > deadline:
            raise _UndecidedError("somebody else is connected to the copy")
        await asyncio.sleep(0.02)
    return cast("int", await fetch_one(connection, _COUNT))


_COUNT: LiteralString = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"


async def _more_sessions(connection: Connection, than: int) -> bool:
    deadline = time.monotonic() + SESSIONS_SEEN_WITHIN
    while cast("int", await fetch_one(connection, _COUNT)) <= than:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


async def _run(bench: MigrationRunner, adapter: Adapter) -> str:
    """Runs it; why it failed, empty when it ended well."""
    try:
        answer = await bench.change(adapter.run(bench))
    except DatabaseRefusedError as error:
        return str(error)
    return f"{bench.spec.tool} ended with exit code {answer.code}{answer.last}" if answer.code else ""


async def _left(bench: MigrationRunner, adapter: Adapter) -> str:
    left = await adapter.pending(bench)
    names = ", ".join(quote(each.id) for each in left[:5])
    return f"{bench.spec.tool} ended well, and {names} is still pending" if left else ""


@asynccontextmanager
async def _locks_watched(connection: Connection, before: SchemaState) -> AsyncIterator[list[str]]:
    """Sees meanwhile who holds which lock on a table that was there, a hundred times a second."""
    seen: dict[tuple[int, str], list[float]] = {}
    found: list[str] = []
    ended = asyncio.Event()
    # On the connection that is there: another one would be counted as the tool's.
    watching = asyncio.ensure_future(_watch(connection, list(before.relations), seen, ended))
    try:
        yield found
    finally:
        ended.set()
        await asyncio.wait([watching])
    watching.result()
    for (oid, mode), times in sorted(seen.items(), key=lambda each: (before.name(each[0][0]), each[0][1])):
        long = max(times[1] - times[0], SAMPLE_EVERY)
        found.append(f"held {_STRONG[mode]} on {before.name(oid)} for about {long:.2f} s")


async def _watch(
    connection: Connection, tables: list[Any], seen: dict[tuple[int, str], list[float]], ended: asyncio.Event
) -> None:
    query: LiteralString = (
        "SELECT relation::bigint, mode FROM pg_locks WHERE locktype = 'relation' AND granted "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
        "AND pid <> pg_backend_pid() AND mode = ANY(%s) AND relation = ANY(%s::oid[])"
    )
    while not ended.is_set():
        for oid, mode in await fetch(connection, query, list(_STRONG), tables):
            now = time.monotonic()
            seen.setdefault((cast("int", oid), str(mode)), [now, now])[1] = now
        await asyncio.sleep(SAMPLE_EVERY)

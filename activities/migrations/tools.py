"""Each migration tool says in its own way what is pending, in which order, and as which SQL.

What was applied is read from the tool's own table, and what there is from its files or from its own program; a text
that a tool prints for people is never looked into. Where a tool cannot print its SQL, what it would do is unknown.
"""

import asyncio
import hashlib
import json
import re
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError

from activities.migrations.alembic_sources import Sources
from activities.migrations.classify import split
from activities.migrations.runner import MigrationRunner, ToolOutput
from activities.system.safe_open import open_regular
from models.errors import DatabaseRefusedError, PreconditionError
from models.preflight.migrations import Tool

LARGEST_FILE = 2 << 20
MOST = 1000
ALEMBIC_TABLE, DBMATE_TABLE = "alembic_version", "schema_migrations"
PRISMA_TABLE, KNEX_TABLE, DJANGO_TABLE = "_prisma_migrations", "knex_migrations", "django_migrations"


@dataclass(frozen=True)
class Script:
    """A pending migration.

    Attributes:
        sql: what it would run; None where the tool cannot print it.
        digest: sha256 over everything that is known of what it does.
        opaque: why its SQL is not, or not all of, what it does.
    """

    id: str
    sql: str | None
    digest: str
    opaque: str = ""


@dataclass(frozen=True)
class Adapter:
    """How one tool is asked and run.

    Attributes:
        run: the command that applies what is pending.
        question: a command that connects to the database and changes nothing.
        bookkeeping: the tool's own table.
        own_tables: others that are the tool's own.
        appended: tables that the service uses, too, to which the tool adds rows of its own.
    """

    pending: Callable[[MigrationRunner], Awaitable[list[Script]]]
    run: Callable[[MigrationRunner], list[str]]
    question: Callable[[MigrationRunner], list[str]]
    bookkeeping: str = ""
    own_tables: tuple[str, ...] = ()
    appended: tuple[str, ...] = ()


def adapter_of(bench: MigrationRunner) -> Adapter:
    """The tool's adapter."""
    return _ADAPTERS[bench.spec.tool]


def _command(bench: MigrationRunner, *default: str) -> list[str]:
    return list(bench.spec.command or default)


def _digest(*parts: str | bytes) -> str:
    found = hashlib.sha256()
    for part in parts:
        content = part if isinstance(part, bytes) else part.encode()
        found.update(len(content).to_bytes(8, "big") + content)
    return found.hexdigest()


def _read(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise PreconditionError(f"the migration {path.name} cannot be read: {error.strerror or error}") from None
    if len(content) > LARGEST_FILE:
        raise PreconditionError(f"the migration {path.name} is larger than {LARGEST_FILE >> 20} MiB")
    return content


def _well(said: ToolOutput, what: str) -> ToolOutput:
    if said.code != 0:
        raise DatabaseRefusedError(f"{what} ended with exit code {said.code}{said.last}")
    return said


# Alembic prints the SQL between the revision that the database is at and the newest one. Between two revisions it
# writes the new one into its table: that statement is where one migration ends.


async def _alembic(bench: MigrationRunner) -> list[Script]:
    table = bench.spec.table or ALEMBIC_TABLE
    current = sorted(await bench.column(table, "version_num"))
    command = _command(bench, "alembic")
    # Its files alone: several heads, a revision that is not there, a file that cannot be loaded.
    begin = current[0] if len(current) == 1 else "base"
    _well(await bench.ask([*command, "history", "-r", f"{begin}:head"]), "alembic history")
    if len(current) > 1:
        return await _alembic_opaque(bench, command, f"the database is at {len(current)} revisions at once")
    said = await bench.ask([*command, "upgrade", "--sql", f"{begin}:head"])
    if said.code != 0:
        why = f"it needs the database to say what it does: alembic upgrade --sql ended with exit code {said.code}"
        return await _alembic_opaque(bench, command, f"{why}{said.last}")
    scripts = _by_revision(said.out, table)
    return await asyncio.to_thread(_with_sources, bench, scripts) if scripts else scripts


def _with_sources(bench: MigrationRunner, scripts: list[Script]) -> list[Script]:
    sources = Sources(bench.files("."))
    found = []
    for script in scripts:
        source = sources.of(script.id)
        digest = _digest(script.digest, source.digest or sources.all())
        found.append(replace(script, digest=digest, opaque=script.opaque or source.opaque))
    return found


async def _alembic_opaque(bench: MigrationRunner, command: list[str], why: str) -> list[Script]:
    """Its exit code says at least whether anything is pending, and whether it can be asked at all."""
    _well(await bench.ask([*command, "current"]), "alembic current")
    said = await bench.ask([*command, "current", "--check-heads"])
    if said.code == 0:
        return []
    sources = await asyncio.to_thread(Sources, bench.files("."))
    return [Script("everything up to head", None, _digest(sources.all()), why)]


def _by_revision(text: str, table: str) -> list[Script]:
    found: list[Script] = []
    gathered: list[str] = []
    try:
        statements = split(text)
    except SqlglotError:
        return [Script("everything up to head", text, _digest(text))]
    for statement in statements:
        gathered.append(statement)
        revision = _noted_revision(statement, table)
        if revision is not None:
            # Where a transaction begins depends on what else is pending, and is no part of what it does.
            digest = _digest(*(each for each in gathered if not _ends_transaction(each)))
            found.append(Script(revision, ";\n".join(gathered), digest))
            gathered = []
    if any(not _ends_transaction(statement) for statement in gathered):
        # Its table has another name than we were told, or something follows that belongs to no revision.
        return [Script("everything up to head", text, _digest(text))]
    return found


def _ends_transaction(statement: str) -> bool:
    try:
        return isinstance(parse_one(statement, dialect="postgres"), exp.Transaction | exp.Commit)
    except (SqlglotError, RecursionError):
        return False


def _noted_revision(statement: str, table: str) -> str | None:
    """The revision that this statement writes into Alembic's own table, if that is what it does."""
    try:
        parsed = parse_one(statement, dialect="postgres")
    except (SqlglotError, RecursionError):
        return None
    about = parsed.find(exp.Table)
    if about is None or ".".join(part for part in (about.db, about.name) if part) != table:
        return None
    if isinstance(parsed, exp.Insert) and isinstance(parsed.expression, exp.Values):
        written = parsed.expression.find(exp.Literal)
    elif isinstance(parsed, exp.Update) and parsed.expressions:
        written = parsed.expressions[0].expression
    else:
        return None
    return written.name if isinstance(written, exp.Literal) else None


# Django's own executor is asked inside Django: the plan, the SQL of each part, and what cannot be written as SQL.

_DJANGO = r"""
import hashlib, inspect, json, os, sys
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.executor import MigrationExecutor
def opaque(operations):
    found = []
    for each in operations:
        # An operation of somebody's own may ask whether its SQL is only collected.
        own = type(each).__module__.startswith(("django.db.migrations.", "django.contrib.postgres."))
        inner = getattr(each, "database_operations", None)
        if inner is not None:
            found += opaque(inner)
        elif not each.reduces_to_sql or not own:
            found.append(type(each).__name__)
    return found
executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
pending = []
for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes()):
    code = opaque(migration.operations)
    # SQL is not collected where collecting it could run code.
    sql = None if code else "\n".join(executor.loader.collect_sql([(migration, False)]))
    with open(inspect.getsourcefile(sys.modules[type(migration).__module__]), "rb") as file:
        source = hashlib.sha256(file.read()).hexdigest()
    pending.append({"id": f"{migration.app_label}.{migration.name}", "sql": sql, "code": code, "source": source})
with open(os.environ["DS_MIGRATIONS_ANSWER"], "w") as file:
    json.dump(pending, file)
"""


def _django_question(bench: MigrationRunner) -> list[str]:
    return [*_command(bench, "python3", "manage.py"), "migrate", "--plan", "--noinput"]


async def _django(bench: MigrationRunner) -> list[Script]:
    with tempfile.TemporaryDirectory(prefix="ds-django-") as folder:
        answer = Path(folder) / "answer.json"
        # Its own check of what it would run: conflicts, an inconsistent history, a project that cannot be loaded.
        _well(await bench.ask(_django_question(bench)), "manage.py migrate --plan")
        command = [*_command(bench, "python3", "manage.py"), "shell", "-v", "0", "-c", _DJANGO]
        _well(await bench.ask(command, DS_MIGRATIONS_ANSWER=str(answer)), "manage.py shell")
        try:
            found = json.loads(_read(answer))
        except ValueError:
            raise DatabaseRefusedError("manage.py shell gave no answer that can be read") from None
    return [
        Script(
            each["id"],
            each["sql"],
            _digest(each["id"], each["sql"] or "", each["source"]),
            f"runs code: {', '.join(each['code'])}" if each["code"] else "",
        )
        for each in found
    ]


# dbmate's migrations are SQL files, their two parts marked by comments of a form that it defines.

_DBMATE_NAME = re.compile(r"(\d+)[^/]*\.sql", re.ASCII)
_MARK = re.compile(r"^--[ \t]*migrate:(up|down)\b(.*)$", re.MULTILINE | re.ASCII)


async def _dbmate(bench: MigrationRunner) -> list[Script]:
    folder = bench.files("db/migrations")
    applied = set(await bench.column(bench.spec.table or DBMATE_TABLE, "version"))
    pending = []
    versions: set[str] = set()
    for path in sorted(folder.iterdir()):
        match = _DBMATE_NAME.fullmatch(path.name)
        if match is None or match[1] in applied:
            continue
        content = _read(path)
        text = content.decode("utf-8", "replace")
        if match[1] in versions:
            raise DatabaseRefusedError(f"two migrations have the version {match[1]}: dbmate can apply only one of them")
        versions.add(match[1])
        _sees_up(path.name, text)
        pending.append(Script(path.name.removesuffix(".sql"), _up(text), _digest(content)))
    status = await bench.ask([*_dbmate_command(bench), "status", "--exit-code"])
    if status.code != (1 if pending else 0):
        raise DatabaseRefusedError(
            f"dbmate status --exit-code ended with {status.code}, and {len(pending)} migrations are pending by its "
            f"files and its table{status.last}"
        )
    return pending


def _sees_up(name: str, text: str) -> None:
    """Dbmate refuses a file without an up part, or with statements before it, only when it runs it."""
    if not any(mark[1] == "up" for mark in _MARK.finditer(text)):
        raise DatabaseRefusedError(f"{name} has no line `-- migrate:up`: dbmate cannot run it")


def _up(text: str) -> str:
    marks = list(_MARK.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return "\n".join(text[mark.end() : end] for mark, end in zip(marks, ends, strict=True) if mark[1] == "up")


def _dbmate_command(bench: MigrationRunner) -> list[str]:
    own = ["--env", bench.spec.variable, "--migrations-dir", str(bench.files("db/migrations")), "--no-dump-schema"]
    table = ["--migrations-table", bench.spec.table] if bench.spec.table else []
    return [*_command(bench, "dbmate"), *own, *table]


# Prisma's migrations are folders with an SQL file each.


async def _prisma(bench: MigrationRunner) -> list[Script]:
    table = bench.spec.table or PRISMA_TABLE
    failed = await bench.column(table, "migration_name", "prisma-failed")
    if failed:
        raise DatabaseRefusedError(
            f"the migration {failed[0]} has failed half way; `prisma migrate resolve` says how that goes on"
        )
    applied = set(await bench.column(table, "migration_name", "prisma-applied"))
    pending = []
    for path in sorted(bench.files("prisma/migrations").iterdir()):
        if path.is_dir() and path.name not in applied:
            content = _read(path / "migration.sql")
            pending.append(Script(path.name, content.decode("utf-8", "replace"), _digest(content)))
    return pending


# Knex's migrations are programs: what they would do cannot be known before they run.


async def _knex(bench: MigrationRunner) -> list[Script]:
    applied = set(await bench.column(bench.spec.table or KNEX_TABLE, "name"))
    there = {path.name for path in bench.files("migrations").iterdir()}
    if gone := sorted(applied - there):
        raise DatabaseRefusedError(f"knex runs nothing while applied migrations are missing: {', '.join(gone[:5])}")
    return [
        Script(path.name, None, _digest(_read(path)), "a program: knex cannot print what it would run")
        for path in sorted(bench.files("migrations").iterdir())
        if path.suffix in (".js", ".cjs", ".mjs", ".ts") and path.name not in applied
    ]


async def _by_command(bench: MigrationRunner) -> list[Script]:
    spec = bench.spec
    status = await bench.ask(spec.status or ())
    if status.code == spec.exit_codes.none:
        return []
    if status.code != spec.exit_codes.pending:
        known = f"{spec.exit_codes.none} (none) and {spec.exit_codes.pending} (pending) are declared"
        raise DatabaseRefusedError(f"the status command ended with exit code {status.code}; {known}{status.last}")
    if spec.plan is None:
        return [Script("what is pending", None, _digest(*(spec.run or ())), "there is no plan command that prints SQL")]
    sql = _well(await bench.ask(spec.plan), "the plan command").out
    return [Script("what is pending", sql, _digest(sql))]


def _of_prisma(bench: MigrationRunner, *words: str) -> list[str]:
    return [*_command(bench, "npx", "--no-install", "prisma"), "migrate", *words]


def _of_knex(bench: MigrationRunner, word: str) -> list[str]:
    return [*_command(bench, "npx", "--no-install", "knex"), word]


_ADAPTERS = {
    Tool.ALEMBIC: Adapter(
        _alembic,
        run=lambda b: [*_command(b, "alembic"), "upgrade", "head"],
        question=lambda b: [*_command(b, "alembic"), "current"],
        bookkeeping=ALEMBIC_TABLE,
    ),
    Tool.DJANGO: Adapter(
        _django,
        run=lambda b: [*_command(b, "python3", "manage.py"), "migrate", "--noinput"],
        question=_django_question,
        bookkeeping=DJANGO_TABLE,
        appended=("django_content_type", "auth_permission"),
    ),
    Tool.DBMATE: Adapter(
        _dbmate,
        run=lambda b: [*_dbmate_command(b), "migrate"],
        question=lambda b: [*_dbmate_command(b), "status"],
        bookkeeping=DBMATE_TABLE,
    ),
    Tool.PRISMA: Adapter(
        _prisma,
        run=lambda b: _of_prisma(b, "deploy"),
        question=lambda b: _of_prisma(b, "status"),
        bookkeeping=PRISMA_TABLE,
    ),
    Tool.KNEX: Adapter(
        _knex,
        run=lambda b: _of_knex(b, "migrate:latest"),
        question=lambda b: _of_knex(b, "migrate:currentVersion"),
        bookkeeping=KNEX_TABLE,
        own_tables=(f"{KNEX_TABLE}_lock",),
    ),
    Tool.COMMAND: Adapter(
        _by_command, run=lambda b: list(b.spec.run or ()), question=lambda b: list(b.spec.status or ())
    ),
}

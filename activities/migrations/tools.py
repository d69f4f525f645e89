"""Each migration tool says in its own way what is pending, in which order, and as which SQL.

What was applied is read from the tool's own table, and what there is from its files or from its own program; a text
that a tool prints for people is never looked into. Where a tool cannot print its SQL, what it would do is unknown.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError

from activities.migrations.classify import split
from activities.migrations.workbench import Said, Workbench
from activities.regular import open_regular
from models.errors import DatabaseRefused, Impossible
from models.preflight.migrations import Tool

LARGEST_FILE = 2 << 20
MOST = 1000
ALEMBIC_TABLE, DBMATE_TABLE = "alembic_version", "schema_migrations"
PRISMA_TABLE, KNEX_TABLE = "_prisma_migrations", "knex_migrations"


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
        bookkeeping: the tool's own table.
        command: by which it is called unless the spec says otherwise.
    """

    pending: Callable[[Workbench], Awaitable[list[Script]]]
    run: Callable[[Workbench], list[str]]
    bookkeeping: str = ""


def adapter_of(bench: Workbench) -> Adapter:
    """The tool's adapter."""
    return _ADAPTERS[bench.spec.tool]


def _command(bench: Workbench, *default: str) -> list[str]:
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
        raise Impossible(f"the migration {path.name} cannot be read: {error.strerror or error}") from None
    if len(content) > LARGEST_FILE:
        raise Impossible(f"the migration {path.name} is larger than {LARGEST_FILE >> 20} MiB")
    return content


def _well(said: Said, what: str) -> Said:
    if said.code != 0:
        raise DatabaseRefused(f"{what} ended with exit code {said.code}{said.last}")
    return said


# Alembic prints the SQL between the revision that the database is at and the newest one. Between two revisions it
# writes the new one into its table: that statement is where one migration ends.


async def _alembic(bench: Workbench) -> list[Script]:
    table = bench.spec.table or ALEMBIC_TABLE
    current = sorted(await bench.column(table, "version_num"))
    command = _command(bench, "alembic")
    if len(current) > 1:
        return await _alembic_opaque(bench, command, f"the database is at {len(current)} revisions at once")
    begin = current[0] if current else "base"
    said = await bench.ask([*command, "upgrade", "--sql", f"{begin}:head"])
    if said.code != 0:
        return await _alembic_opaque(bench, command, f"alembic upgrade --sql ended with exit code {said.code}")
    return _by_revision(said.out, table)


async def _alembic_opaque(bench: Workbench, command: list[str], why: str) -> list[Script]:
    """Its exit code says at least whether anything is pending."""
    said = await bench.ask([*command, "current", "--check-heads"])
    return [] if said.code == 0 else [Script("everything up to head", None, _digest(why), why)]


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
        inner = getattr(each, "database_operations", None)
        if inner is not None:
            found += opaque(inner)
        elif not each.reduces_to_sql:
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


async def _django(bench: Workbench) -> list[Script]:
    with tempfile.TemporaryDirectory(prefix="ds-django-") as folder:
        answer = Path(folder) / "answer.json"
        command = [*_command(bench, "python3", "manage.py"), "shell", "-v", "0", "-c", _DJANGO]
        _well(await bench.ask(command, DS_MIGRATIONS_ANSWER=str(answer)), "manage.py shell")
        try:
            found = json.loads(_read(answer))
        except ValueError:
            raise DatabaseRefused("manage.py shell gave no answer that can be read") from None
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


async def _dbmate(bench: Workbench) -> list[Script]:
    folder = bench.files("db/migrations")
    applied = set(await bench.column(bench.spec.table or DBMATE_TABLE, "version"))
    pending = []
    for path in sorted(folder.iterdir()):
        match = _DBMATE_NAME.fullmatch(path.name)
        if match is None or match[1] in applied:
            continue
        content = _read(path)
        pending.append(
            Script(path.name.removesuffix(".sql"), _up(content.decode("utf-8", "replace")), _digest(content))
        )
    status = await bench.ask([*_dbmate_command(bench), "status", "--exit-code"])
    if status.code != (1 if pending else 0):
        raise DatabaseRefused(
            f"dbmate status --exit-code ended with {status.code}, and {len(pending)} migrations are pending by its "
            f"files and its table{status.last}"
        )
    return pending


def _up(text: str) -> str:
    marks = list(_MARK.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return "\n".join(text[mark.end() : end] for mark, end in zip(marks, ends, strict=True) if mark[1] == "up")


def _dbmate_command(bench: Workbench) -> list[str]:
    own = ["--env", bench.spec.variable, "--migrations-dir", str(bench.files("db/migrations")), "--no-dump-schema"]
    table = ["--migrations-table", bench.spec.table] if bench.spec.table else []
    return [*_command(bench, "dbmate"), *own, *table]


# Prisma's migrations are folders with an SQL file each.


async def _prisma(bench: Workbench) -> list[Script]:
    table = bench.spec.table or PRISMA_TABLE
    failed = await bench.column(table, "migration_name", "prisma-failed")
    if failed:
        raise DatabaseRefused(
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


async def _knex(bench: Workbench) -> list[Script]:
    applied = set(await bench.column(bench.spec.table or KNEX_TABLE, "name"))
    return [
        Script(path.name, None, _digest(_read(path)), "a program: knex cannot print what it would run")
        for path in sorted(bench.files("migrations").iterdir())
        if path.suffix in (".js", ".cjs", ".mjs", ".ts") and path.name not in applied
    ]


async def _by_command(bench: Workbench) -> list[Script]:
    spec = bench.spec
    status = await bench.ask(spec.status or ())
    if status.code == spec.exit_codes.none:
        return []
    if status.code != spec.exit_codes.pending:
        known = f"{spec.exit_codes.none} (none) and {spec.exit_codes.pending} (pending) are declared"
        raise DatabaseRefused(f"the status command ended with exit code {status.code}; {known}{status.last}")
    if spec.plan is None:
        return [Script("what is pending", None, _digest(*(spec.run or ())), "there is no plan command that prints SQL")]
    sql = _well(await bench.ask(spec.plan), "the plan command").out
    return [Script("what is pending", sql, _digest(sql))]


_ADAPTERS = {
    Tool.ALEMBIC: Adapter(_alembic, lambda b: [*_command(b, "alembic"), "upgrade", "head"], ALEMBIC_TABLE),
    Tool.DJANGO: Adapter(_django, lambda b: [*_command(b, "python3", "manage.py"), "migrate", "--noinput"]),
    Tool.DBMATE: Adapter(_dbmate, lambda b: [*_dbmate_command(b), "migrate"]),
    Tool.PRISMA: Adapter(_prisma, lambda b: [*_command(b, "npx", "--no-install", "prisma"), "migrate", "deploy"]),
    Tool.KNEX: Adapter(_knex, lambda b: [*_command(b, "npx", "--no-install", "knex"), "migrate:latest"]),
    Tool.COMMAND: Adapter(_by_command, lambda b: list(b.spec.run or ())),
}

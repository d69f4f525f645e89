"""Reads from the catalogue of the database what decides whether a statement is harmless; changes nothing.

SQL alone does not say whether a type is PostgreSQL's own, whether a table has triggers, or how large it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import LiteralString, cast

from psycopg import sql

from activities.database.connection import Connection, Database, fetch


@dataclass(frozen=True)
class Relation:
    """A table, a view, an index or a sequence that is there.

    Attributes:
        kind: as in `pg_class.relkind`.
        rows: about how many, as of the last ANALYZE; negative where nobody counted.
        bytes: about how large.
        reacts: a trigger, a rule or row level security decides what a write does.
    """

    kind: str
    rows: int = -1
    bytes: int = 0
    reacts: bool = False

    @property
    def size(self) -> str:
        """How large it is, for a sentence; nothing where that is not known."""
        if self.rows < 0 and not self.bytes:
            return ""
        size = next(
            (f"{self.bytes / unit:.1f} {name}" for unit, name in _UNITS if self.bytes >= unit), f"{self.bytes} bytes"
        )
        return f"{size}, about {self.rows:,} rows" if self.rows >= 0 else size


_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


@dataclass(frozen=True)
class Facts:
    """What is in the database before the migrations. Names stand alone where the search path leads to them, and with
    their schema.

    Attributes:
        types: a type that is not PostgreSQL's own → why a column of it is not a plain column; empty where it is one.
        functions: names of functions that are not PostgreSQL's own.
        defaults: columns that have a default.
        schema: where a name without a schema is made.
        lock_timeout: whether sessions of this role wait for locks for a limited time.
    """

    relations: Mapping[str, Relation] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    functions: frozenset[str] = frozenset()
    defaults: frozenset[tuple[str, str]] = frozenset()
    schema: str = ""
    lock_timeout: bool = False


_OURS = sql.SQL("n.nspname <> 'pg_catalog' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_t'")


def _query(text: LiteralString) -> sql.Composed:
    return sql.SQL(text).format(ours=_OURS)


_RELATIONS = _query(
    "SELECT n.nspname, c.relname, pg_table_is_visible(c.oid), c.relkind::text, c.reltuples::bigint, "
    "c.relpages::bigint * current_setting('block_size')::bigint, c.relrowsecurity "
    "OR c.relkind IN ('r', 'p') AND c.relhasrules "
    "OR EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal) "
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {ours}"
)
_TYPES = _query(
    "SELECT n.nspname, t.typname, pg_type_is_visible(t.oid), CASE "
    "WHEN t.typtype = 'd' AND (t.typnotnull OR t.typdefault IS NOT NULL "
    "OR EXISTS (SELECT FROM pg_constraint o WHERE o.contypid = t.oid)) THEN 'a domain with rules of its own' "
    "ELSE '' END FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace "
    "WHERE t.typtype IN ('b', 'e', 'd', 'r', 'm', 'c') AND {ours}"
)
_FUNCTIONS = _query(
    "SELECT DISTINCT p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {ours}"
)
_DEFAULTS = _query(
    "SELECT n.nspname, c.relname, pg_table_is_visible(c.oid), a.attname FROM pg_attribute a "
    "JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE a.atthasdef AND NOT a.attisdropped AND {ours}"
)
# What a new session of this role has: ours waits for ever.
_SESSION: LiteralString = (
    "SELECT coalesce(current_schema(), ''), reset_val <> '0' FROM pg_settings WHERE name = 'lock_timeout'"
)


async def read_facts(database: Database) -> Facts:
    """Reads the catalogue.

    Raises:
        UnavailableError: the server does not answer; worth another try.
        DatabaseRefusedError: it refused.
    """
    async with database.connected() as connection:
        return await _read(connection)


async def _read(connection: Connection) -> Facts:
    relations: dict[str, Relation] = {}
    rows = cast("list[tuple[str, str, bool, str, int, int, bool]]", await fetch(connection, _RELATIONS))
    for schema, name, visible, kind, count, size, reacts in rows:
        relations |= dict.fromkeys(_names(schema, name, visible=visible), Relation(kind, count, size, reacts))
    types: dict[str, str] = {}
    for schema, name, visible, why in cast("list[tuple[str, str, bool, str]]", await fetch(connection, _TYPES)):
        types |= dict.fromkeys(_names(schema, name, visible=visible), why)
    found = cast("list[tuple[str, str, bool, str]]", await fetch(connection, _DEFAULTS))
    defaults = {
        (each, column) for schema, name, visible, column in found for each in _names(schema, name, visible=visible)
    }
    functions = frozenset(str(row[0]) for row in await fetch(connection, _FUNCTIONS))
    ((schema, limited),) = cast("list[tuple[str, bool]]", await fetch(connection, _SESSION))
    return Facts(relations, types, functions, frozenset(defaults), schema, limited)


def _names(schema: str, name: str, *, visible: bool) -> tuple[str, ...]:
    return (f"{schema}.{name}", name) if visible else (f"{schema}.{name}",)

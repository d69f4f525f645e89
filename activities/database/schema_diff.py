"""Two databases are compared by what their own catalogs say: every object of the schema, and every table's rows.

Texts of expressions are left out: the server writes some of them differently after a dump and a restore
(`varchar IN (…)` is one), although they mean the same. The restore itself ran each of them or stopped.
"""

import hashlib
from dataclasses import dataclass
from typing import LiteralString, cast

from psycopg import sql

from activities.database.connection import Connection, fetch, fetch_one, named

# Of every query: what belongs to the server itself, or to an extension, is left out.
_OURS = sql.SQL("n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'")


def _query(text: LiteralString, object_id: LiteralString = "NULL") -> sql.Composed:
    own = sql.SQL("NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = {} AND d.deptype = 'e')")
    return sql.SQL(text).format(ours=_OURS + sql.SQL(" AND ") + own.format(sql.SQL(object_id)))


_TABLES = _query(
    """SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {ours} ORDER BY 1, 2""",
    "c.oid",
)

# Each query gives one text per object; what kind it is stands first.
_OBJECTS = (
    _query("SELECT format('schema %I', n.nspname) FROM pg_namespace n WHERE {ours}", "n.oid"),
    _query("SELECT format('extension %I', extname) FROM pg_extension"),
    _query(
        """SELECT format('relation %I.%I kind %s persistence %s', n.nspname, c.relname, c.relkind, c.relpersistence)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r','p','v','m','S','f','i','I') AND c.relpersistence <> 't' AND {ours}""",
        "c.oid",
    ),
    _query(
        """SELECT format('column %I.%I.%I %s notnull %s default %s identity %s generated %s', n.nspname, c.relname,
        a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.atthasdef, a.attidentity, a.attgenerated)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r','p','v','m','f') AND a.attnum > 0 AND NOT a.attisdropped AND c.relpersistence <> 't'
        AND {ours}""",
        "c.oid",
    ),
    _query(
        """SELECT format('index %I.%I on %s unique %s primary %s columns %s', n.nspname, c.relname,
        i.indrelid::regclass::text, i.indisunique, i.indisprimary, i.indnatts)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {ours}""",
        "i.indrelid",
    ),
    _query(
        """SELECT format('constraint %I on %I.%I type %s validated %s', o.conname, n.nspname, c.relname, o.contype,
        o.convalidated) FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {ours}""",
        "c.oid",
    ),
    _query(
        """SELECT format('function %s kind %s body %s', p.oid::regprocedure::text, p.prokind, md5(p.prosrc))
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {ours}""",
        "p.oid",
    ),
    _query(
        """SELECT format('trigger %I on %I.%I type %s enabled %s', t.tgname, n.nspname, c.relname, t.tgtype,
        t.tgenabled) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT t.tgisinternal AND {ours}""",
        "c.oid",
    ),
    _query(
        """SELECT format('type %I.%I kind %s', n.nspname, t.typname, t.typtype) FROM pg_type t
        JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typtype IN ('e','d','r') AND {ours}""",
        "t.oid",
    ),
    _query(
        """SELECT format('label %I.%I %L', n.nspname, t.typname, e.enumlabel) FROM pg_enum e
        JOIN pg_type t ON t.oid = e.enumtypid JOIN pg_namespace n ON n.oid = t.typnamespace WHERE {ours}""",
        "t.oid",
    ),
    _query("SELECT format('policy %I on %I.%I', policyname, schemaname, tablename) FROM pg_policies"),
    _query("SELECT format('large objects %s', count(*)) FROM pg_largeobject_metadata"),
)


# A new database has it; where it was dropped, no dump drops it again.
_PUBLIC = "schema public"


@dataclass(frozen=True)
class Contents:
    """What a database holds.

    Attributes:
        counts: table → rows, exactly.
        objects: one text per object of the schema, sorted.
    """

    counts: dict[str, int]
    objects: tuple[str, ...]

    @property
    def shape(self) -> str:
        """sha256 over the description of the schema."""
        return hashlib.sha256("\n".join(self.objects).encode()).hexdigest()

    def has_shape(self, shape: str) -> bool:
        """Whether the schema is the one of that description, in a database that was made new."""
        without = Contents({}, tuple(each for each in self.objects if each != _PUBLIC))
        return shape in (self.shape, without.shape)

    def differences(self, restored: "Contents") -> list[str]:
        """What is not the same in the restored one, in sentences."""
        ours, theirs = set(self.objects), set(restored.objects)
        found = [f"missing: {each}" for each in sorted(ours - theirs)]
        found += [f"not in the original: {each}" for each in sorted(theirs - ours - {_PUBLIC})]
        return found + count_differences(self.counts, restored.counts)


def count_differences(wanted: dict[str, int], found: dict[str, int]) -> list[str]:
    """Tables whose rows are not as many as they should be, in sentences."""
    return [
        f"{table} has {found.get(table, 'no')} rows, not {rows}"
        for table, rows in sorted(wanted.items())
        if found.get(table) != rows
    ]


async def read_contents(connection: Connection, *, locked: bool) -> Contents:
    """Describes the schema and counts each table's rows, in the transaction of the connection.

    With `locked`, the tables are first kept from being truncated, dropped or altered until the transaction ends.
    """
    # Names are written with their schema only when it is not on the path: both sides must have the same.
    await connection.execute("SET LOCAL search_path = pg_catalog")
    await connection.execute("SET LOCAL quote_all_identifiers = off")
    await connection.execute("SET LOCAL row_security = off")
    tables = cast("list[tuple[str, str]]", await fetch(connection, _TABLES))
    if locked:
        for table in tables:
            await connection.execute(named("LOCK TABLE ONLY {}.{} IN ACCESS SHARE MODE", *table))
    bytewise = connection.info.encoding != "utf-8"
    objects = [_legible(str(row[0]), bytewise) for query in _OBJECTS for row in await fetch(connection, query)]
    counts: dict[str, int] = {}
    for schema, name in tables:
        cursor = await connection.execute(named("SELECT count(*) FROM ONLY {}.{}", schema, name))
        row = await cursor.fetchone()
        counts[_legible(f"{schema}.{name}", bytewise)] = cast("int", row[0]) if row else 0
    return Contents(counts, tuple(sorted(objects)))


def _legible(text: str, bytewise: bool) -> str:
    """What came as one letter for each byte, as the text that it most likely is: the same in every database."""
    return text.encode("latin-1").decode("utf-8", "backslashreplace") if bytewise else text


async def server_major(connection: Connection) -> int:
    """The server's major version, like 16."""
    return int(str(await fetch_one(connection, "SELECT current_setting('server_version_num')"))) // 10000

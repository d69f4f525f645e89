"""Compares a database before and after migrations were tried on it, as its own catalogue describes it.

Both states are of one database, so that tables and columns are the same when their numbers are: a new name is told from
a new table. Each difference is a sentence, and additive, destructive or unknown to the version that serves.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, LiteralString

from psycopg import sql

from activities.database.connection import Connection, fetch, named
from models.preflight.migrations import Difference, Effect

_OURS = sql.SQL(
    "n.nspname <> 'pg_catalog' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_t' "
    "AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.objid = {} AND e.deptype = 'e')"
)


def _query(text: LiteralString, own: LiteralString = "n.oid") -> sql.Composed:
    return sql.SQL(text).format(ours=_OURS.format(sql.SQL(own)))


# Each query: key, the table that it belongs to (or 0), a name for a sentence, and what must stay the same.
_RELATIONS = _query(
    """SELECT c.oid::bigint, c.oid::bigint, format('%I.%I', n.nspname, c.relname), c.relkind::text,
    c.relpersistence::text, c.relfilenode::bigint, pg_relation_size(c.oid), c.relrowsecurity, c.relforcerowsecurity,
    c.relacl::text, c.relowner::bigint,
    CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) ELSE '' END,
    ARRAY(SELECT inhparent::bigint FROM pg_inherits WHERE inhrelid = c.oid ORDER BY 1), c.relname, n.nspname,
    (SELECT max(p.refobjid::bigint) FROM pg_depend p WHERE p.classid = 'pg_class'::regclass AND p.objid = c.oid
    AND p.refclassid = 'pg_class'::regclass AND p.deptype IN ('a', 'i'))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't' AND {ours}""",
    "c.oid",
)
_COLUMNS = _query(
    """SELECT (a.attrelid::bigint, a.attnum)::text, a.attrelid::bigint,
    format('%I.%I.%I', n.nspname, c.relname, a.attname),
    format_type(a.atttypid, a.atttypmod)
    || coalesce(' COLLATE ' || nullif(a.attcollation, t.typcollation)::regcollation::text, ''),
    a.attnotnull OR t.typnotnull, coalesce(pg_get_expr(d.adbin, d.adrelid), t.typdefault), a.attidentity::text,
    a.attgenerated::text, EXISTS (SELECT FROM pg_depend p WHERE p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
    AND p.refclassid = 'pg_proc'::regclass AND p.refobjid >= 16384),
    EXISTS (SELECT FROM pg_constraint o WHERE o.contypid = a.atttypid), a.attacl::text, a.attnum::int, a.attname
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relkind IN ('r', 'p', 'f', 'm') AND a.attnum > 0 AND NOT a.attisdropped AND c.relpersistence <> 't'
    AND {ours}""",
    "c.oid",
)
_CONSTRAINTS = _query(
    """SELECT (o.conrelid::bigint, o.contypid::bigint, o.conname)::text, o.conrelid::bigint,
    format('%I of %s', o.conname, coalesce(nullif(o.conrelid, 0)::regclass::text, o.contypid::regtype::text)),
    o.contype::text, pg_get_constraintdef(o.oid), o.convalidated, coalesce(o.conkey, '{{}}')::int[],
    o.confrelid::bigint, o.confdeltype::text
    FROM pg_constraint o JOIN pg_namespace n ON n.oid = o.connamespace WHERE o.contype <> 'n' AND {ours}""",
    "o.oid",
)
_INDEXES = _query(
    """SELECT (i.indrelid::bigint, c.relname)::text, i.indrelid::bigint,
    format('%I.%I on %s', n.nspname, c.relname, i.indrelid::regclass), i.indisunique,
    i.indisvalid, pg_get_indexdef(c.oid), EXISTS (SELECT FROM pg_depend p WHERE p.classid = 'pg_class'::regclass
    AND p.objid = c.oid AND p.refclassid = 'pg_proc'::regclass AND p.refobjid >= 16384),
    EXISTS (SELECT FROM pg_constraint o WHERE o.conindid = c.oid AND o.contype IN ('p', 'u', 'x'))
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE {ours}""",
    "i.indrelid",
)
_OTHERS: tuple[tuple[str, sql.Composed], ...] = (
    (
        "schema",
        _query("SELECT n.oid::text, 0::bigint, format('%I', n.nspname), n.nspname FROM pg_namespace n WHERE {ours}"),
    ),
    ("extension", _query("SELECT extname::text, 0::bigint, extname::text, extversion FROM pg_extension")),
    (
        "function",
        _query(
            """SELECT p.oid::regprocedure::text, 0::bigint, p.oid::regprocedure::text, md5(ROW(p.prosrc, p.probin,
            p.prolang, p.provolatile, p.proisstrict, p.prosecdef, p.proconfig, p.prorettype, p.proretset, p.prokind,
            to_jsonb(p) ->> 'prosqlbody', pg_get_function_arguments(p.oid))::text)
            FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {ours}""",
            "p.oid",
        ),
    ),
    (
        "trigger",
        _query(
            """SELECT (t.tgrelid::bigint, t.tgname)::text, t.tgrelid::bigint,
            format('%I on %s', t.tgname, t.tgrelid::regclass),
            pg_get_triggerdef(t.oid), t.tgenabled::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
            JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT t.tgisinternal AND {ours}""",
            "c.oid",
        ),
    ),
    (
        "policy",
        _query(
            """SELECT (p.polrelid::bigint, p.polname)::text, p.polrelid::bigint,
            format('%I on %s', p.polname, p.polrelid::regclass),
            ROW(p.polcmd, p.polpermissive, p.polroles, pg_get_expr(p.polqual, p.polrelid),
            pg_get_expr(p.polwithcheck, p.polrelid))::text FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
            JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {ours}""",
            "c.oid",
        ),
    ),
    (
        "rule",
        _query(
            """SELECT (r.ev_class::bigint, r.rulename)::text, r.ev_class::bigint,
            format('%I on %s', r.rulename, r.ev_class::regclass),
            pg_get_ruledef(r.oid), r.ev_enabled::text FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
            JOIN pg_namespace n ON n.oid = c.relnamespace WHERE r.rulename <> '_RETURN' AND {ours}""",
            "c.oid",
        ),
    ),
    (
        "type",
        _query(
            """SELECT t.oid::text, 0::bigint, format('%I.%I', n.nspname, t.typname), ROW(t.typname, t.typnamespace,
            t.typtype, t.typnotnull, t.typdefault, t.typbasetype, t.typtypmod, t.typcollation)::text
            FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
            WHERE t.typtype IN ('e', 'd', 'r', 'c') AND (t.typrelid = 0 OR c.relkind = 'c') AND {ours}""",
            "t.oid",
        ),
    ),
    (
        "label",
        _query(
            """SELECT (e.enumtypid::bigint, e.enumlabel)::text, 0::bigint,
            format('%L of %I.%I', e.enumlabel, n.nspname, t.typname),
            e.enumsortorder::text, e.enumtypid::text FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid
            JOIN pg_namespace n ON n.oid = t.typnamespace WHERE {ours}""",
            "t.oid",
        ),
    ),
    (
        "event trigger",
        _query(
            """SELECT evtname::text, 0::bigint, format('%I', evtname),
            ROW(evtevent, evtfoid, evtenabled, evttags)::text FROM pg_event_trigger"""
        ),
    ),
    (
        "cast",
        _query(
            """SELECT k.oid::text, 0::bigint, format('from %s to %s', format_type(castsource, NULL),
            format_type(casttarget, NULL)), ROW(castfunc, castcontext, castmethod)::text FROM pg_cast k
            WHERE k.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.objid = k.oid AND e.deptype = 'e')"""
        ),
    ),
    (
        "operator",
        _query(
            """SELECT o.oid::text, 0::bigint, o.oid::regoperator::text, o.oprcode::text FROM pg_operator o
            JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE {ours}""",
            "o.oid",
        ),
    ),
    (
        "default right",
        _query(
            """SELECT d.oid::text, 0::bigint, format('of %s', d.defaclrole::regrole), d.defaclacl::text
            FROM pg_default_acl d"""
        ),
    ),
    (
        "publication",
        _query(
            """SELECT pubname::text, 0::bigint, format('%I', pubname), to_jsonb(p)::text || (SELECT
            coalesce(string_agg(t::text, ' ' ORDER BY t::text), '') FROM pg_publication_tables t
            WHERE t.pubname = p.pubname) FROM pg_publication p"""
        ),
    ),
)
# What belongs to the server: the copy shares it with the original.
_SERVER: tuple[LiteralString, ...] = (
    "SELECT format('role %I ', rolname), to_jsonb(r)::text FROM pg_roles r",
    "SELECT format('membership of %s in %s', member::regrole, roleid::regrole), '' FROM pg_auth_members",
    "SELECT format('database %I', datname), to_jsonb(d) ->> 'datallowconn' FROM pg_database d "
    "WHERE datname !~ '^ds_scratch_'",
    "SELECT format('tablespace %I', spcname), '' FROM pg_tablespace",
    "SELECT format('settings of database %s and role %s', setdatabase, setrole), setconfig::text "
    "FROM pg_db_role_setting WHERE setdatabase <> (SELECT oid FROM pg_database WHERE datname = current_database())",
)
_NEW_HARMLESS = {"schema", "extension", "function", "type", "publication"}
_GONE = {"schema", "extension", "function", "type", "label"}


@dataclass
class SchemaState:
    """What a database holds.

    Attributes:
        rows: number of a table → how many rows, and the sum of their hashes.
        hashed: number of a table → numbers of the columns that were hashed.
        holding: keys of new foreign keys by which rows hold rows of other tables.
    """

    relations: dict[Any, tuple[Any, ...]] = field(default_factory=dict)
    columns: dict[Any, tuple[Any, ...]] = field(default_factory=dict)
    constraints: dict[Any, tuple[Any, ...]] = field(default_factory=dict)
    indexes: dict[Any, tuple[Any, ...]] = field(default_factory=dict)
    others: dict[str, dict[Any, tuple[Any, ...]]] = field(default_factory=dict)
    sequences: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    server: dict[str, str] = field(default_factory=dict)
    rows: dict[int, tuple[int, str]] = field(default_factory=dict)
    hashed: dict[int, tuple[int, ...]] = field(default_factory=dict)
    holding: set[Any] = field(default_factory=set)

    def name(self, table: int) -> str:
        """A table's name."""
        return str(self.relations[table][1]) if table in self.relations else "?"


async def read_state(connection: Connection, before: SchemaState | None = None) -> SchemaState:
    """Reads what is there; with `before`, each table's rows are hashed over the columns that it had then.

    Raises:
        DatabaseRefusedError: the server refused.
    """
    for setting in _TEXT_FORMS:
        await connection.execute(setting)
    state = SchemaState()
    for kind, query in (
        ("relations", _RELATIONS),
        ("columns", _COLUMNS),
        ("constraints", _CONSTRAINTS),
        ("indexes", _INDEXES),
    ):
        setattr(state, kind, {row[0]: row[1:] for row in await fetch(connection, query)})
    for kind, query in _OTHERS:
        state.others[kind] = {row[0]: row[1:] for row in await fetch(connection, query)}
    for text in _SERVER:
        state.server |= {str(row[0]): str(row[1]) for row in await fetch(connection, text)}
    for oid, about in state.relations.items():
        name, schema = str(about[12]), str(about[13])
        if about[2] == "S":
            (value,) = await fetch(connection, named("SELECT last_value, is_called FROM {}.{}", schema, name))
            (rest,) = await fetch(connection, "SELECT to_jsonb(s)::text FROM pg_sequence s WHERE seqrelid = %s", oid)
            state.sequences[oid] = (*value, *rest)
        elif about[2] in ("r", "m"):
            await _hash(connection, state, before, oid, schema, name)
    if before is not None:
        for key in state.constraints.keys() - before.constraints.keys():
            if await _holds(connection, state, state.constraints[key]):
                state.holding.add(key)
    return state


async def _holds(connection: Connection, state: SchemaState, about: tuple[Any, ...]) -> bool:
    """Whether rows of a foreign key refer to others, which cannot be deleted any more."""
    table = state.relations.get(about[0])
    if about[2] != "f" or about[7] not in ("a", "r") or table is None:
        return False
    names = [str(each[11]) for each in state.columns.values() if each[0] == about[0] and each[10] in about[5]]
    filled = sql.SQL(" AND ").join(named("{} IS NOT NULL", name) for name in names)
    query = named("SELECT EXISTS (SELECT FROM {}.{} WHERE ", str(table[13]), str(table[12])) + filled + sql.SQL(")")
    ((found,),) = await fetch(connection, query)
    return bool(found)


_TEXT_FORMS: tuple[LiteralString, ...] = (
    "SET search_path = pg_catalog",
    "SET row_security = off",
    "SET timezone = 'UTC'",
    "SET datestyle = ISO",
    "SET intervalstyle = postgres",
    "SET bytea_output = hex",
    "SET extra_float_digits = 1",
)


async def _hash(
    connection: Connection, state: SchemaState, before: SchemaState | None, oid: int, schema: str, name: str
) -> None:
    there = {int(about[10]): str(about[11]) for about in state.columns.values() if about[0] == oid}
    wanted = before.hashed.get(oid, ()) if before is not None else tuple(sorted(there))
    kept = tuple(each for each in wanted if each in there)
    state.hashed[oid] = kept
    columns = sql.SQL(", ").join(sql.Identifier(there[each]) for each in kept)
    text = sql.SQL("SELECT count(*), coalesce(sum(hashtextextended(ROW({})::text, 0)::numeric), 0)::text FROM ONLY ")
    (row,) = await fetch(connection, text.format(columns) + named("{}.{}", schema, name))
    state.rows[oid] = (int(str(row[0])), str(row[1]))


def compare(before: SchemaState, after: SchemaState, own: frozenset[str], appended: frozenset[str]) -> list[Difference]:
    """What is different, in sentences.

    Args:
        before: the state before the migrations.
        after: the state after them.
        own: the tool's own tables, without their schema: what becomes of them is not a difference.
        appended: tables to which the tool itself adds rows.
    """
    both = (*before.relations.items(), *after.relations.items())
    mine = {oid for oid, about in both if about[12] in own}
    # A sequence goes with its table, also where the tool adds rows.
    theirs = mine | {oid for oid, about in both if about[12] in appended}
    mine |= {oid for oid, about in both if about[2] == "S" and about[14] in theirs}
    found = [
        *_relations(before, after, mine),
        *_columns(before, after, mine),
        *_constraints(before, after, mine),
        *_indexes(before, after, mine),
        *_others(before, after, mine),
        *_rows(before, after, mine, appended),
        *_server(before, after),
    ]
    return list({each.text: each for each in found}.values())


def rewritten(before: SchemaState, after: SchemaState) -> list[str]:
    """Tables whose every row was written anew."""
    return [
        f"rewrites all of {about[1]} ({about[5]:,} bytes), and nobody reads it meanwhile"
        for oid, about in before.relations.items()
        if about[2] in ("r", "m") and oid in after.relations and after.relations[oid][4] != about[4] and about[5]
    ]


def _additive(text: str) -> Difference:
    return Difference(effect=Effect.ADDITIVE, text=text)


def _unknown(text: str, *, rights: bool = False) -> Difference:
    return Difference(effect=Effect.UNKNOWN, text=text, rights=rights)


def _destructive(text: str) -> Difference:
    return Difference(effect=Effect.DESTRUCTIVE, text=text)


_KINDS = {"r": "table", "p": "table", "v": "view", "m": "materialized view", "f": "foreign table", "S": "sequence"}


def _relations(before: SchemaState, after: SchemaState, mine: set[int]) -> Iterator[Difference]:
    names = {about[12] for about in before.relations.values()}
    for oid in after.relations.keys() - before.relations.keys() - mine:
        about = after.relations[oid]
        what = f"{_KINDS[about[2]]} {about[1]}"
        same = [each for each in before.relations.values() if each[1] == about[1]]
        if about[11] and any(parent in before.relations for parent in about[11]):
            yield _unknown(f"adds the {what} to a table that is there")
        elif same and about[2] == "v" and same[0][10] == about[10]:
            continue
        elif about[12] in names and not same:
            yield _unknown(f"adds the {what}; in another schema there is one of that name")
        else:
            yield _additive(f"adds the {what}")
    for oid in before.relations.keys() - after.relations.keys() - mine:
        about = before.relations[oid]
        again = next((each for each in after.relations.values() if each[1] == about[1]), None)
        if again is not None and about[2] == "v" and again[10] == about[10]:
            continue
        yield _destructive(f"drops the {_KINDS[about[2]]} {about[1]}")
    for oid in before.relations.keys() & after.relations.keys() - mine:
        old, new = before.relations[oid], after.relations[oid]
        if old[1] != new[1]:
            yield _destructive(f"renames {old[1]} to {new[1]}")
        if old[11] != new[11]:
            yield _unknown(f"changes of which table {old[1]} is a part")
        if old[10] != new[10]:
            yield _unknown(f"changes the query of {old[1]}")
        if old[2:4] != new[2:4]:
            yield _unknown(f"changes the kind of {old[1]}")
        if old[6:8] != new[6:8]:
            yield _unknown(f"changes the row level security of {old[1]}")
        if old[8] != new[8] or old[9] != new[9]:
            yield _unknown(f"changes the rights or the owner of {old[1]}", rights=True)
        if oid in before.sequences and before.sequences[oid] != after.sequences.get(oid):
            yield _unknown(f"changes the sequence {old[1]}")


def _columns(before: SchemaState, after: SchemaState, mine: set[int]) -> Iterator[Difference]:
    for key, new in after.columns.items():
        if new[0] in mine or new[0] not in before.relations or key in before.columns:
            continue
        name = f"the column {new[1]} ({new[2]})"
        filled = new[4] is not None or bool(new[5]) or bool(new[6])
        if new[3] and not filled:
            yield _destructive(f"adds {name}, which may not be empty and has no default")
        elif new[7]:
            yield _unknown(f"adds {name}: every insert calls a function that is not PostgreSQL's own")
        elif new[8] and not filled:
            yield _unknown(f"adds {name}, whose type has rules of its own")
        else:
            yield _additive(f"adds {name}")
    for key, old in before.columns.items():
        if old[0] in mine or old[0] not in after.relations:
            continue
        if key not in after.columns:
            yield _destructive(f"drops the column {old[1]}")
            continue
        yield from _changed_column(old, after.columns[key])


def _changed_column(old: tuple[Any, ...], new: tuple[Any, ...]) -> Iterator[Difference]:
    if old[11] != new[11]:
        yield _destructive(f"renames the column {old[1]} to {new[11]}")
    if old[2] != new[2]:
        yield _destructive(f"changes the type of {old[1]} from {old[2]} to {new[2]}")
    if old[3] != new[3]:
        yield (_destructive if new[3] else _additive)(f"{'forbids' if new[3] else 'allows'} NULL in {old[1]}")
    if old[4] != new[4]:
        if new[4] is None:
            yield _destructive(f"drops the default of {old[1]}")
        elif old[4] is None and not new[7]:
            yield _additive(f"gives {old[1]} a default")
        else:
            yield _unknown(f"changes the default of {old[1]}")
    if old[5:7] != new[5:7]:
        yield _unknown(f"changes how values of {old[1]} are generated")
    if old[9] != new[9]:
        yield _unknown(f"changes the rights of {old[1]}", rights=True)


def _constraints(before: SchemaState, after: SchemaState, mine: set[int]) -> Iterator[Difference]:
    for key, new in after.constraints.items():
        table = new[0]
        if table in mine or key in before.constraints:
            continue
        if table and table not in before.relations:
            if key in after.holding and new[6] in before.relations:
                yield _unknown(f"rows of {after.name(table)} keep rows of {after.name(new[6])} from being deleted")
            continue
        if not table:
            yield (
                _additive(f"adds the constraint {new[1]}")
                if _new_type(key, before)
                else _unknown(f"adds the constraint {new[1]}")
            )
            continue
        old_columns = {about[10] for about in before.columns.values() if about[0] == table}
        valid = "" if new[4] else ", NOT VALID: it holds for what is written from now on"
        if key in after.holding:
            yield _unknown(f"rows of {after.name(table)} keep rows of {after.name(new[6])} from being deleted")
        elif new[2] == "f" and not set(new[5]) & old_columns and not _filled(table, new[5], after):
            yield _additive(f"adds the foreign key {new[1]}")
        else:
            yield _unknown(f"adds the constraint {new[1]}{valid}: {new[3]}")
    for key, old in before.constraints.items():
        if old[0] in mine or (old[0] and old[0] not in after.relations):
            continue
        new_one = after.constraints.get(key)
        if new_one is None:
            yield _destructive(f"drops the constraint {old[1]}")
        elif old[3].removesuffix(" NOT VALID") != new_one[3].removesuffix(" NOT VALID"):
            yield _unknown(f"changes the constraint {old[1]}")
        elif old[4] != new_one[4]:
            yield (_additive if new_one[4] else _unknown)(f"validates the constraint {old[1]}")


def _new_type(key: object, before: SchemaState) -> bool:
    number = str(key).strip("()").split(",")[1]
    return number not in before.others["type"]


def _filled(table: int, columns: Any, after: SchemaState) -> bool:
    """Whether new columns of a table may have values, so that rows of the other table are held."""
    return any(about[4] is not None for about in after.columns.values() if about[0] == table and about[10] in columns)


def _indexes(before: SchemaState, after: SchemaState, mine: set[int]) -> Iterator[Difference]:
    for key, new in after.indexes.items():
        if new[0] in mine or new[0] not in before.relations or new[6]:
            continue
        old = before.indexes.get(key)
        if old is not None and (old[4], old[3]) == (new[4], new[3]):
            continue
        what = f"adds the index {new[1]}" if old is None else f"changes the index {new[1]}"
        if not new[3]:
            yield _unknown(f"{what}, which is not valid")
        elif new[2]:
            yield _unknown(f"{what}: it refuses rows that were possible before")
        elif new[5]:
            yield _unknown(f"{what}: every write calls a function that is not PostgreSQL's own")
        else:
            yield _additive(what)
    for key, old in before.indexes.items():
        if old[0] not in mine and old[0] in after.relations and key not in after.indexes and not old[6]:
            yield _destructive(f"drops the index {old[1]}")


def _others(before: SchemaState, after: SchemaState, mine: set[int]) -> Iterator[Difference]:
    named_before = {str(about[1]).partition("(")[0].rpartition(".")[2] for about in before.others["function"].values()}
    for kind, now in after.others.items():
        then = before.others[kind]
        for key, new in now.items():
            if key in then:
                if then[key][2:] != new[2:]:
                    yield _unknown(f"changes the {kind} {new[1]}", rights=kind == "default right")
                continue
            if new[0] in mine or (new[0] and new[0] not in before.relations):
                continue
            if kind == "label" and str(new[3]) not in before.others["type"]:
                continue
            again = str(new[1]).partition("(")[0].rpartition(".")[2] in named_before
            if kind == "function" and again:
                yield _unknown(f"adds the function {new[1]}; there is another one of that name")
            elif kind in _NEW_HARMLESS:
                yield _additive(f"adds the {kind} {new[1]}")
            else:
                yield _unknown(f"adds the {kind} {new[1]}", rights=kind == "default right")
        for key, old in then.items():
            if key in now or old[0] in mine or (old[0] and old[0] not in after.relations):
                continue
            yield (_destructive if kind in _GONE else _unknown)(f"drops the {kind} {old[1]}")


def _rows(before: SchemaState, after: SchemaState, mine: set[int], appended: frozenset[str]) -> Iterator[Difference]:
    for oid, (count, digest) in before.rows.items():
        if oid in mine or oid not in after.rows or before.hashed[oid] != after.hashed[oid]:
            continue
        now, changed = after.rows[oid]
        if (now, changed) == (count, digest):
            continue
        name = before.name(oid)
        if now < count:
            yield _destructive(f"deletes rows of {name}: {count} were there, {now} are")
        elif now > count and before.relations[oid][12] in appended:
            yield _additive(f"adds {now - count} rows of its own to {name}")
        elif now > count:
            yield _unknown(f"adds rows to {name}: {count} were there, {now} are")
        else:
            yield _unknown(f"changes rows of {name}")


def _server(before: SchemaState, after: SchemaState) -> Iterator[Difference]:
    for name in sorted(before.server.keys() | after.server.keys()):
        if before.server.get(name) != after.server.get(name):
            yield _unknown(f"changes what the whole server has, also where it was tried: {name}", rights=False)

"""Judges what a migration's SQL does to the version that serves. The SQL is parsed, not searched.

Additive is only what is known to be: the version that serves neither reads nor writes what is new. What takes something
away, or makes a write fail that worked before, is destructive. Everything else is unknown: data that changes, functions
and blocks of code, types that are not PostgreSQL's own, whatever the parser does not know. What the catalogue says
(`facts`) makes more of it known.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import sqlglot
from sqlglot import exp
from sqlglot.dialects import Postgres
from sqlglot.errors import SqlglotError
from sqlglot.expressions.core import Expression
from sqlglot.tokenizer_core import Token, TokenType

from activities.migrations.facts import Facts, Relation
from models.preflight.migrations import Effect

LARGEST = 2 << 20
LONGEST_QUOTE = 80
_HARMLESS_SETTINGS = {"lock_timeout", "statement_timeout", "client_min_messages", "client_encoding"}
_HARMLESS_SETTINGS |= {"idle_in_transaction_session_timeout", "standard_conforming_strings", "check_function_bodies"}
_NEW_THINGS = {"TABLE", "INDEX", "SCHEMA", "SEQUENCE", "TYPE", "VIEW"}
_OF_ANOTHER = (exp.PartitionedOfProperty, exp.InheritsProperty)
_COUNTED = {exp.DType.SERIAL, exp.DType.BIGSERIAL, exp.DType.SMALLSERIAL}
_OWN_TYPES = {
    *(exp.DType.BIGINT, exp.DType.INT, exp.DType.SMALLINT, exp.DType.DECIMAL, exp.DType.FLOAT, exp.DType.DOUBLE),
    *(exp.DType.TEXT, exp.DType.VARCHAR, exp.DType.CHAR, exp.DType.BPCHAR, exp.DType.NAME, exp.DType.BOOLEAN),
    *(exp.DType.DATE, exp.DType.TIME, exp.DType.TIMETZ, exp.DType.TIMESTAMP, exp.DType.TIMESTAMPTZ),
    *(exp.DType.INTERVAL, exp.DType.UUID, exp.DType.JSON, exp.DType.JSONB, exp.DType.VARBINARY, exp.DType.BIT),
    *(exp.DType.MONEY, exp.DType.INET, exp.DType.XML, exp.DType.ENUM, *_COUNTED),
    *(exp.DType.INT4RANGE, exp.DType.INT8RANGE, exp.DType.NUMRANGE, exp.DType.TSRANGE, exp.DType.TSTZRANGE),
    exp.DType.DATERANGE,
}
# PostgreSQL's own that neither change anything nor wait. What the parser calls functions and are none: the first.
_NO_CALLS = (exp.And, exp.Or, exp.Not, exp.Case, exp.Cast, exp.Coalesce, exp.Exists, exp.Nullif, exp.Extract, exp.Array)
_HARMLESS_CALLS = (
    *(exp.CurrentTimestamp, exp.CurrentDate, exp.CurrentTime, exp.CurrentUser, exp.Uuid, exp.TimestampTrunc, exp.If),
    *(exp.Lower, exp.Upper, exp.Concat, exp.ConcatWs, exp.Substring, exp.Trim, exp.Length, exp.Replace, exp.Left),
    *(exp.Right, exp.Split, exp.SplitPart, exp.Initcap, exp.MD5, exp.Abs, exp.Ceil, exp.Floor, exp.Round, exp.Greatest),
    *(exp.Least, exp.Count, exp.Sum, exp.Min, exp.Max, exp.Avg, exp.ArrayAgg, exp.RowNumber, exp.GenerateSeries),
    *(exp.Unnest, exp.TimeToStr, exp.ToChar, exp.Rand, exp.JSONExtract, exp.JSONExtractScalar, exp.StrPosition),
)
_HARMLESS_NAMES = {
    "gen_random_uuid",
    "uuidv4",
    "uuidv7",
    "jsonb_build_object",
    "json_build_object",
    "to_jsonb",
    "btrim",
}
_HARMLESS_NAMES |= {
    "jsonb_build_array",
    "json_build_array",
    "to_json",
    "format",
    "random",
    "clock_timestamp",
    "version",
}
_ORDER = (Effect.DESTRUCTIVE, Effect.UNKNOWN, Effect.ADDITIVE)

# What it cannot parse it says in its log; here that is an answer.
logging.getLogger("sqlglot").setLevel(logging.ERROR)


@dataclass(frozen=True)
class JudgedStatement:
    """What some SQL does.

    Attributes:
        why: what made it destructive or unknown.
        hazards: what may hold a lock for long.
        locks: on tables that are there, which others wait for.
        rights: it takes rights away, or changes owners: a copy of the database has neither.
        outside: it changes something outside of its database.
    """

    effect: Effect
    why: tuple[str, ...] = ()
    hazards: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()
    rights: bool = False
    outside: bool = False


@dataclass
class Known:
    """What is new since the first of the pending migrations: the version that serves does not know it.

    Attributes:
        bookkeeping: the tool's own table: writing there is no change.
        facts: what the catalogue said before the first of them; None: nobody asked it.
        made: other new things: kind and name.
        filled: new columns whose rows have a value from the beginning.
        keys: new columns that refer to a table that is there.
        holding: new tables whose rows would keep rows of other tables from being deleted, or run code.
        held: new tables that tables which are there refer to.
        strange: code ran that may have put triggers or rules on what is new.
        patient: no lock_timeout bounds a wait for a lock.
    """

    bookkeeping: str = ""
    facts: Facts | None = None
    tables: set[str] = field(default_factory=set)
    columns: set[tuple[str, str]] = field(default_factory=set)
    made: set[tuple[str, str]] = field(default_factory=set)
    filled: set[tuple[str, str]] = field(default_factory=set)
    keys: set[tuple[str, str]] = field(default_factory=set)
    holding: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    strange: bool = False
    patient: bool = True

    def is_new(self, table: str) -> bool:
        """Whether these migrations made the table."""
        return table in self.tables

    def add(self, table: str) -> None:
        """A table was made."""
        self.tables |= self._written(table)

    def remove(self, table: str) -> None:
        """A new table is gone, or goes by another name."""
        self.tables -= self._written(table)

    def there(self, name: str) -> Relation | None:
        """What the catalogue knows of a table; None: nothing."""
        return self.facts.relations.get(name) if self.facts is not None else None

    def absent(self, name: str) -> bool:
        """Whether the catalogue knows that there is no relation of that name."""
        return self.facts is not None and name not in self.facts.relations

    def _written(self, table: str) -> set[str]:
        """How the same new table may be written: with its schema and without."""
        schema = self.facts.schema if self.facts is not None else ""
        own = f"{schema}."
        if not schema:
            return {table}
        if table.startswith(own):
            return {table, table.removeprefix(own)}
        return {table} if "." in table else {table, own + table}


def split(text: str) -> list[str]:
    """The statements of a script, as they were written.

    Raises:
        SqlglotError: it is no SQL that can be read.
    """
    tokens = Postgres().tokenize(text)
    found, begin = [], 0
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            found.append(text[begin : token.start])
            begin = token.end + 1
    found.append(text[begin:])
    return [each.strip() for each in found if each.strip() and Postgres().tokenize(each)]


def classify(text: str, known: Known | None = None) -> JudgedStatement:
    """Judges a script, statement by statement; what is new in it is added to `known`."""
    known = known or Known()
    known.patient = known.facts is None or not known.facts.lock_timeout
    if len(text) > LARGEST:
        return JudgedStatement(Effect.UNKNOWN, (f"more than {LARGEST >> 20} MiB of SQL",))
    try:
        statements = split(text)
    except SqlglotError:
        return JudgedStatement(Effect.UNKNOWN, ("it cannot be read as SQL",))
    return together(_judge(statement, known) for statement in statements)


def together(parts: Iterable[JudgedStatement]) -> JudgedStatement:
    """The worst of several, with everything that was found."""
    found = list(parts)
    effect = next((each for each in _ORDER if any(part.effect is each for part in found)), Effect.ADDITIVE)
    why = dict.fromkeys(reason for part in found if part.effect is not Effect.ADDITIVE for reason in part.why)
    hazards = dict.fromkeys(hazard for part in found for hazard in part.hazards)
    locks = dict.fromkeys(lock for part in found for lock in part.locks)
    return JudgedStatement(
        effect,
        tuple(why),
        tuple(hazards),
        tuple(locks),
        any(part.rights for part in found),
        any(part.outside for part in found),
    )


def _judge(statement: str, known: Known) -> JudgedStatement:
    try:
        parsed = sqlglot.parse_one(statement, dialect="postgres")
    except (SqlglotError, RecursionError):
        return replace(_code("cannot be parsed", statement, known), outside=_reaches_out(statement))
    if not isinstance(parsed, Expression):
        return _code("not known", statement, known)
    judged = _of_kind(parsed, statement, known)
    return replace(judged, locks=tuple(_locks(parsed, known)), outside=_reaches_out(statement))


def _of_kind(parsed: Expression, statement: str, known: Known) -> JudgedStatement:
    match parsed:
        case exp.Create():
            return _create(parsed, statement, known)
        case exp.Alter():
            return _alter(parsed, statement, known)
        case exp.Drop():
            return _drop(parsed, statement, known)
        case exp.TruncateTable():
            tables = [_table(each) for each in parsed.expressions]
            return _ADDITIVE if tables and all(_free(each, known) for each in tables) else _destructive(statement)
        case exp.Update() | exp.Delete() | exp.Insert() | exp.Merge():
            return _data(parsed, statement, known)
        case exp.Select() if not parsed.find(*_WRITES) and _reads_only(parsed, known):
            return _ADDITIVE
        case exp.Transaction() | exp.Commit() | exp.Rollback() | exp.Comment():
            return _ADDITIVE
        case exp.Grant():
            return _ADDITIVE
        case exp.Revoke():
            return replace(_unknown("takes rights away", statement), rights=True)
        case exp.Set():
            return _setting(parsed, statement, known)
        case exp.Command() if _validates(statement):
            return _ADDITIVE
        case exp.Command() if _about_rights(statement):
            return replace(_unknown("changes rights or owners", statement), rights=True)
    return _code("not known", statement, known)


def _setting(parsed: exp.Set, statement: str, known: Known) -> JudgedStatement:
    set_to = {
        item.this.this.name.lower(): item.this.expression.name
        for item in parsed.expressions
        if isinstance(item.this, exp.EQ)
    }
    if not set_to or not set_to.keys() <= _HARMLESS_SETTINGS:
        return _code("a setting", statement, known)
    if "lock_timeout" in set_to:
        known.patient = set_to["lock_timeout"] in ("0", "default")
    return _ADDITIVE


def _code(why: str, statement: str, known: Known) -> JudgedStatement:
    """Something that may have done anything, also to what is new."""
    known.strange = True
    return _unknown(why, statement)


def _data(parsed: exp.Update | exp.Delete | exp.Insert | exp.Merge, statement: str, known: Known) -> JudgedStatement:
    """Rows that change: nobody reads those of a new table yet, nor those of a new column."""
    if isinstance(parsed, exp.Update | exp.Delete | exp.Insert) and _bookkeeping(parsed, known):
        return _ADDITIVE
    writes = [each for each in parsed.find_all(*_WRITES) if not isinstance(each.parent, exp.When)]
    targets = [_table(each.this.this if isinstance(each.this, exp.Schema) else each.this) for each in writes]
    adds = isinstance(parsed, exp.Insert | exp.Update | exp.Merge)
    if (
        all(known.is_new(each) for each in targets)
        and _reads_only(parsed, known)
        and not any(adds and each in known.holding for each in targets)
        and not any(not isinstance(parsed, exp.Insert) and each in known.held for each in targets)
    ):
        return _ADDITIVE
    if isinstance(parsed, exp.Update) and len(writes) == 1 and _fills_new_columns(parsed, targets[0], known):
        size = _of_size(targets[0], known)
        return JudgedStatement(
            Effect.ADDITIVE, (), (f"UPDATE keeps all rows of {targets[0]}{size} locked until it commits",)
        )
    whole = isinstance(parsed, exp.Update | exp.Delete) and not parsed.args.get("where")
    if whole and not any(known.is_new(each) for each in targets):
        return _destructive(statement)
    return _unknown("changes data", statement)


_WRITES = (exp.Insert, exp.Update, exp.Delete, exp.Merge)


def _fills_new_columns(parsed: exp.Update, table: str, known: Known) -> bool:
    """Whether it writes nothing but columns that came with these migrations, into a table that does not react."""
    there = known.there(table)
    if there is None or there.kind != "r" or there.reacts or not _reads_only(parsed, known):
        return False
    columns = [each.this for each in parsed.expressions if isinstance(each, exp.EQ)]
    if len(columns) != len(parsed.expressions) or not all(isinstance(each, exp.Column) for each in columns):
        return False
    names = {(table, _name(each.this)) for each in columns}
    known.filled |= names
    return names <= known.columns and not names & known.keys


def _reads_only(parsed: Expression, known: Known) -> bool:
    """Whether whatever it reads and computes has no effect beyond what it writes: no function but PostgreSQL's own
    harmless ones, no type with code behind it, no view.
    """
    if known.strange or parsed.find(exp.Into, exp.Lock, exp.Operator):
        return False
    for call in parsed.find_all(exp.Func):
        if not _harmless_call(call, known):
            return False
    if any(_strange_type(each, known) for each in parsed.find_all(exp.DataType)):
        return False
    named = {_name(each.args["alias"].this) for each in parsed.find_all(exp.CTE) if each.args.get("alias")}
    for table in parsed.find_all(exp.Table):
        name = _table(table)
        if known.is_new(name) or name in named or not isinstance(table.this, exp.Identifier):
            continue
        there = known.there(name)
        if there is None or there.kind not in ("r", "p", "m"):
            return False
    return True


def _harmless_call(call: exp.Func, known: Known) -> bool:
    own = known.facts.functions if known.facts is not None else frozenset[str]()
    qualified = isinstance(call.parent, exp.Dot) and call.parent.expression is call
    if qualified and _name(call.parent.this if isinstance(call.parent, exp.Dot) else None) != "pg_catalog":
        return False
    if isinstance(call, exp.Anonymous):
        name = str(call.this).lower()
        return name in _HARMLESS_NAMES and name not in own
    if isinstance(call, _NO_CALLS):
        return True
    names = {each.lower() for each in type(call).sql_names()}
    return isinstance(call, _HARMLESS_CALLS) and not names & own


def _strange_type(kind: exp.DataType, known: Known) -> str:
    """Why a column of this type is not a plain column; empty where it is one."""
    if kind.this in _OWN_TYPES or (kind.this is exp.DType.ARRAY and kind.expressions):
        return ""
    written = kind.args.get("kind")
    if isinstance(written, exp.Dot):
        name = f"{_name(written.this)}.{_name(written.expression)}"
    elif isinstance(written, exp.Identifier):
        name = _name(written)
    else:
        name = str(written or getattr(kind.this, "value", kind.this)).lower()
    if ("TYPE", name) in known.made:
        return ""
    why = known.facts.types.get(name) if known.facts is not None else None
    return "a type that is not PostgreSQL's own" if why is None else why


def _of_size(table: str, known: Known) -> str:
    there = known.there(table)
    return f" ({there.size})" if there is not None and there.size else ""


def _free(table: str, known: Known) -> bool:
    """Whether a new table may be emptied or dropped: nothing that was there before refers to it."""
    return known.is_new(table) and table not in known.held


def _drop(parsed: exp.Drop, statement: str, known: Known) -> JudgedStatement:
    kind = str(parsed.args.get("kind", "")).upper()
    things = [_table(each) for each in parsed.args.get("tables") or () if isinstance(each, exp.Table)]
    if not things:
        return _destructive(statement)
    if kind == "TABLE" and all(_free(each, known) for each in things):
        for each in things:
            known.remove(each)
        return _ADDITIVE
    if all((kind, each) in known.made for each in things):
        known.made -= {(kind, each) for each in things}
        return _ADDITIVE
    if kind in _RELATIONS and parsed.args.get("exists") and not known.strange and all(map(known.absent, things)):
        return _ADDITIVE if not any(known.is_new(each) for each in things) else _destructive(statement)
    return _destructive(statement)


_RELATIONS = {"TABLE", "VIEW", "INDEX", "SEQUENCE"}
_EXCLUSIVE, _SHARE_ROW, _SHARE = "ACCESS EXCLUSIVE", "SHARE ROW EXCLUSIVE", "SHARE"


def _locks(parsed: Expression, known: Known) -> list[str]:
    """Locks on tables that are there which writers or everybody waits for. What PostgreSQL's manual says of each
    statement; https://www.postgresql.org/docs/current/explicit-locking.html
    """
    found: dict[str, str] = {}
    match parsed:
        case exp.Alter() if str(parsed.args.get("kind", "")).upper() == "TABLE":
            only_keys = all(
                isinstance(each, exp.AddConstraint) and each.find(exp.ForeignKey)
                for each in parsed.args.get("actions") or (None,)
            )
            found[_table(parsed.find(exp.Table))] = _SHARE_ROW if only_keys else _EXCLUSIVE
        case exp.Drop() | exp.TruncateTable():
            things = parsed.args.get("tables") or parsed.expressions
            found = dict.fromkeys((_table(each) for each in things), _EXCLUSIVE)
            if isinstance(parsed, exp.Drop) and str(parsed.args.get("kind")).upper() != "TABLE":
                found = {}
        case exp.Create() if str(parsed.args.get("kind", "")).upper() == "INDEX" and not parsed.args["concurrently"]:
            found[_table(parsed.find(exp.Table))] = _SHARE
        case exp.Create() if (trigger := parsed.find(exp.TriggerProperties)) is not None:
            found[_table(trigger.args.get("table"))] = _SHARE_ROW
    for reference in parsed.find_all(exp.Reference) if isinstance(parsed, exp.Alter | exp.Create) else ():
        found.setdefault(_table(reference.find(exp.Table)), _SHARE_ROW)
    waits = "; nothing bounds the wait for it, and others queue behind: set lock_timeout" if known.patient else ""
    return [
        f"{mode} on {table}{_of_size(table, known)}{waits}"
        for table, mode in found.items()
        if table and not known.is_new(table) and not known.absent(table)
    ]


_ADDITIVE = JudgedStatement(Effect.ADDITIVE)


def _unknown(why: str, statement: str) -> JudgedStatement:
    return JudgedStatement(Effect.UNKNOWN, (f"{why}: {_quoted(statement)}",))


def _destructive(statement: str, *hazards: str) -> JudgedStatement:
    return JudgedStatement(Effect.DESTRUCTIVE, (_quoted(statement),), hazards)


def _quoted(statement: str) -> str:
    """A statement's beginning, without comments, on one line. Its values may be data: they are left out."""
    tokens = Postgres().tokenize(statement)
    words = ["…" if _is_value(token) else statement[token.start : token.end + 1] for token in tokens]
    text = " ".join(" ".join(words).split())
    return text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 1] + "…"


def _is_value(token: Token) -> bool:
    return token.token_type in (TokenType.STRING, TokenType.HEREDOC_STRING, TokenType.NATIONAL_STRING, TokenType.NUMBER)


def _create(parsed: exp.Create, statement: str, known: Known) -> JudgedStatement:
    kind = str(parsed.args.get("kind", "")).upper()
    if kind not in _NEW_THINGS:
        return _code("code", statement, known)
    if parsed.args.get("replace"):
        return _unknown("replaces what is there", statement)
    if parsed.expression is not None and (kind == "TABLE" or parsed.find(exp.MaterializedProperty)):
        return _unknown("runs a query", statement)
    if kind == "TABLE":
        if parsed.find(*_OF_ANOTHER):
            return _unknown("becomes part of another table", statement)
        return _create_table(parsed, known)
    name = parsed.find(exp.Table)
    if kind != "INDEX":
        if not parsed.args.get("exists"):
            known.made.add((kind, _table(name)))
        return _ADDITIVE
    table = _table(name)
    if isinstance(parsed.this, exp.Index) and isinstance(parsed.this.this, exp.Identifier):
        known.made.add((kind, _name(parsed.this.this)))
    if known.is_new(table):
        return _ADDITIVE
    size = _of_size(table, known)
    hazards = () if parsed.args.get("concurrently") else (_long(f"CREATE INDEX without CONCURRENTLY on {table}{size}"),)
    if parsed.args.get("unique"):
        judged = _unknown("refuses rows that were possible before", statement)
        return replace(judged, hazards=hazards)
    if not all(_harmless_call(call, known) for call in parsed.find_all(exp.Func)):
        return replace(
            _unknown("every write calls a function that is not PostgreSQL's own", statement), hazards=hazards
        )
    return JudgedStatement(Effect.ADDITIVE, (), hazards)


def _create_table(parsed: exp.Create, known: Known) -> JudgedStatement:
    table = _table(parsed.find(exp.Table))
    new = not parsed.args.get("exists") or known.absent(table)
    if new and not parsed.find(exp.TemporaryProperty):
        known.add(table)
        _note_ties(parsed, table, known)
    return _ADDITIVE


def _note_ties(parsed: Expression, table: str, known: Known) -> None:
    """What the rows of a new table will be tied to: rows of others, and code."""
    for reference in parsed.find_all(exp.Reference):
        options = {str(each).upper() for each in reference.args.get("options") or ()}
        lets_go = any(each in options for each in ("ON DELETE CASCADE", "ON DELETE SET NULL"))
        if not lets_go and not known.is_new(_table(reference.find(exp.Table))):
            known.holding.add(table)
    runs = any(not _harmless_call(call, known) for call in parsed.find_all(exp.Func))
    strange = any(_strange_type(each, known) for each in parsed.find_all(exp.DataType))
    if runs or strange or parsed.find(exp.LikeProperty):
        known.holding.add(table)


def _long(what: str) -> str:
    return f"{what} blocks writes for as long as it takes"


def _alter(parsed: exp.Alter, statement: str, known: Known) -> JudgedStatement:
    table = _table(parsed.find(exp.Table))
    if str(parsed.args.get("kind", "")).upper() != "TABLE":
        return _destructive(statement) if _has(parsed, exp.AlterRename) else _unknown("not known", statement)
    actions: Sequence[Expression] = parsed.args.get("actions") or ()
    if not actions:
        return _unknown("not known", statement)
    if known.is_new(table):
        return _alter_new(actions, table, statement, known)
    return together(_action(action, table, statement, known) for action in actions)


def _alter_new(actions: Sequence[Expression], table: str, statement: str, known: Known) -> JudgedStatement:
    for action in actions:
        match action:
            case exp.AlterRename():
                known.remove(table)
                known.add(_renamed(table, _table(action.find(exp.Table))))
            case exp.ColumnDef() | exp.AddConstraint():
                _note_ties(action, table, known)
            case exp.Drop() | exp.RenameColumn() | exp.AlterColumn():
                pass
            case _:
                return _code("not known", statement, known)
    return _ADDITIVE


def _renamed(table: str, name: str) -> str:
    schema, dot, _ = table.rpartition(".")
    return f"{schema}{dot}{name}"


def _action(action: Expression, table: str, statement: str, known: Known) -> JudgedStatement:
    match action:
        case exp.ColumnDef():
            return _column(action, table, statement, known)
        case exp.Drop() | exp.AlterRename() | exp.RenameColumn():
            return _destructive(statement)
        case exp.AlterColumn():
            return _changed_column(action, table, statement, known)
        case exp.AddConstraint():
            return _constraint(action, table, statement, known)
    return _unknown("not known", statement)


def _column(column: exp.ColumnDef, table: str, statement: str, known: Known) -> JudgedStatement:
    """A new column: the version that serves neither reads nor writes it, so it must do without a value."""
    place = (table, _name(column.this))
    if not column.args.get("exists"):
        known.columns.add(place)
    if isinstance(column.kind, exp.DataType):
        if column.kind.this in _COUNTED:
            return _unknown(f"numbers all rows of {table}", statement)
        if strange := next(
            filter(None, (_strange_type(each, known) for each in column.kind.find_all(exp.DataType))), ""
        ):
            return _unknown(strange, statement)
    kinds = [constraint.args.get("kind") for constraint in column.args.get("constraints") or ()]
    default = next((kind.this for kind in kinds if isinstance(kind, exp.DefaultColumnConstraint)), None)
    if default is not None and not _constant(default, known):
        judged = _unknown("a default that is not a constant", statement)
        size = _of_size(table, known)
        return replace(judged, hazards=(f"ADD COLUMN with such a default may rewrite all of {table}{size}",))
    filled = default is not None and not _is_null(default)
    if filled:
        known.filled.add(place)
    hazards: list[str] = []
    for kind in kinds:
        if isinstance(kind, exp.NotNullColumnConstraint):
            if not filled and not kind.args.get("allow_null"):
                return _destructive(statement)
        elif isinstance(kind, exp.Reference):
            referred = _table(kind.find(exp.Table))
            known.keys.add(place)
            if known.is_new(referred):
                known.held |= known._written(referred)
            if filled:
                return _unknown(f"ties all rows of {table} to a row of {referred}", statement)
            hazards.append(f"a foreign key on {table} locks the table that it refers to")
        elif not isinstance(kind, exp.DefaultColumnConstraint | exp.CommentColumnConstraint):
            return _unknown("a constraint on rows that are there", statement)
    return JudgedStatement(Effect.ADDITIVE, (), tuple(hazards))


def _is_null(value: Expression) -> bool:
    while isinstance(value, exp.Cast | exp.Paren):
        value = value.this
    return isinstance(value, exp.Null)


def _constant(value: Expression, known: Known) -> bool:
    while isinstance(value, exp.Cast | exp.Neg | exp.Paren):
        if isinstance(value, exp.Cast) and _strange_type(value.to, known):
            return False
        value = value.this
    # The moment of the migration is one value for all rows.
    return isinstance(value, exp.Literal | exp.Boolean | exp.Null | exp.CurrentTimestamp | exp.CurrentDate)


def _changed_column(action: exp.AlterColumn, table: str, statement: str, known: Known) -> JudgedStatement:
    size = _of_size(table, known)
    if action.args.get("dtype") is not None:
        hazard = f"ALTER COLUMN TYPE may rewrite all of {table}{size}, and blocks everything meanwhile"
        return _destructive(statement, hazard)
    if action.args.get("allow_null") and action.args.get("drop"):
        return _ADDITIVE  # DROP NOT NULL
    default = action.args.get("default")
    if default is not None and not _is_null(default):  # SET DEFAULT NULL is DROP DEFAULT
        if not _constant(default, known):
            return _unknown("a default that is not a constant", statement)
        if known.facts is not None and (table, _name(action.this)) in known.facts.defaults:
            return _unknown("another default for what the version that serves writes", statement)
        return _ADDITIVE  # SET DEFAULT
    if default is not None:
        return _destructive(statement)
    # SET NOT NULL, DROP DEFAULT: a write that leaves the column out worked before, and may fail now.
    whole = f"SET NOT NULL reads all of {table}{size} and blocks everything meanwhile"
    return _destructive(statement, *(() if action.args.get("drop") else (whole,)))


def _constraint(action: exp.AddConstraint, table: str, statement: str, known: Known) -> JudgedStatement:
    # The tokens: of its parsed forms only some keep it.
    valid = not _ends_with_not_valid(statement)
    whole = f"ADD CONSTRAINT without NOT VALID reads all of {table}{_of_size(table, known)} and blocks writes meanwhile"
    hazards = (whole,) if valid else ()
    if _of_new_columns(action, table, known):
        return JudgedStatement(Effect.ADDITIVE, (), hazards)
    judged = _unknown("refuses rows that were possible before", statement)
    return replace(judged, hazards=hazards)


def _of_new_columns(action: exp.AddConstraint, table: str, known: Known) -> bool:
    """Whether a foreign key has only columns that came with these migrations, and no row has a value there."""
    keys = list(action.find_all(exp.ForeignKey))
    own = {(table, _name(each)) for key in keys for each in key.expressions}
    known.keys |= own
    for reference in action.find_all(exp.Reference):
        referred = _table(reference.find(exp.Table))
        if known.is_new(referred):
            known.held |= known._written(referred)
    return bool(own) and own <= known.columns and not own & known.filled


def _ends_with_not_valid(statement: str) -> bool:
    words = [token.text.upper() for token in Postgres().tokenize(statement)]
    return words[-2:] == ["NOT", "VALID"]


def _validates(statement: str) -> bool:
    """ALTER TABLE … VALIDATE CONSTRAINT …: new rows were held to it before."""
    words = [token.text.upper() for token in Postgres().tokenize(statement)]
    return words[:2] == ["ALTER", "TABLE"] and words[-3:-1] == ["VALIDATE", "CONSTRAINT"] and "," not in words


def _about_rights(statement: str) -> bool:
    """GRANT of a role, ALTER … OWNER TO, ALTER DEFAULT PRIVILEGES."""
    words = _words(statement)
    return words[0] in ("GRANT", "REVOKE", "REASSIGN") or "OWNER" in words or words[1:3] == ["DEFAULT", "PRIVILEGES"]


def _reaches_out(statement: str) -> bool:
    """Whether it can be seen to change what belongs to the whole server, or to other servers."""
    words = _words(statement)
    if words[0] in ("GRANT", "REVOKE"):
        return "ON" not in words or not _OUTSIDE.isdisjoint(words)
    if words[0] in ("CREATE", "ALTER", "DROP", "REASSIGN"):
        return words[1] in _OUTSIDE
    if words[0] in ("COMMENT", "SECURITY"):
        return not _OUTSIDE.isdisjoint(words[:6])
    return (words[0] == "COPY" and "PROGRAM" in words) or any(word.startswith(_CALLS_OUT) for word in words)


def _words(statement: str) -> list[str]:
    """What it is made of, in capitals; never fewer than two words."""
    tokens = Postgres().tokenize(statement)
    return [*("" if token.token_type is TokenType.STRING else token.text.upper() for token in tokens), "", ""]


_OUTSIDE = {"ROLE", "USER", "GROUP", "DATABASE", "TABLESPACE", "SYSTEM", "SUBSCRIPTION", "OWNED"}
_CALLS_OUT = ("DBLINK", "PG_TERMINATE", "PG_RELOAD", "LO_EXPORT")


def _has(parsed: Expression, kind: type[Expression]) -> bool:
    return parsed.find(kind) is not None


def _bookkeeping(parsed: Expression, known: Known) -> bool:
    """Whether it writes constants into the tool's own table, and touches nothing else."""
    tables = {_table(table) for table in parsed.find_all(exp.Table)}
    return tables == {known.bookkeeping.lower()} and not parsed.find(exp.Func, exp.Select)


def _table(table: Expression | None) -> str:
    """A table's name as the server understands it, with its schema where one was written."""
    if not isinstance(table, exp.Table):
        return ""
    schema = table.args.get("db")
    return f"{_name(schema)}.{_name(table.this)}" if schema else _name(table.this)


def _name(identifier: object) -> str:
    """A name: as it was written in quotes, else in small letters."""
    if not isinstance(identifier, exp.Identifier):
        return str(identifier)
    return identifier.name if identifier.args.get("quoted") else identifier.name.lower()

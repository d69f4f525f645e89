"""Before a migration runs, the version that serves must be known to survive it. Its SQL is parsed, not searched.

Additive is only what is known to be: the version that serves neither reads nor writes what is new. What takes something
away, or makes a write fail that worked before, is destructive. Everything else is unknown: data that changes, functions
and blocks of code, whatever the parser does not know.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import sqlglot
from sqlglot import exp
from sqlglot.dialects import Postgres
from sqlglot.errors import SqlglotError
from sqlglot.expressions.core import Expression
from sqlglot.tokenizer_core import Token, TokenType

from models.preflight.migrations import Effect

LARGEST = 2 << 20
LONGEST_QUOTE = 80
_HARMLESS_SETTINGS = {"lock_timeout", "statement_timeout", "client_min_messages", "client_encoding"}
_HARMLESS_SETTINGS |= {"idle_in_transaction_session_timeout", "standard_conforming_strings", "check_function_bodies"}
_NEW_THINGS = {"TABLE", "INDEX", "SCHEMA", "SEQUENCE", "TYPE", "VIEW"}
_OF_ANOTHER = (exp.PartitionedOfProperty, exp.InheritsProperty)
_COUNTED = {exp.DType.SERIAL, exp.DType.BIGSERIAL, exp.DType.SMALLSERIAL}
_ORDER = (Effect.DESTRUCTIVE, Effect.UNKNOWN, Effect.ADDITIVE)

# What it cannot parse it says in its log; here that is an answer.
logging.getLogger("sqlglot").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Judged:
    """What some SQL does.

    Attributes:
        why: what made it destructive or unknown.
        hazards: what may hold a lock for long.
    """

    effect: Effect
    why: tuple[str, ...] = ()
    hazards: tuple[str, ...] = ()


@dataclass
class Known:
    """What is new since the first of the pending migrations: the version that serves does not know it.

    Attributes:
        bookkeeping: the tool's own table: writing there is no change.
    """

    bookkeeping: str = ""
    tables: set[str] = field(default_factory=set)
    columns: set[tuple[str, str]] = field(default_factory=set)


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


def classify(text: str, known: Known | None = None) -> Judged:
    """Judges a script, statement by statement; what is new in it is added to `known`."""
    known = known or Known()
    if len(text) > LARGEST:
        return Judged(Effect.UNKNOWN, (f"more than {LARGEST >> 20} MiB of SQL",))
    try:
        statements = split(text)
    except SqlglotError:
        return Judged(Effect.UNKNOWN, ("it cannot be read as SQL",))
    return together(_judge(statement, known) for statement in statements)


def together(parts: Iterable[Judged]) -> Judged:
    """The worst of several, with everything that was found."""
    found = list(parts)
    effect = next((each for each in _ORDER if any(part.effect is each for part in found)), Effect.ADDITIVE)
    why = dict.fromkeys(reason for part in found if part.effect is not Effect.ADDITIVE for reason in part.why)
    hazards = dict.fromkeys(hazard for part in found for hazard in part.hazards)
    return Judged(effect, tuple(why), tuple(hazards))


def _judge(statement: str, known: Known) -> Judged:
    try:
        parsed = sqlglot.parse_one(statement, dialect="postgres")
    except (SqlglotError, RecursionError):
        return _unknown("cannot be parsed", statement)
    match parsed:
        case exp.Create():
            return _create(parsed, statement, known)
        case exp.Alter():
            return _alter(parsed, statement, known)
        case exp.Drop() | exp.TruncateTable():
            return _destructive(statement)
        case exp.Update() | exp.Delete():
            if _bookkeeping(parsed, known):
                return _ADDITIVE
            return _unknown("changes data", statement) if parsed.args.get("where") else _destructive(statement)
        case exp.Insert():
            return _ADDITIVE if _bookkeeping(parsed, known) else _unknown("changes data", statement)
        case exp.Transaction() | exp.Commit() | exp.Rollback() | exp.Comment() | exp.Grant():
            return _ADDITIVE
        case exp.Set():
            names = {item.this.this.name.lower() for item in parsed.expressions if isinstance(item.this, exp.EQ)}
            return _ADDITIVE if names and names <= _HARMLESS_SETTINGS else _unknown("a setting", statement)
        case exp.Command() if _validates(statement):
            return _ADDITIVE
    return _unknown("not known", statement)


_ADDITIVE = Judged(Effect.ADDITIVE)


def _unknown(why: str, statement: str) -> Judged:
    return Judged(Effect.UNKNOWN, (f"{why}: {_quoted(statement)}",))


def _destructive(statement: str, *hazards: str) -> Judged:
    return Judged(Effect.DESTRUCTIVE, (_quoted(statement),), hazards)


def _quoted(statement: str) -> str:
    """A statement's beginning, without comments, on one line. Its values may be data: they are left out."""
    tokens = Postgres().tokenize(statement)
    words = ["…" if _is_value(token) else statement[token.start : token.end + 1] for token in tokens]
    text = " ".join(" ".join(words).split())
    return text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 1] + "…"


def _is_value(token: Token) -> bool:
    return token.token_type in (TokenType.STRING, TokenType.HEREDOC_STRING, TokenType.NATIONAL_STRING, TokenType.NUMBER)


def _create(parsed: exp.Create, statement: str, known: Known) -> Judged:
    kind = str(parsed.args.get("kind", "")).upper()
    if kind not in _NEW_THINGS:
        return _unknown("code", statement)
    if parsed.args.get("replace"):
        return _unknown("replaces what is there", statement)
    if parsed.expression is not None and (kind == "TABLE" or parsed.find(exp.MaterializedProperty)):
        return _unknown("runs a query", statement)
    if kind == "TABLE":
        if parsed.find(*_OF_ANOTHER):
            return _unknown("becomes part of another table", statement)
        if not parsed.args.get("exists") and not parsed.find(exp.TemporaryProperty):
            known.tables.add(_table(parsed.find(exp.Table)))
        return _ADDITIVE
    if kind != "INDEX":
        return _ADDITIVE
    table = _table(parsed.find(exp.Table))
    if table in known.tables:
        return _ADDITIVE
    hazards = () if parsed.args.get("concurrently") else (_long(f"CREATE INDEX without CONCURRENTLY on {table}"),)
    if parsed.args.get("unique"):
        judged = _unknown("refuses rows that were possible before", statement)
        return Judged(judged.effect, judged.why, hazards)
    return Judged(Effect.ADDITIVE, (), hazards)


def _long(what: str) -> str:
    return f"{what} blocks writes for as long as it takes"


def _alter(parsed: exp.Alter, statement: str, known: Known) -> Judged:
    table = _table(parsed.find(exp.Table))
    if str(parsed.args.get("kind", "")).upper() != "TABLE":
        return _destructive(statement) if _has(parsed, exp.AlterRename) else _unknown("not known", statement)
    actions: Sequence[Expression] = parsed.args.get("actions") or ()
    if not actions:
        return _unknown("not known", statement)
    if table in known.tables:
        return _ADDITIVE
    return together(_action(action, table, statement, known) for action in actions)


def _action(action: Expression, table: str, statement: str, known: Known) -> Judged:
    match action:
        case exp.ColumnDef():
            return _column(action, table, statement, known)
        case exp.Drop() | exp.AlterRename() | exp.RenameColumn():
            return _destructive(statement)
        case exp.AlterColumn():
            return _changed_column(action, table, statement)
        case exp.AddConstraint():
            return _constraint(action, table, statement, known)
    return _unknown("not known", statement)


def _column(column: exp.ColumnDef, table: str, statement: str, known: Known) -> Judged:
    """A new column: the version that serves neither reads nor writes it, so it must do without a value."""
    if not column.args.get("exists"):
        known.columns.add((table, _name(column.this)))
    if isinstance(column.kind, exp.DataType) and column.kind.this in _COUNTED:
        return _unknown(f"numbers all rows of {table}", statement)
    kinds = [constraint.args.get("kind") for constraint in column.args.get("constraints") or ()]
    default = next((kind.this for kind in kinds if isinstance(kind, exp.DefaultColumnConstraint)), None)
    if default is not None and not _constant(default):
        judged = _unknown("a default that is no constant", statement)
        return Judged(judged.effect, judged.why, (f"ADD COLUMN with such a default may rewrite all of {table}",))
    hazards: list[str] = []
    for kind in kinds:
        if isinstance(kind, exp.NotNullColumnConstraint):
            if default is None and not kind.args.get("allow_null"):
                return _destructive(statement)
        elif isinstance(kind, exp.Reference):
            hazards.append(f"a foreign key on {table} locks the table that it refers to")
        elif not isinstance(kind, exp.DefaultColumnConstraint | exp.CommentColumnConstraint):
            return _unknown("a constraint on rows that are there", statement)
    return Judged(Effect.ADDITIVE, (), tuple(hazards))


def _constant(value: Expression) -> bool:
    while isinstance(value, exp.Cast | exp.Neg | exp.Paren):
        value = value.this
    # The moment of the migration is one value for all rows.
    return isinstance(value, exp.Literal | exp.Boolean | exp.Null | exp.CurrentTimestamp | exp.CurrentDate)


def _changed_column(action: exp.AlterColumn, table: str, statement: str) -> Judged:
    if action.args.get("dtype") is not None:
        return _destructive(statement, f"ALTER COLUMN TYPE may rewrite all of {table}, and blocks everything meanwhile")
    if action.args.get("allow_null") and action.args.get("drop"):
        return _ADDITIVE  # DROP NOT NULL
    if action.args.get("default") is not None:
        return _ADDITIVE  # SET DEFAULT
    # SET NOT NULL, DROP DEFAULT: a write that leaves the column out worked before, and may fail now.
    hazards = () if action.args.get("drop") else (f"SET NOT NULL reads all of {table} and blocks everything meanwhile",)
    return _destructive(statement, *hazards)


def _constraint(action: exp.AddConstraint, table: str, statement: str, known: Known) -> Judged:
    # The tokens: of its parsed forms only some keep it.
    valid = not _ends_with_not_valid(statement)
    hazards = (f"ADD CONSTRAINT without NOT VALID reads all of {table} and blocks writes meanwhile",) if valid else ()
    if _of_new_columns(action, table, known):
        return Judged(Effect.ADDITIVE, (), hazards)
    judged = _unknown("refuses rows that were possible before", statement)
    return Judged(judged.effect, judged.why, hazards)


def _of_new_columns(action: exp.AddConstraint, table: str, known: Known) -> bool:
    """Whether a foreign key has only columns that came with these migrations."""
    keys = list(action.find_all(exp.ForeignKey))
    own = [_name(each) for key in keys for each in key.expressions]
    return bool(own) and all((table, name) in known.columns for name in own)


def _ends_with_not_valid(statement: str) -> bool:
    words = [token.text.upper() for token in Postgres().tokenize(statement)]
    return words[-2:] == ["NOT", "VALID"]


def _validates(statement: str) -> bool:
    """ALTER TABLE … VALIDATE CONSTRAINT …: new rows were held to it before."""
    words = [token.text.upper() for token in Postgres().tokenize(statement)]
    return words[:2] == ["ALTER", "TABLE"] and words[-3:-1] == ["VALIDATE", "CONSTRAINT"] and "," not in words


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

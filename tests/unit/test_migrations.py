"""What a statement does to the version that serves; and what a spec may say about migrations."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from activities.database.connection import Database
from activities.migrations.alembic_sources import Sources
from activities.migrations.classify import Known, classify, split
from activities.migrations.connection_rewrite import led_to
from activities.migrations.facts import Facts, Relation
from activities.migrations.plan import _lines, _TrialRun
from activities.migrations.tools import _up
from models.preflight.backup import BackupSpec
from models.preflight.migrations import Difference, Effect, MigrationsSpec, PendingMigration, Tried

ADDITIVE = (
    "CREATE TABLE n (id serial PRIMARY KEY, name text NOT NULL, at timestamptz DEFAULT now())",
    "CREATE TABLE n (id int); CREATE UNIQUE INDEX i ON n (id); ALTER TABLE n ADD CONSTRAINT c CHECK (id > 0)",
    "CREATE INDEX CONCURRENTLY i ON t (a)",
    "CREATE INDEX i ON t (a)",
    "CREATE SCHEMA s",
    "CREATE SEQUENCE s",
    "CREATE TYPE mood AS ENUM ('a', 'b')",
    "CREATE VIEW v AS SELECT a FROM t",
    "ALTER TABLE t ADD COLUMN a int",
    "ALTER TABLE ONLY t ADD COLUMN IF NOT EXISTS a text NULL",
    "ALTER TABLE t ADD COLUMN a int NOT NULL DEFAULT 3, ADD COLUMN b bool DEFAULT false NOT NULL",
    "ALTER TABLE t ADD COLUMN a jsonb DEFAULT '{}'::jsonb NOT NULL",
    "ALTER TABLE t ADD COLUMN a int DEFAULT -1",
    "ALTER TABLE t ADD COLUMN a timestamptz NOT NULL DEFAULT now()",
    "ALTER TABLE t ADD COLUMN a int REFERENCES u (id)",
    "ALTER TABLE t ADD COLUMN a int; ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES u (id) NOT VALID",
    "ALTER TABLE t ALTER COLUMN a DROP NOT NULL",
    "ALTER TABLE t ALTER COLUMN a SET DEFAULT 4",
    "ALTER TABLE t VALIDATE CONSTRAINT c",
    "COMMENT ON TABLE t IS 'x; DROP TABLE t'",
    "GRANT SELECT ON t TO reader",
    "BEGIN; SET LOCAL lock_timeout = '1s'; COMMIT",
    "INSERT INTO alembic_version (version_num) VALUES ('a')",
    "UPDATE alembic_version SET version_num='b' WHERE alembic_version.version_num = 'a'",
    # Nobody reads the rows of a table that these migrations made.
    "CREATE TABLE n (code text PRIMARY KEY, name text NOT NULL); INSERT INTO n VALUES ('DE', 'x'), ('FR', 'y')",
    "CREATE TABLE n (a int); UPDATE n SET a = 1; DELETE FROM n WHERE a = 2; DELETE FROM n; TRUNCATE n",
    "CREATE TABLE n (a int); DROP TABLE n; CREATE TABLE n (a text)",
    "CREATE TABLE n (a uuid DEFAULT gen_random_uuid(), at timestamptz DEFAULT now()); INSERT INTO n DEFAULT VALUES",
    "CREATE TABLE n (a int); INSERT INTO n (a) VALUES (1) ON CONFLICT DO NOTHING",
    "CREATE TABLE n (a int); CREATE TABLE m (a int); INSERT INTO m SELECT lower(a::text)::int FROM n",
    "CREATE TABLE n (id int PRIMARY KEY); CREATE TABLE m (n int REFERENCES n (id)); INSERT INTO m VALUES (1)",
    "CREATE TABLE n (t int REFERENCES t (id) ON DELETE CASCADE); INSERT INTO n VALUES (1)",
    "CREATE TABLE n (a int); ALTER TABLE n RENAME TO m; ALTER TABLE m RENAME COLUMN a TO b; DROP TABLE m",
    "CREATE TYPE mood AS ENUM ('a'); ALTER TABLE t ADD COLUMN m mood DEFAULT 'a'",
    "CREATE VIEW v AS SELECT 1; DROP VIEW v",
    "CREATE TABLE n (a int); CREATE INDEX i ON n (a); DROP INDEX i",
    "-- nothing but a comment: DROP TABLE t\n",
    "",
)
DESTRUCTIVE = (
    "DROP TABLE t",
    "drop table if exists t cascade",
    "DROP INDEX CONCURRENTLY i",
    "DROP VIEW v",
    "TRUNCATE t",
    "DELETE FROM t",
    "UPDATE t SET a = 1",
    "ALTER TABLE t DROP COLUMN a",
    "ALTER TABLE t ADD COLUMN a int, DROP COLUMN b",
    "ALTER TABLE t DROP CONSTRAINT c",
    "ALTER TABLE t RENAME TO u",
    "ALTER TABLE t RENAME COLUMN a TO b",
    "ALTER INDEX i RENAME TO j",
    "ALTER TABLE t ALTER COLUMN a TYPE bigint",
    "ALTER TABLE t ALTER COLUMN a SET NOT NULL",
    "ALTER TABLE t ADD COLUMN a int NOT NULL",
    # What Django does for a column with a default: afterwards the old version's inserts fail.
    'ALTER TABLE "t" ADD COLUMN "a" integer DEFAULT 0 NOT NULL; ALTER TABLE "t" ALTER COLUMN "a" DROP DEFAULT',
    "CREATE TABLE n (id int); DROP TABLE t",
    "CREATE TABLE n (id int); DROP TABLE n, t",
    "CREATE TABLE n (id int); DROP TABLE n; DROP TABLE n",
    "CREATE TABLE n (id int); ALTER TABLE n RENAME TO m; DROP TABLE n",
    "CREATE TABLE n (id int); TRUNCATE n, t",
    # Both say that a column has no default.
    "ALTER TABLE t ALTER COLUMN a SET DEFAULT NULL",
    "ALTER TABLE t ADD COLUMN a int DEFAULT NULL NOT NULL",
    "ALTER TABLE t ADD COLUMN a int DEFAULT NULL::int NOT NULL",
    "/* harmless */ DROP /* is it? */ TABLE t",
    'CREATE TABLE "T" (a int); ALTER TABLE t ALTER COLUMN a SET NOT NULL',
    "CREATE TABLE IF NOT EXISTS t (a int); ALTER TABLE t ALTER COLUMN a SET NOT NULL",
    "CREATE TEMP TABLE t (a int); ALTER TABLE t ALTER COLUMN a SET NOT NULL",
    "CREATE TABLE s.t (a int); ALTER TABLE t ALTER COLUMN a SET NOT NULL",
)
UNKNOWN = (
    "INSERT INTO t VALUES (1)",
    "UPDATE t SET a = 1 WHERE b = 2",
    "DELETE FROM t WHERE a = 1",
    "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM t RETURNING *) INSERT INTO alembic_version SELECT '1'",
    "SELECT setval('s', 1)",
    # The rows of a new table may hold rows of others, run code, or be held.
    "CREATE TABLE n (t int REFERENCES t (id)); INSERT INTO n SELECT 1",
    "CREATE TABLE n (a int); ALTER TABLE n ADD FOREIGN KEY (a) REFERENCES t (id); INSERT INTO n VALUES (1)",
    "CREATE TABLE n (a int DEFAULT f()); INSERT INTO n DEFAULT VALUES",
    "CREATE TABLE n (a int); INSERT INTO n VALUES (f())",
    "CREATE TABLE n (a int); INSERT INTO n VALUES (my.lower('x'))",
    "CREATE TABLE n (a int); INSERT INTO n SELECT nextval('s')",
    "CREATE TABLE n (a int); INSERT INTO n SELECT a FROM t",  # t may be a view, with anything behind it
    "CREATE TABLE n (a int); WITH x AS (DELETE FROM t RETURNING a) INSERT INTO n SELECT a FROM x",
    "CREATE TABLE n (a int); DO $$ BEGIN PERFORM 1; END $$; INSERT INTO n VALUES (1)",
    "CREATE TABLE n (LIKE t INCLUDING ALL); INSERT INTO n VALUES (1)",
    "CREATE TABLE n (id int); ALTER TABLE t ADD COLUMN a int REFERENCES n ON DELETE CASCADE; DELETE FROM n WHERE true",
    "CREATE TABLE n (a int); ALTER TABLE n INHERIT t",
    "ALTER TABLE t ADD COLUMN a int DEFAULT 5 REFERENCES u (id)",
    "ALTER TABLE t ADD COLUMN a int; UPDATE t SET a = 1 WHERE b = 2",  # a trigger may see it
    "ALTER TABLE t ADD COLUMN a citext",
    "ALTER TABLE t ADD COLUMN a app.money_amount DEFAULT 0",
    "ALTER TABLE t ADD COLUMN a hstore",
    "ALTER TABLE t ADD COLUMN a mood[]",
    "ALTER TABLE t ADD COLUMN a text DEFAULT 'x'::citext",
    "ALTER TABLE t ALTER COLUMN a SET DEFAULT f()",
    "CREATE INDEX i ON t (f(a))",
    "CREATE INDEX i ON t (a) WHERE f(a)",
    "GRANT admin TO bob",
    "ALTER TABLE t OWNER TO bob",
    "CREATE ROLE bob",
    "ALTER SYSTEM SET work_mem = '1GB'",
    "DO $$ BEGIN EXECUTE 'DROP TABLE t'; END $$",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; DROP TABLE t $$",
    "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
    "CREATE OR REPLACE VIEW v AS SELECT 1",
    "CREATE MATERIALIZED VIEW m AS SELECT * FROM t",
    "CREATE TABLE n AS SELECT * FROM t",
    "CREATE TABLE p PARTITION OF t FOR VALUES IN (1)",
    "CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)",
    "CREATE EXTENSION pgcrypto",
    "CREATE POLICY p ON t",
    "REVOKE SELECT ON t FROM reader",
    "ALTER TABLE t ADD COLUMN a uuid DEFAULT gen_random_uuid()",
    "ALTER TABLE t ADD COLUMN a serial",
    "ALTER TABLE t ADD COLUMN a int UNIQUE",
    "ALTER TABLE t ADD COLUMN a int CHECK (a > 0)",
    "ALTER TABLE t ADD COLUMN a int GENERATED ALWAYS AS (b + 1) STORED",
    "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID",
    "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (old) REFERENCES u (id)",
    "ALTER TABLE t ADD PRIMARY KEY (id)",
    "ALTER TABLE t DISABLE TRIGGER ALL",
    "ALTER TABLE t SET SCHEMA s",
    "ALTER TYPE mood ADD VALUE 'c'",
    "SET search_path TO other; CREATE TABLE t (a int)",
    "SET session_replication_role = replica",
    "COPY t FROM STDIN",
    "VACUUM t",
    "LOCK TABLE t",
    "\\i other.sql",
    "this is no SQL",
    "SELECT 'never ends",
    "(" * 5000,
    "SELECT 1;" * 300_000,
)


@pytest.mark.parametrize(
    ("sql", "effect"),
    [
        *((sql, Effect.ADDITIVE) for sql in ADDITIVE),
        *((sql, Effect.DESTRUCTIVE) for sql in DESTRUCTIVE),
        *((sql, Effect.UNKNOWN) for sql in UNKNOWN),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_a_script_does(sql: str, effect: Effect) -> None:
    judged = classify(sql, Known("alembic_version"))

    assert judged.effect is effect, judged
    assert bool(judged.why) == (effect is not Effect.ADDITIVE)


@pytest.mark.parametrize(
    ("sql", "hazard"),
    [
        ("CREATE INDEX i ON t (a)", "CREATE INDEX without CONCURRENTLY on t"),
        ("CREATE UNIQUE INDEX i ON t (a)", "CREATE INDEX without CONCURRENTLY on t"),
        ("ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)", "ADD CONSTRAINT without NOT VALID"),
        ("ALTER TABLE t ALTER COLUMN a SET NOT NULL", "SET NOT NULL reads all of t"),
        ("ALTER TABLE t ALTER COLUMN a TYPE bigint", "may rewrite all of t"),
        ("ALTER TABLE t ADD COLUMN a uuid DEFAULT gen_random_uuid()", "may rewrite all of t"),
    ],
)
def test_what_may_lock_for_long_is_named(sql: str, hazard: str) -> None:
    assert any(hazard in each for each in classify(sql).hazards)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX CONCURRENTLY i ON t (a)",
        "CREATE TABLE n (a int); CREATE INDEX i ON n (a)",
        "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID",
        "ALTER TABLE t ADD COLUMN a int NOT NULL DEFAULT 1",
    ],
)
def test_what_does_not_is_not(sql: str) -> None:
    assert classify(sql).hazards == ()


def test_what_is_new_stays_new_for_the_migrations_that_follow() -> None:
    known = Known()

    assert classify("CREATE TABLE n (a int)", known).effect is Effect.ADDITIVE
    assert classify("ALTER TABLE n ALTER COLUMN a SET NOT NULL", known).effect is Effect.ADDITIVE
    assert classify("ALTER TABLE n ALTER COLUMN a SET NOT NULL").effect is Effect.DESTRUCTIVE


FACTS = Facts(
    relations={
        **dict.fromkeys(("t", "public.t"), Relation("r", 3_000_000, 5 << 30)),
        "busy": Relation("r", reacts=True),
        "v": Relation("v"),
        "s.other": Relation("r"),
    },
    types={"mood": "", "email": "a domain with rules of its own", "app.tag": ""},
    functions=frozenset({"f", "lower"}),
    defaults=frozenset({("t", "state")}),
    schema="public",
)


@pytest.mark.parametrize(
    ("sql", "effect"),
    [
        ("ALTER TABLE t ADD COLUMN a mood", Effect.ADDITIVE),
        ("ALTER TABLE t ADD COLUMN a app.tag[]", Effect.ADDITIVE),
        ("ALTER TABLE t ADD COLUMN a email", Effect.UNKNOWN),
        ("ALTER TABLE t ADD COLUMN a strange", Effect.UNKNOWN),
        ("ALTER TABLE t ADD COLUMN a text; UPDATE t SET a = b", Effect.ADDITIVE),
        ("ALTER TABLE t ADD COLUMN a text; UPDATE public.t SET a = b", Effect.DESTRUCTIVE),
        ("ALTER TABLE t ADD COLUMN a text; UPDATE t SET a = b, b = NULL WHERE b = 'x'", Effect.UNKNOWN),
        ("ALTER TABLE t ADD COLUMN a text; UPDATE t SET a = f(b) WHERE b = 'x'", Effect.UNKNOWN),
        ("ALTER TABLE busy ADD COLUMN a text; UPDATE busy SET a = b WHERE b = 'x'", Effect.UNKNOWN),
        ("ALTER TABLE t ADD COLUMN a int REFERENCES u (id); UPDATE t SET a = 1 WHERE b = 2", Effect.UNKNOWN),
        ("CREATE TABLE n (a int); INSERT INTO n SELECT a FROM t", Effect.ADDITIVE),
        ("CREATE TABLE n (a int); INSERT INTO n SELECT a FROM v", Effect.UNKNOWN),
        ("CREATE TABLE n (a text); INSERT INTO n SELECT lower(a) FROM t", Effect.UNKNOWN),  # there is another lower()
        ("CREATE TABLE n (a int); INSERT INTO public.n VALUES (1); DROP TABLE public.n", Effect.ADDITIVE),
        ("CREATE TABLE public.n (a int); INSERT INTO n VALUES (1)", Effect.ADDITIVE),
        ("CREATE TABLE IF NOT EXISTS n (a int); INSERT INTO n VALUES (1)", Effect.ADDITIVE),
        ("CREATE TABLE IF NOT EXISTS t (a int); INSERT INTO t VALUES (1)", Effect.UNKNOWN),
        ("DROP TABLE IF EXISTS gone", Effect.ADDITIVE),
        ("DROP TABLE IF EXISTS gone, t", Effect.DESTRUCTIVE),
        ("DROP TABLE gone", Effect.DESTRUCTIVE),
        ("ALTER TABLE t ALTER COLUMN a SET DEFAULT 1", Effect.ADDITIVE),
        ("ALTER TABLE t ALTER COLUMN state SET DEFAULT 'new'", Effect.UNKNOWN),
        ("SELECT count(*) FROM t", Effect.ADDITIVE),
        ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", Effect.UNKNOWN),
        ("WITH x AS (SELECT a FROM t) SELECT * FROM x", Effect.ADDITIVE),
        ("SELECT f(a) FROM t", Effect.UNKNOWN),
        ("SELECT * FROM t FOR UPDATE", Effect.UNKNOWN),
    ],
)
def test_what_the_catalogue_decides(sql: str, effect: Effect) -> None:
    judged = classify(sql, Known("alembic_version", FACTS))

    assert judged.effect is effect, judged


@pytest.mark.parametrize(
    ("sql", "locks"),
    [
        ("ALTER TABLE t ADD COLUMN a int", ["ACCESS EXCLUSIVE on t (5.0 GiB, about 3,000,000 rows)"]),
        ("CREATE INDEX i ON t (a)", ["SHARE on t"]),
        ("CREATE INDEX CONCURRENTLY i ON t (a)", []),
        ("CREATE TABLE n (t int REFERENCES t (id))", ["SHARE ROW EXCLUSIVE on t"]),
        ("ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES s.other (id)", ["SHARE ROW", "SHARE ROW"]),
        ("ALTER TABLE t VALIDATE CONSTRAINT c", []),
        ("CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION g()", ["SHARE ROW EXCLUSIVE on t"]),
        ("DROP TABLE t", ["ACCESS EXCLUSIVE on t"]),
        ("CREATE TABLE n (a int); ALTER TABLE n ADD COLUMN b int; DROP TABLE n", []),
    ],
)
def test_which_locks_others_wait_for(sql: str, locks: list[str]) -> None:
    found = classify(sql, Known("", FACTS)).locks

    assert len(found) == len(locks)
    assert all(each.startswith(wanted) for each, wanted in zip(found, locks, strict=True)), found
    assert all("set lock_timeout" in each for each in found)


def test_a_wait_for_a_lock_that_is_bounded_is_no_hazard() -> None:
    bounded = "SET LOCAL lock_timeout = '2s'; ALTER TABLE t ADD COLUMN a int"
    unbounded = "SET LOCAL lock_timeout = 0; ALTER TABLE t ADD COLUMN a int"

    assert classify(bounded, Known("", FACTS)).locks == ("ACCESS EXCLUSIVE on t (5.0 GiB, about 3,000,000 rows)",)
    assert "set lock_timeout" in classify(unbounded, Known("", FACTS)).locks[0]


GENERATED = """
'''add things'''
from typing import Sequence, Union
from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
revision: str = 'a1'
down_revision: Union[str, None] = None
NAMES = ['one', 'two']

def _name(table, column):
    return f'{table}_{column}'

def upgrade() -> None:
    things = op.create_table('things', sa.Column('id', sa.Integer(), server_default=sa.text('1'), nullable=False),
                             sa.Column('tags', postgresql.JSONB(), nullable=True), sa.PrimaryKeyConstraint('id'))
    with op.batch_alter_table('people') as batch_op:
        batch_op.add_column(sa.Column('email', sa.String(200), nullable=True))
    for name in NAMES:
        op.create_index(op.f(_name('things', name)), 'things', [name], unique=False)
    op.bulk_insert(things, [{'id': n} for n, each in enumerate(NAMES)])
    op.execute('UPDATE things SET id = 1')

def downgrade() -> None:
    connection = op.get_bind()
"""
ENVIRONMENT = """
from alembic import context
from sqlalchemy import engine_from_config, text
if context.is_offline_mode():
    context.run_migrations()
else:
    with engine_from_config({}).connect() as connection:
        connection.execute(text("SET lock_timeout = '5s'"))
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()
"""


def sources(folder: Path, migration: str = GENERATED, environment: str = ENVIRONMENT) -> Sources:
    (folder / "versions").mkdir()
    (folder / "env.py").write_text(environment)
    (folder / "versions" / "a1.py").write_text(migration)
    return Sources(folder)


def test_a_generated_migration_prints_what_it_runs(tmp_path: Path) -> None:
    assert sources(tmp_path).of("a1").opaque == ""


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("if context.is_offline_mode(): return", "asks for Alembic's context"),
        ("if op.get_context().as_sql: return", "op.get_context()"),
        ("op.get_bind().execute(sa.text('DROP TABLE people'))", "op.get_bind()"),
        ("if op.get_bind().dialect.name == 'postgresql': pass", "op.get_bind()"),
        ("bind = getattr(op, 'get_bind')()", "hands Alembic's operations on"),
        ("run(op)", "hands Alembic's operations on"),
        ("helpers.migrate()", "uses helpers"),
        ("__import__('os')", "uses __import__"),
        ("open('/tmp/x')", "uses open"),
        ("eval('1')", "uses eval"),
        ("sa.create_engine('x').connect()", "create_engine"),
        ("sa.event.listen(x, 'y', z)", "sa.event"),
        ("sa.inspect(x)", "sa.inspect"),
        ("op.run_async(None)", "op.run_async()"),
        ("op.create_table('x', sa.Column('a', sa.Integer), autoload_with=1)", "autoload_with"),
        ("from os import environ", "imports environ of os"),
        ("from myapp.models import Thing", "imports Thing of myapp.models"),
        ("from .helpers import more", "imports more of .helpers"),
        ("import alembic", "imports alembic whole"),
        ("from alembic.op import get_bind", "imports get_bind"),
    ],
)
def test_a_migration_that_may_run_something_else_is_seen(line: str, says: str, tmp_path: Path) -> None:
    migration = GENERATED.replace(
        "def upgrade() -> None:\n", f"from alembic import context\ndef upgrade():\n    {line}\n"
    )

    found = sources(tmp_path, migration).of("a1")

    assert says in found.opaque
    assert "may differ from what runs" in found.opaque


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        (ENVIRONMENT.replace("SET lock_timeout = '5s'", "DROP TABLE t"), "SQL of its own"),
        (ENVIRONMENT.replace("SET lock_timeout = '5s'", "SET search_path = x"), "SQL of its own"),
        (ENVIRONMENT + "\nfor each in tenants:\n    context.run_migrations()\n", "more than once"),
        (ENVIRONMENT.replace("connection=connection", "connection=connection, on_version_apply=f"), "called back"),
    ],
)
def test_an_environment_that_does_more_is_seen(environment: str, says: str, tmp_path: Path) -> None:
    assert says in sources(tmp_path, environment=environment).of("a1").opaque


def test_a_migration_whose_source_is_not_there_is_not_known(tmp_path: Path) -> None:
    found = sources(tmp_path)

    assert "was not found" in found.of("b2").opaque
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "a1.py").write_text(GENERATED + "\n# another one\n")
    assert "more than once" in Sources(tmp_path).of("a1").opaque


def test_the_digest_is_over_the_source(tmp_path: Path) -> None:
    before = sources(tmp_path).of("a1").digest
    (tmp_path / "versions" / "a1.py").write_text(GENERATED.replace("UPDATE", "UPDATE  "))

    assert Sources(tmp_path).of("a1").digest not in ("", before)


@pytest.mark.parametrize(
    ("sql", "outside"),
    [
        ("CREATE ROLE bob", True),
        ("ALTER SYSTEM SET work_mem = '1GB'", True),
        ("ALTER DATABASE shop SET work_mem = '1GB'", True),
        ("GRANT CONNECT ON DATABASE shop TO bob", True),
        ("GRANT admin TO bob", True),
        ("GRANT SELECT ON people TO bob", False),
        ("COMMENT ON DATABASE shop IS 'x'", True),
        ("COMMENT ON TABLE people IS 'a database'", False),
        ("DROP OWNED BY bob", True),
        ("SELECT dblink_exec('host=elsewhere', 'DROP TABLE t')", True),
        ("COPY t FROM PROGRAM 'curl x'", True),
        ("CREATE TABLE users (a int)", False),
        ('ALTER TABLE "user" OWNER TO bob', False),
        ("REVOKE SELECT ON people FROM bob", False),
        ("CREATE EXTENSION pgcrypto", False),
        ("", False),
    ],
)
def test_what_reaches_out_of_its_database_is_seen(sql: str, outside: bool) -> None:
    assert classify(sql).outside is outside


def test_values_are_not_quoted() -> None:
    judged = classify("UPDATE people SET password = 'hunter22' WHERE id = 77123")

    assert "hunter22" not in repr(judged)
    assert "77123" not in repr(judged)


def test_statements_are_told_apart_by_their_tokens() -> None:
    assert split("SELECT ';'; -- ;\nSELECT $$;$$ ; ;") == ["SELECT ';'", "-- ;\nSELECT $$;$$"]


def test_the_up_part_of_a_file_of_dbmate() -> None:
    text = "-- migrate:up transaction:false\nCREATE TABLE a (id int);\n-- migrate:down\nDROP TABLE a;\n"

    assert _up(text).strip().endswith("CREATE TABLE a (id int);")
    assert "DROP" not in _up(text)
    assert _up("-- migrate:down\nDROP TABLE a;\n-- migrate:up\nSELECT 1;\n").strip() == "SELECT 1;"


def test_a_plan_stays_small_and_is_bound_to_all_of_them() -> None:
    spec = MigrationsSpec.model_validate({**DATABASE, "tool": "dbmate"})
    pending = [PendingMigration(id=f"m{n}", effect=Effect.ADDITIVE, digest=f"{n:064x}") for n in range(900)]
    other = [*pending[:-1], pending[-1].model_copy(update={"digest": "f" * 64})]

    lines = _lines(spec, pending, runs=True, others=False)

    assert len(lines) == 101
    assert "800 more, 800 additive" in lines[-1]
    assert lines != _lines(spec, other, runs=True, others=False)


DATABASE = {"database": {"secret": "env:DB"}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tool": "flyway"}, "one of alembic, django, prisma, knex, dbmate, command"),
        ({"tool": "command"}, "needs status and run"),
        ({"tool": "command", "status": ["x"], "run": ["y"], "command": ["z"]}, "each a whole argument list"),
        ({"tool": "dbmate", "run": ["x"]}, "only for tool: command"),
        ({"tool": "dbmate", "way_back": {"kind": "forward-fix"}}, "says how"),
        ({"tool": "dbmate", "timeout": "30d"}, "between 1s and 24h"),
        ({"tool": "dbmate", "exit_codes": {"none": 1, "pending": 1}}, "cannot mean both"),
    ],
)
def test_a_spec_of_migrations_that_makes_no_sense(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        MigrationsSpec.model_validate({**DATABASE, **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"encrypt": {}}, "either age or gpg"),
        ({"encrypt": {"gpg": "ann@example.org"}}, "fingerprint"),
        ({"encrypt": {"gpg": "-x"}}, "fingerprint"),
        ({"encrypt": {"gpg": "0" * 40, "identity": {"secret": "env:X"}}}, "belongs to age"),
        ({"reuse": "2d"}, "reuse is at most max_age"),
        ({"timeout": "0s"}, "timeout is between"),
        ({"keep": 0}, "greater than or equal to 1"),
    ],
)
def test_a_spec_of_backups_that_makes_no_sense(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        BackupSpec.model_validate({**DATABASE, **changes})


@pytest.mark.parametrize(
    ("text", "led"),
    [
        ("postgresql://app:old@db/shop", "postgresql://b%20ob:p%3A%2Fw@127.0.0.1:5433/ds_x?sslmode=disable"),
        ("postgres://db:1/shop?sslmode=require", "postgres://b%20ob:p%3A%2Fw@127.0.0.1:5433/ds_x?sslmode=require"),
        (
            "postgresql+psycopg://app@/shop?host=/run/pg&user=app&connect_timeout=3",
            "postgresql+psycopg://b%20ob:p%3A%2Fw@127.0.0.1:5433/ds_x?connect_timeout=3&sslmode=disable",
        ),
        (
            "postgresql://app@db/shop?schema=public&pgbouncer=true",
            "postgresql://b%20ob:p%3A%2Fw@127.0.0.1:5433/ds_x?schema=public&pgbouncer=true&sslmode=disable",
        ),
        (
            "jdbc:postgresql://db/shop?user=app&password=old&ssl=false",
            "jdbc:postgresql://127.0.0.1:5433/ds_x?ssl=false&sslmode=disable&user=b+ob&password=p%3A%2Fw",
        ),
        (
            "host=db dbname=shop user=app password=old keepalives=1",
            "keepalives=1 host=127.0.0.1 port=5433 dbname=ds_x user='b ob' sslmode=disable password=p:/w",
        ),
    ],
)
def test_a_connection_string_is_led_to_a_copy_and_keeps_its_form(text: str, led: str) -> None:
    parameters = {"host": "127.0.0.1", "port": "5433", "dbname": "ds_x", "user": "b ob", "sslmode": "disable"}

    assert led_to(text, Database(parameters, {"password": "p:/w"})) == led


@pytest.mark.parametrize(
    ("host", "port", "led"),
    [
        ("::1", "5433", "postgresql://u@[::1]:5433/x"),
        ("a,b", "1,2", "postgresql://u@a:1,b:2/x"),
        ("a,b", "1", "postgresql://u@a:1,b:1/x"),
        ("/run/pg", "", "postgresql://u@/x?host=%2Frun%2Fpg"),
    ],
)
def test_a_copy_may_be_anywhere(host: str, port: str, led: str) -> None:
    parameters = {"host": host, "port": port, "dbname": "x", "user": "u"}

    assert led_to("postgresql://app:old@db/shop", Database(parameters, {})) == led


def pending(effect: Effect, name: str = "a", **more: Any) -> PendingMigration:
    return PendingMigration(id=name, effect=effect, digest=name, why=("as it stands",), **more)


def differences(*found: tuple[Effect, str]) -> tuple[Difference, ...]:
    return tuple(Difference(effect=effect, text=text) for effect, text in found)


ADDS, DROPS = (Effect.ADDITIVE, "adds"), (Effect.DESTRUCTIVE, "drops")
CHANGES = (Effect.UNKNOWN, "changes")


@pytest.mark.parametrize(
    ("there", "found", "judged"),
    [
        ([Effect.UNKNOWN], [ADDS], [Effect.ADDITIVE]),
        ([Effect.UNKNOWN], [], [Effect.ADDITIVE]),
        ([Effect.UNKNOWN], [CHANGES], [Effect.UNKNOWN]),
        ([Effect.UNKNOWN], [DROPS, ADDS], [Effect.DESTRUCTIVE]),
        ([Effect.ADDITIVE], [ADDS], [Effect.ADDITIVE]),
        ([Effect.ADDITIVE], [DROPS], [Effect.DESTRUCTIVE]),
        ([Effect.ADDITIVE], [CHANGES], [Effect.UNKNOWN]),
        ([Effect.DESTRUCTIVE], [ADDS], [Effect.DESTRUCTIVE]),
        ([Effect.ADDITIVE, Effect.UNKNOWN], [DROPS], [Effect.ADDITIVE, Effect.DESTRUCTIVE]),
        ([Effect.ADDITIVE, Effect.UNKNOWN], [CHANGES], [Effect.ADDITIVE, Effect.UNKNOWN]),
        ([Effect.DESTRUCTIVE, Effect.UNKNOWN], [DROPS], [Effect.DESTRUCTIVE, Effect.UNKNOWN]),
        ([Effect.DESTRUCTIVE, Effect.UNKNOWN], [ADDS], [Effect.DESTRUCTIVE, Effect.ADDITIVE]),
    ],
)
def test_what_was_tried_decides(there: list[Effect], found: list[tuple[Effect, str]], judged: list[Effect]) -> None:
    migrations = [pending(effect, str(n)) for n, effect in enumerate(there)]
    tried = Tried(digests={each.id: each.digest for each in migrations}, differences=differences(*found))

    assert [each.effect for each in _TrialRun(tried, migrations).judged()] == judged


def test_what_a_copy_does_not_have_is_judged_by_the_sql() -> None:
    rights = (Difference(effect=Effect.UNKNOWN, text="rights", rights=True),)
    tried = Tried(digests={"a": "a"}, differences=rights)

    assert _TrialRun(tried, [pending(Effect.ADDITIVE)]).judged()[0].effect is Effect.ADDITIVE
    assert _TrialRun(tried, [pending(Effect.UNKNOWN, opaque=True)]).judged()[0].effect is Effect.UNKNOWN
    assert (
        _TrialRun(Tried(digests={"a": "a"}), [pending(Effect.UNKNOWN, rights=True)]).judged()[0].effect
        is Effect.UNKNOWN
    )


@pytest.mark.parametrize("tried", [None, Tried(undecided="no"), Tried(digests={"a": "other"}), Tried()])
def test_what_was_not_tried_decides_nothing(tried: Tried | None) -> None:
    trial = _TrialRun(tried, [pending(Effect.UNKNOWN)])

    assert trial.judged() == [pending(Effect.UNKNOWN)]
    assert trial.failed == ""

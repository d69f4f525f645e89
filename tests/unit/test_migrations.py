"""What a statement does to the version that serves; and what a spec may say about migrations."""

from typing import Any

import pytest
from pydantic import ValidationError

from activities.migrations.classify import Known, classify, split
from activities.migrations.look import _lines
from activities.migrations.tools import _up
from models.preflight.backup import BackupSpec
from models.preflight.migrations import Effect, MigrationsSpec, PendingMigration

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

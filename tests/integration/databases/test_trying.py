"""What is pending is run on the restored backup first: what it really does is known before anybody is asked."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, LiteralString

import psycopg
import pytest
import pytest_asyncio

from activities.database.connection import Connection, Database
from activities.migrations.plan import look
from activities.migrations.schema import compare, read_state, rewritten
from models.checks import PreflightCheck
from models.preflight.backup import BackupMade
from models.preflight.migrations import Effect, MigrationsFound, Tried
from models.verdict import Verdict
from tests.integration.databases.conftest import SOME, Bench, until
from tests.integration.databases.projects import Alembic, Dbmate, Psql
from tests.integration.databases.test_running_migrations import COLUMN, FORWARD, SLEEP, Migrating
from tests.integration.databases.test_what_is_unknown import version
from tests.servers.postgres import PASSWORD, Postgres

CODE = "DO $$ BEGIN {} END $$"
UNTRIED: dict[str, Any] = {"try": False}
TRYING = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND application_name LIKE 'ds-try-%'"


class Trying(Migrating):
    """The same project, with a backup on which what is pending is tried."""

    async def back_up(self, backup: dict[str, Any] | None = None, **changes: Any) -> BackupMade:
        migrations = {"database": {"secret": "env:SHOP_DB"}, **self.project.spec(), **FORWARD, **changes}
        made = await self.shop.backup(self.shop.spec(backup, migrations=migrations))
        assert isinstance(made, BackupMade)
        return made

    async def tried(self, **changes: Any) -> Tried:
        made = await self.back_up(**changes)
        assert made.verdict is Verdict.PASS, made.reason
        assert made.tried is not None
        assert self.shop.scratches() == []
        return made.tried

    async def judged(self, tried: Tried, **changes: Any) -> MigrationsFound:
        spec, own = self.spec(**{**FORWARD, **changes})
        return await look(PreflightCheck(spec=spec, tried=tried), own)


@pytest.fixture
def dbmate(shop: Bench) -> Trying:
    return Trying(shop, Dbmate(shop.folder, shop.postgres.programs))


async def test_what_a_program_hides_is_seen_on_the_copy(shop: Bench) -> None:
    alembic = Trying(shop, Alembic(shop.folder, shop.postgres.programs))
    version(
        alembic,
        "a1",
        "op.add_column('people', sa.Column('full_name', sa.Text(), nullable=True))",
        "if context.is_offline_mode():",
        "    return",
        "op.drop_column('people', 'm')",
    )

    tried = await alembic.tried()
    found = await alembic.judged(tried)

    assert {each.text for each in tried.differences} == {
        "drops the column public.people.m",
        "adds the column public.people.full_name (text)",
    }, tried
    assert "m" in alembic.columns()
    assert "full_name" not in alembic.columns()
    assert found.pending[0].effect is Effect.DESTRUCTIVE
    assert found.pending[0].why[0] == "drops the column public.people.m"
    assert found.approve


async def test_what_proves_to_be_additive_needs_nobody(dbmate: Trying) -> None:
    dbmate.project.add("code", CODE.format("CREATE TABLE things (id int); INSERT INTO things VALUES (1);"))
    dbmate.project.add("filled", "ALTER TABLE people ADD COLUMN n int", CODE.format("UPDATE people SET n = id;"))

    without = await dbmate.look(**FORWARD)
    tried = await dbmate.tried()
    found = await dbmate.judged(tried)

    assert {each.effect for each in without.pending} == {Effect.UNKNOWN}
    assert tried.judge(rights=True) is Effect.ADDITIVE, tried
    assert {each.effect for each in found.pending} == {Effect.ADDITIVE}
    assert (found.run, found.approve) == (True, False)
    assert "tried on the restored backup in" in found.check.reason
    assert any("adds the table public.things" in line for line in found.changes)
    assert PASSWORD not in found.model_dump_json()
    assert dbmate.shop.postgres.rows(dbmate.shop.name, "SELECT to_regclass('things')") == [(None,)]
    assert (await dbmate.run(found, **FORWARD)).check.verdict is Verdict.PASS


async def test_what_changes_rows_that_are_read_is_named(dbmate: Trying) -> None:
    dbmate.project.add("code", CODE.format("UPDATE people SET name = 'x' WHERE id < 3;"))

    found = await dbmate.judged(await dbmate.tried())

    assert found.pending[0].effect is Effect.UNKNOWN
    assert found.pending[0].why[0] == "changes rows of public.people"
    assert found.approve


async def test_what_cannot_run_is_nothing_to_approve(dbmate: Trying) -> None:
    dbmate.project.add("fails", COLUMN, "SELECT 1 / (SELECT count(*) - 1000 FROM people)")

    made = await dbmate.back_up()
    assert made.tried is not None
    found = await dbmate.judged(made.tried)

    assert made.verdict is Verdict.PASS, made.reason
    assert dbmate.shop.left() == [made.evidence["id"]]
    assert found.check.verdict is Verdict.ERROR
    assert "division by zero" in found.check.reason
    assert (found.run, found.approve, found.changes) == (False, False, ())
    assert dbmate.shop.scratches() == []


async def test_a_tool_that_names_its_database_itself_is_not_run(dbmate: Trying) -> None:
    """Its configuration leads to the real one, whatever it is handed."""
    dbmate.project.add("takes_away", "ALTER TABLE people DROP COLUMN m")
    url = dbmate.shop.postgres.url(dbmate.shop.name)

    tried = await dbmate.tried(environment={"DATABASE_URL": url})
    found = await dbmate.judged(tried)

    assert "did not connect to the copy" in tried.undecided
    assert "m" in dbmate.columns()
    assert found.pending[0].effect is Effect.DESTRUCTIVE
    assert any("not tried on the restored backup" in line for line in found.changes)


async def test_what_belongs_to_the_whole_server_is_not_tried(dbmate: Trying) -> None:
    dbmate.project.add("role", "CREATE ROLE somebody_new")

    tried = await dbmate.tried()

    assert "the whole server" in tried.undecided
    assert dbmate.shop.postgres.rows("postgres", "SELECT 1 FROM pg_roles WHERE rolname = 'somebody_new'") == []


async def test_locks_are_measured_while_it_runs(dbmate: Trying) -> None:
    dbmate.project.add("slow", COLUMN, "SELECT pg_sleep(0.5)")

    tried = await dbmate.tried()

    assert any(each.startswith("held ACCESS EXCLUSIVE on public.people for about 0.") for each in tried.locks), tried
    assert (await dbmate.judged(tried)).pending[0].effect is Effect.ADDITIVE


async def test_one_that_takes_too_long_cannot_run(dbmate: Trying) -> None:
    dbmate.project.add("slow", COLUMN, SLEEP)

    tried = await dbmate.tried(timeout="1s")

    assert "did not end within 1s" in tried.failed


async def test_a_cancellation_in_the_middle_leaves_nothing(dbmate: Trying) -> None:
    dbmate.project.add("slow", COLUMN, SLEEP)
    running = asyncio.ensure_future(dbmate.back_up())
    await until(lambda: dbmate.shop.postgres.rows("postgres", TRYING))

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert dbmate.shop.scratches() == []
    assert dbmate.shop.postgres.rows("postgres", TRYING) == []
    assert "email" not in dbmate.columns()


async def test_it_is_tried_on_a_backup_that_is_used_again_and_does_not_use_its_time_up(dbmate: Trying) -> None:
    await dbmate.back_up(None, **UNTRIED)
    dbmate.project.add("slow", COLUMN, "SELECT pg_sleep(4)")

    made = await dbmate.back_up({"reuse": "1h", "timeout": "4s"})

    assert made.verdict is Verdict.PASS, made.reason
    assert "is still whole" in made.reason
    assert made.tried is not None
    assert made.tried.judge(rights=True) is Effect.ADDITIVE, made.tried


async def test_commands_are_tried_too(shop: Bench) -> None:
    psql = Trying(shop, Psql(shop.folder, shop.postgres.programs))
    psql.project.add("first", CODE.format("CREATE TABLE things (id int);"))

    tried = await psql.tried()
    found = await psql.judged(tried)

    assert not tried.undecided, tried.undecided
    # Of a command nobody knows which table is its own.
    assert [each.text for each in tried.differences] == [
        "adds the table public.things",
        "adds the table public.versions",
    ]
    assert found.pending[0].effect is Effect.ADDITIVE


async def test_what_was_tried_must_be_what_is_pending(dbmate: Trying) -> None:
    dbmate.project.add("code", CODE.format("CREATE TABLE things (id int);"))
    tried = await dbmate.tried()
    dbmate.project.add("more", CODE.format("CREATE TABLE other (id int);"))

    found = await dbmate.judged(tried)

    assert {each.effect for each in found.pending} == {Effect.UNKNOWN}
    assert "what was tried is not what is pending now" in found.check.reason


async def test_without_try_nothing_is_run(dbmate: Trying) -> None:
    dbmate.project.add("code", CODE.format("CREATE TABLE things (id int);"))

    made = await dbmate.back_up(None, **UNTRIED)

    assert made.verdict is Verdict.PASS
    assert made.tried is None


ADDITIVE: tuple[LiteralString, ...] = (
    "CREATE TABLE n (id serial PRIMARY KEY, name text NOT NULL); INSERT INTO n (name) VALUES ('a')",
    "ALTER TABLE people ADD COLUMN n int DEFAULT 3",
    "ALTER TABLE people ADD COLUMN n int; UPDATE people SET n = id",
    "ALTER TABLE people ADD COLUMN n int REFERENCES people (id)",
    "ALTER TABLE people ALTER COLUMN name DROP NOT NULL",
    "ALTER TABLE people ALTER COLUMN kind SET DEFAULT 'a'",
    "CREATE INDEX plain ON people (name)",
    "CREATE VIEW more AS SELECT 1",
    "CREATE FUNCTION fresh() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TYPE fresh AS ENUM ('a', 'b')",
    "CREATE DOMAIN fresh AS int CHECK (VALUE > 0)",
    "CREATE SCHEMA fresh; CREATE TABLE fresh.n (a int)",
    "DROP VIEW names; CREATE VIEW names AS SELECT name FROM people WHERE kind IN ('a', 'b')",
    "CREATE TABLE n (p int REFERENCES people (id) ON DELETE CASCADE); INSERT INTO n VALUES (1)",
    "COMMENT ON TABLE people IS 'somebody'",
)
DESTRUCTIVE: tuple[tuple[LiteralString, str], ...] = (
    ("ALTER TABLE people DROP COLUMN m", "drops the column public.people.m"),
    ("ALTER TABLE people RENAME COLUMN m TO n", "renames the column public.people.m to n"),
    ("ALTER TABLE people RENAME TO persons", "renames public.people to public.persons"),
    ("ALTER TABLE parted ALTER COLUMN id TYPE bigint", "changes the type of public.parted.id from integer"),
    ("ALTER TABLE people ALTER COLUMN m SET NOT NULL", "forbids NULL in public.people.m"),
    ("ALTER TABLE people ALTER COLUMN id DROP DEFAULT", "drops the default of public.people.id"),
    ('ALTER TABLE "odd ""schema"."-table; DROP" ADD COLUMN n int NOT NULL', "n (integer), which may not be empty"),
    ("DROP TABLE parted", "drops the table public.parted"),
    ("DROP TABLE parted_1; CREATE TABLE parted_1 (id int, at date)", "drops the table public.parted_1"),
    ("DROP VIEW names", "drops the view public.names"),
    ("DELETE FROM people WHERE id = 1", "deletes rows of public.people: 1000 were there, 999 are"),
    ("TRUNCATE people", "deletes rows of public.people: 1000 were there, 0 are"),
    ("ALTER TABLE people DROP CONSTRAINT people_pkey", "drops the constraint people_pkey"),
    ('CREATE DOMAIN d AS int NOT NULL; ALTER TABLE "odd ""schema"."-table; DROP" ADD COLUMN n d', "may not be empty"),
)
UNKNOWN: tuple[tuple[LiteralString, str], ...] = (
    ("UPDATE people SET name = 'x' WHERE id = 1", "changes rows of public.people"),
    ("INSERT INTO people (name) VALUES ('x')", "adds rows to public.people: 1000 were there, 1001 are"),
    ("UPDATE people SET name = (SELECT name FROM people p WHERE p.id = 3 - people.id) WHERE id < 3", "changes rows"),
    ("ALTER TABLE people ADD CONSTRAINT c CHECK (id > 0)", "adds the constraint c of public.people"),
    ("ALTER TABLE people ADD CONSTRAINT c CHECK (id > 0) NOT VALID", "NOT VALID"),
    ("CREATE UNIQUE INDEX u ON people (name)", "refuses rows that were possible before"),
    (
        "CREATE FUNCTION g(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'; CREATE INDEX f ON people (g(id))",
        "calls",
    ),
    (
        "CREATE FUNCTION g() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER TABLE people ADD COLUMN n int DEFAULT g()",
        "calls",
    ),
    (
        "CREATE OR REPLACE FUNCTION twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n + n'",
        "changes the function",
    ),
    ("CREATE FUNCTION twice(n text) RETURNS int LANGUAGE sql AS 'SELECT 2'", "there is another one of that name"),
    (
        "CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; "
        "CREATE TRIGGER x BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION t()",
        "adds the trigger x on public.people",
    ),
    ("CREATE OR REPLACE VIEW names AS SELECT name FROM people", "changes the query of public.names"),
    ("ALTER TYPE mood ADD VALUE 'odd'", "adds the label 'odd' of public.mood"),
    ("ALTER TABLE people ENABLE ROW LEVEL SECURITY", "changes the row level security of public.people"),
    ("CREATE POLICY p ON people USING (true)", "adds the policy p on public.people"),
    ("CREATE RULE r AS ON DELETE TO people DO INSTEAD NOTHING", "adds the rule r on public.people"),
    ("ALTER TABLE people ALTER COLUMN id SET DEFAULT 5", "changes the default of public.people.id"),
    ("SELECT setval('people_id_seq', 5000)", "changes the sequence public.people_id_seq"),
    ("GRANT SELECT ON people TO public", "changes the rights or the owner of public.people"),
    (
        "CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
        "to a table that is",
    ),
    ("CREATE SCHEMA s; CREATE TABLE s.people (a int)", "in another schema there is one of that name"),
    (
        "CREATE TABLE n (p int REFERENCES people (id)); INSERT INTO n VALUES (1)",
        "keep rows of public.people from being",
    ),
    ("ALTER TABLE people ADD COLUMN n int REFERENCES people (id); UPDATE people SET n = id", "from being deleted"),
    ("REFRESH MATERIALIZED VIEW mat; INSERT INTO parted VALUES (1, '2026-01-01')", "adds rows to public.parted_1"),
    ("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO public", "adds the default right"),
    ("CREATE ROLE somebody", "changes what the whole server has"),
)


@pytest_asyncio.fixture(scope="module")
async def connection(postgres: Postgres) -> AsyncIterator[Connection]:
    url = postgres.make("differing", *SOME)
    parts = {name: str(value) for name, value in psycopg.conninfo.conninfo_to_dict(url).items()}
    password = parts.pop("password")
    async with Database(parts, {"password": password}).connected() as connection:
        yield connection


class TestDifferences:
    """On one database, each in a transaction that is rolled back."""

    @pytest.mark.parametrize(
        ("statement", "effect", "says"),
        [
            *((each, Effect.ADDITIVE, "") for each in ADDITIVE),
            *((each, Effect.DESTRUCTIVE, says) for each, says in DESTRUCTIVE),
            *((each, Effect.UNKNOWN, says) for each, says in UNKNOWN),
        ],
        ids=lambda value: str(value)[:50],
    )
    async def test_what_is_different(
        self, statement: LiteralString, effect: Effect, says: str, connection: Connection
    ) -> None:
        before = await read_state(connection)
        await connection.execute("SET search_path = public")
        await connection.execute(statement)
        after = await read_state(connection, before)
        await connection.rollback()

        found = Tried(differences=tuple(compare(before, after, frozenset(), frozenset())))

        assert found.judge(rights=True) is effect, found.differences
        if says:
            assert any(says in each.text for each in found.differences if each.effect is effect), found.differences

    async def test_nothing_is_different_when_nothing_was_done(self, connection: Connection) -> None:
        before = await read_state(connection)
        after = await read_state(connection, before)
        await connection.rollback()

        assert compare(before, after, frozenset(), frozenset()) == []

    async def test_the_tool_s_own_tables_are_no_difference(self, connection: Connection) -> None:
        before = await read_state(connection)
        await connection.execute("INSERT INTO public.people (name) VALUES ('x')")
        after = await read_state(connection, before)
        await connection.rollback()

        assert compare(before, after, frozenset({"people"}), frozenset()) == []
        assert [each.effect for each in compare(before, after, frozenset(), frozenset({"people"}))] == [Effect.ADDITIVE]

    async def test_what_was_written_anew_is_named_with_its_size(self, connection: Connection) -> None:
        before = await read_state(connection)
        await connection.execute("ALTER TABLE public.people ADD COLUMN n uuid DEFAULT gen_random_uuid()")
        after = await read_state(connection, before)
        await connection.rollback()

        (said,) = rewritten(before, after)
        assert said.startswith("rewrites all of public.people (")

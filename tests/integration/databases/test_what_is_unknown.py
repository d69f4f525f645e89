"""What a real tool prints is not always what it runs, and what it cannot run is nothing that a person can approve."""

from pathlib import Path

import pytest
from psycopg import sql

from models.preflight.migrations import Effect
from models.verdict import Verdict
from tests.integration.databases.conftest import Bench
from tests.integration.databases.projects import Alembic, Dbmate, Django, write
from tests.integration.databases.test_running_migrations import COLUMN, FORWARD, Migrating


@pytest.fixture
def alembic(shop: Bench) -> Migrating:
    return Migrating(shop, Alembic(shop.folder, shop.postgres.programs))


def version(migrating: Migrating, name: str, *lines: str, after: str | None = None) -> Path:
    """A migration of Alembic with these lines in its upgrade."""
    body = "\n".join(f"    {line}" for line in lines)
    path = Path(migrating.shop.folder) / "alembic" / "versions" / f"{name}.py"
    head = "import sqlalchemy as sa\nfrom alembic import context, op\n"
    write(path, f"{head}revision = {name!r}\ndown_revision = {after!r}\ndef upgrade():\n{body}\n")
    return path


class TestAlembic:
    async def test_a_migration_that_asks_whether_it_is_printed_is_unknown(self, alembic: Migrating) -> None:
        version(
            alembic,
            "a1",
            "op.add_column('people', sa.Column('full_name', sa.Text(), nullable=True))",
            "if context.is_offline_mode():",
            "    return",
            "op.drop_column('people', 'name')",
        )
        version(alembic, "b2", f"op.execute({COLUMN!r})", after="a1")

        refused = await alembic.look()
        found = await alembic.look(**FORWARD)

        assert refused.check.verdict is Verdict.FAIL
        assert [(each.id, each.effect) for each in found.pending] == [("a1", Effect.UNKNOWN), ("b2", Effect.ADDITIVE)]
        assert "a1.py" in found.pending[0].why[0]
        assert (found.run, found.approve) == (True, True)

    async def test_one_that_needs_the_database_to_say_what_it_does_is_unknown(self, alembic: Migrating) -> None:
        source = version(
            alembic,
            "a1",
            "rows = op.get_bind().execute(sa.text('SELECT count(*) FROM people')).scalar_one()",
            "op.execute(f'ALTER TABLE people ADD COLUMN n{rows} int')",
        )

        found = await alembic.look(**FORWARD)
        write(source, source.read_text() + "# another one\n")
        changed = await alembic.look(**FORWARD)

        assert found.check.verdict is Verdict.PASS, found.check.reason
        assert [each.effect for each in found.pending] == [Effect.UNKNOWN]
        assert "needs the database to say what it does" in found.pending[0].why[0]
        assert found.approve
        assert changed.pending[0].digest != found.pending[0].digest

    async def test_several_heads_are_nothing_to_approve(self, alembic: Migrating) -> None:
        version(alembic, "a1", "op.execute('CREATE TABLE a (x int)')")
        version(alembic, "b1", "op.execute('CREATE TABLE b (x int)')")

        found = await alembic.look(**FORWARD)

        assert found.check.verdict is Verdict.ERROR
        assert "Multiple head revisions are present" in found.check.reason
        assert (found.pending, found.run, found.approve) == ((), False, False)

    async def test_a_revision_that_nobody_knows_is_nothing_to_approve(self, alembic: Migrating) -> None:
        alembic.project.add("first", COLUMN)
        alembic.shop.postgres.run(
            alembic.shop.name,
            "CREATE TABLE alembic_version (version_num varchar(32))",
            "INSERT INTO alembic_version VALUES ('lost')",
        )

        found = await alembic.look(**FORWARD)

        assert found.check.verdict is Verdict.ERROR
        assert "lost" in found.check.reason
        assert not found.approve

    async def test_a_file_that_cannot_be_loaded_is_nothing_to_approve(self, alembic: Migrating) -> None:
        version(alembic, "a1", "pass")
        write(Path(alembic.shop.folder) / "alembic" / "versions" / "z.py", "import no_such_module\n")

        found = await alembic.look(**FORWARD)

        assert found.check.verdict is Verdict.ERROR
        assert "no_such_module" in found.check.reason


class TestDjango:
    @pytest.fixture
    def django(self, shop: Bench) -> Migrating:
        return Migrating(shop, Django(shop.folder, shop.postgres.programs))

    async def test_two_that_follow_the_same_one_are_nothing_to_approve(self, django: Migrating) -> None:
        assert isinstance(django.project, Django)
        model = "migrations.CreateModel('Thing', [('id', models.BigAutoField(primary_key=True))])"
        django.project.operations("model", model)
        django.project.add("one", "SELECT 1")
        first = Path(django.shop.folder) / "things" / "migrations" / "0002_one.py"
        write(first.with_name("0002_two.py"), first.read_text())

        found = await django.look(**FORWARD)

        assert found.check.verdict is Verdict.ERROR
        assert "0002_one, 0002_two" in found.check.reason
        assert not found.approve

    async def test_an_operation_of_ones_own_is_unknown(self, django: Migrating) -> None:
        assert isinstance(django.project, Django)
        write(
            Path(django.shop.folder) / "things" / "own.py",
            """
            from django.db.migrations.operations import RunSQL
            class Quiet(RunSQL):
                def database_forwards(self, app_label, schema_editor, from_state, to_state):
                    if not schema_editor.collect_sql:
                        schema_editor.execute("ALTER TABLE people DROP COLUMN m")
            """,
        )
        django.project.operations("own", "__import__('things.own').own.Quiet('SELECT 1')")

        found = await django.look(**FORWARD)

        assert [each.effect for each in found.pending] == [Effect.UNKNOWN]
        assert found.pending[0].why == ("runs code: Quiet",)


class TestDbmate:
    @pytest.fixture
    def dbmate(self, shop: Bench) -> Migrating:
        return Migrating(shop, Dbmate(shop.folder, shop.postgres.programs))

    async def test_rows_of_a_new_table_need_nobody(self, dbmate: Migrating) -> None:
        dbmate.project.add(
            "countries",
            "CREATE TABLE countries (code text PRIMARY KEY, name text NOT NULL)",
            "INSERT INTO countries VALUES ('DE', 'Germany'), ('FR', 'France')",
        )
        dbmate.project.add(
            "more", "INSERT INTO public.countries VALUES ('IT', 'Italy')", "UPDATE countries SET name = 'x'"
        )
        dbmate.project.add("gone", "DELETE FROM countries WHERE code = 'DE'", "DROP TABLE countries")

        found = await dbmate.look()

        assert found.check.verdict is Verdict.PASS, found.check.reason
        assert {each.effect for each in found.pending} == {Effect.ADDITIVE}
        assert not found.approve
        assert (await dbmate.run(found)).check.verdict is Verdict.PASS

    async def test_what_the_catalogue_knows_decides(self, dbmate: Migrating) -> None:
        dbmate.shop.postgres.run(dbmate.shop.name, "CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%')")
        dbmate.project.add("enum", "ALTER TABLE people ADD COLUMN old mood")
        dbmate.project.add(
            "filled", "ALTER TABLE people ADD COLUMN short text", "UPDATE people SET short = left(name, 1)"
        )
        domain = dbmate.project.add("domain", "ALTER TABLE people ADD COLUMN mail email")

        found = await dbmate.look(**FORWARD)

        assert [each.effect for each in found.pending] == [Effect.ADDITIVE, Effect.ADDITIVE, Effect.UNKNOWN]
        assert found.check.reason.endswith(f"{domain} (unknown: a domain with rules of its own: " + QUOTED)
        assert "ACCESS EXCLUSIVE on people" in found.pending[0].locks[0]
        assert any("keeps all rows of people" in hazard for hazard in found.pending[1].hazards)

    async def test_a_limit_of_the_database_bounds_the_wait_for_a_lock(self, dbmate: Migrating) -> None:
        dbmate.project.add("adds", COLUMN)
        unbounded = await dbmate.look()
        statement = sql.SQL("ALTER DATABASE {} SET lock_timeout = '3s'").format(sql.Identifier(dbmate.shop.name))
        dbmate.shop.postgres.run("postgres", statement)

        bounded = await dbmate.look()

        assert "set lock_timeout" in unbounded.pending[0].locks[0]
        assert "set lock_timeout" not in bounded.pending[0].locks[0]
        assert any("takes ACCESS EXCLUSIVE on people" in line for line in bounded.changes)

    @pytest.mark.parametrize("text", ["CREATE TABLE a (x int);\n", "-- migrate:down\nDROP TABLE a;\n"])
    async def test_a_file_that_dbmate_cannot_run_is_nothing_to_approve(self, text: str, dbmate: Migrating) -> None:
        write(Path(dbmate.shop.folder) / "db" / "migrations" / "001_a.sql", text)

        found = await dbmate.look(**FORWARD)

        assert found.check.verdict is Verdict.ERROR
        assert "001_a.sql has no line" in found.check.reason


QUOTED = "ALTER TABLE people ADD COLUMN mail email)"

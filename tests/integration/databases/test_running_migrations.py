"""The real tools, really migrating: what is pending, what it would do, running it, and what is known when it fails."""

import asyncio
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from activities.migrations.plan import look, run
from activities.migrations.runner import MigrationRunner
from models.checks import PreflightCheck
from models.errors import UnavailableError
from models.preflight.migrations import Effect, MigrationsDone, MigrationsFound, MigrationsSpec
from models.spec import DeploymentSpec
from models.verdict import Verdict
from tests.integration.databases.conftest import Bench, until
from tests.integration.databases.projects import PROJECTS, Dbmate, Django, Project
from tests.servers.postgres import PASSWORD

COLUMN = "ALTER TABLE people ADD COLUMN email text"
TABLE = "CREATE TABLE things (id serial PRIMARY KEY, name text NOT NULL)"
DROP = "ALTER TABLE people DROP COLUMN m"
FORWARD = {"way_back": {"kind": "forward-fix", "how": "the column is added again, empty"}}
SLEEP = "SELECT pg_sleep(60)"
SLEEPING = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND application_name LIKE 'ds-migrate-%'"


@dataclass
class Migrating:
    """A project, and the database that it migrates."""

    shop: Bench
    project: Project

    def spec(self, **changes: Any) -> tuple[DeploymentSpec, MigrationsSpec]:
        migrations = {"database": {"secret": "env:SHOP_DB"}, **self.project.spec(), **changes}
        whole = self.shop.spec(migrations=migrations)
        assert whole.preflight.migrations is not None
        return whole, whole.preflight.migrations

    async def look(self, **changes: Any) -> MigrationsFound:
        spec, own = self.spec(**changes)
        return await look(PreflightCheck(spec=spec), own)

    async def run(self, found: MigrationsFound, **changes: Any) -> MigrationsDone:
        return await run(*self.spec(**changes), found.pending)

    def columns(self) -> list[str]:
        query = (
            "SELECT attname::text FROM pg_attribute "
            "WHERE attrelid = 'people'::regclass AND attnum > 0 AND NOT attisdropped"
        )
        return [str(row[0]) for row in self.shop.postgres.rows(self.shop.name, query)]


@pytest.fixture(params=sorted(PROJECTS))
def each(request: pytest.FixtureRequest, shop: Bench) -> Migrating:
    """With each of the tools."""
    return Migrating(shop, PROJECTS[request.param](shop.folder, shop.postgres.programs))


@pytest.fixture
def dbmate(shop: Bench) -> Migrating:
    return Migrating(shop, Dbmate(shop.folder, shop.postgres.programs))


def by_name(migrating: Migrating) -> bool:
    """Whether the tool tells migrations apart; commands print what all of them would do."""
    return migrating.spec()[1].tool != "command"


class TestEachTool:
    async def test_it_migrates(self, each: Migrating) -> None:
        first, second = each.project.add("first", TABLE), each.project.add("second", COLUMN)

        found = await each.look()

        assert found.check.verdict is Verdict.PASS, found.check.reason
        assert {pending.effect for pending in found.pending} == {Effect.ADDITIVE}
        if by_name(each):
            assert [pending.id for pending in found.pending] == [first, second]
        assert (found.run, found.approve) == (True, False)
        assert "email" not in each.columns()

        done = await each.run(found)

        assert done.check.verdict is Verdict.PASS, done.check.reason
        assert (done.applied, done.left) == (tuple(pending.id for pending in found.pending), ())
        assert "email" in each.columns()

        again = await each.run(found)

        assert again.check.verdict is Verdict.PASS
        assert "earlier attempt" in again.check.reason

    async def test_what_takes_away_is_named_and_one_that_fails_leaves_a_known_state(self, each: Migrating) -> None:
        adds = each.project.add("adds", COLUMN)
        each.project.add("takes_away", DROP, "SELECT 1 / 0")

        refused = await each.look()
        found = await each.look(**FORWARD)

        assert refused.check.verdict is Verdict.FAIL
        assert "states no way back" in refused.check.reason
        assert found.check.verdict is Verdict.PASS
        assert (found.run, found.approve) == (True, True)
        assert found.pending[-1].effect is Effect.DESTRUCTIVE
        assert "DROP COLUMN m" in found.check.reason
        assert any("is destructive" in line for line in found.changes)
        assert any("added again, empty" in line for line in found.changes)

        done = await each.run(found, **FORWARD)

        assert done.check.verdict is Verdict.FAIL
        assert "division by zero" in done.check.reason
        assert "m" in each.columns()
        if by_name(each):
            assert ("email" in each.columns()) == (done.applied == (adds,))
            assert set(done.applied) | set(done.left) == {pending.id for pending in found.pending}

    @pytest.mark.parametrize("each", ["dbmate", "alembic"], indirect=True)
    async def test_what_changed_since_the_plan_is_not_run(self, each: Migrating) -> None:
        each.project.add("first", COLUMN)
        found = await each.look()
        each.project.add("sneaked_in", DROP)

        done = await each.run(found)

        assert done.check.verdict is Verdict.FAIL
        assert "not what was planned" in done.check.reason
        assert "m" in each.columns()
        assert "email" not in each.columns()


class TestPolicy:
    async def test_what_is_refused_is_refused_by_name(self, dbmate: Migrating) -> None:
        name = dbmate.project.add("takes_away", DROP)

        found = await dbmate.look(policy={"destructive": "refuse"}, **FORWARD)

        assert found.check.verdict is Verdict.FAIL
        assert found.check.reason.startswith(f"the policy refuses {name} (destructive: ALTER TABLE people DROP COLUMN")
        assert not found.run

    async def test_additive_ones_may_be_left_to_somebody_else(self, dbmate: Migrating) -> None:
        dbmate.project.add("adds", COLUMN)

        found = await dbmate.look(policy={"additive": "ignore"})

        assert found.check.verdict is Verdict.PASS
        assert not found.run
        assert "somebody else" in found.check.reason

    async def test_additive_ones_may_need_a_person(self, dbmate: Migrating) -> None:
        dbmate.project.add("adds", COLUMN)

        found = await dbmate.look(policy={"additive": "approval"})

        assert (found.run, found.approve) == (True, True)

    async def test_a_way_back_that_is_no_way(self, dbmate: Migrating) -> None:
        dbmate.project.add("takes_away", DROP)
        spec, own = dbmate.spec(way_back={"kind": "restore", "how": "from the backup"})
        without = spec.model_copy(update={"preflight": spec.preflight.model_copy(update={"backup": None})})

        assert (await look(PreflightCheck(spec=without), own)).check.verdict is Verdict.FAIL
        assert (await look(PreflightCheck(spec=spec), own)).check.verdict is Verdict.PASS

    async def test_code_is_unknown(self, shop: Bench) -> None:
        project = Django(shop.folder, shop.postgres.programs)
        migrating = Migrating(shop, project)
        project.operations(
            "model",
            "migrations.CreateModel('Thing', [('id', models.BigAutoField(primary_key=True))])",
        )
        project.operations("default", "migrations.AddField('Thing', 'm', models.IntegerField(default=0))")
        code = project.operations("code", "migrations.RunPython(lambda apps, schema: None)")
        hidden = project.operations(
            "hidden",
            "migrations.SeparateDatabaseAndState([migrations.RunPython(lambda apps, schema: 1 / 0)], [])",
        )

        found = await migrating.look(**FORWARD)

        by_id = {each.id: each for each in found.pending}
        assert by_id[code].effect is Effect.UNKNOWN
        assert by_id[code].why == ("runs code: RunPython",)
        assert by_id[hidden].why == ("runs code: RunPython",)
        assert by_id[project.ids[0]].effect is Effect.ADDITIVE
        assert by_id[project.ids[1]].effect is Effect.ADDITIVE  # the table is as new as the column


class TestTrouble:
    @pytest.mark.parametrize("each", ["dbmate", "psql"], indirect=True)
    async def test_a_cancellation_in_the_middle_leaves_no_session_and_nothing_half(self, each: Migrating) -> None:
        each.project.add("slow", COLUMN, SLEEP)
        found = await each.look(**FORWARD)
        running = asyncio.ensure_future(each.run(found, **FORWARD))
        await until(lambda: each.shop.postgres.rows("postgres", SLEEPING))

        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

        assert each.shop.postgres.rows("postgres", SLEEPING) == []
        assert "email" not in each.columns()
        assert [pending.id for pending in (await each.look(**FORWARD)).pending] == [p.id for p in found.pending]

    async def test_one_that_takes_too_long(self, dbmate: Migrating) -> None:
        dbmate.project.add("slow", COLUMN, SLEEP)
        found = await dbmate.look(**FORWARD)

        done = await dbmate.run(found, timeout="1s", **FORWARD)

        assert done.check.verdict is Verdict.FAIL
        assert "did not end within 1s" in done.check.reason
        assert "0 of 1 applied" in done.check.reason
        assert "email" not in dbmate.columns()

    async def test_a_run_that_another_worker_left_is_waited_for(self, dbmate: Migrating) -> None:
        """As when a worker was killed: its tool goes on, and commits while the next attempt looks."""
        dbmate.project.add("adds", COLUMN)
        found = await dbmate.look()
        session = MigrationRunner(*dbmate.spec())._session
        left = psycopg.connect(dbmate.shop.postgres.url(dbmate.shop.name), application_name=session)
        left.execute("CREATE TABLE schema_migrations (version varchar PRIMARY KEY)")
        left.execute(COLUMN)
        left.execute("INSERT INTO schema_migrations VALUES ('001')")
        running = asyncio.ensure_future(dbmate.run(found))
        await asyncio.sleep(0.5)
        assert not running.done()

        left.commit()
        left.close()
        done = await running

        assert done.check.verdict is Verdict.PASS
        assert "earlier attempt" in done.check.reason

    @pytest.mark.parametrize("each", ["dbmate", "alembic", "psql"], indirect=True)
    async def test_no_argument_of_any_process_has_the_password(self, each: Migrating) -> None:
        each.project.add("first", TABLE, "SELECT pg_sleep(0.3)")
        stop, seen = threading.Event(), set()

        def watch() -> None:
            while not stop.is_set():
                for process in psutil.Process().children(recursive=True):
                    try:
                        words = process.cmdline()
                    except psutil.Error:
                        continue
                    seen.update(words)

        watching = asyncio.ensure_future(asyncio.to_thread(watch))
        try:
            found = await each.look(**FORWARD)
            done = await each.run(found, **FORWARD)
        finally:
            stop.set()
            await watching

        assert done.check.verdict is Verdict.PASS, done.check.reason
        assert len(seen) > 3
        assert not any(PASSWORD in word or "%5C" in word for word in seen)
        assert PASSWORD not in found.model_dump_json() + done.model_dump_json()

    async def test_a_database_that_does_not_let_us_in(self, dbmate: Migrating, monkeypatch: pytest.MonkeyPatch) -> None:
        port = dbmate.shop.postgres.port
        monkeypatch.setenv("SHOP_DB", f"postgresql://shop:wr0ng-passw0rd@127.0.0.1:{port}/{dbmate.shop.name}")

        with pytest.raises(UnavailableError) as caught:
            await dbmate.look()

        assert "wr0ng" not in str(caught.value)

    async def test_a_tool_that_is_not_there(self, dbmate: Migrating) -> None:
        dbmate.project.add("adds", COLUMN)

        found = await dbmate.look(command=["no-such-program"])

        assert found.check.verdict is Verdict.ERROR
        assert "no-such-program" in found.check.reason

    @pytest.mark.parametrize("files", ["../../..", "/etc", "nowhere"])
    async def test_files_stay_below_the_directory(self, files: str, dbmate: Migrating) -> None:
        found = await dbmate.look(files=files)

        assert found.check.verdict is Verdict.ERROR
        assert "no migrations folder" in found.check.reason

    async def test_a_migration_that_is_no_regular_file(self, dbmate: Migrating) -> None:
        os.mkfifo(Path(dbmate.shop.folder) / "db" / "migrations" / "001_pipe.sql")

        found = await dbmate.look()

        assert found.check.verdict is Verdict.ERROR
        assert "no regular file" in found.check.reason

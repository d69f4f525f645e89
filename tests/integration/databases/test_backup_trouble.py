"""Whatever goes wrong while a backup is made or proven, nothing of it stays: no file, no database, no process."""

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from activities.database.backup_store import Writer
from activities.database.connection import Database
from activities.database.scratch import owner_mark, sweep
from models.checks import PreflightCheck
from models.errors import DiskFullError, UnavailableError
from models.verdict import Verdict
from tests.integration.databases.conftest import Bench, passed, until
from tests.servers.postgres import running_postgres

WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
SLEEPING = "SELECT 1 FROM pg_stat_activity WHERE datname LIKE 'ds_scratch%' AND wait_event = 'PgSleep'"


def restoring() -> list[int]:
    return [p.pid for p in psutil.Process().children(recursive=True) if "pg_restore" in p.name()]


def slow_restore(shop: Bench, seconds: int) -> None:
    """An index that takes its time in a scratch database, and nowhere else."""
    shop.postgres.run(
        shop.name,
        psycopg.sql.SQL(
            "CREATE FUNCTION slow(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN "
            "IF current_database() LIKE 'ds_scratch%' AND n = 1 THEN PERFORM pg_sleep({}); END IF; RETURN n; END $$"
        ).format(seconds),
        "CREATE INDEX slowly ON people (slow(id))",
    )


class TestTrouble:
    async def test_a_disk_that_is_too_small(self, shop: Bench) -> None:
        made = await shop.backup(shop.spec(disk_free_bytes="900TiB"))

        assert made.verdict is Verdict.FAIL
        assert "must stay free" in made.reason
        assert (shop.left(), shop.scratches()) == ([], [])

    def test_a_disk_that_takes_no_more(self, tmp_path: Path) -> None:
        (tmp_path / "backups").mkdir()
        writer = Writer(tmp_path / "backups" / "dump", reserve=0)
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, writer._file.fileno())
        os.close(full)

        with pytest.raises(DiskFullError, match="No space left"):
            writer(memoryview(b"x"))
        writer.close()

    async def test_programs_that_are_older_than_the_server(self, shop: Bench, tmp_path: Path) -> None:
        old = tmp_path / "pg_dump"
        old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n")
        old.chmod(0o755)

        made = await shop.backup(shop.spec({"programs": str(tmp_path)}))

        assert made.verdict is Verdict.ERROR
        assert made.reason.startswith("pg_dump 9 is older than the server, which is PostgreSQL 18")

    async def test_a_role_that_may_make_no_databases(self, shop: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        role = f"{shop.name}_reader"
        shop.postgres.run(
            shop.name,
            psycopg.sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'reader' IN ROLE pg_read_all_data").format(
                psycopg.sql.Identifier(role)
            ),
        )
        url = f"postgresql://{role}:reader@127.0.0.1:{shop.postgres.port}/{shop.name}"
        monkeypatch.setenv("SHOP_DB", url)

        refused = await shop.backup()
        monkeypatch.setenv("SCRATCH_DB", shop.postgres.url("postgres"))
        made = await shop.backup(shop.spec({"scratch": {"secret": "env:SCRATCH_DB"}}))

        assert refused.verdict is Verdict.FAIL
        assert "CREATEDB" in refused.reason
        passed(made)

    async def test_a_server_that_goes_away_in_the_middle(
        self, shop: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with running_postgres() as server:
            monkeypatch.setenv("SHOP_DB", server.make("shop", "CREATE TABLE t (id int)"))
            with suppress(psycopg.OperationalError), psycopg.connect(server.url("shop")) as blocking:
                blocking.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
                backing_up = asyncio.ensure_future(shop.backup())
                await until(lambda: server.rows("shop", WAITING))
                server.process.kill()
                with pytest.raises(UnavailableError):
                    await backing_up

        assert shop.left() == []

    async def test_more_time_than_it_may_take(self, shop: Bench) -> None:
        with psycopg.connect(shop.postgres.url(shop.name)) as blocking:
            blocking.execute("LOCK TABLE people IN ACCESS EXCLUSIVE MODE")
            made = await shop.backup(shop.spec({"timeout": "1s"}))

        assert made.verdict is Verdict.FAIL
        assert "within 1s" in made.reason
        assert (shop.left(), shop.scratches()) == ([], [])

    async def test_a_cancellation_in_the_middle_of_the_proof(self, shop: Bench) -> None:
        slow_restore(shop, seconds=60)
        backing_up = asyncio.ensure_future(shop.backup())
        await until(lambda: shop.postgres.rows("postgres", SLEEPING))

        backing_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await backing_up

        assert (shop.left(), shop.scratches()) == ([], [])
        assert restoring() == []

    async def test_a_worker_that_is_killed_in_the_middle_of_the_proof(self, shop: Bench) -> None:
        slow_restore(shop, seconds=3)
        program = Path(__file__).with_name("backup_alone.py")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(program), str(shop.home.path)),
            stdin=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        process.stdin.write(PreflightCheck(spec=shop.spec()).model_dump_json().encode())
        process.stdin.close()
        await until(lambda: shop.postgres.rows("postgres", SLEEPING))
        (scratch,) = shop.scratches()
        (partial,) = shop.left()
        server, mark = Database.of("env:SHOP_DB"), owner_mark(shop.name, "staging")

        assert await sweep(server, mark, younger=0) == []  # somebody holds it
        process.kill()
        await process.wait()

        swept: list[str] = []
        async with asyncio.timeout(30):
            while not swept:
                swept = await sweep(server, mark, younger=0)
        assert swept == [scratch]
        assert partial.endswith(".partial")
        assert await sweep(server, owner_mark("another", "staging"), younger=0) == []
        shop.postgres.run(shop.name, "DROP INDEX slowly")
        made = passed(await shop.backup())
        assert shop.left() == [made.evidence["id"]]

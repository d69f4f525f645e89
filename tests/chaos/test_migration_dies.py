"""The worker is killed in the middle of a migration: it is applied once, and the deployment goes on."""

import asyncio

import pytest

from tests.integration.databases.projects import Dbmate
from tests.servers.postgres import Postgres, running_postgres
from tests.support.history_reader import at_work
from tests.support.product_env import OLD, ROLLING, ProductEnv, ended, found, kill
from tests.support.scenarios import side_by_side

pytestmark = pytest.mark.chaos
SLEEPING = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"


@side_by_side
async def test_killed_while_it_migrates(living: ProductEnv) -> None:
    server = running_postgres()
    postgres = await asyncio.to_thread(server.__enter__)
    try:
        await _migrate(living, postgres)
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)


async def _migrate(living: ProductEnv, postgres: Postgres) -> None:
    migrations = {
        "tool": "dbmate",
        "database": {"secret": "env:DYING_DB"},
        "way_back": {"kind": "forward-fix", "how": "it only waits"},
    }
    service = living.service(ROLLING, preflight={"migrations": migrations})
    url = postgres.make("dying", "CREATE TABLE runs (id serial)")
    project = Dbmate(service.folder / "app", postgres.programs)
    project.add("slow", "INSERT INTO runs DEFAULT VALUES", "SELECT pg_sleep(6)")
    project.add("after", "ALTER TABLE runs ADD COLUMN note text")

    command = await service.deploying(OLD, DYING_DB=url)
    await service.until(lambda report: report.waiting_for)
    approved = await living.run("approve", service.subject, "--as", "ann")
    assert approved.code == 0, approved.err
    pid = await at_work(service, "run_migrations")
    await service.until(lambda _: postgres.rows("dying", SLEEPING))
    await kill(pid, 9)

    document = ended(await command.done(), "deployed", 0)
    assert found(document, "deploy", "migrated")["verdict"] == "pass"
    assert postgres.rows("dying", "SELECT count(*)::int, count(note)::int FROM runs") == [(1, 0)]

"""The tools of Node: knex as it is, and Prisma's folders and table with a stand-in for its program."""

import shutil
import subprocess
from pathlib import Path

import pytest

from models.preflight.migrations import Effect
from models.verdict import Verdict
from tests.integration.databases.conftest import Bench
from tests.integration.databases.projects import Knex, Prisma
from tests.integration.databases.test_running_migrations import COLUMN, DROP, FORWARD, TABLE, Migrating

NPM = ("npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "knex@3", "pg@8")


class TestPrisma:
    """A contract with what Prisma writes; its own program is not run here."""

    @pytest.fixture
    def prisma(self, shop: Bench) -> Migrating:
        return Migrating(shop, Prisma(shop.folder, shop.postgres.programs))

    async def test_what_is_pending_is_run(self, prisma: Migrating) -> None:
        ids = (prisma.project.add("first", TABLE), prisma.project.add("second", COLUMN))

        found = await prisma.look()
        done = await prisma.run(found)

        assert [each.id for each in found.pending] == list(ids)
        assert {each.effect for each in found.pending} == {Effect.ADDITIVE}
        assert done.check.verdict is Verdict.PASS, done.check.reason
        assert done.applied == ids
        assert "email" in prisma.columns()
        assert (await prisma.look()).check.reason == "none is pending"

    async def test_one_that_failed_stands_in_the_way(self, prisma: Migrating) -> None:
        name = prisma.project.add("broken", DROP, "SELECT 1 / 0")
        found = await prisma.look(**FORWARD)

        done = await prisma.run(found, **FORWARD)
        after = await prisma.look(**FORWARD)

        assert found.pending[0].effect is Effect.DESTRUCTIVE
        assert done.check.verdict is Verdict.FAIL
        assert "m" in prisma.columns()
        assert after.check.verdict is Verdict.ERROR
        assert f"the migration {name} has failed half way" in after.check.reason


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where npm has put knex."""
    folder = tmp_path_factory.mktemp("knex")
    assert shutil.which("npm"), "this needs npm"
    subprocess.run(NPM, cwd=folder, check=True, capture_output=True, timeout=300)
    return folder / "node_modules"


@pytest.mark.platform
async def test_knex_migrates_after_an_approval(shop: Bench, installed: Path) -> None:
    knex = Migrating(shop, Knex(shop.folder, shop.postgres.programs))
    (shop.folder / "node_modules").symlink_to(installed)
    ids = (knex.project.add("first", TABLE), knex.project.add("second", COLUMN))

    refused = await knex.look()
    found = await knex.look(**FORWARD)
    done = await knex.run(found, **FORWARD)

    assert refused.check.verdict is Verdict.FAIL
    assert [(each.id, each.effect) for each in found.pending] == [(name, Effect.UNKNOWN) for name in ids]
    assert found.approve
    assert done.check.verdict is Verdict.PASS, done.check.reason
    assert done.applied == ids
    assert "email" in knex.columns()

    knex.project.add("broken", "ALTER TABLE people ADD COLUMN late int", "SELECT 1 / 0")
    failed = await knex.run(await knex.look(**FORWARD), **FORWARD)

    assert failed.check.verdict is Verdict.FAIL
    assert "division by zero" in failed.check.reason
    assert "late" not in knex.columns()

"""`restore` as people use it: the command line, Temporal, a worker, and a database that is really brought back."""

from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.database.activities import DatabaseActivities
from activities.database.connection import Database
from activities.database.restore import swap
from models.errors import DatabaseRefusedError
from tests.integration.databases.conftest import Bench, passed
from tests.servers.postgres import PASSWORD
from tests.support.cli_process import SPEC, Done, World, temporal
from tests.support.fake_workflow import FakeWorkflow
from workflows.restoring import BackupsWorkflow, RestoreWorkflow
from workflows.wire_names import TASK_QUEUE

BY = ("--as", "ann", "--reason", "orders are gone")


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[Client]:
    async with temporal() as connected:
        yield connected


class Shop(World):
    """A service with a database, whose last deployment made a backup."""

    bench: Bench
    backup: str

    async def restore(self, *arguments: str) -> Done:
        return await self.run("restore", self.subject, *arguments)

    def people(self, database: str = "") -> int:
        """How many there are."""
        (row,) = self.bench.postgres.rows(database or self.bench.name, "SELECT count(*)::int FROM people")
        return int(str(row[0]))


@pytest.fixture
async def world(client: Client, shop: Bench, tmp_path: Path) -> AsyncIterator[Shop]:
    world = Shop(client, tmp_path)
    shop.service = world.service
    backup = f"preflight: {{backup: {{database: {{secret: 'env:SHOP_DB'}}, programs: {shop.postgres.programs}}}}}\n"
    world.spec.write_text(SPEC.format(service=world.service) + backup)
    world.bench = shop
    world.backup = passed(await shop.backup()).evidence["id"]
    own = DatabaseActivities(shop.home)
    worker = Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[FakeWorkflow, BackupsWorkflow, RestoreWorkflow],
        activities=[own.list_backups, own.restore_backup],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    async with worker:
        started = await world.run("deploy", str(world.spec), "--no-wait")
        assert started.code == 0, started.err
        yield world
        await world.end()


async def test_without_a_backup_named_they_are_listed(world: Shop) -> None:
    done = await world.restore()
    as_json = await world.restore("--json")

    assert done.code == 0, done.err
    assert world.backup in done.out
    assert "1050 rows in 3 tables" in done.out
    (line,) = as_json.document["backups"]
    assert line["id"] == world.backup


async def test_it_comes_back_beside_what_is_there(world: Shop) -> None:
    world.bench.postgres.run(world.bench.name, "DELETE FROM people")

    done = await world.restore("--backup", world.backup, *BY, "--json")

    assert done.code == 0, done.err
    document = done.document
    database = document["database"].partition(" on ")[0]
    assert database.startswith(f"{world.bench.name}_restored_")
    assert (world.people(), world.people(database)) == (0, 1000)
    assert document["rows"] == 1050
    assert "nothing that serves has changed" in document["switch"][0]


async def test_it_takes_the_name_and_keeps_what_was_there(world: Shop) -> None:
    name = world.bench.name
    world.bench.postgres.run(name, "DELETE FROM people WHERE id > 10")
    with psycopg.connect(world.bench.postgres.url(name)) as somebody:
        somebody.execute("SELECT 1")

        refused = await world.restore("--backup", world.backup, *BY, "--replace")
        done = await world.restore("--backup", world.backup, *BY, "--replace", "--yes", "--json")

        assert refused.code == 2
        assert "--yes" in refused.err
        assert done.code == 0, done.err
        with pytest.raises(psycopg.OperationalError):
            somebody.execute("SELECT 1")
        somebody.close()
    kept = done.document["kept"]
    assert kept.startswith(f"{name}_before_")
    assert (world.people(), world.people(kept)) == (1000, 10)
    assert f'DROP DATABASE "{kept}"' in done.document["switch"][0]
    locked = "SELECT 1 FROM pg_database WHERE NOT datallowconn AND datname <> 'template0'"
    assert world.bench.postgres.rows("postgres", locked) == []


async def test_a_database_that_is_gone_comes_back_under_its_name(world: Shop) -> None:
    name = world.bench.name
    world.bench.postgres.run("postgres", sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))

    done = await world.restore("--backup", world.backup, *BY, "--replace", "--yes", "--json")

    assert done.code == 0, done.err
    assert world.people() == 1000
    assert done.document["kept"] == ""


async def test_it_goes_into_another_database_only_when_that_is_empty(
    world: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_DB", world.bench.postgres.make(f"{world.bench.name}_other"))

    done = await world.restore("--backup", world.backup, "--into", "env:OTHER_DB", *BY)
    again = await world.restore("--backup", world.backup, "--into", "env:SHOP_DB", *BY)

    assert done.code == 0, done.err
    assert world.people(f"{world.bench.name}_other") == 1000
    assert again.code == 1
    assert "is not empty" in again.err


@pytest.mark.parametrize("damage", ["corrupt", "truncated"])
async def test_a_damaged_backup_restores_nothing(damage: str, world: Shop) -> None:
    dump = world.bench.shelf.path / world.backup / "database.dump"
    content = bytearray(dump.read_bytes())
    content[len(content) // 2] ^= 1
    dump.write_bytes(content if damage == "corrupt" else content[:-1])
    before = world.bench.postgres.databases()

    done = await world.restore("--backup", world.backup, *BY)

    assert done.code == (1 if damage == "corrupt" else 2)
    assert "database.dump" in done.err
    assert world.bench.postgres.databases() == before


BAD = (
    (("--backup", "../../etc", *BY), "a backup's id looks like"),
    (("--backup", "-x", *BY), "a backup's id looks like"),
    (("--backup", "20200101T000000Z-000000", *BY), "there is no backup"),
    (("--backup", "20200101T000000Z-000000"), "needs --as NAME and --reason TEXT"),
    (("--replace",), "need --backup"),
    (("--backup", "20200101T000000Z-000000", "--replace", "--into", "env:X", *BY), "exclude each other"),
    (("--backup", "20200101T000000Z-000000", "--into", "postgresql://a:secret@b/c", *BY), "env:NAME, file:"),
    (("--spec", "/nowhere.yaml"), "no such file"),
)


async def test_bad_input_starts_nothing(world: Shop) -> None:
    before = world.bench.postgres.databases()

    for arguments, says in BAD:
        done = await world.restore(*arguments)

        assert done.code == 2, done.err
        assert says in done.err
        assert "secret@b" not in done.err
    assert world.bench.postgres.databases() == before


async def test_a_target_without_backups(world: Shop) -> None:
    done = await world.run("restore", "nobody/staging")

    assert done.code == 2
    assert "makes backups" in done.err


async def test_the_spec_may_come_from_a_file(world: Shop) -> None:
    done = await world.restore("--spec", str(world.spec))
    other = await world.run("restore", "other/staging", "--spec", str(world.spec))

    assert world.backup in done.out
    assert other.code == 2


async def test_histories_hold_no_password(world: Shop) -> None:
    done = await world.restore("--backup", world.backup, *BY)
    assert done.code == 0, done.err

    for name in (f"restore/{world.subject}", world.handle.id):
        history = (await world.client.get_workflow_handle(name).fetch_history()).to_json()
        assert PASSWORD not in history
        assert "%5C" not in history


async def test_names_are_as_they_were_when_they_cannot_be_changed(shop: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh, role = f"{shop.name}_fresh", f"{shop.name}_weak"
    shop.postgres.make(fresh)
    make = sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'weak' CREATEDB").format(sql.Identifier(role))
    owned = sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(shop.name), sql.Identifier(role))
    member = sql.SQL("GRANT pg_signal_backend TO {}").format(sql.Identifier(role))
    shop.postgres.run("postgres", make, owned, member)
    url = f"postgresql://{role}:weak@127.0.0.1:{shop.postgres.port}/{shop.name}?sslmode=disable"
    monkeypatch.setenv("SHOP_DB", url)
    source = Database.of("env:SHOP_DB")

    with pytest.raises(DatabaseRefusedError):
        await swap(source, fresh=fresh, kept=f"{shop.name}_before")

    assert {shop.name, fresh} <= set(shop.postgres.databases())
    assert f"{shop.name}_before" not in shop.postgres.databases()
    shop.postgres.rows(shop.name, "SELECT 1")

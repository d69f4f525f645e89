"""One real PostgreSQL for all tests of databases; each test has databases of its own."""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import pytest

from activities.database.activities import check_backup, see_backup
from activities.database.backup_store import BackupStore
from activities.secrets import resolver
from home.paths import VARIABLE, Home
from models.checks import PreflightCheck
from models.preflight.backup import BackupSpec
from models.spec import DeploymentSpec
from models.verdict import CheckResult, Verdict
from tests.servers.postgres import Postgres, running_postgres

SOME: tuple[LiteralString, ...] = (
    "CREATE TYPE mood AS ENUM ('good', 'bad')",
    "CREATE TABLE people (id serial PRIMARY KEY, name text NOT NULL, kind varchar CHECK (kind IN ('a', 'b')), m mood)",
    'CREATE SCHEMA "odd ""schema"',
    'CREATE TABLE "odd ""schema"."-table; DROP" ("a b" int)',
    "CREATE TABLE parted (id int, at date) PARTITION BY RANGE (at)",
    "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
    "CREATE VIEW names AS SELECT name FROM people WHERE kind IN ('a', 'b')",
    "CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * n'",
    "CREATE INDEX ON people (twice(id)) WHERE kind IN ('a', 'b')",
    "CREATE MATERIALIZED VIEW mat AS SELECT count(*) FROM people",
    "INSERT INTO people (name, kind, m) SELECT 'p' || n, 'a', 'good' FROM generate_series(1, 1000) n",
    "INSERT INTO parted SELECT n, '2026-05-01' FROM generate_series(1, 50) n",
)
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@dataclass
class Bench:
    """A service with a database and a spec.

    Attributes:
        name: of the database, and of the service unless that has one.
    """

    postgres: Postgres
    folder: Path
    home: Home
    name: str
    service: str = ""

    def spec(self, backup: dict[str, Any] | None = None, **preflight: Any) -> DeploymentSpec:
        """A spec with this backup, and more of preflight."""
        whole = {"database": {"secret": "env:SHOP_DB"}, "programs": str(self.postgres.programs), **(backup or {})}
        platform = {"kind": "local", "run": ["true"], "listen": "127.0.0.1:8080", "directory": str(self.folder)}
        return DeploymentSpec.model_validate(
            {
                "service": self.service or self.name,
                "target": "staging",
                "release": {"version": "1.1.0"},
                "platform": platform,
                "preflight": {"backup": whole, **preflight},
            }
        )

    async def backup(self, spec: DeploymentSpec | None = None) -> CheckResult:
        """Makes a backup, as the activity does."""
        return await check_backup(PreflightCheck(spec=spec or self.spec()), self.home)

    async def see(self, made: CheckResult, spec: DeploymentSpec | None = None) -> CheckResult:
        """Looks at it once more, as after an approval."""
        expected = {made.evidence["id"]: made.evidence["sha256"]}
        return await see_backup(PreflightCheck(spec=spec or self.spec(), expected=expected), self.home)

    @property
    def shelf(self) -> BackupStore:
        """Where its backups are."""
        return BackupStore.of(
            BackupSpec.model_validate({"database": {"secret": "env:X"}}),
            self.home,
            self.service or self.name,
            "staging",
        )

    def left(self) -> list[str]:
        """What lies on the backup store, hidden or not."""
        return sorted(path.name for path in self.shelf.path.iterdir()) if self.shelf.path.is_dir() else []

    def scratches(self) -> list[str]:
        """Scratch databases on the server."""
        return [name for name in self.postgres.databases() if name.startswith("ds_scratch")]


@pytest.fixture
def shop(postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A database with a bit of everything."""
    monkeypatch.setattr(resolver, "_known", set())
    monkeypatch.setattr(resolver, "_pattern", None)
    name = f"shop{next(_numbers)}"
    monkeypatch.setenv("SHOP_DB", postgres.make(name, *SOME))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "home"))
    folder = tmp_path / "app"
    folder.mkdir()
    return Bench(postgres, folder, Home(tmp_path / "home"), name)


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Waits for something true."""
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110  a server has to be asked
            await asyncio.sleep(0.02)


def passed(result: CheckResult) -> CheckResult:
    assert result.verdict is Verdict.PASS, result.reason
    return result

"""A backup counts when it was restored and compared; whatever goes wrong on the way leaves nothing behind."""

import asyncio
import os
import stat
import tarfile
import threading
from pathlib import Path

import psutil
import psycopg
import pytest

from activities.database.activities import check_backup
from activities.database.backup import BackupPrograms, restore_file
from activities.database.connection import Database
from activities.database.schema_diff import Contents
from activities.secrets.resolver import scrub
from models.checks import PreflightCheck
from models.errors import NotProvenError, SecretUnresolvedError, UnavailableError
from models.verdict import CheckResult, Verdict
from tests.integration.databases.conftest import Bench, passed
from tests.servers.postgres import PASSWORD


async def test_a_backup_is_restored_compared_and_kept(shop: Bench) -> None:
    made = passed(await shop.backup())

    folder = Path(made.evidence["folder"])
    manifest = shop.shelf.manifest(made.evidence["id"])
    assert manifest.counts == {
        "public.people": 1000,
        'odd "schema.-table; DROP': 0,
        "public.parted_1": 50,
    }
    assert made.evidence["rows"] == 1050
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert {stat.S_IMODE(os.stat(folder / name).st_mode) for name in os.listdir(folder)} == {0o600}
    assert shop.left() == [made.evidence["id"]]
    assert shop.scratches() == []
    assert PASSWORD not in made.model_dump_json() + (folder / "manifest.json").read_text()


async def test_the_comparison_is_exact_while_others_write(shop: Bench) -> None:
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(shop.postgres.url(shop.name), autocommit=True) as connection:
            while not stop.is_set():
                connection.execute("INSERT INTO people (name) SELECT 'x' FROM generate_series(1, 50)")
                connection.execute("DELETE FROM people WHERE id IN (SELECT id FROM people LIMIT 10)")

    writing = asyncio.ensure_future(asyncio.to_thread(write))
    try:
        for _ in range(3):
            made = passed(await shop.backup())
    finally:
        stop.set()
        await writing

    assert made.evidence["rows"] > 1050
    assert len(shop.left()) == 3


async def test_what_comes_back_wrong_is_found(shop: Bench, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "pg_dump").symlink_to(shop.postgres.programs / "pg_dump")
    lying = programs / "pg_restore"
    real = shop.postgres.programs / "pg_restore"
    lying.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec {real} "$@"\nexec {real} --schema-only "$@"\n')
    lying.chmod(0o755)

    made = await shop.backup(shop.spec({"programs": str(programs)}))

    assert made.verdict is Verdict.FAIL
    assert "public.people has 0 rows, not 1000" in made.reason
    assert shop.left() == []
    assert shop.scratches() == []


def test_a_missing_object_is_a_difference() -> None:
    before = Contents({"a": 1, "b": 2}, ("index i", "table a", "table b"))

    assert before.differences(before) == []
    assert before.differences(Contents({"a": 1}, ("table a", "table b", "table c"))) == [
        "missing: index i",
        "not in the original: table c",
        "b has no rows, not 2",
    ]


class TestSecrecy:
    async def test_no_process_has_the_password_among_its_arguments(self, shop: Bench) -> None:
        shop.postgres.run(
            shop.name, "INSERT INTO people (name) SELECT repeat('x', 200) FROM generate_series(1, 100000)"
        )
        seen: set[str] = set()
        stop = threading.Event()

        def look() -> None:
            while not stop.is_set():
                for process in psutil.Process().children(recursive=True):
                    try:
                        words = process.cmdline()
                        around = process.environ()
                    except psutil.Error:
                        continue
                    seen.add(Path(words[0]).name if words else "")
                    assert not any(PASSWORD in word for word in [*words, *around.values()]), words
                    if (path := around.get("PGPASSFILE")) and os.path.exists(path):
                        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600

        looking = asyncio.ensure_future(asyncio.to_thread(look))
        try:
            passed(await shop.backup())
        finally:
            stop.set()
            await looking

        assert {"pg_dump", "pg_restore"} <= seen

    async def test_a_wrong_password_is_told_without_it(self, shop: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        url = f"postgresql://shop:wr0ng-passw0rd@127.0.0.1:{shop.postgres.port}/{shop.name}"
        monkeypatch.setenv("SHOP_DB", url)

        with pytest.raises(UnavailableError) as caught:
            await shop.backup()

        assert "wr0ng" not in scrub(str(caught.value))
        assert "password authentication failed" in str(caught.value)

    @pytest.mark.parametrize(
        "text", ["postgresql://shop:hunter22@[::1/x", "host=x password=hunter22 nonsense=1 dbname=x", "hunter22"]
    )
    def test_what_is_no_connection_string_is_not_repeated(self, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BROKEN", text)

        with pytest.raises(SecretUnresolvedError) as caught:
            Database.of("env:BROKEN")

        assert "hunter22" not in str(caught.value)
        assert "hunter22" not in repr(caught.value.__cause__)

    def test_the_driver_in_a_scheme_is_no_hindrance(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ALCHEMY", "postgresql+psycopg://ann:pass%3Aword@db/shop?sslmode=require")

        database = Database.of("env:ALCHEMY")

        assert database.place == "shop on db"
        assert database.secrets == {"password": "pass:word"}
        assert "pass" not in database.argument
        with database.environment() as environment:
            assert Path(environment["PGPASSFILE"]).read_text() == "*:*:*:*:pass\\:word\n"
        assert not Path(environment["PGPASSFILE"]).exists()

    def test_what_a_killed_worker_left_is_removed_and_what_is_used_is_not(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        monkeypatch.setenv("OTHER_DB", "postgresql://ann:a-password@db/shop")
        database = Database.of("env:OTHER_DB")
        left = tmp_path / "ds-pgpass-left"
        left.write_text("*:*:*:*:x\n")
        os.utime(left, (1, 1))

        with database.environment() as used:
            os.utime(used["PGPASSFILE"], (1, 1))
            with database.environment() as more:
                assert sorted(map(str, tmp_path.iterdir())) == sorted([used["PGPASSFILE"], more["PGPASSFILE"]])

        assert list(tmp_path.iterdir()) == []


class TestConfiguration:
    async def test_it_is_archived_beside_the_database(self, shop: Bench) -> None:
        (shop.folder / "conf").mkdir()
        (shop.folder / "conf" / "-rf").write_text("harmless")
        (shop.folder / "conf" / "away").symlink_to("/etc/passwd")
        os.mkfifo(shop.folder / "conf" / "pipe")

        made = passed(await shop.backup(shop.spec({"configuration": [str(shop.folder / "conf")]})))

        with tarfile.open(Path(made.evidence["folder"]) / "configuration.tar") as tar:
            base = str(shop.folder / "conf").lstrip("/")
            assert tar.getnames() == [base, f"{base}/-rf", f"{base}/away"]
            assert tar.getmember(f"{base}/away").issym()
            content = tar.extractfile(f"{base}/-rf")
            assert content is not None and content.read() == b"harmless"

    @pytest.mark.parametrize("path", ["/etc/hostname", "{folder}/../secret", "{folder}/link/secret", "{folder}/link"])
    async def test_no_path_leaves_the_roots(self, path: str, shop: Bench, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("not for backups")
        (shop.folder / "link").symlink_to(tmp_path)

        made = await shop.backup(shop.spec({"configuration": [path.format(folder=shop.folder)]}))

        assert made.verdict is Verdict.FAIL
        assert "roots" in made.reason or "link" in made.reason
        assert shop.left() == []


class TestDamage:
    @pytest.mark.parametrize("how", ["corrupt", "truncated", "empty", "gone", "manifest", "stale"])
    async def test_it_stops_the_deployment(self, how: str, shop: Bench) -> None:
        made = passed(await shop.backup())
        passed(await shop.see(made))
        spec, folder = shop.spec(), Path(made.evidence["folder"])
        dump = folder / "database.dump"
        if how == "corrupt":
            content = bytearray(dump.read_bytes())
            content[len(content) // 2] ^= 1
            dump.write_bytes(content)
        elif how == "truncated":
            os.truncate(dump, dump.stat().st_size - 100)
        elif how == "empty":
            os.truncate(dump, 0)
        elif how == "gone":
            dump.unlink()
        elif how == "manifest":
            (folder / "manifest.json").write_text('{"id": "../../etc"}')
        else:
            spec = shop.spec({"max_age": "0s"})

        seen = await shop.see(made, spec)

        assert seen.verdict is Verdict.FAIL
        assert made.evidence["id"] in seen.reason

    async def test_a_damaged_file_cannot_be_proven(self, shop: Bench) -> None:
        made = passed(await shop.backup())
        manifest = shop.shelf.manifest(made.evidence["id"])
        folder = Path(made.evidence["folder"])
        content = (folder / "database.dump").read_bytes()
        (folder / "database.dump").write_bytes(content + b"\0")
        database = Database.of("env:SHOP_DB")
        shop.postgres.make(f"{shop.name}_empty")
        programs = BackupPrograms(str(shop.postgres.programs / "pg_dump"), str(shop.postgres.programs / "pg_restore"))

        with pytest.raises(NotProvenError):
            await restore_file(folder, manifest.dump, None, programs, database.called(f"{shop.name}_empty"), own=True)

    @pytest.mark.parametrize("name", ["../shop.staging", "..", "-x", "20261124T223000Z-0a1b2c/../x", ""])
    async def test_names_lead_nowhere_else(self, name: str, shop: Bench) -> None:
        made = CheckResult(name="backup", verdict=Verdict.PASS, evidence={"id": name, "sha256": "0" * 64})

        seen = await shop.see(made)

        assert seen.verdict is Verdict.FAIL
        assert "no backup with that id" in seen.reason


async def test_only_the_newest_are_kept(shop: Bench) -> None:
    made = [passed(await shop.backup(shop.spec({"keep": 2}))).evidence["id"] for _ in range(3)]

    assert len(shop.left()) == 2
    assert made[-1] in shop.left() or made[-1][:16] == made[0][:16]


async def test_a_young_one_is_used_again_only_when_it_is_whole(shop: Bench) -> None:
    spec = shop.spec({"reuse": "1h"})
    first = passed(await shop.backup(spec))
    again = passed(await shop.backup(spec))
    dump = Path(first.evidence["folder"]) / "database.dump"
    os.truncate(dump, 10)
    anew = passed(await shop.backup(spec))

    assert again.evidence["id"] == first.evidence["id"]
    assert anew.evidence["id"] != first.evidence["id"]


async def test_a_plan_makes_none(shop: Bench) -> None:
    planned = await check_backup(PreflightCheck(spec=shop.spec(), planning=True), shop.home)

    assert planned.verdict is Verdict.SKIPPED
    assert shop.left() == []

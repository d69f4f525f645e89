"""Databases as they are found: old encodings, settings that end sessions, strings that were written for other tools."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from activities.database.connection import Database
from activities.migrations.runner import MigrationRunner
from home.paths import Home
from models.preflight.migrations import MigrationsSpec
from models.verdict import Verdict
from tests.integration.databases.conftest import Bench, passed
from tests.servers.postgres import Postgres, other_servers, running_postgres

LIMITS = (
    "transaction_timeout",
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
)
ROWS: LiteralString = "CREATE TABLE t AS SELECT n, repeat('x', 200) AS b FROM generate_series(1, 200000) n"


@pytest.fixture(
    scope="module", params=[None, *other_servers()], ids=lambda path: path.parent.name if path else "newest"
)
def server(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    with running_postgres(programs=request.param) as found:
        yield found


@pytest.fixture
def bench(server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Bench:
    name = f"d{abs(hash(request.node.name)) % 10**9}"
    monkeypatch.setenv("SHOP_DB", server.url(name))
    return Bench(server, tmp_path, Home(tmp_path / "home"), name)


def encoded(name: LiteralString) -> LiteralString:
    return "ENCODING '" + name + "' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("SQL_ASCII", "größe"),
        ("LATIN1", "größe"),
        ("LATIN9", "€"),
        ("WIN1252", "€"),
        ("WIN1251", "да"),
        ("EUC_JP", "日本"),
        ("EUC_TW", "中"),
        ("UTF8", "日本 🚀"),
    ],
)
async def test_every_encoding_is_backed_up_and_proven(bench: Bench, encoding: LiteralString, text: str) -> None:
    bench.postgres.make(bench.name, like=encoded(encoding))
    table = sql.Identifier(text)
    bench.postgres.run(bench.name, sql.SQL("CREATE TABLE {} (a text)").format(table))
    bench.postgres.run(bench.name, sql.SQL("INSERT INTO {} VALUES ({})").format(table, sql.Literal(text)))

    made = passed(await bench.backup())

    assert bench.shelf.manifest(made.evidence["id"]).counts == {f"public.{text}": 1}


async def test_bytes_of_no_encoding_are_kept_as_they_are(bench: Bench) -> None:
    bench.postgres.make(bench.name, like=encoded("SQL_ASCII"))
    with psycopg.connect(bench.postgres.url(bench.name), autocommit=True, client_encoding="LATIN1") as connection:
        connection.execute('CREATE TABLE "größe" (a text)')
        connection.execute("INSERT INTO \"größe\" VALUES ('é')")

    made = passed(await bench.backup())

    assert bench.shelf.manifest(made.evidence["id"]).counts == {r"public.gr\xf6\xdfe": 1}


async def test_what_a_client_would_like_to_get_does_not_change_the_dump(bench: Bench) -> None:
    bench.postgres.make(bench.name, "CREATE TABLE t (a text)", "INSERT INTO t VALUES ('日本 €')")
    bench.postgres.run("postgres", setting("DATABASE", bench.name, "client_encoding", "LATIN1"))

    passed(await bench.backup())


def setting(kind: LiteralString, of: str, name: LiteralString, value: str) -> sql.Composed:
    statement = sql.SQL("ALTER " + kind + " {} SET " + name + " = {}")
    return statement.format(sql.Identifier(of), sql.Literal(value))


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("whose", ["DATABASE", "ROLE"])
async def test_a_time_limit_of_sessions_does_not_end_ours(
    bench: Bench, limit: LiteralString, whose: LiteralString
) -> None:
    if (limit,) not in bench.postgres.rows("postgres", "SELECT name FROM pg_settings"):
        # transaction_timeout came with PostgreSQL 17: on Debian's 15 there is nothing that could end a session.
        pytest.skip("this server has no such limit")
    bench.postgres.make(bench.name, ROWS)
    of = bench.name if whose == "DATABASE" else "shop"
    bench.postgres.run("postgres", setting(whose, of, limit, "250ms"))
    try:
        passed(await bench.backup())
        assert bench.scratches() == []
    finally:
        bench.postgres.run("postgres", sql.SQL("ALTER ROLE shop RESET {}").format(sql.SQL(limit)))


async def test_a_session_of_the_worker_has_no_limit_left(bench: Bench) -> None:
    bench.postgres.make(bench.name)
    for limit in LIMITS[1:]:
        bench.postgres.run("postgres", setting("ROLE", "shop", limit, "5s"))
    try:
        async with Database.of("env:SHOP_DB").connected() as connection:
            cursor = await connection.execute(
                "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", (list(LIMITS),)
            )
            assert {setting for _, setting in await cursor.fetchall()} == {"0"}
            lasting = await Database.of("env:SHOP_DB").lasting(connection)
            chosen = lasting.parameters.get("options", "")
            assert all(f"-c {limit}=0" in chosen for limit in LIMITS[1:]), chosen
    finally:
        for limit in LIMITS[1:]:
            bench.postgres.run("postgres", sql.SQL("ALTER ROLE shop RESET {}").format(sql.SQL(limit)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quote_all_identifiers", "on"),
        ("default_transaction_read_only", "on"),
        ("default_transaction_isolation", "serializable"),
        ("search_path", "nowhere"),
        ("row_security", "off"),
        ("standard_conforming_strings", "on"),
        ("datestyle", "German"),
        ("bytea_output", "escape"),
    ],
)
async def test_a_setting_of_the_database_or_the_role_changes_nothing(
    bench: Bench, name: LiteralString, value: str
) -> None:
    bench.postgres.make(
        bench.name, "CREATE TABLE t (a date, b bytea)", r"INSERT INTO t VALUES ('2026-05-04', '\x00ff')"
    )
    bench.postgres.run("postgres", setting("DATABASE", bench.name, name, value))
    bench.postgres.run("postgres", setting("ROLE", "shop", name, value))
    try:
        passed(await bench.backup())
    finally:
        with psycopg.connect(bench.postgres.url("postgres"), autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(sql.SQL("ALTER ROLE shop RESET {}").format(sql.SQL(name)))


async def test_a_database_whose_public_schema_was_dropped_is_proven_and_comes_back(bench: Bench) -> None:
    bench.postgres.make(bench.name, "CREATE SCHEMA app", "CREATE TABLE app.t (a int)", "DROP SCHEMA public CASCADE")

    passed(await bench.backup())


async def test_what_databases_are_made_of_is_proven(bench: Bench) -> None:
    bench.postgres.make(
        bench.name,
        "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
        "CREATE TABLE kinds (a positive, b int GENERATED ALWAYS AS (a * 2) STORED, c int GENERATED ALWAYS AS IDENTITY)",
        "INSERT INTO kinds (a) SELECT n FROM generate_series(1, 10) n",
        "CREATE MATERIALIZED VIEW unfilled AS SELECT * FROM kinds WITH NO DATA",
        "CREATE UNLOGGED TABLE quick (a int)",
        "INSERT INTO quick VALUES (1)",
        "ALTER TABLE quick ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE quick FORCE ROW LEVEL SECURITY",
        "CREATE POLICY none ON quick USING (false)",
        "CREATE TABLE parted (a int, b text) PARTITION BY LIST (b)",
        "CREATE TABLE parted_rest PARTITION OF parted DEFAULT PARTITION BY HASH (a)",
        "CREATE TABLE parted_rest_1 PARTITION OF parted_rest FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        "INSERT INTO parted SELECT n, 'x' FROM generate_series(1, 100) n",
        "CREATE TABLE parent (a int)",
        "CREATE TABLE child (b int) INHERITS (parent)",
        "CREATE SEQUENCE steps INCREMENT 5",
        "SELECT nextval('steps'), lo_from_bytea(0, 'abc')",
        "CREATE FUNCTION noted() RETURNS event_trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO log VALUES (tg_tag); END $$",
        "CREATE TABLE log (a text)",
        "CREATE EVENT TRIGGER note ON ddl_command_end EXECUTE FUNCTION noted()",
        'CREATE COLLATION plain FROM "C"',
        "COMMENT ON TABLE log IS 'what happened'",
        "CREATE PUBLICATION everything FOR ALL TABLES",
    )

    made = passed(await bench.backup())

    counts = bench.shelf.manifest(made.evidence["id"]).counts
    assert (counts["public.kinds"], counts["public.parted_rest_1"], counts["public.quick"]) == (10, 100, 1)


@pytest.mark.parametrize(
    "more",
    [
        "&schema=public&connection_limit=5&pgbouncer=true",
        "&pool=5&timeout=5000",
        "&currentSchema=public&ApplicationName=a",
    ],
)
async def test_a_string_that_was_written_for_a_tool_leads_to_the_database(
    bench: Bench, more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.postgres.make(bench.name, "CREATE TABLE t (a int)", "INSERT INTO t VALUES (1)")
    for scheme in ("postgresql://", "postgres://", "postgresql+psycopg2://", "jdbc:postgresql://"):
        monkeypatch.setenv("SHOP_DB", bench.postgres.url(bench.name).replace("postgresql://", scheme) + more)

        assert passed(await bench.backup()).evidence["rows"] == 1


async def test_a_parameter_that_nobody_knows_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_DB", bench.postgres.url(bench.name) + "&sslmod=verify-full")

    made = await bench.backup()

    assert made.verdict is Verdict.ERROR
    assert "env:SHOP_DB: the parameter sslmod of the connection string" in made.reason


async def test_a_tool_gets_its_string_as_it_was_written_and_its_table_is_found(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.postgres.make(
        bench.name, "CREATE SCHEMA app", "CREATE TABLE app.done (name text)", "INSERT INTO app.done VALUES ('m1')"
    )
    written = bench.postgres.url(bench.name) + "&schema=app&connection_limit=5"
    monkeypatch.setenv("SHOP_DB", written)
    database = {"secret": "env:SHOP_DB"}
    spec = MigrationsSpec.model_validate(
        {
            "tool": "command",
            "database": database,
            "status": ["sh", "-c", f'test "$DATABASE_URL" = "{written}"'],
            "run": ["true"],
            "directory": str(bench.folder),
        }
    )
    tool = MigrationRunner(bench.spec(migrations=spec.model_dump(mode="json", exclude_none=True)), spec)

    assert (await tool.ask(spec.status or ())).code == 0
    assert await tool.column("done", "name") == ["m1"]
    assert os.environ["SHOP_DB"] == written

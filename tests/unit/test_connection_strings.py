"""Connection strings are understood as Prisma, Rails, Django, SQLAlchemy, JDBC and others write them."""

import os
import random

import pytest

from activities.database.addresses import NoAddressError, read_address
from activities.database.connection import Database
from models.errors import SecretUnresolvedError

U = {"user": "u", "password": "p", "host": "h", "dbname": "d"}


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("postgresql://u:p@h:5432/d", {**U, "port": "5432"}),
        ("postgres://u:p@h/d", U),
        # Prisma
        ("postgresql://u:p@h/d?schema=public&connection_limit=5", U),
        ("postgresql://u:p@h/d?pgbouncer=true&pool_timeout=0&socket_timeout=3&statement_cache_size=0", U),
        ("postgresql://u:p@h/d?sslmode=require&sslaccept=accept_invalid_certs", {**U, "sslmode": "require"}),
        ("postgresql://u:p@localhost/d?host=/var/run/postgresql/", {**U, "host": "/var/run/postgresql/"}),
        # Rails
        ("postgres://u:p@h/d?pool=5&timeout=5000&prepared_statements=false&encoding=unicode", U),
        ("postgresql:///d?host=/var/run", {"dbname": "d", "host": "/var/run"}),
        ("postgresql://%2Fvar%2Frun%2Fpostgresql/d", {"dbname": "d", "host": "/var/run/postgresql"}),
        # Django
        ("postgis://u:p@h/d?conn_max_age=600", U),
        ("pgsql://u:p@h/d", U),
        # SQLAlchemy and its drivers
        ("postgresql+psycopg2://u:p@h/d", U),
        ("postgresql+asyncpg://u:p@h/d?ssl=verify-full", {**U, "sslmode": "verify-full"}),
        ("postgresql+asyncpg://u:p@h/d?prepared_statement_cache_size=0", U),
        ("postgresql+psycopg://u:p@h/d?client_encoding=utf8", {**U, "client_encoding": "utf8"}),
        ("postgresql+psycopg2://u:p@/d?host=h:1&host=h", U),
        # JDBC
        ("jdbc:postgresql://h/d?user=u&password=p&ssl=true", {**U, "sslmode": "require"}),
        ("jdbc:postgresql://h:1,i:2/d?user=u&password=p&targetServerType=primary", {**U, "host": "h,i", "port": "1,2"}),
        ("jdbc:postgresql://h/d?user=u&password=p&currentSchema=app&reWriteBatchedInserts=true", U),
        # node-postgres, Go
        ("postgres://u:p@h/d?sslmode=no-verify", {**U, "sslmode": "require"}),
        ("postgres://u:p@h/d?ssl=false", {**U, "sslmode": "disable"}),
        ("postgres://u:p@h/d?ssl=true&sslmode=verify-full", {**U, "sslmode": "verify-full"}),
        ("postgres://u:p@h/d?sslmode=require&uselibpqcompat=true", {**U, "sslmode": "require"}),
        ("postgres://u:p@h/d?pool_max_conns=10&default_query_exec_mode=exec&x-migrations-table=m", U),
        # hosts, passwords
        ("postgresql://u:p@[::1]:5433/d", {**U, "host": "::1", "port": "5433"}),
        ("postgresql://u:p@h1:5432,h2:5433/d", {**U, "host": "h1,h2", "port": "5432,5433"}),
        ("postgresql://u:p%40s%2Fs%3F%23%25%3A@h/d", {**U, "password": "p@s/s?#%:"}),
        ("postgresql://u:p@ss:w#rd@h/d", {**U, "password": "p@ss:w#rd"}),
        ("postgresql://u:100%sure@h/d", {**U, "password": "100%sure"}),
        ("postgresql://u:gr%C3%BCn@h/d", {**U, "password": "grün"}),
        ("postgresql://u%40corp:p@h/d", {**U, "user": "u@corp"}),
        ("postgresql://h/d?application_name=a%20b&options=-c%20geqo%3Doff", {"host": "h", "dbname": "d"} | {
            "application_name": "a b", "options": "-c geqo=off"}),
        ("host=h dbname=d user=u password='p'", U),
    ],
)  # fmt: skip
def test_what_libpq_knows_is_kept_and_what_tools_add_is_left_out(text: str, parameters: dict[str, str]) -> None:
    assert read_address(text).parameters == parameters


@pytest.mark.parametrize(
    ("text", "schemas"),
    [
        ("postgresql://h/d?schema=app", ("app",)),
        ("jdbc:postgresql://h/d?currentSchema=app,public", ("app", "public")),
        ("postgres://h/d?search_path=%22Odd%20One%22", ("Odd One",)),
        ("postgresql://h/d", ()),
    ],
)
def test_the_schema_of_a_tool_is_where_its_tables_are_looked_for(text: str, schemas: tuple[str, ...]) -> None:
    assert read_address(text).schemas == schemas


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("postgresql://u:hunter2@h/d?sslmod=verify-full", "the parameter sslmod of the connection string"),
        ("postgresql://u:hunter2@h/d?SSLMODE=require", "the parameter SSLMODE"),
        ("postgresql://u:hunter2@h/d?ssl=perhaps", "ssl of the connection string is true, false"),
        ("postgresql://u:hunt/er2@h/d", "not a connection string of PostgreSQL"),
        ("postgresql://u:hunt?er2@h/d", "not a connection string of PostgreSQL"),
        ("postgresql://u:12?hunter2=3@h/d", "not a connection string of PostgreSQL"),
        ("postgresql://u:hunter2@h:port/d", "not a connection string of PostgreSQL"),
        ("postgresql://u:hunter2%FF@h/d", "is not UTF-8"),
        ("mysql://u:hunter2@h/d", "not a connection string of PostgreSQL"),
        ("hunter2", "not a connection string of PostgreSQL"),
        ("host=h hunter2=d", "not a connection string of PostgreSQL"),
    ],
)
def test_what_nobody_knows_is_named_and_nothing_secret_is(text: str, said: str) -> None:
    with pytest.raises(NoAddressError) as caught:
        read_address(text)

    assert said in str(caught.value)
    assert "hunt" not in str(caught.value) and "er2" not in str(caught.value)


def test_the_reference_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_URL", "postgresql://u:hunter2@h/d?nobody_knows=1")

    with pytest.raises(
        SecretUnresolvedError, match=r"^env:DB_URL: the parameter nobody_knows of the connection string"
    ):
        Database.of("env:DB_URL")


def test_any_password_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib.parse import quote

    dice = random.Random(os.environ.get("FUZZ_SEED", "20260504"))  # noqa: S311  dice, no secret
    for _ in range(500):
        password = "".join(dice.choice("aZ0 @:/?#%&=+$'\"\\[]{}|^~<>üß日🚀") for _ in range(dice.randint(1, 12)))

        assert read_address(f"postgresql://u:{quote(password, safe='')}@h/d").parameters["password"] == password

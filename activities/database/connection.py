"""A connection string holds a password: it must reach libpq, and neither an argument list nor an error text.

Our own connections take it as it is. Other programs get everything else as an argument, and the password in a file
that only this user can read, gone with the program.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import conninfo, sql

from activities.database.addresses import NoAddressError, read_address
from activities.heartbeat import shorten
from activities.secrets.resolver import remember, resolve
from models.errors import DatabaseRefusedError, SecretUnresolvedError, UnavailableError

CONNECT_WITHIN = 10
_PASSFILE = "ds-pgpass-"
# Between its making and its lock a file is nobody's.
_NEW_PASSFILE = 60.0
_SECRET = ("password", "sslpassword")
_IN_ENVIRONMENT = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "user": "PGUSER",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "options": "PGOPTIONS",
    "passfile": "PGPASSFILE",
}

# What a server, a database or a role may set to end sessions, and since which version; 0 lets them live. Our own
# transactions wait for programs, and must not be taken for forgotten ones.
_LIMITS: dict[LiteralString, int] = {
    "transaction_timeout": 170000,
    "statement_timeout": 0,
    "idle_in_transaction_session_timeout": 0,
    "idle_session_timeout": 140000,
    "lock_timeout": 0,
}

Connection = psycopg.AsyncConnection[tuple[object, ...]]


@dataclass(frozen=True)
class Database:
    """One database, with everything that is needed to connect to it.

    Attributes:
        parameters: of libpq, without what is secret.
        secrets: the others.
        schemas: where unqualified names are looked for, when the connection string says so.
    """

    parameters: dict[str, str]
    secrets: dict[str, str]
    schemas: tuple[str, ...] = ()

    @classmethod
    def of(cls, reference: str) -> "Database":
        """The database whose connection string a secret holds: a URL as libpq or a tool takes it, or `key=value` pairs.

        Raises:
            SecretUnresolvedError: there is no such secret, or it is not a connection string. Its text is not repeated.
        """
        try:
            address = read_address(resolve(reference).strip())
        except NoAddressError as error:
            raise SecretUnresolvedError(f"{reference}: {error}") from None
        parts = dict(address.parameters)
        secrets = {name: parts.pop(name) for name in _SECRET if parts.get(name)}
        for value in secrets.values():
            if "\n" in value or "\r" in value:
                raise SecretUnresolvedError(f"{reference}: a password with a line break cannot be handed to programs")
            remember(value)
        if not parts.get("dbname"):
            raise SecretUnresolvedError(f"{reference}: the connection string names no database")
        return cls(parts, secrets, address.schemas)

    @property
    def name(self) -> str:
        """The database's name on its server."""
        return self.parameters["dbname"]

    @property
    def place(self) -> str:
        """The database and its server, for a sentence."""
        host = self.parameters.get("host") or self.parameters.get("hostaddr") or "the local socket"
        port = self.parameters.get("port")
        return f"{self.name} on {host}{f':{port}' if port else ''}"

    def called(self, name: str) -> "Database":
        """Another database on the same server."""
        return replace(self, parameters={**self.parameters, "dbname": name})

    @property
    def argument(self) -> str:
        """For a program's `--dbname`: everything but the secrets."""
        return conninfo.make_conninfo("", **self.parameters)

    @contextmanager
    def environment(self) -> Iterator[dict[str, str]]:
        """What programs that speak libpq need to get in; the file with the password is gone afterwards."""
        found = {variable: self.parameters[n] for n, variable in _IN_ENVIRONMENT.items() if self.parameters.get(n)}
        password = self.secrets.get("password")
        if password is None:
            yield found
            return
        _sweep_passfiles()
        descriptor, path = tempfile.mkstemp(prefix=_PASSFILE)  # made with mode 0600
        try:
            # Held for as long as it is used: a file that nobody holds was left by a worker that was killed.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            escaped = password.replace("\\", "\\\\").replace(":", "\\:")
            os.write(descriptor, f"*:*:*:*:{escaped}\n".encode())
            yield {**found, "PGPASSFILE": path}
        finally:
            Path(path).unlink(missing_ok=True)
            os.close(descriptor)

    @asynccontextmanager
    async def connected(self, *, autocommit: bool = False) -> AsyncIterator[Connection]:
        """A connection.

        Raises:
            UnavailableError: the server does not answer, or broke off; worth another try.
            DatabaseRefusedError: it does not let this role in, or refused what was asked.
        """
        known = {"connect_timeout": str(CONNECT_WITHIN), "application_name": "deployment-specialist"}
        # Whatever the database or the role prefers, names are read as text here.
        ours = {"client_encoding": "UTF8"}
        whole = conninfo.make_conninfo("", **{**known, **self.parameters, **self.secrets, **ours})
        try:
            connection = await psycopg.AsyncConnection.connect(whole, autocommit=True)
        except psycopg.Error as error:
            raise self._connecting(error) from None
        try:
            async with connection:
                # Each of these is a transaction of its own: one that has begun keeps the time limit that it began with.
                await self._prepare(connection)
                await connection.set_autocommit(autocommit)
                yield connection
        except psycopg.Error as error:
            raise self.explained(error) from None

    async def _prepare(self, connection: Connection) -> None:
        """Makes a session that nothing ends but its own end, and that can read every name."""
        for setting, since in _LIMITS.items():
            if connection.info.server_version >= since:
                await connection.execute(sql.SQL("SET {} = 0").format(sql.SQL(setting)))
        await connection.execute("SET default_transaction_read_only = off")
        if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
            # Bytes of any encoding come as they are: one letter each, so that none is lost on the way there and back.
            await connection.execute("SET client_encoding = 'LATIN1'")
        if self.schemas:
            path = sql.SQL(", ").join(map(sql.Identifier, self.schemas))
            await connection.execute(sql.SQL("SET search_path = {}").format(path))

    async def lasting(self, connection: Connection) -> "Database":
        """The same for programs whose sessions may wait: with what would end them switched off, where it is set.

        Args:
            connection: to this database, on which the settings of a new session are read.
        """
        wanted = {**dict.fromkeys(_LIMITS, "0"), "default_transaction_read_only": "off"}
        query = "SELECT name FROM pg_settings WHERE name = ANY(%s) AND reset_val NOT IN ('0', 'off')"
        found = [str(row[0]) for row in await fetch(connection, query, list(wanted))]
        options = " ".join([self.parameters.get("options", ""), *(f"-c {name}={wanted[name]}" for name in found)])
        return replace(self, parameters={**self.parameters, "options": options.strip()}) if found else self

    def _connecting(self, error: psycopg.Error) -> UnavailableError | DatabaseRefusedError:
        # A refusal before the session exists has no SQLSTATE in libpq: whether it is final cannot be told.
        return UnavailableError(f"no connection to the database {self.place}: {said(error)}")

    def explained(self, error: psycopg.Error) -> UnavailableError | DatabaseRefusedError:
        """The server's error as one of ours: whether it is worth another try is told by its class."""
        text = f"the database {self.place}: {said(error)}"
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return UnavailableError(text)
        return DatabaseRefusedError(text)


def _sweep_passfiles() -> None:
    """Removes files with passwords that a killed worker of this user left."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PASSFILE}*"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            about = os.fstat(descriptor)
            if about.st_uid == os.getuid() and about.st_mtime < time.time() - _NEW_PASSFILE:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)


def said(error: psycopg.Error) -> str:
    """What the server said, on one line, scrubbed, without the statement that it quotes."""
    text = error.diag.message_primary or str(error).strip().splitlines()[0] if str(error).strip() else ""
    return shorten(" ".join(text.split()) or type(error).__name__, 300)


async def fetch(
    connection: Connection, query: LiteralString | sql.Composed, *values: object
) -> list[tuple[object, ...]]:
    """All rows of a query; texts in it are values, never part of it."""
    cursor = await connection.execute(query, values or None)
    return await cursor.fetchall()


async def fetch_one(connection: Connection, query: LiteralString, *values: object) -> object:
    """The first column of the first row."""
    return (await fetch(connection, query, *values))[0][0]


def named(statement: LiteralString, *names: str) -> sql.Composed:
    """A statement in which each `{}` is a quoted name."""
    return sql.SQL(statement).format(*(sql.Identifier(name) for name in names))

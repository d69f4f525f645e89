"""Where a migration tool is run: its folder, its environment, its database; how it is stopped, and what it said.

A tool that was stopped half way has left a session on the server, which may still hold its locks and be about to
commit. So every run carries a name that the server shows, and nothing is said about what was applied before no session
of that name is left.
"""

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, LiteralString

import psycopg
from psycopg import sql

from activities.database.connection import Database, fetch, named
from activities.database.pipeline import to_the_end
from activities.database.scratch import owner_mark
from activities.heartbeat import shorten
from activities.migrations.connection_rewrite import led_to
from activities.secrets.resolver import resolve
from activities.system.program_runner import HANDED_ON
from home.caller import inherited
from models.errors import DatabaseRefusedError, PreconditionError, UnavailableError
from models.preflight.migrations import MigrationsSpec
from models.secrets import Secret
from models.spec import DeploymentSpec
from models.units import format_duration

QUESTION = timedelta(seconds=60)
LARGEST_OUTPUT = 4 << 20
LAST_WORDS = 800
GRACE = 5.0
SESSIONS_END_WITHIN = 20.0


@dataclass(frozen=True)
class ToolOutput:
    """What a program said, and how it ended.

    Attributes:
        out: its standard output, at most as much as is read.
        last: the end of both of its outputs, scrubbed, for a sentence.
    """

    code: int
    out: str
    last: str


class MigrationRunner:
    """The tool of a spec, ready to be run.

    Args:
        deployment: whose database it is.
        spec: how the tool is called.
        scratch: a copy of the database that the tool is given instead of it.
    """

    def __init__(self, deployment: DeploymentSpec, spec: MigrationsSpec, scratch: Database | None = None) -> None:
        self.spec = spec
        self._callers = inherited(deployment.service, deployment.target)
        self.directory = Path(spec.directory or deployment.platform.directory)
        self.database = scratch or Database.of(spec.database.secret)
        kind = "migrate" if scratch is None else "try"
        self._session = f"ds-{kind}-{owner_mark(deployment.service, deployment.target)}"
        self._scratch = scratch

    def files(self, default: str) -> Path:
        """The folder of the migrations.

        Raises:
            PreconditionError: it is not below the directory, or not there.
        """
        path = (self.directory / (self.spec.files or default)).resolve()
        if not path.is_relative_to(self.directory.resolve()) or not path.is_dir():
            raise PreconditionError(f"there is no migrations folder {self.spec.files or default} in {self.directory}")
        return path

    async def ask(self, command: Sequence[str], **more: str) -> ToolOutput:
        """Runs a command that changes nothing."""
        return await self._run(command, QUESTION, more)

    async def change(self, command: Sequence[str]) -> ToolOutput:
        """Runs the command that changes the database; whatever ends it, no session of it is left afterwards."""
        try:
            return await self._run(command, self.spec.timeout, {})
        finally:
            await to_the_end(self.nobody_left(kill_at_once=True))

    async def nobody_left(self, *, kill_at_once: bool) -> None:
        """Waits until no session of an earlier run is left on the server; ends those that stay.

        Raises:
            UnavailableError: one stays although it was ended.
        """
        waited = time.monotonic()
        async with self.database.connected(autocommit=True) as connection:
            while True:
                query = "SELECT pid FROM pg_stat_activity WHERE application_name = %s"
                sessions = [row[0] for row in await fetch(connection, query, self._session)]
                if not sessions:
                    return
                late = time.monotonic() - waited
                if late > 2 * SESSIONS_END_WITHIN:
                    raise UnavailableError("a session of an earlier migration is still on the server")
                if kill_at_once or late > SESSIONS_END_WITHIN:
                    for pid in sessions:
                        await connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
                await asyncio.sleep(0.1)

    async def column(self, table: str, column: str, where: str = "true") -> list[str]:
        """What the tool's own table says was applied; nothing when there is no such table yet."""
        place = sql.SQL(".").join(sql.Identifier(name) for name in table.split("."))
        query = named("SELECT {}::text FROM ", column) + place + sql.SQL(_CONDITIONS[where])
        async with self.database.connected() as connection:
            try:
                cursor = await connection.execute(query)
            except psycopg.errors.UndefinedTable:
                return []
            return [str(row[0]) for row in await cursor.fetchall()]

    async def _run(self, command: Sequence[str], within: timedelta, more: dict[str, str]) -> ToolOutput:
        with self._environment() as environment, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            async with self._started(command, environment | more, out, errors) as process:
                try:
                    async with asyncio.timeout(within.total_seconds()):
                        code = await process.wait()
                except TimeoutError:
                    said = f"{_name(command)} did not end within {format_duration(within)}"
                    raise DatabaseRefusedError(f"{said}{_last(out, errors)}") from None
            out.seek(0)
            text = out.read(LARGEST_OUTPUT).decode("utf-8", "replace")
            return ToolOutput(code, text, _last(out, errors))

    @asynccontextmanager
    async def _started(
        self, command: Sequence[str], environment: dict[str, str], out: IO[bytes], errors: IO[bytes]
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=self.directory,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                start_new_session=True,
            )
        except OSError as error:
            raise PreconditionError(
                f"{_name(command)} could not be run in {self.directory}: {error.strerror}"
            ) from None
        try:
            yield process
        finally:
            await to_the_end(_end(process))

    def _connection_string(self) -> str:
        text = resolve(self.spec.database.secret).strip()
        return text if self._scratch is None else led_to(text, self._scratch)

    @contextmanager
    def _environment(self) -> Iterator[dict[str, str]]:
        kept = {name: self._callers[name] for name in HANDED_ON if name in self._callers}
        own = {
            name: resolve(value.secret) if isinstance(value, Secret) else value
            for name, value in self.spec.environment.items()
        }
        with self.database.environment() as libpq:
            yield {
                **kept,
                "LC_ALL": "C.UTF-8",
                "PYTHONDONTWRITEBYTECODE": "1",
                **libpq,
                "PGAPPNAME": self._session,
                self.spec.variable: self._connection_string(),
                **own,
            }


_CONDITIONS: dict[str, LiteralString] = {
    "true": "",
    "prisma-applied": " WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL",
    "prisma-failed": " WHERE finished_at IS NULL AND rolled_back_at IS NULL",
}


async def _end(process: asyncio.subprocess.Process) -> None:
    """Asks a program that still runs to end, and then ends everything that it started."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _name(command: Sequence[str]) -> str:
    return shorten(" ".join(command[:3]), 100)


def _last(out: IO[bytes], errors: IO[bytes]) -> str:
    parts = []
    for file in (out, errors):
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LAST_WORDS))
        parts.append(" ".join(file.read().decode("utf-8", "replace").split()))
    text = shorten(" ".join(part for part in parts if part), LAST_WORDS)
    return f"; it said last: {text}" if text else ""

"""A program that somebody else wrote may hang, start children, print without end, or print a secret.

It runs in a process group of its own, without a shell, which is killed as a whole when its time is over, when the
activity is cancelled, and when the program has ended and left children behind. Only the end of what it prints is kept.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

from activities.check_result import quote

KEPT_OUTPUT = 8 << 10
LAST_WORDS = 800
HANDED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")


class CannotRunError(Exception):
    """The program could not be started; the text is the cause."""


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    Attributes:
        code: its exit code; negative: the signal that ended it; None: its time was over, and it was killed.
        said: `; it said last: …`, or nothing; scrubbed.
    """

    code: int | None
    said: str


async def run_program(
    command: Sequence[str], directory: str, within: timedelta, environment: Mapping[str, str]
) -> Ended:
    """Runs a program to its end, or until its time is over.

    Args:
        command: an argument list.
        directory: where it is run.
        within: its time.
        environment: besides what programs need to be found and to speak the user's language.

    Raises:
        CannotRunError: it could not be started.
    """
    if not await asyncio.to_thread(os.path.isdir, directory):
        raise CannotRunError(f"there is no directory {directory}")
    given = {name: os.environ[name] for name in HANDED_ON if name in os.environ} | dict(environment)
    try:
        async with _running(command, directory, given) as (process, output):
            code: int | None = None
            with suppress(TimeoutError):
                async with asyncio.timeout(within.total_seconds()):
                    code = await process.wait()
            await _end(process)
            return Ended(code, await output.last_words())
    except (OSError, ValueError) as error:
        cause = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise CannotRunError(cause) from None


class _Output:
    """Reads everything, so that the program never waits for its reader, and keeps the end."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._kept = bytearray()
        self._reading = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while chunk := await reader.read(64 << 10):
            self._kept += chunk
            del self._kept[:-KEPT_OUTPUT]

    async def last_words(self) -> str:
        # A child that left the process group may hold the pipe open for ever.
        await asyncio.wait([self._reading], timeout=0.5)
        text = quote(self._kept.decode("utf-8", "replace"), KEPT_OUTPUT)
        return f"; it said last: {text[-LAST_WORDS:]}" if text else ""

    async def close(self) -> None:
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading


@asynccontextmanager
async def _running(
    command: Sequence[str], directory: str, environment: dict[str, str]
) -> AsyncIterator[tuple[asyncio.subprocess.Process, _Output]]:
    # A pipe of our own: asyncio's waits for the end of the output, which children of the program may put off.
    reading, writing = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0)
    )
    try:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=directory,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,
            )
        finally:
            os.close(writing)
        output = _Output(reader)
        try:
            yield process, output
        finally:
            if process.returncode is None:
                await _end(process)
            await output.close()
    finally:
        transport.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kills the program's process group. The group outlives the program as long as it has a child in it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()

"""A smoke test that is a program of the user's: it may hang, start children, print without end, or print a secret.

It runs in a process group of its own, which is killed as a whole when its time is over, when the activity is cancelled,
and when the program has ended and left children behind. Only the end of what it prints is kept.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from activities.finding import Finding, quote
from models.checks import SmokeCheck
from models.units import format_duration
from models.verdict import CheckResult

KEPT_OUTPUT = 8 << 10
LAST_WORDS = 800
HANDED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")


async def run_command(finding: Finding, check: SmokeCheck, command: tuple[str, ...]) -> CheckResult:
    """Runs the test's program in `check.directory`; exit code 0 within the time is a pass.

    It gets BASE_URL, VERSION, SERVICE and TARGET, and of the worker's environment only what programs need to be found
    and to speak the user's language.
    """
    within, name = check.test.expect.within, quote(command[0])
    if not await asyncio.to_thread(os.path.isdir, check.directory):
        return finding.not_asked(f"{name} could not be run: there is no directory {check.directory}")
    try:
        async with _running(command, check.directory, _environment(check)) as (process, output):
            try:
                async with asyncio.timeout(within.total_seconds()):
                    code = await process.wait()
            except TimeoutError:
                await _end(process)
                said = await output.last_words()
                return finding.failed(f"{name} did not end within {format_duration(within)}{said}")
            await _end(process)
            said = await output.last_words()
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        return finding.not_asked(f"{name} could not be run: {reason}")
    if code < 0:
        return finding.failed(f"{name} was ended by signal {-code}{said}", exit_code=code)
    if code > 0:
        return finding.failed(f"{name} ended with exit code {code}{said}", exit_code=code)
    return finding.passed(f"{name} ended with exit code 0", exit_code=0)


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
    command: tuple[str, ...], directory: str, environment: dict[str, str]
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


def _environment(check: SmokeCheck) -> dict[str, str]:
    environment = {name: os.environ[name] for name in HANDED_ON if name in os.environ}
    return environment | {
        "BASE_URL": check.base_url,
        "VERSION": check.version,
        "SERVICE": check.service,
        "TARGET": check.target,
    }

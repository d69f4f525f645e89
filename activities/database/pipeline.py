"""Gigabytes go through pipes between programs: nothing is loaded, nothing is left behind when one of them dies.

Each program runs in a process group of its own that is killed as a whole at the end of its block. Bytes pass through
this process in one buffer, in a thread; the thread ends when the programs at the ends of its pipes do.
"""

import asyncio
import os
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from activities.heartbeat import shorten
from activities.system.program_runner import HANDED_ON
from models.errors import DatabaseRefusedError, PreconditionError

CHUNK = 256 << 10
LAST_WORDS = 1000
_VERSION = re.compile(r"(\d+)(?:\.\d+)?", re.ASCII)
_DEBIAN = Path("/usr/lib/postgresql")

Sink = Callable[[memoryview], object]
T = TypeVar("T")


class Running:
    """A program that was started."""

    def __init__(self, process: asyncio.subprocess.Process, name: str, errors: IO[bytes]) -> None:
        self.process = process
        self._name = name
        self._errors = errors

    async def ended(self) -> None:
        """Waits for its end.

        Raises:
            DatabaseRefusedError: its exit code was not 0; told with its last words.
        """
        code = await self.process.wait()
        if code:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise DatabaseRefusedError(f"{self._name} {how}{self._last_words()}")

    def _last_words(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - LAST_WORDS))
        text = " ".join(shorten(self._errors.read().decode("utf-8", "replace"), LAST_WORDS).split())
        return f"; it said last: {text}" if text else ""

    async def end(self) -> None:
        """Kills it and everything that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()
        self._errors.close()


class Pipeline:
    """Programs and the pipes between them. In the end all of it is gone, in the order that lets everything end."""

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._programs: list[Running] = []
        self._pours: list[asyncio.Future[int]] = []

    def pipe(self) -> tuple[int, int]:
        """A pipe's two ends: where it is read, and where it is written."""
        ends = os.pipe()
        self._open.update(ends)
        return ends

    def own(self, descriptor: int) -> int:
        """Takes a descriptor over: it is closed in the end, or when it is given away."""
        self._open.add(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:
        """Closes a descriptor of ours now."""
        self._open.discard(descriptor)
        os.close(descriptor)

    async def run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        stdin: int = asyncio.subprocess.DEVNULL,
        stdout: int = asyncio.subprocess.DEVNULL,
        hands: Sequence[int] = (),
    ) -> Running:
        """Starts a program. The descriptors that it is given are closed here.

        Raises:
            PreconditionError: it could not be started.
        """
        kept = {name: os.environ[name] for name in HANDED_ON if name in os.environ}
        errors = tempfile.TemporaryFile()
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                env={**kept, "LC_ALL": "C", **environment},
                stdin=stdin,
                stdout=stdout,
                stderr=errors,
                pass_fds=tuple(hands),
                start_new_session=True,
            )
        except OSError as error:
            errors.close()
            raise PreconditionError(f"{command[0]} could not be run: {error.strerror}") from None
        finally:
            for each in (stdin, stdout, *hands):
                if each in self._open:
                    self.close(each)
        program = Running(process, Path(command[0]).name, errors)
        self._programs.append(program)
        return program

    def pour(self, source: int, sinks: Sequence[Sink], closing: Sequence[int] = ()) -> "asyncio.Future[int]":
        """Reads a descriptor to its end in a thread, and hands each piece to all sinks; gives how many bytes.

        Closes what it read from, and `closing`, in every case: whoever reads there must learn that no more comes.
        """
        self._open.difference_update((source, *closing))
        work = asyncio.ensure_future(asyncio.to_thread(_pour, source, sinks, closing))
        self._pours.append(work)
        return work

    async def end(self) -> None:
        """Ends the programs, then their pipes, and with these the threads."""
        for program in self._programs:
            await program.end()
        for descriptor in list(self._open):
            self.close(descriptor)
        if self._pours:
            await asyncio.wait(self._pours)
            for pour in self._pours:
                pour.exception()  # what broke it was told by the program at its end, or by whoever awaited it


@asynccontextmanager
async def plumbing() -> AsyncIterator[Pipeline]:
    """Pipes and programs for one purpose; gone at the end of the block, however it ends."""
    pipes = Pipeline()
    try:
        yield pipes
    finally:
        await to_the_end(pipes.end())


async def quietly(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Runs a program for its exit code alone; whether it was 0."""
    async with plumbing() as pipes:
        return await (await pipes.run(command, environment)).process.wait() == 0


def _pour(source: int, sinks: Sequence[Sink], closing: Sequence[int]) -> int:
    buffer = memoryview(bytearray(CHUNK))
    total = 0
    try:
        with open(source, "rb", buffering=0) as stream:
            while n := stream.readinto(buffer):
                for sink in sinks:
                    sink(buffer[:n])
                total += n
    finally:
        for each in closing:
            os.close(each)
    return total


def into(descriptor: int) -> Sink:
    """A sink that writes everything to a descriptor."""

    def write(piece: memoryview) -> None:
        while piece:
            piece = piece[os.write(descriptor, piece) :]

    return write


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Awaits work to its end also when the activity is cancelled meanwhile; the cancellation goes on afterwards."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    result = task.result()
    if cancelled:
        raise asyncio.CancelledError
    return result


async def find(name: str, folder: str | None, at_least: int) -> str:
    """Finds one of PostgreSQL's programs that is not older than the server: in the folder that the spec names, else on
    the worker's PATH, else in Debian's folders.

    Raises:
        PreconditionError: there is none, or it is too old for this server.
    """
    found: dict[str, int] = {}
    for path in _candidates(name, folder):
        version = await version_of(path)
        if version >= at_least:
            return path
        found[path] = version
    if not found:
        where = folder or "the worker's PATH"
        raise PreconditionError(
            f"{name} is not in {where}; preflight.backup.programs says where PostgreSQL's programs are"
        )
    newest = max(found.values())
    raise PreconditionError(
        f"{name} {newest} is older than the server, which is PostgreSQL {at_least}: it cannot back it up"
    )


def _candidates(name: str, folder: str | None) -> list[str]:
    if folder is not None:
        return [str(path)] if os.access(path := Path(folder) / name, os.X_OK) else []
    on_path = shutil.which(name)
    debian = sorted(_DEBIAN.glob(f"*/bin/{name}"), reverse=True)
    return [*([on_path] if on_path else []), *map(str, debian)]


async def version_of(path: str) -> int:
    """The major version that a program of PostgreSQL says it has."""
    said = bytearray()
    async with plumbing() as pipes:
        reading, writing = pipes.pipe()
        program = await pipes.run([path, "--version"], {}, stdout=writing)
        await pipes.pour(reading, [said.extend])
        await program.ended()
    match = _VERSION.search(said.decode("utf-8", "replace").partition(")")[2])
    if match is None:
        raise PreconditionError(f"{path} --version does not say a version")
    return int(match[1])

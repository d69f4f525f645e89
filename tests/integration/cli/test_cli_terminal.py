"""On a terminal a deployment is painted; and however loaded the machine is, the exit code is the outcome's."""

import asyncio
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.client import Client, WorkflowExecutionStatus

from models.outcome import Outcome
from tests.support import cli_reports as reports
from tests.support.cli_process import STARTER, World, a_worker, temporal

RUNS = 30
AT_ONCE = 3


@pytest_asyncio.fixture(scope="module")
async def client() -> AsyncIterator[Client]:
    async with temporal() as client, a_worker(client):
        yield client


@pytest_asyncio.fixture
async def world(client: Client, tmp_path: Path) -> AsyncIterator[World]:
    world = World(client, tmp_path)
    yield world
    await world.end()


class Terminal:
    """A command on a terminal of 80 columns."""

    def __init__(self, world: World, *arguments: str, **environment: str) -> None:
        self._ours, theirs = pty.openpty()
        os.set_blocking(self._ours, False)
        own = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40", "PYTHONIOENCODING": "utf-8"}
        self.process = subprocess.Popen(
            [sys.executable, str(STARTER), *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=world.environment | own | environment,
            start_new_session=True,
        )
        os.close(theirs)
        self.text = ""

    def read(self) -> str:
        """Everything that was painted so far."""
        try:
            while chunk := os.read(self._ours, 65536):
                self.text += chunk.decode(errors="replace")
        except (BlockingIOError, OSError):
            pass  # nothing more now, or the other end is closed
        return self.text

    async def shows(self, words: str) -> None:
        """Waits until these words were painted."""
        async with asyncio.timeout(30):
            while words not in self.read():
                assert self.process.poll() is None or words in self.read(), self.text[-3000:]
                await asyncio.sleep(0.05)

    async def ends(self) -> int:
        """Waits for its exit code."""
        async with asyncio.timeout(30):
            while self.process.poll() is None:
                self.read()
                await asyncio.sleep(0.05)
        self.read()
        os.close(self._ours)
        return self.process.returncode


async def test_a_deployment_is_painted_on_a_terminal(world: World) -> None:
    terminal = Terminal(world, "deploy", str(world.spec))
    try:
        await terminal.shows("1.1.0  canary")
        await world.show(reports.second_step(25))
        await terminal.shows("25 % of the traffic")
        await world.show(reports.finished(Outcome.ROLLED_BACK))

        assert await terminal.ends() == 10
    finally:
        terminal.process.kill()
        terminal.process.wait()
    assert "✓" in terminal.text and "✗" in terminal.text
    assert "step_25 fail: 41 of 412 answers" in terminal.text
    assert "\x1b[?25h" in terminal.text, "the cursor is visible again"
    assert "Traceback" not in terminal.text


async def test_a_poor_terminal_gets_ascii_and_no_colour(world: World) -> None:
    terminal = Terminal(world, "deploy", str(world.spec), PYTHONIOENCODING="ascii", NO_COLOR="1", LC_ALL="C")
    try:
        await terminal.shows("1.1.0  canary")
        await world.show(reports.finished(Outcome.DEPLOYED))

        assert await terminal.ends() == 0
    finally:
        terminal.process.kill()
        terminal.process.wait()
    assert terminal.text.isascii() and "+ preflight" in terminal.text.replace("  ", " ")
    assert "\x1b[32m" not in terminal.text and "Traceback" not in terminal.text


async def test_ctrl_c_on_a_terminal_detaches_and_leaves_it_tidy(world: World) -> None:
    terminal = Terminal(world, "deploy", str(world.spec))
    try:
        await terminal.shows("1.1.0  canary")
        terminal.process.send_signal(signal.SIGINT)

        assert await terminal.ends() == 130
    finally:
        terminal.process.kill()
        terminal.process.wait()
    assert "goes on" in terminal.text and "\x1b[?25h" in terminal.text
    assert (await world.handle.describe()).status is WorkflowExecutionStatus.RUNNING


def _burner() -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", "while True: pass"])


@pytest.mark.timeout(300)  # as loaded as it makes the machine, other suites may load it more
async def test_the_exit_code_is_the_same_however_loaded_the_machine_is(world: World) -> None:
    command = await world.deploying()
    await world.show(reports.finished(Outcome.ROLLED_BACK))
    assert (await command.done()).code == 10
    burners = [_burner() for _ in range(2)]
    gate = asyncio.Semaphore(AT_ONCE)

    async def watch() -> tuple[int, str]:
        async with gate:
            done = await world.run("watch", world.subject, "--json")
            return done.code, str(done.document["outcome"])

    try:
        found = await asyncio.gather(*(watch() for _ in range(RUNS)))
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()

    assert found == [(10, "rolled-back")] * RUNS


@pytest.mark.parametrize("arguments", [["status"], ["history"], ["report", "--json"]])
async def test_asking_leaves_no_trace(world: World, arguments: list[str]) -> None:
    await world.run("deploy", str(world.spec), "--no-wait")

    done = await world.run(arguments[0], world.subject, *arguments[1:])

    assert done.code == 0, done.err
    assert not (world.folder / "home").exists()

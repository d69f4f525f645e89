"""Two homes, so that two of the things that are killed can be killed side by side without meeting."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.history_reader import MEASURED
from tests.support.product_env import ProductEnv
from tests.support.scenarios import Play, Playing, selected

HOMES = 2


@pytest.fixture(scope="session")
async def playing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Playing]:
    """All scenarios that were selected, under way; each has a whole home for itself while it runs."""
    plays = dict(selected(request.session, "chaos"))
    homes = [ProductEnv(tmp_path_factory.mktemp("chaos")) for _ in range(min(HOMES, len(plays)))]
    free: asyncio.Queue[ProductEnv] = asyncio.Queue()
    under_way: dict[str, asyncio.Task[None]] = {}

    async def in_a_home(play: Play) -> None:
        home = await free.get()
        try:
            await home.up()
            await home.healthy()
            await play(home)
            await home.dismiss()
        finally:
            await free.put(home)

    try:
        for home in homes:
            await home.up()
            free.put_nowait(home)
        under_way.update({name: asyncio.create_task(in_a_home(play)) for name, play in plays.items()})
        yield under_way
    finally:
        for task in under_way.values():
            task.cancel()
        await asyncio.gather(*under_way.values(), return_exceptions=True)
        for home in homes:
            await home.end()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was measured, also when everything went well."""
    for line in MEASURED:
        terminalreporter.write_line(line)

"""One answer serves everybody who asks at about the same time, and nobody is told anything older than was asked for."""

import asyncio

import pytest

from activities.system.coalescing import Shared
from models.errors import UnavailableError


class Server:
    """Answers with the moment at which it was asked, when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked = 0
        self.open = asyncio.Event()
        self.open.set()
        self.shared = Shared(self._ask, clock=lambda: self.now)

    async def _ask(self) -> float:
        self.asked += 1
        at = self.now
        await self.open.wait()
        return at


async def until_asked(server: Server, times: int) -> None:
    async with asyncio.timeout(2):
        while server.asked < times:  # noqa: ASYNC110  nothing tells
            await asyncio.sleep(0)


async def test_those_who_ask_at_the_same_time_share_one_answer() -> None:
    server = Server()
    assert await asyncio.gather(*(server.shared.get(1) for _ in range(30))) == [100.0] * 30
    assert server.asked == 1


async def test_an_answer_is_good_for_as_long_as_was_said_and_no_longer() -> None:
    server = Server()
    await server.shared.get(1)
    server.now = 101
    assert await server.shared.get(1) == 100
    server.now = 101.01
    assert await server.shared.get(1) == 101.01
    assert await server.shared.get(0) == 101.01
    assert server.asked == 2


async def test_a_question_under_way_is_no_answer_to_who_asks_for_something_newer() -> None:
    server = Server()
    server.open.clear()
    first = asyncio.create_task(server.shared.get(1))
    await until_asked(server, 1)
    server.now = 105
    second = asyncio.create_task(server.shared.get(1))
    third = asyncio.create_task(server.shared.get(10))
    await asyncio.sleep(0)
    assert server.asked == 1  # answers come in order
    server.open.set()
    assert list(await asyncio.gather(first, second, third)) == [100, 105, 100]


async def test_what_was_read_before_a_change_is_not_told_after_it() -> None:
    server = Server()
    await server.shared.get(60)
    server.now = 101
    server.shared.renew()
    assert await server.shared.get(60) == 101


async def test_what_was_asked_before_a_change_and_answered_after_it_is_not_told_either() -> None:
    server = Server()
    server.open.clear()
    asked = asyncio.create_task(server.shared.get(60))
    await until_asked(server, 1)
    server.now = 101
    server.shared.renew()
    server.open.set()
    assert await asked == 101


async def test_who_goes_away_takes_nothing_from_the_others() -> None:
    server = Server()
    server.open.clear()
    first, second = asyncio.create_task(server.shared.get(1)), asyncio.create_task(server.shared.get(1))
    await until_asked(server, 1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    server.open.set()
    assert await second == 100
    assert server.asked == 1


async def test_an_error_is_told_to_all_who_wait_and_not_kept() -> None:
    answers = [UnavailableError("not now"), None]

    async def ask() -> str:
        await asyncio.sleep(0)
        if error := answers.pop(0):
            raise error
        return "now"

    shared = Shared(ask)
    found = await asyncio.gather(shared.get(5), shared.get(5), return_exceptions=True)
    assert [str(each) for each in found] == ["not now", "not now"]
    assert await shared.get(5) == "now"

"""Turns a scenario into a test that waits for it, so that slow scenarios run side by side and not one by one."""

import asyncio
import inspect
from asyncio import Task
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.product_env import ProductEnv

Playing = dict[str, "Task[None]"]
Play = Callable[[ProductEnv], Coroutine[Any, Any, None]]
Scenario = Callable[..., Coroutine[Any, Any, None]]
WITHIN = 300  # seconds; as others play beside it, and some wait for their turn


def side_by_side(scenario: Scenario) -> Scenario:
    """Makes a test of `scenario(living, …)`; further arguments come from `parametrize`."""

    async def test(playing: Playing, request: pytest.FixtureRequest, **_: Any) -> None:
        await playing[request.node.nodeid]

    first, *more = inspect.signature(scenario).parameters.values()
    assert first.name == "living"
    own = list(inspect.signature(test).parameters.values())[:2]
    test.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
    test.__name__, test.__qualname__, test.__doc__ = scenario.__name__, scenario.__qualname__, scenario.__doc__
    test.__module__ = scenario.__module__
    test.scenario = scenario  # type: ignore[attr-defined]
    marked: Scenario = pytest.mark.timeout(WITHIN)(test)
    return marked


def selected(session: pytest.Session, folder: str) -> Iterator[tuple[str, Play]]:
    """The scenarios in this folder of tests that were selected: node id → what plays it."""
    for item in session.items:
        if isinstance(item, pytest.Function) and item.path.parent.name == folder:
            scenario = getattr(item.function, "scenario", None)
            if scenario is not None:
                yield item.nodeid, _with(scenario, item.callspec.params if hasattr(item, "callspec") else {})


@asynccontextmanager
async def under_way(session: pytest.Session, folder: str, living: ProductEnv, at_once: int) -> AsyncIterator[Playing]:
    """All scenarios of this folder of tests that were selected, under way, a few at a time; none of them afterwards."""
    turn = asyncio.Semaphore(at_once)

    async def in_turn(play: Play) -> None:
        async with turn:
            try:
                await play(living)
            finally:
                await living.dismiss()

    playing = {name: asyncio.create_task(in_turn(play)) for name, play in selected(session, folder)}
    try:
        yield playing
    finally:
        for task in playing.values():
            task.cancel()
        await asyncio.gather(*playing.values(), return_exceptions=True)


def _with(scenario: Scenario, given: dict[str, Any]) -> Play:
    async def play(living: ProductEnv) -> None:
        await scenario(living, **given)

    return play

"""A gateway divides by a route when it has loaded it, which only the number of its loads tells, before and since."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from activities.platforms.kubernetes import gateway_metrics
from activities.platforms.kubernetes.gateway_metrics import Gateways
from models.errors import UnavailableError
from models.platforms import KubernetesPlatformSpec

WITHIN = 3.0
HELD_BACK = 1.0


class Gateway:
    """Tells how many configurations it has loaded, as Traefik does."""

    def __init__(self) -> None:
        self.loaded: int | None = 9
        self.platform: KubernetesPlatformSpec
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_get("/metrics", self._tell)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"
            self.platform = KubernetesPlatformSpec.model_validate(
                {
                    "kind": "kubernetes",
                    "deployment": "shop",
                    "route": "shop",
                    "image": "shop:{version}",
                    "url": "http://127.0.0.1:8000",
                    "counters": {"urls": [self.url]},
                }
            )
            yield
        finally:
            await runner.cleanup()

    async def _tell(self, _: web.Request) -> web.Response:
        if self.loaded is None:
            return web.Response(status=503)
        return web.Response(
            text=f"# TYPE traefik_config_reloads_total counter\ntraefik_config_reloads_total {self.loaded}\n"
        )


@pytest.fixture
async def gateway(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    monkeypatch.setattr(gateway_metrics, "LOADS_WITHIN", WITHIN)
    monkeypatch.setattr(gateway_metrics, "HELD_BACK_WITHIN", HELD_BACK)
    found = Gateway()
    async with found.serving():
        yield found


async def seconds_in_force(gateway: Gateway, before: int, unaccepted: int) -> float:
    gateways, began = Gateways(), time.monotonic()
    try:
        await gateways.in_force(gateway.platform, {gateway.url: before}, {gateway.url: unaccepted})
    finally:
        await gateways.aclose()
    return time.monotonic() - began


async def test_one_that_loads_after_it_has_accepted_is_waited_for(gateway: Gateway) -> None:
    waiting = asyncio.create_task(seconds_in_force(gateway, 9, 9))
    await asyncio.sleep(0.15)
    assert not waiting.done()
    gateway.loaded = 10
    assert await waiting < HELD_BACK


async def test_one_that_had_loaded_before_it_was_seen_to_accept_is_given_the_time_that_it_could_hold_back(
    gateway: Gateway,
) -> None:
    # Either another target's change, and the route is still to come; or the route, which it says to accept later.
    gateway.loaded = 10
    assert HELD_BACK <= await seconds_in_force(gateway, 9, 10) < WITHIN


async def test_one_that_never_loads_is_said(gateway: Gateway) -> None:
    with pytest.raises(UnavailableError, match="not put it into force"):
        await seconds_in_force(gateway, 9, 9)


async def test_one_that_was_started_again_follows_the_newest(gateway: Gateway) -> None:
    gateway.loaded = 1
    assert await seconds_in_force(gateway, 9, 9) < HELD_BACK


async def test_one_that_does_not_answer_is_waited_for(gateway: Gateway) -> None:
    gateway.loaded = None
    waiting = asyncio.create_task(seconds_in_force(gateway, 9, 9))
    await asyncio.sleep(0.15)
    gateway.loaded = 10
    assert await waiting < WITHIN

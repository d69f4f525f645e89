"""A gateway says that it has accepted a route while it still works on it: users follow only when it is applied.

Where the gateway's metrics can be asked, a new configuration shows in them: they count how often one was applied.
Elsewhere it is given as long as gateways usually take.
"""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import httpx

from activities.platforms.kubernetes_client import MANAGER, Json
from activities.platforms.router import LARGEST_ANSWER

# Longer than the throttle of a gateway that is set up for short ones; none is waited for longer.
SETTLES_WITHIN = 0.5
# Between being accepted and being applied, at the most, where a reload was seen that may have been another one.
APPLIES_WITHIN = 0.25
APPLIED_WITHIN = 1.0
ANSWERS_WITHIN = 1.0
LOOK_EVERY = 0.02
# Kubernetes writes down when an object was written in whole seconds.
FRESH = timedelta(seconds=2)
_RELOADS = re.compile(rb"^traefik_config_reloads_total(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_STARTED = re.compile(rb"^process_start_time_seconds (\S+)$", re.MULTILINE)

Applied = Mapping[str, tuple[bytes, float]]


class Following:
    """The gateways of one target: each counts the configurations that it has applied.

    Args:
        client: asks their metrics.
        urls: of these; none where they cannot be asked.
    """

    def __init__(self, client: httpx.AsyncClient, urls: Sequence[str]) -> None:
        self._client, self._urls = client, urls

    async def applied(self) -> Applied:
        """URL → the life of the gateway and how often it has applied a configuration; without those that say nothing."""
        found = await asyncio.gather(*(self._ask(url) for url in self._urls))
        return {url: one for url, one in zip(self._urls, found, strict=True) if one is not None}

    async def follow(self, before: Applied) -> None:
        """Return when what was accepted just now is applied.

        Args:
            before: `applied` from before it was written.
        """
        began = time.monotonic()
        if not before:
            await asyncio.sleep(SETTLES_WITHIN)
            return
        accepted = await self.applied()
        while (waited := time.monotonic() - began) < APPLIED_WITHIN:
            now = await self.applied()
            # Configurations are applied in order: one more since it was accepted is this one or a later one. That it was
            # applied before we looked is told by the time that has passed.
            if all(_rises(accepted, now, url) for url in before):
                return
            if waited > APPLIES_WITHIN and all(_rises(before, now, url) for url in before):
                return
            await asyncio.sleep(LOOK_EVERY)

    async def _ask(self, url: str) -> tuple[bytes, float] | None:
        try:
            async with asyncio.timeout(ANSWERS_WITHIN):
                answer = await self._client.get(url)
        except (TimeoutError, httpx.HTTPError):
            return None
        text = answer.content
        reloads = _RELOADS.search(text)
        if answer.status_code != 200 or len(text) > LARGEST_ANSWER or reloads is None:
            return None
        started = _STARTED.search(text)
        return (started[1] if started else b"", float(reloads[1]))


def _rises(then: Applied, now: Applied, url: str) -> bool:
    # One that was started since has read everything anew.
    return url in now and now[url] != then.get(url)


def is_fresh(thing: Json) -> bool:
    """Whether we have written the object so lately that a gateway may not have applied it yet."""
    times = [str(each.get("time") or "") for each in _ours(thing)]
    written = max((datetime.fromisoformat(time) for time in times if time), default=None)
    return written is not None and datetime.now(UTC) - written < FRESH


def _ours(thing: Json) -> list[Json]:
    return [each for each in thing["metadata"].get("managedFields") or () if each.get("manager") == MANAGER]

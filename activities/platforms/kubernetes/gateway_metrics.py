"""A gateway counts each revision's requests; its counters end with its process, and there may be several of it.

All replicas are asked and added up. What one had counted when it ended is noted in the target's state, so that another
worker goes on from there; only then: a count is worth no write each time it is read.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx
from pydantic import ValidationError

from activities.platforms.kubernetes.cluster import Cluster
from activities.platforms.kubernetes.state import KubernetesTargetState, KubernetesTargetStore
from activities.platforms.traefik.api import LARGEST_ANSWER, CounterReading, add, parse_metrics
from activities.system.coalescing import Shared
from models.errors import UnavailableError, WriteConflictError
from models.platforms import KubernetesPlatformSpec
from models.release import Counters

ANSWERS_WITHIN = 1.5
# Traefik holds a configuration back for two seconds after the one before, unless it is told to be quicker.
HELD_BACK_WITHIN = 2.5
LOADS_WITHIN = 8.0
BUILDS_WITHIN = 0.05
LOOK_EVERY = 0.02
SETTLES_WITHIN = 0.5
_LOADED = re.compile(r"^traefik_config_reloads_total (\S+)$", re.MULTILINE)
# Traefik's own name for a Service behind an HTTPRoute ends with the namespace, the Service and its place in the rule.
_TRAEFIK = re.compile(r"-svc-(.+)-\d+@kubernetesgateway$")


@dataclass(frozen=True)
class Following:
    """How far gateways have come with one generation of a route; both are None when it is known to be in force.

    Attributes:
        before: gateway → how many configurations it had loaded before the route was written.
        unaccepted: the same, when it had last not accepted the route yet.
    """

    generation: int
    before: dict[str, float] | None = None
    unaccepted: dict[str, float] | None = None


class Gateways:
    """The counters of all targets that this worker has looked at."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(trust_env=False, timeout=ANSWERS_WITHIN)
        self._books: dict[tuple[str, str, str], tuple[str, CounterReading]] = {}
        self._reading: dict[tuple[str, str, str], asyncio.Lock] = {}
        # By its address: one gateway counts for many targets.
        self._counts: dict[str, Shared[tuple[str, dict[str, Counters]]]] = {}
        # By the route's uid; an attempt goes on where the one before has stopped.
        self.following: dict[str, Following] = {}

    async def aclose(self) -> None:
        """Close the connections to gateways."""
        for counts in self._counts.values():
            await counts.aclose()
        await self._client.aclose()

    async def read(
        self,
        cluster: Cluster,
        platform: KubernetesPlatformSpec,
        store: KubernetesTargetStore,
        state: KubernetesTargetState,
        within: float = 0.0,
    ) -> dict[str, Counters]:
        """Revision → what was counted for it since it is known, up to `within` seconds ago; the target was just read.

        Raises:
            UnavailableError: a gateway does not answer.
        """
        if platform.counters is None:
            return {}
        revision_of = _names(cluster, platform, state)
        key = (cluster.namespace, store.service, store.target)
        # One at a time: an older answer taken after a newer one would look like a gateway that forgot.
        async with self._reading.setdefault(key, asyncio.Lock()):
            noted, book = self._books.get(key, ("", CounterReading()))
            if store.counters != noted:
                noted, book = store.counters, _book(store.counters)
            before = book.ends()
            answers = await asyncio.gather(*(self._counted(url).get(within) for url in platform.counters.urls))
            for url, answer in zip(platform.counters.urls, answers, strict=True):
                book.enter(url, *answer)
            book.keep(lambda name: revision_of(name) is not None)
            if book.ends() != before:
                noted = await _note(store, book, noted)
            self._books[key] = (noted, book)
        found = {id: Counters() for id in state.revisions}
        for name, counted in book.totals().items():
            id = revision_of(name)
            if id is not None:
                found[id] = add(found[id], counted)
        return found

    async def loaded(self, platform: KubernetesPlatformSpec) -> dict[str, float]:
        """Gateway → how many configurations it has put into force; empty where none tells that.

        Raises:
            UnavailableError: one does not answer.
        """
        if platform.counters is None:
            return {}
        texts = await asyncio.gather(*(self._text(url) for url in platform.counters.urls), return_exceptions=True)
        # Traffic moves also while nobody counts it.
        found = {
            url: _LOADED.search(text)
            for url, text in zip(platform.counters.urls, texts, strict=True)
            if isinstance(text, str)
        }
        return {url: float(match[1]) for url, match in found.items() if match}

    async def in_force(
        self, platform: KubernetesPlatformSpec, before: Mapping[str, float], unaccepted: Mapping[str, float]
    ) -> None:
        """Wait until every gateway divides by what it has accepted. Where none tells that, it is given a moment.

        One that has loaded a configuration since it had not accepted the route yet has loaded the route. One that has
        done so before may have loaded the route, or what was written before that: it is given the time that the route
        could be held back.

        Args:
            platform: says where the gateways tell that.
            before: how many configurations the gateways had loaded before the route was written.
            unaccepted: how many they had loaded when they had last not accepted it yet.

        Raises:
            UnavailableError: one has loaded nothing in time.
        """
        if not before:
            await asyncio.sleep(SETTLES_WITHIN)
            return
        began = time.monotonic()
        while True:
            now, waited = await self.loaded(platform), time.monotonic() - began
            # One that counts less was started again: what it follows is the newest.
            if _have_loaded(now, unaccepted) or (waited > HELD_BACK_WITHIN and _have_loaded(now, before)):
                break
            if waited > LOADS_WITHIN:
                raise UnavailableError(
                    f"the gateway has accepted the route, and not put it into force in {LOADS_WITHIN:g} s"
                )
            await asyncio.sleep(LOOK_EVERY)
        # It counts first, and goes on to build what it divides by.
        await asyncio.sleep(BUILDS_WITHIN)

    def _counted(self, url: str) -> Shared[tuple[str, dict[str, Counters]]]:
        return self._counts.setdefault(url, Shared(lambda: self._ask(url)))

    async def _ask(self, url: str) -> tuple[str, dict[str, Counters]]:
        try:
            return parse_metrics(await self._text(url), lambda service: service)
        except (ValueError, KeyError) as error:
            raise UnavailableError(f"the gateway's metrics at {url} cannot be read: {error}") from error

    async def _text(self, url: str) -> str:
        try:
            async with asyncio.timeout(ANSWERS_WITHIN), self._client.stream("GET", url) as answer:
                answer.raise_for_status()
                text = bytearray()
                async for part in answer.aiter_bytes():
                    text += part
                    if len(text) > LARGEST_ANSWER:
                        raise ValueError("the answer is too large")
            return text.decode()
        except (TimeoutError, httpx.HTTPError, ValueError) as error:
            raise UnavailableError(f"the gateway's metrics at {url} do not answer: {type(error).__name__}") from error


def _have_loaded(now: Mapping[str, float], since: Mapping[str, float]) -> bool:
    return all(now.get(url) not in (None, count) for url, count in since.items())


def _names(
    cluster: Cluster, platform: KubernetesPlatformSpec, state: KubernetesTargetState
) -> Callable[[str], str | None]:
    known = {f"{cluster.namespace}-{kept.service}": id for id, kept in state.revisions.items()}
    adopted = next((id for id, kept in state.revisions.items() if kept.adopted), None)
    if adopted is not None:
        # Until its first own share, users came to it through their own Service.
        known.setdefault(f"{cluster.namespace}-{platform.service_name}", adopted)

    def revision_of(name: str) -> str | None:
        match = _TRAEFIK.search(name)
        return known.get(match[1]) if match else None

    return revision_of


def _book(text: str) -> CounterReading:
    try:
        return CounterReading.model_validate_json(text) if text else CounterReading()
    except ValidationError:
        return CounterReading()


async def _note(store: KubernetesTargetStore, book: CounterReading, noted: str) -> str:
    text = book.model_dump_json()
    try:
        await store.keep_counters(text)
    except WriteConflictError:
        return noted  # with the next reading, then
    return text

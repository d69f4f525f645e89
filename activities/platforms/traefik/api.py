"""A weight is in force when the router says so, and a request is counted when the router counted it.

This asks running routers: which generation of the configuration they follow, how they divide, and how many requests
each revision has answered. A router's counters end with its process; the ledger adds up all of its lives.
"""

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import httpx
from pydantic import BaseModel, ValidationError

from activities.platforms.traefik.config import ANYBODY, GENERATION, SPLIT, counted_for
from home.paths import Home
from models.errors import UnavailableError
from models.release import Counters

POLL = 0.01
NUDGE_EVERY = 0.5
NOTED_EVERY = 1.0
LARGEST_ANSWER = 8 << 20
_TIMEOUT = httpx.Timeout(1.0)
# Packing and unpacking costs more than a longer answer on the way from a neighbour.
_AS_IT_IS = {"Accept-Encoding": "identity"}
_REQUESTS = re.compile(r"^traefik_service_requests_total\{([^}]*)\} (\S+)$", re.MULTILINE)
_DURATIONS = re.compile(r"^traefik_service_request_duration_seconds_bucket\{([^}]*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_STARTED = re.compile(r"^process_start_time_seconds (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class RouterReading:
    """What a router follows.

    Attributes:
        weights: revision → percent, as the router divides; those above 0.
    """

    generation: int
    weights: dict[str, int] = field(default_factory=dict)


async def see(client: httpx.AsyncClient, api: str) -> RouterReading:
    """What one router, with its API at this base URL, follows right now.

    Raises:
        UnavailableError: it does not answer, or follows nothing yet.
    """
    try:
        answer = await client.get(f"{api}/api/rawdata", timeout=_TIMEOUT, headers=_AS_IT_IS)
        return _seen(answer.raise_for_status().json())
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise UnavailableError(f"the router's API at {api} does not answer: {type(error).__name__}") from error


def _seen(raw: dict[str, dict[str, dict[str, object]]]) -> RouterReading:
    router = raw["routers"]["users@file"]
    if router["status"] != "enabled":
        raise ValueError("the router refused its configuration")
    names = router["middlewares"]
    generation = next(int(name.removeprefix(GENERATION).partition("@")[0]) for name in names)  # type: ignore[attr-defined]
    weights: dict[str, int] = {}
    if router["service"] in (SPLIT, ANYBODY):
        for service in raw["services"][f"{SPLIT}@file"]["weighted"]["services"]:  # type: ignore[index]
            if service["weight"] > 0:
                weights[counted_for(service["name"])] = service["weight"]
    return RouterReading(generation, weights)


async def see_all(
    client: httpx.AsyncClient,
    apis: list[str],
    generation: int,
    within: float,
    nudge: Callable[[], None] = lambda: None,
) -> RouterReading:
    """Wait, for `within` seconds, until every router follows this generation of the configuration, or a later one.

    From time to time `nudge` is called, to write the configuration once more.

    Raises:
        UnavailableError: one of them does not in time.
    """
    deadline = time.monotonic() + within
    nudge_at = time.monotonic() + NUDGE_EVERY
    while True:
        found = await asyncio.gather(*(see(client, api) for api in apis), return_exceptions=True)
        seen = [one for one in found if isinstance(one, RouterReading)]
        if len(seen) == len(found) and all(one.generation >= generation for one in seen):
            return max(seen, key=lambda one: one.generation, default=RouterReading(generation))
        if time.monotonic() > deadline:
            unseen = next((str(one) for one in found if isinstance(one, UnavailableError)), "it follows an older one")
            raise UnavailableError(f"the router does not confirm its new configuration within {within:.0f} s: {unseen}")
        if time.monotonic() > nudge_at:
            # A router that was just starting may have read the file before, and begun to watch it after, the change.
            await asyncio.to_thread(nudge)
            nudge_at = time.monotonic() + NUDGE_EVERY
        await asyncio.sleep(POLL)


class Count(BaseModel):
    """One name's counters in one life of a router; `past` holds what the router has dropped since."""

    past: Counters = Counters()
    last: Counters = Counters()

    def advance(self, now: Counters) -> None:
        """Take what the router says now."""
        if now.requests < self.last.requests:
            self.past = add(self.past, self.last)
        self.last = now

    def total(self) -> Counters:
        """All that was counted in this life."""
        return add(self.past, self.last)


class CounterReading(BaseModel):
    """What all lives of all routers have counted: life → name → count."""

    lives: dict[str, dict[str, Count]] = {}

    def enter(self, router: str, started: str, counted: dict[str, Counters]) -> None:
        """Take what a router that started then says now."""
        life = self.lives.setdefault(f"{router}@{started}", {})
        for name in counted.keys() | life.keys():
            life.setdefault(name, Count()).advance(counted.get(name, Counters()))

    def ends(self) -> dict[str, dict[str, Counters]]:
        """Life → name → what was counted before the router dropped it: what no router can tell any more."""
        return {life: {name: one.past for name, one in names.items()} for life, names in self.lives.items()}

    def merge(self, other: "CounterReading") -> None:
        """Take over what another worker has seen: within a life, counts only rise."""
        for key, names in other.lives.items():
            life = self.lives.setdefault(key, {})
            for name, one in names.items():
                if name not in life or life[name].total().requests < one.total().requests:
                    life[name] = one

    def keep(self, is_known: Callable[[str], bool]) -> None:
        """Forget all other names."""
        lives = {key: {name: one for name, one in life.items() if is_known(name)} for key, life in self.lives.items()}
        self.lives = {key: life for key, life in lives.items() if life}

    def totals(self, counted_for: Callable[[str], str] = lambda name: name) -> dict[str, Counters]:
        """Everything that was ever counted, for whom each name is counted."""
        found: dict[str, Counters] = {}
        for life in self.lives.values():
            for name, one in life.items():
                whose = counted_for(name)
                found[whose] = add(found.get(whose, Counters()), one.total())
        return found


class CounterStore:
    """Counters that outlive the router that counted.

    They are written when a router has begun or forgotten something, and once a second where they have only risen: what
    a router counts, it can tell itself.
    """

    def __init__(self, home: Home, client: httpx.Client, path: Path, lock: str) -> None:
        self._home, self._client, self._path, self._lock = home, client, path, lock
        self._book = CounterReading()
        # What was written or read last: which file, what it says, when.
        self._file: tuple[int, int, int] | None = None
        self._noted = ""
        self._noted_at = float("-inf")

    def read(self, routers: dict[str, str], revisions: set[str]) -> dict[str, Counters]:
        """Ask all routers (name → base URL of its API) and add up what each revision has answered since it is known.

        Raises:
            UnavailableError: a router does not answer.
        """
        # Asked under the lock: an older answer written after a newer one would look like a router that forgot.
        with self._home.lock(self._lock, timeout=5):
            others = self._load()
            book, ends = self._book, self._book.ends()
            for name, api in routers.items():
                book.enter(name, *_scrape(self._client, api))
            book.keep(lambda name: counted_for(name) in revisions)
            self._store(now=others or book.ends() != ends)
            return {**{revision: Counters() for revision in revisions}, **book.totals(counted_for)}

    def _load(self) -> bool:
        """Takes over what another worker has written since; says whether one has."""
        there = _signature(self._path)
        others = there is not None and there != self._file
        if there is None and self._file is not None:
            self._book = CounterReading()  # the target is gone, and begins anew
        elif others:
            with suppress(FileNotFoundError, ValidationError):
                self._book.merge(CounterReading.model_validate_json(self._path.read_bytes()))
        self._file = there
        return others

    def _store(self, *, now: bool) -> None:
        if not now and time.monotonic() - self._noted_at < NOTED_EVERY:
            return
        text = self._book.model_dump_json()
        if text == self._noted and self._file is not None:
            return
        # Not synced to the disk: a lost count after a power cut costs nothing.
        temporary = self._path.with_name(f".{self._path.name}")
        try:
            temporary.touch(mode=0o600)
            temporary.write_text(text)
            temporary.replace(self._path)
        except OSError as error:
            raise UnavailableError(f"{self._path} cannot be written: {error.strerror}") from error
        self._file, self._noted, self._noted_at = _signature(self._path), text, time.monotonic()


def add(one: Counters, other: Counters) -> Counters:
    """The sum of two counters."""
    within = dict(one.within)
    for edge, count in other.within.items():
        within[edge] = within.get(edge, 0) + count
    return Counters(
        requests=one.requests + other.requests,
        errors=one.errors + other.errors,
        timed=one.timed + other.timed,
        within=within,
    )


def parse_metrics(
    text: str, name_of: Callable[[str], str] = lambda service: service.removesuffix("@file")
) -> tuple[str, dict[str, Counters]]:
    """Reads when the router started, and its counters, from the text of its metrics.

    Args:
        text: in Prometheus' format.
        name_of: makes of the router's name of a service the one that is counted by.
    """
    started = _STARTED.search(text)
    if started is None:
        raise ValueError("these are no metrics of a router")
    requests: dict[str, int] = {}
    errors: dict[str, int] = {}
    for labels, value in _REQUESTS.findall(text):
        label = _labels(labels)
        name, number = name_of(label["service"]), int(float(value))
        requests[name] = requests.get(name, 0) + number
        # 499: the user went away before the answer, which says nothing about who was asked.
        if label["code"].startswith("5"):
            errors[name] = errors.get(name, 0) + number
    within = _within(text, name_of)
    counted: dict[str, Counters] = {}
    for name, number in requests.items():
        edges = within.get(name, {})
        timed = edges.pop("+Inf", 0)
        counted[name] = Counters(requests=number, errors=errors.get(name, 0), timed=timed, within=edges)
    return started[1], counted


def _within(text: str, name_of: Callable[[str], str]) -> dict[str, dict[str, int]]:
    """Name → edge → how many answers that were no errors took no longer."""
    found: dict[str, dict[str, int]] = {}
    for labels, value in _DURATIONS.findall(text):
        label = _labels(labels)
        # How quickly it fails, or its user gives up, is not how quickly it answers.
        if label["code"].startswith("5") or label["code"] == "499":
            continue
        edges = found.setdefault(name_of(label["service"]), {})
        edges[label["le"]] = edges.get(label["le"], 0) + int(float(value))
    return found


@lru_cache(maxsize=20_000)
def _labels(text: str) -> dict[str, str]:
    """The labels of one series; the same ones are read several times a second."""
    return dict(_LABEL.findall(text))


def _signature(path: Path) -> tuple[int, int, int] | None:
    """What tells a file from the one that replaces it; None without a file."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size


def _scrape(client: httpx.Client, api: str) -> tuple[str, dict[str, Counters]]:
    try:
        answer = client.get(f"{api}/metrics", timeout=_TIMEOUT, headers=_AS_IT_IS).raise_for_status()
        if len(answer.content) > LARGEST_ANSWER:
            raise ValueError("the answer is too large")
        return parse_metrics(answer.text)
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise UnavailableError(f"the router's metrics at {api} do not answer: {type(error).__name__}") from error

"""The model of a target as one more platform of the conformance suite: the same verbs must give the same answers.

Where the suite asks as a user does, the model answers from what serves; nothing listens anywhere.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from models.platforms import LocalPlatformSpec as LocalModel
from models.release import Capabilities, InstanceReport, Order, Revision, Split
from tests.explore import target as model
from tests.harness.target import Target


class ModelledTarget(model.Target):
    """The model; what a revision is like stands in its environment, as for the suite's program."""

    def quality(self, revision: Revision) -> model.Quality:
        given = revision.platform.environment
        slow = float(str(given.get("APP_SLOW_START_S", 0)))
        return model.Quality(starts=1 + slow / model.START, never_ready="APP_NEVER_READY" in given)

    def is_ill(self, kept: model.Kept, how: str) -> bool:
        sick = kept.revision.platform.environment.get("APP_SICK_IF")
        return how == "probes" and sick is not None and Path(str(sick)).exists()


class ModelledPlatform:
    """The model's verbs, each wait of which is one."""

    count_every = 0.25

    def __init__(self) -> None:
        self.targets: dict[str, ModelledTarget] = {}

    def of(self, order: Order) -> ModelledTarget:
        """The order's target."""
        made = ModelledTarget(now=lambda: datetime.now(UTC), rate=0.0)
        return self.targets.setdefault(f"{order.service}/{order.target}", made)

    def __getattr__(self, verb: str) -> Callable[[Order], Any]:
        async def do(order: Order) -> Any:
            steps: Generator[float, None, Any] = getattr(self.of(order), verb)(order)
            while True:
                try:
                    wait = next(steps)
                except StopIteration as end:
                    return end.value
                await asyncio.sleep(wait)

        if verb.startswith("_"):
            raise AttributeError(verb)
        return do

    async def capabilities(self, _: Any) -> Capabilities:
        """As the simulated worker says."""
        return Capabilities(exact_weights=True, preview=True, in_place_roll=True)

    async def split(self, order: Order) -> Split:
        """The weights in force."""
        return self.of(order).split()

    async def probe(self, order: Order, revision: Revision) -> tuple[InstanceReport, ...]:
        """Each instance as it answers."""
        target = self.of(order)
        kept = target.revisions.get(revision.id)
        return target.report(kept) if kept else ()


class ModelGround:
    """The model, for many targets."""

    kind = "model"
    has_own_front_proxy = True
    pace = 1.0
    keeps_what_was_checked = True
    gateway_lags = 0.0
    address_stays_open = True

    def __init__(self) -> None:
        self._platform = ModelledPlatform()
        self.platform: Any = self._platform
        self._ports = 20000

    def model(self, service: str, directory: Path, listen: str, **settings: Any) -> LocalModel:
        given = {"drain": timedelta(seconds=5), "stop": timedelta(seconds=1), "instances": 2, **settings}
        return LocalModel(kind="local", run=("python3", "app.py"), directory=str(directory), listen=listen, **given)

    def free_address(self) -> str:
        self._ports += 1
        return f"127.0.0.1:{self._ports}"

    def of_service(self, service: str) -> ModelledTarget | None:
        """Its target."""
        return self._platform.targets.get(f"{service}/staging")

    async def is_closed(self, listen: str) -> bool:
        return not any(listen in target.doors for target in self._platform.targets.values())

    async def kill_instance(self, name: str) -> None:
        revision, _, number = name.rpartition(".")
        for target in self._platform.targets.values():
            target.kill(revision, int(number))

    def left_of(self, service: str) -> list[str]:
        target = self.of_service(service)
        return [*target.revisions, *target.doors] if target is not None else []

    async def wipe(self, service: str) -> None:
        self._platform.targets.pop(f"{service}/staging", None)


@dataclass
class Seen:
    """What users have got so far."""

    records: list[httpx.Response] = field(default_factory=list)

    def so_far(self) -> "Seen":
        """As the suite's load says it."""
        return self

    def by_version(self) -> Counter[str]:
        """Who has answered."""
        return Counter(each.json()["version"] for each in self.records)


class ModelConformanceTarget(Target):
    """A service on the model; its users are answered by whoever has the traffic, in turns."""

    ground: ModelGround  # type: ignore[assignment]

    def __init__(self, ground: ModelGround, folder: Path) -> None:
        super().__init__(ground, folder)  # type: ignore[arg-type]
        self._owed: dict[str, float] = {}
        self._asked: Counter[str] = Counter()

    async def ask(self, path: str = "/", listen: str = "") -> httpx.Response:
        target = self.ground.of_service(self.service)
        if target is None or (listen or self.listen) not in target.doors:
            raise httpx.ConnectError("nobody listens there")
        await asyncio.sleep(0)
        able = {
            id: weight
            for id, weight in target.weights.items()
            if any(target.is_ready(target.revisions[id], each) for each in target.revisions[id].serving())
        }
        if not able:
            return httpx.Response(503)
        for id, weight in able.items():
            self._owed[id] = self._owed.get(id, 0.0) + weight
        chosen = max(able, key=lambda id: self._owed[id])
        self._owed[chosen] -= sum(able.values())
        return self._answer(target.revisions[chosen])

    def _answer(self, kept: model.Kept) -> httpx.Response:
        revision, given = kept.revision, kept.revision.platform.environment
        version = revision.release.version
        self._asked[revision.id] += 1
        failing = "APP_FAIL_SHARE" in given and self._asked[revision.id] % 2 == 0
        kept.requests += 1
        kept.errors += failing
        told = (Path(revision.platform.directory) / "told.txt").read_text()
        said = {"version": version, "revision": revision.id, "told": given.get("APP_TOLD", ""), "file": told}
        return httpx.Response(500 if failing else 200, json={**said, "pid": 1, "under_way": 1})

    async def shares(self, requests: int = 200) -> dict[str, float]:
        found = Counter([(await self.ask()).json()["version"] for _ in range(requests)])
        return {version: 100 * number / requests for version, number in found.items()}

    @asynccontextmanager
    async def users(self, rate: float = 60) -> AsyncIterator[Any]:
        seen, over = Seen(), asyncio.Event()

        async def come() -> None:
            while not over.is_set():
                seen.records.append(await self.ask())
                await asyncio.sleep(1 / rate)

        coming = asyncio.create_task(come())
        try:
            yield seen
        finally:
            over.set()
            await coming
        assert [each.status_code for each in seen.records if each.status_code != 200] == []

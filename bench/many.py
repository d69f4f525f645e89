"""Many canaries that are watched beside each other: how long a way back takes among them, and what watching costs.

All are held at a fifth of the traffic; one after the other is rolled back, with clients on it, and begun anew. What it
is measured against: Argo Rollouts 1.10.1 on such a cluster took 0.2 to 0.6 s among ten and 0.2 to 0.8 s among twenty,
with one request a second to the API server and 0.3 % of a core for each canary.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from bench.cluster import answers, make_image, shop_on
from bench.rows import Row, make_row, percentile
from bench.traffic import last_answer_after
from bench.world import Handle, World, free_port
from examples.load import Load
from models.messages import Request
from models.outcome import Outcome
from models.spec import DeploymentSpec
from tests.integration.kubernetes.troubled_api import Trouble, TroubledApi, troubled
from tests.servers.cache import NotInstalledError
from tests.servers.kubernetes.cluster import use
from tests.support.kubernetes_world import World as Cluster
from workflows import wire_names

ON_THIS_MACHINE = (1, 5, 10)
ON_A_CLUSTER = (1, 10, 30)
AT_ONCE = 5
TIMES = 10
RATE = 50.0
SETTLES_FOR = 3.0
OBSERVED_FOR = 10.0
SLOWER_AT_MOST = 1.5
GOAL_P95 = 0.5
WEIGHT = 20
HELD = {"kind": "canary", "steps": [{"weight": WEIGHT, "watch": "1h"}, {"weight": 100, "watch": "1s"}], "bake": "0s"}
STRAIGHT = {"kind": "blue-green", "watch": "0s", "bake": "0s"}


@dataclass
class Canary:
    """One service with a candidate that is watched."""

    world: World
    service: str
    handle: Handle | None = None
    versions: int = 0

    def spec(self, version: str, strategy: Mapping[str, Any]) -> DeploymentSpec:
        return self.world.spec(version, service=self.service, strategy=strategy)

    async def begin(self) -> float:
        """Begins one, and returns the seconds until it is watched."""
        began, self.versions = time.monotonic(), self.versions + 1
        self.handle = await self.world.start(self.spec(f"2.0.{self.versions}", HELD))
        await self.world.until_weight(self.handle, WEIGHT)
        return time.monotonic() - began

    async def back(self) -> float:
        """Rolls it back; seconds from the arrival of the signal to the last answer of the candidate."""
        assert self.handle is not None
        with Load(self.world.url, RATE) as load:
            await asyncio.sleep(0.5)
            await self.handle.signal(wire_names.ROLLBACK, Request(by="bench", reason="measured"))
            report = await self.world.ended(self.handle)
            seen = load.stop()
        self.handle = None
        assert report.outcome is Outcome.ROLLED_BACK, report.failure
        self.world.count(seen)
        arrived = next(each.at for each in report.decisions if each.what == "rollback")
        return last_answer_after(seen, report.version, arrived.timestamp())

    async def end(self) -> None:
        """Nothing of it is watched any more."""
        if self.handle is not None:
            await self.handle.signal(wire_names.ROLLBACK, Request(by="bench", reason="measured"))
            await self.world.ended(self.handle)


@dataclass
class Fleet:
    """The canaries of one platform, and what was measured with fewer of them.

    Attributes:
        where: in the names of the rows.
        asked: how many requests the API server has had up to now; None where there is none.
    """

    world: World
    where: str
    canaries: list[Canary]
    asked: Callable[[], int] | None = None
    alone: float | None = None
    rows: list[Row] = field(default_factory=list)

    async def measure(self, counts: Sequence[int]) -> list[Row]:
        try:
            for count in counts:
                await self._grow(count)
                await self._observe(count)
                await self._roll_back(count)
        finally:
            await asyncio.gather(*(canary.end() for canary in self.canaries), return_exceptions=True)
        for canary in self.canaries:
            self.world.sent += canary.world.sent
            self.world.lost += canary.world.lost
        return self.rows

    def _found(self, row: Row) -> None:
        """A row is said as it comes: the whole takes long, and may end early."""
        sys.stderr.write(f"{row}\n")
        self.rows.append(row)

    async def _grow(self, count: int) -> None:
        waiting = [canary for canary in self.canaries[:count] if canary.handle is None]
        took: list[float] = []
        for first in range(0, len(waiting), AT_ONCE):
            took += await asyncio.gather(*(canary.begin() for canary in waiting[first : first + AT_ONCE]))
        self._found(make_row(f"{self.where}{count} canaries: start → watched, {AT_ONCE} at once", "s", took))

    async def _observe(self, count: int) -> None:
        worker = psutil.Process(self.world.worker_pid())
        await asyncio.sleep(SETTLES_FOR)
        before, began = self.asked() if self.asked else 0, time.monotonic()
        worker.cpu_percent()
        await asyncio.sleep(OBSERVED_FOR)
        busy, took = worker.cpu_percent(), time.monotonic() - began
        self._found(make_row(f"{self.where}{count} canaries: worker's CPU for each", "% of a core", [busy / count]))
        if self.asked is not None:
            rate = (self.asked() - before) / took
            name = f"{self.where}{count} canaries: requests to the API server"
            self._found(make_row(name, "a second", [rate], p50=2.0 + count))

    async def _roll_back(self, count: int) -> None:
        seconds = []
        for number in range(TIMES):
            canary = self.canaries[number % count]
            seconds.append(await canary.back())
            await canary.begin()
        half = percentile(seconds, 0.5)
        self.alone = half if self.alone is None else self.alone
        name = f"{self.where}{count} canaries: rollback signal → last answer from the candidate"
        self._found(make_row(name, "s", seconds, p50=SLOWER_AT_MOST * self.alone, p95=GOAL_P95))


async def many(world: World) -> list[Row]:
    """On this machine, and on a cluster where there can be one."""
    return [*await _on_this_machine(world), *await _on_a_cluster(world)]


async def _on_this_machine(world: World) -> list[Row]:
    count = ON_THIS_MACHINE[-1]
    canaries = [Canary(replace(world, port=free_port(), lost=[], sent=0), f"many{n}") for n in range(count)]
    for canary in canaries:
        await canary.world.deploy(canary.spec("1.0.0", STRAIGHT))
    return await Fleet(world, "", canaries).measure(ON_THIS_MACHINE)


async def _on_a_cluster(world: World) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="bench-many-") as folder:
        try:
            with use() as found:
                cluster = Cluster(found, Path(folder))
                try:
                    async with troubled(cluster, Trouble(share=0, status=500)) as api:
                        return await _measure(world, cluster, api, Path(folder))
                finally:
                    await asyncio.to_thread(cluster.close)
        except NotInstalledError as error:
            sys.stderr.write(f"many canaries are not measured on Kubernetes: {error}\n")
            return []


async def _measure(world: World, cluster: Cluster, api: TroubledApi, folder: Path) -> list[Row]:
    """What the worker asks for goes through a proxy that only counts. What runs is adopted: it is stable already."""
    namespace, canaries = cluster.namespace("bench"), []
    kubeconfig, image = api.kubeconfig(folder / "counted.kubeconfig"), make_image(cluster)
    for number in range(ON_A_CLUSTER[-1]):
        name = f"many{number}"
        # As a worker outside of the cluster asks pods: each question is a request, too.
        settings = {"kubeconfig": kubeconfig, "reach": "api", "instances": 1}
        here = await asyncio.to_thread(shop_on, world, cluster, namespace, name, image, **settings)
        canaries.append(Canary(here, name))
    for canary in canaries:
        await answers(canary.world.url)
    return await Fleet(world, "kubernetes: ", canaries, lambda: api.asked).measure(ON_A_CLUSTER)

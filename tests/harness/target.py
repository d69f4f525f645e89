"""A service's target as the conformance suite sees it: orders with rising fences, requests as users send them."""

import asyncio
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from examples.load import Load, LoadResult
from models.health import HealthRule, HealthSpec
from models.release import (
    Fence,
    Inspection,
    InspectOrder,
    Logs,
    Order,
    PromoteOrder,
    Release,
    RestoreOrder,
    Retired,
    RetireOrder,
    Revision,
    ShiftOrder,
    Snapshot,
    Split,
    Staged,
    StageOrder,
)
from models.spec import Endpoints
from tests.harness import APP, Harness

AnyOrder = TypeVar("AnyOrder", bound=Order)


class Target:
    """One service on one platform; every call is a new effect unless it is given a fence."""

    def __init__(self, ground: Harness, folder: Path) -> None:
        self.ground = ground
        self.platform = ground.platform
        self.service = f"app-{secrets.token_hex(4)}"
        self.listen = ground.free_address()
        self._folder = folder
        self._sequence = 0
        self._last: Revision | None = None
        self._client = httpx.AsyncClient(trust_env=False, timeout=20)

    def release(self, name: str, **files: str) -> Path:
        """A directory with the test app and other files."""
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        shutil.copy(APP, folder / "app.py")
        for file, text in files.items():
            (folder / f"{file}.txt").write_text(text)
        return folder

    def revision(
        self,
        version: str,
        *,
        directory: Path | None = None,
        digests: Mapping[str, str] | None = None,
        endpoints: Endpoints | None = None,
        health: HealthRule | None = None,
        listen: str = "",
        **settings: Any,
    ) -> Revision:
        """A revision of that version; settings go into the platform's model."""
        given = directory or self.release(f"release-{version}", told=version)
        self._last = Revision(
            id=f"{version}-{secrets.token_hex(3)}",
            release=Release(service=self.service, version=version, digests=dict(digests or {})),
            platform=self.ground.model(self.service, given, listen or self.listen, **settings),
            endpoints=endpoints or Endpoints(),
            health=health or HealthSpec().rule(None),
        )
        return self._last

    def patience(self, seconds: float) -> float:
        """As long as it takes here what takes so many seconds where an instance is only a process."""
        return seconds * self.ground.pace

    async def pinned(self, directory: Path) -> dict[str, str]:
        """What preflight would measure of a release, to be compared when it is staged."""
        return await self.ground.pinned(self.service, self.ground.model(self.service, directory, self.listen))

    def fence(self) -> Fence:
        """The next one."""
        self._sequence += 1
        return Fence(epoch=1, sequence=self._sequence)

    def order(self, cls: type[AnyOrder], fence: Fence | None = None, **fields: Any) -> AnyOrder:
        """An order on this target."""
        model = self._last.platform if self._last else self.ground.model(self.service, self._folder, self.listen)
        return cls(service=self.service, target="staging", platform=model, fence=fence or self.fence(), **fields)

    async def stage(
        self, revision: Revision, instances: int = 1, within: float = 30, fence: Fence | None = None
    ) -> Staged:
        return await self.platform.stage(
            self.order(StageOrder, fence, revision=revision, instances=instances, deadline=soon(within))
        )

    async def shift(
        self, candidate: Revision, stable: Revision | None, weight: int, fence: Fence | None = None
    ) -> Split:
        return await self.platform.shift(
            self.order(ShiftOrder, fence, candidate=candidate.id, stable=stable.id if stable else None, weight=weight)
        )

    async def promote(self, revision: Revision, fence: Fence | None = None) -> Snapshot:
        return (await self.platform.promote(self.order(PromoteOrder, fence, revision=revision.id))).abridge()

    async def retire(
        self, revision: Revision, keep: int = 0, forget: bool = False, fence: Fence | None = None
    ) -> Retired:
        return await self.platform.retire(
            self.order(RetireOrder, fence, revision=revision.id, keep_instances=keep, forget=forget)
        )

    async def restore(self, snapshot: Snapshot, within: float = 30, fence: Fence | None = None) -> Split:
        return await self.platform.restore(self.order(RestoreOrder, fence, snapshot=snapshot, deadline=soon(within)))

    async def inspect(self, revision: Revision, instances: int = 1) -> Inspection:
        return await self.platform.inspect(self.order(InspectOrder, revision=revision, instances=instances))

    async def snapshot(self) -> Snapshot:
        """As a workflow has it: what a target keeps of a revision may be less than all, and is enough to go back."""
        return (await self.platform.snapshot(self.order(Order))).abridge()

    async def logs(self, *, candidate: bool = False, since: Mapping[str, str] | None = None) -> Logs:
        return await self.platform.logs(self.order(Order), candidate=candidate, lines=50, since=since or {})

    async def split(self) -> Split:
        return await self.platform.split(self.order(Order))

    async def live(self, version: str = "1.0.0", instances: int = 1, **settings: Any) -> Revision:
        """A first deployment that has been through everything."""
        revision = self.revision(version, **settings)
        await self.stage(revision, instances)
        await self.shift(revision, None, 100)
        await self.promote(revision)
        return revision

    async def replaced(self, old: Revision, version: str = "1.1.0", **settings: Any) -> Revision:
        """The next deployment, through everything; the old revision is kept for a rollback."""
        new = self.revision(version, **settings)
        await self.stage(new)
        await self.shift(new, old, 100)
        await self.promote(new)
        await self.retire(old)
        return new

    def url(self, path: str = "/", listen: str = "") -> str:
        return f"http://{listen or self.listen}{path}"

    async def ask(self, path: str = "/", listen: str = "") -> httpx.Response:
        """One user's request, on a connection of its own."""
        return await self._client.get(self.url(path, listen), headers={"Connection": "close"})

    async def open_again(self) -> int:
        """Where users are refused while a router comes back: waits for it. Gives how many requests were answered."""
        if self.ground.address_stays_open:
            return 0

        async def answered() -> bool:
            try:
                return (await self.ask()).status_code == 200
            except httpx.HTTPError:
                return False

        await until(answered)
        return 1

    async def shares(self, requests: int = 200) -> dict[str, float]:
        """Which version answered which share of some requests, in percent."""
        versions: dict[str, int] = {}
        for _ in range(requests):
            version = (await self._client.get(self.url())).json()["version"]
            versions[version] = versions.get(version, 0) + 1
        return {version: 100 * number / requests for version, number in versions.items()}

    async def sees(self, expected: Mapping[str, float], requests: int = 200, tolerance: float = 2.0) -> None:
        """Versions answer these shares: at once, or where the gateway serves others as well, in a moment."""
        until = time.monotonic() + self.ground.gateway_lags
        while True:
            found = await self.shares(requests)
            if all(
                abs(found.get(version, 0) - expected.get(version, 0)) <= tolerance for version in {*found, *expected}
            ):
                return
            assert time.monotonic() < until, (expected, found)

    @asynccontextmanager
    async def users(self, rate: float = 60) -> AsyncIterator[Load]:
        """Users who send requests the whole time; at the end not one of them may have failed."""
        load = Load(self.url(), rate, seconds=100).start()
        try:
            await until(lambda: bool(load.so_far().records))
            yield load
        finally:
            result: LoadResult = await asyncio.to_thread(load.stop)
        assert result.failed == 0, [str(record) for record in result.failures[:5]]

    async def clean(self) -> None:
        """Everything goes, as after a first deployment that failed."""
        before = await self.snapshot()
        await self.restore(Snapshot())
        for id in {*before.leftovers, *([before.stable.id] if before.stable else [])}:
            await self.platform.retire(self.order(RetireOrder, revision=id, forget=True))

    async def wipe(self) -> None:
        """Everything is gone at once, without any verb."""
        await self._client.aclose()
        await self.ground.wipe(self.service)


def needs_own_door(target: Target) -> None:
    """Skips a test of what only a platform can promise to which the address of the service belongs."""
    # Elsewhere the address is a gateway's, which opens and closes it as it likes: there is no promise to be tested.
    if not target.ground.has_own_front_proxy:
        pytest.skip("users come in by a gateway that is not the platform's own")


def soon(seconds: float) -> datetime:
    """A deadline."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def until(condition: Any, within: float = 15) -> Any:
    """Waits for a condition, sync or async, and returns what it gave."""
    deadline = asyncio.get_running_loop().time() + within
    while True:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return result
        assert asyncio.get_running_loop().time() < deadline, "it did not come true in time"
        await asyncio.sleep(0.02)

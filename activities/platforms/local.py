"""The local platform: processes on the worker's own machine, kept up by a supervisor, behind routers.

Each verb notes what it wants in the target's state, makes it so, and returns when the router or the instances
themselves confirm it. Moving traffic never waits for starting or stopping: those have a lock of their own.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

import httpx

from activities.platforms import local_files
from activities.platforms.asking import make_client
from activities.platforms.local_doors import Doors
from activities.platforms.local_instances import Instances, base
from activities.platforms.local_retiring import Retiring
from activities.platforms.local_starting import Starting
from activities.platforms.local_state import Kept, TargetState, TargetStore
from activities.platforms.router import Ledger, see_all
from embedded.paths import Home
from embedded.supervisor import Supervisor
from models.checks import Examination, PreflightCheck
from models.errors import Impossible, Refused, Unavailable
from models.platforms import Platform as PlatformModel
from models.release import (
    Capabilities,
    Inspection,
    InspectOrder,
    InstanceReport,
    Order,
    PromoteOrder,
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

CONFIRMED_WITHIN = 5.0
READ_WITHIN = 2.0
ROUTER_STARTS_WITHIN = 20.0

T = TypeVar("T")


class LocalPlatform:
    """All targets of one home. What each verb promises is said in `activities.platforms.base`."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._client = make_client()
        self._metrics = httpx.Client(trust_env=False)
        supervisor = Supervisor(home)
        self._instances = Instances(supervisor, self._client)
        self._starting = Starting(supervisor, self._client)
        self._doors = Doors(home, supervisor)
        self._retiring = Retiring(self._instances, self._doors)

    async def aclose(self) -> None:
        """Close the connections to instances and routers; nothing that runs is touched."""
        await self._client.aclose()
        self._metrics.close()

    async def capabilities(self, platform: PlatformModel) -> Capabilities:
        return Capabilities(exact_weights=True, preview=True, in_place_roll=True)

    async def examine(self, check: PreflightCheck) -> Examination:
        # The address, the directory, disk and memory of this machine have checks of their own.
        return Examination()

    async def snapshot(self, order: Order) -> Snapshot:
        store = self._store(order)
        state = await asyncio.to_thread(store.read)
        return state.snapshot(order, await asyncio.to_thread(store.highest_fence))

    async def stage(self, order: StageOrder) -> Staged:
        store, revision, began = self._store(order), order.revision, time.monotonic()
        await self._change(store, order, lambda state: state.revisions.setdefault(revision.id, Kept(revision=revision)))
        await asyncio.to_thread(self._doors.check, store, revision.platform.address)
        await asyncio.to_thread(local_files.lay_out, store, revision)
        await asyncio.to_thread(self._doors.open, store, order.fence, revision.platform.address)
        await self._starting.bring_up(store, order.fence, revision.id, order.instances, order.deadline)
        state, _ = await self._change(store, order, lambda state: _serve(state.kept(revision.id)))
        left = (order.deadline - datetime.now(UTC)).total_seconds()
        await self._confirm(store, state, max(CONFIRMED_WITHIN, min(left, ROUTER_STARTS_WITHIN)))
        kept = state.kept(revision.id)
        reports = await self._instances.report(store, kept, order.instances, with_version=True)
        return Staged(
            inspection=Inspection(revision=revision.id, expected=order.instances, instances=reports),
            preview=tuple(base(instance) for instance in kept.living()),
            seconds=time.monotonic() - began,
        )

    async def shift(self, order: ShiftOrder) -> Split:
        store, wanted = self._store(order), _weights(order)
        before, _ = await self._change(store, order, lambda _: None)
        gaining = [id for id, weight in wanted.items() if weight > before.weights.get(id, 0)]
        healthy = await asyncio.gather(*(self._any_serves(before.kept(id)) for id in gaining))
        for id, good in zip(gaining, healthy, strict=True):
            if not good:
                raise Refused(f"{id} gets no more traffic: none of its instances is healthy right now")
        state, _ = await self._change(store, order, lambda state: _divide(state, wanted))
        return await self._split(store, state, wanted)

    async def promote(self, order: PromoteOrder) -> Snapshot:
        store = self._store(order)
        state, _ = await self._change(store, order, lambda state: state.kept(order.revision))
        split = await self._split(store, state)
        if split.weights != {order.revision: 100}:
            raise Refused(f"{order.revision} does not have all the traffic, but {split.weights}: it is not stable yet")
        state, _ = await self._change(
            store, order, lambda state: state.make_stable(order.revision, withdraw=order.withdraw)
        )
        return state.snapshot(order, order.fence)

    async def retire(self, order: RetireOrder) -> Retired:
        store = self._store(order)
        state, victims = await self._retiring.take_out(store, order)
        if victims and state.doors:
            await self._confirm(store, state, CONFIRMED_WITHIN)
        retired = await self._retiring.drain(store, order, state, victims)
        await asyncio.to_thread(self._retiring.end, store, order, victims)
        return retired

    async def restore(self, order: RestoreOrder) -> Split:
        store, snapshot = self._store(order), order.snapshot
        before, _ = await self._change(store, order, lambda _: None)
        if snapshot.stable is None:
            return await self._restore_nothing(store, order)
        stable = snapshot.stable.id
        # Traffic first, to whatever of it is up; what waits for locks, doors and processes comes after.
        await self._give_all(store, order, before.kept(stable))
        await asyncio.to_thread(self._doors.open, store, order.fence, snapshot.stable.platform.address)
        await self._starting.bring_up(store, order.fence, stable, max(1, snapshot.instances), order.deadline)
        state, _ = await self._change(store, order, lambda _: None)
        if not await self._give_all(store, order, state.kept(stable)):
            raise Refused(f"no traffic was given to {stable}: none of its instances is healthy right now")
        state, _ = await self._change(store, order, lambda state: _become(state, snapshot))
        await self._confirm(store, state, ROUTER_STARTS_WITHIN)
        await asyncio.to_thread(self._retiring.close_unused_doors, store, order)
        return await self._split(store, (await self._change(store, order, lambda _: None))[0], {stable: 100})

    async def inspect(self, order: InspectOrder) -> Inspection:
        store = self._store(order)
        kept = (await asyncio.to_thread(store.read)).revisions.get(order.revision.id, Kept(revision=order.revision))
        reports = await self._instances.report(store, kept, order.instances, with_version=True)
        return Inspection(revision=order.revision.id, expected=order.instances, instances=reports)

    async def split(self, order: Order) -> Split:
        store = self._store(order)
        return await self._split(store, await asyncio.to_thread(store.read), within=READ_WITHIN)

    async def probe(self, order: Order, revision: Revision) -> tuple[InstanceReport, ...]:
        store = self._store(order)
        kept = (await asyncio.to_thread(store.read)).revisions.get(revision.id, Kept(revision=revision))
        return await self._instances.report(store, kept)

    def _store(self, order: Order) -> TargetStore:
        return TargetStore(self._home, order.service, order.target)

    async def _change(
        self, store: TargetStore, order: Order, change: Callable[[TargetState], T]
    ) -> tuple[TargetState, T]:
        def under_lock() -> tuple[TargetState, T]:
            with store.change(order.fence) as state:
                result = change(state)
            return state, result

        return await asyncio.to_thread(under_lock)

    async def _any_serves(self, kept: Kept) -> bool:
        return await self._instances.any_healthy(kept, kept.serving())

    async def _give_all(self, store: TargetStore, order: Order, kept: Kept) -> bool:
        """All traffic to those of the revision that are healthy right now; none is moved when none is."""
        healthy = {instance.number for instance in await self._instances.healthy(kept, kept.living())}

        def give(state: TargetState) -> bool:
            there = state.kept(kept.revision.id)
            # One that was asked to end since it was asked how it is does not count.
            chosen = [instance for instance in there.living() if instance.number in healthy]
            if chosen:
                for instance in there.instances:
                    instance.serving = instance in chosen
                state.weights = {kept.revision.id: 100}
            return bool(chosen)

        return (await self._change(store, order, give))[1]

    async def _restore_nothing(self, store: TargetStore, order: RestoreOrder) -> Split:
        """Back to before the first deployment: nobody answers users; processes and files go when they are retired."""
        await self._change(store, order, _become_nothing)
        await asyncio.to_thread(self._retiring.close_all_doors, store, order)
        return Split(weights={}, counters={}, seen=datetime.now(UTC))

    async def _confirm(self, store: TargetStore, state: TargetState, within: float) -> dict[str, int]:
        """Returns the weights in force, once every door follows this state."""
        if not state.doors:
            raise Impossible(f"{store.service}/{store.target} has no door: nothing was staged on it")
        ports = [door.api_port for door in state.doors.values()]
        try:
            seen = await see_all(self._client, ports, state.generation, within, store.publish_again)
        except Unavailable as error:
            why = await asyncio.to_thread(self._doors.why_silent, state)
            raise Unavailable(f"{error}. {why}".strip()) from error
        return seen.weights

    async def _split(
        self,
        store: TargetStore,
        state: TargetState,
        wanted: dict[str, int] | None = None,
        within: float = CONFIRMED_WITHIN,
    ) -> Split:
        weights = await self._confirm(store, state, within) if state.doors or wanted else {}
        seen = datetime.now(UTC)
        if wanted is not None and weights != wanted:
            raise Unavailable(f"the router divides {weights} and not {wanted}: another effect came in between")
        lock = f"counters.{store.service}.{store.target}"
        ledger = Ledger(self._home, self._metrics, store.folder / "counters.json", lock)
        routers = {door.program: door.api_port for door in state.doors.values()}
        counters = await asyncio.to_thread(ledger.read, routers, set(state.revisions)) if routers else {}
        return Split(weights=weights, counters=counters, seen=seen)


def _weights(order: ShiftOrder) -> dict[str, int]:
    if order.stable is None and 0 < order.weight < 100:
        raise Impossible(f"{order.candidate} cannot have {order.weight} %: there is nothing to have the rest")
    shares = {order.candidate: order.weight, **({order.stable: 100 - order.weight} if order.stable else {})}
    return {id: weight for id, weight in shares.items() if weight > 0}


def _divide(state: TargetState, wanted: dict[str, int]) -> None:
    for id in wanted:
        if not state.kept(id).serving():
            raise Refused(f"{id} gets no traffic: none of its instances takes requests any more")
    state.weights = wanted


def _serve(kept: Kept) -> None:
    for instance in kept.living():
        instance.serving = True


def _become(state: TargetState, snapshot: Snapshot) -> None:
    """Stable and its history are what they were."""
    if snapshot.stable is None:
        return
    stable = snapshot.stable.id
    history = state.history
    if stable in history:
        history = history[history.index(stable) + 1 :]
    if snapshot.previous is not None:
        history = [snapshot.previous.id, *(id for id in history if id != snapshot.previous.id)]
    state.stable, state.history = stable, [id for id in history if id in state.revisions]


def _become_nothing(state: TargetState) -> None:
    state.stable, state.history, state.weights = None, [], {}

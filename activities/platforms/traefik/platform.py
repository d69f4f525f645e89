"""Where Traefik divides the traffic, the verbs are the same whatever an instance is: a process or a container.

Each verb notes what it wants in the target's state, makes it so, and returns when the router or the instances
themselves confirm it. Moving traffic never waits for starting or stopping: those have a lock of their own. What
differs between platforms is behind four parts: their instances, how these are started, files, and doors.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, TypeVar

import httpx

from activities.platforms.traefik.api import CounterStore, see_all
from activities.platforms.traefik.interfaces import Files, Ingress, Instances, S, Starting, whole
from activities.platforms.traefik.retire import Retirement
from activities.platforms.traefik.state import RevisionRecord, TargetState
from models.errors import PreconditionError, UnavailableError, UnsafeChangeError
from models.release import (
    Inspection,
    InspectOrder,
    InstanceReport,
    Logs,
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
from models.watch import WatchOrder

CONFIRMED_WITHIN = 5.0
READ_WITHIN = 2.0
# Which generation a router follows changes with the target's state only: a watch looks itself once a second.
FOLLOWED_FOR = 1.0
MOVES_AT_ONCE = 16
ROUTER_STARTS_WITHIN = 20.0
# Of what was ready a moment ago, on a machine that has much to do.
HEALTHY_AGAIN_WITHIN = 5.0
ASKED_AGAIN_AFTER = 0.1

T = TypeVar("T")


class TraefikPlatform(ABC, Generic[S]):
    """The verbs over the parts of one platform. What each verb promises is said in `activities.platforms.base`."""

    count_every: float = 0.25

    def __init__(self, instances: Instances[S], starting: Starting[S], files: Files[S], ingress: Ingress[S]) -> None:
        self._instances = instances
        self._starting = starting
        self._files = files
        self._ingress = ingress
        self._retiring = Retirement(instances, files, ingress)
        self._ledgers: dict[tuple[Path, httpx.Client], CounterStore] = {}
        # What the routers of a target were seen to follow: when, and which generation.
        self._followed: dict[Path, tuple[float, int, dict[str, int]]] = {}
        # What moves traffic does not queue for a thread behind whatever else this worker does.
        self._moving = ThreadPoolExecutor(MOVES_AT_ONCE, "moving")

    async def aclose(self) -> None:
        """Nothing more is moved; what runs is not touched."""
        self._moving.shutdown(wait=False)

    @abstractmethod
    async def store_of(self, order: Order, *, fresh: bool = True) -> S:
        """What is known of the order's target; with `fresh`, also what somebody elsewhere has done to it."""

    @abstractmethod
    def clients_of(self, store: S) -> tuple[httpx.AsyncClient, httpx.Client]:
        """What the target's routers are asked with."""

    def patience(self, store: S) -> float:
        """How many times as long as on this machine a router may take to answer."""
        return 1.0

    async def arrive(self, store: S, order: StageOrder) -> tuple[str, ...]:
        """What else must be done before a revision that is up can get users; says what people should know of it."""
        return ()

    async def snapshot(self, order: Order) -> Snapshot:
        store = await self.store_of(order)
        state = await asyncio.to_thread(store.read)
        return state.snapshot(order, await asyncio.to_thread(store.highest_fence))

    async def logs(self, order: Order, *, candidate: bool, lines: int, since: Mapping[str, str]) -> Logs:
        store = await self.store_of(order)
        kept = (await asyncio.to_thread(store.read)).chosen(candidate=candidate)
        printed = await asyncio.to_thread(self._instances.logs, store, kept, lines, since)
        return Logs(revision=kept.revision.id, printed=printed)

    async def stage(self, order: StageOrder) -> Staged:
        store, began = await self.store_of(order), time.monotonic()
        _, revision = await self.change(store, order, lambda state: _known(state, order.revision))
        await asyncio.to_thread(self._ingress.check, store, revision)
        await asyncio.to_thread(self._files.materialize, store, revision)
        await asyncio.to_thread(self._ingress.open, store, order.fence, revision)
        await self._starting.bring_up(store, order.fence, revision.id, order.instances, order.deadline)
        state, _ = await self.change(store, order, lambda state: serve(state.kept(revision.id)))
        left = (order.deadline - datetime.now(UTC)).total_seconds()
        await self.confirm(store, state, max(CONFIRMED_WITHIN, min(left, ROUTER_STARTS_WITHIN)))
        notes = await self.arrive(store, order)
        kept = state.kept(revision.id)
        reports = await self._instances.report(store, kept, order.instances, with_version=True, before_users=True)
        return Staged(
            inspection=Inspection(revision=revision.id, expected=order.instances, instances=reports),
            preview=self._instances.preview(store, kept),
            seconds=time.monotonic() - began,
            notes=notes,
        )

    async def shift(self, order: ShiftOrder) -> Split:
        store, wanted = await self.store_of(order), _weights(order)
        # Who will gain as far as is known is asked while the lock is waited for: each moment counts.
        known = await asyncio.get_running_loop().run_in_executor(self._moving, store.read)
        expected = [known.revisions[id] for id in _gaining(wanted, known) if id in known.revisions]
        (before, _), answers = await asyncio.gather(
            self.change(store, order, lambda _: None),
            asyncio.gather(*(self._any_serves(store, kept) for kept in expected)),
        )
        gaining = _gaining(wanted, before)
        asked = {kept.revision.id: good for kept, good in zip(expected, answers, strict=True)}
        anew = [id for id in gaining if id not in asked or known.revisions[id] != before.kept(id)]
        asked |= zip(
            anew, await asyncio.gather(*(self._any_serves(store, before.kept(id)) for id in anew)), strict=True
        )
        healthy = [asked[id] for id in gaining]
        for id, good in zip(gaining, healthy, strict=True):
            if not good:
                raise UnsafeChangeError(f"{id} gets no more traffic: none of its instances is healthy right now")
        state, _ = await self.change(store, order, lambda state: _divide(state, wanted))
        return await self._split(store, state, wanted)

    async def promote(self, order: PromoteOrder) -> Snapshot:
        store = await self.store_of(order)
        state, _ = await self.change(store, order, lambda state: state.kept(order.revision))
        split = await self._split(store, state)
        if split.weights != {order.revision: 100}:
            raise UnsafeChangeError(
                f"{order.revision} does not have all the traffic, but {split.weights}: it is not stable yet"
            )
        state, _ = await self.change(
            store, order, lambda state: state.make_stable(order.revision, withdraw=order.withdraw)
        )
        return state.snapshot(order, order.fence)

    async def retire(self, order: RetireOrder) -> Retired:
        store = await self.store_of(order)
        state, victims = await self._retiring.take_out(store, order)
        if victims and state.doors:
            await self.confirm(store, state, CONFIRMED_WITHIN)
        retired = await self._retiring.drain(store, order, state, victims)
        await asyncio.to_thread(self._retiring.end, store, order, victims)
        return retired

    async def restore(self, order: RestoreOrder) -> Split:
        store, snapshot = await self.store_of(order), order.snapshot
        before, _ = await self.change(store, order, lambda _: None)
        if snapshot.stable is None:
            return await self._restore_nothing(store, order)
        stable = snapshot.stable.id
        # Traffic first, to whatever of it is up; what waits for locks, front proxies and processes comes after.
        await self._give_all(store, order, before.kept(stable))
        await asyncio.to_thread(self._ingress.open, store, order.fence, snapshot.stable)
        await self._starting.bring_up(store, order.fence, stable, max(1, snapshot.instances), order.deadline)
        await self._give_all_patiently(store, order, stable)
        state, _ = await self.change(store, order, lambda state: _become(state, snapshot))
        await self.confirm(store, state, ROUTER_STARTS_WITHIN)
        await asyncio.to_thread(self._retiring.close_unused_addresses, store, order)
        return await self._split(store, (await self.change(store, order, lambda _: None))[0], {stable: 100})

    async def inspect(self, order: InspectOrder) -> Inspection:
        store = await self.store_of(order)
        kept = (await asyncio.to_thread(store.read)).revisions.get(
            order.revision.id, RevisionRecord(revision=order.revision)
        )
        reports = await self._instances.report(store, kept, order.instances, with_version=True)
        return Inspection(revision=order.revision.id, expected=order.instances, instances=reports)

    async def split(self, order: Order) -> Split:
        store = await self.store_of(order, fresh=False)
        state = await asyncio.to_thread(store.read)
        if isinstance(order, WatchOrder):
            at, generation, weights = self._followed.get(store.folder, (float("-inf"), -1, {}))
            if generation == state.generation and time.monotonic() - at < FOLLOWED_FOR:
                return await self._counted(store, state, weights, datetime.now(UTC))
        return await self._split(store, state, within=READ_WITHIN)

    async def probe(self, order: Order, revision: Revision) -> tuple[InstanceReport, ...]:
        store = await self.store_of(order, fresh=False)
        kept = (await asyncio.to_thread(store.read)).revisions.get(revision.id, RevisionRecord(revision=revision))
        return await self._instances.report(store, kept)

    async def change(self, store: S, order: Order, change: Callable[[TargetState], T]) -> tuple[TargetState, T]:
        """Change the target's state under its lock; gives the state and what the change gave."""

        def under_lock() -> tuple[TargetState, T]:
            with store.change(order.fence) as state:
                result = change(state)
            return state, result

        moves = isinstance(order, ShiftOrder | RestoreOrder)
        return await asyncio.get_running_loop().run_in_executor(self._moving if moves else None, under_lock)

    async def _any_serves(self, store: S, kept: RevisionRecord) -> bool:
        return await self._instances.any_healthy(store, kept, kept.serving())

    async def _give_all(self, store: S, order: Order, kept: RevisionRecord) -> bool:
        """All traffic to those of the revision that are healthy right now; none is moved when none is."""
        healthy = {instance.number for instance in await self._instances.healthy(store, kept, kept.living())}

        def give(state: TargetState) -> bool:
            there = state.kept(kept.revision.id)
            # One that was asked to end since it was asked how it is does not count.
            chosen = [instance for instance in there.living() if instance.number in healthy]
            if chosen:
                for instance in there.instances:
                    instance.serving = instance in chosen
                state.weights = {kept.revision.id: 100}
            return bool(chosen)

        return (await self.change(store, order, give))[1]

    async def _give_all_patiently(self, store: S, order: Order, stable: str) -> None:
        """All traffic to the revision, whose instances were ready a moment ago: one late answer ends no way back."""
        deadline = time.monotonic() + HEALTHY_AGAIN_WITHIN
        while True:
            state, _ = await self.change(store, order, lambda _: None)
            if await self._give_all(store, order, state.kept(stable)):
                return
            if time.monotonic() > deadline:
                raise UnsafeChangeError(f"no traffic was given to {stable}: none of its instances is healthy right now")
            await asyncio.sleep(ASKED_AGAIN_AFTER)

    async def _restore_nothing(self, store: S, order: RestoreOrder) -> Split:
        """Back to before the first deployment: nobody answers users; processes and files go when they are retired."""
        await self.change(store, order, _become_nothing)
        await asyncio.to_thread(self._retiring.close_all_addresses, store, order)
        return Split(weights={}, counters={}, seen=datetime.now(UTC))

    async def confirm(self, store: S, state: TargetState, within: float) -> dict[str, int]:
        """Returns the weights in force, once every front proxy follows this state."""
        if not state.doors:
            raise PreconditionError(f"{store.service}/{store.target} has no front proxy: nothing was staged on it")
        apis = [proxy.api for proxy in state.doors.values()]
        within *= self.patience(store)
        try:
            seen = await see_all(self.clients_of(store)[0], apis, state.generation, within, store.publish_again)
        except UnavailableError as error:
            why = await asyncio.to_thread(self._ingress.why_silent, store, state)
            raise UnavailableError(f"{error}. {why}".strip()) from error
        self._followed[store.folder] = (time.monotonic(), seen.generation, seen.weights)
        return seen.weights

    async def _split(
        self,
        store: S,
        state: TargetState,
        wanted: dict[str, int] | None = None,
        within: float = CONFIRMED_WITHIN,
    ) -> Split:
        weights = await self.confirm(store, state, within) if state.doors or wanted else {}
        seen = datetime.now(UTC)
        if wanted is not None and weights != wanted:
            raise UnavailableError(f"the router divides {weights} and not {wanted}: another effect came in between")
        return await self._counted(store, state, weights, seen)

    async def _counted(self, store: S, state: TargetState, weights: dict[str, int], seen: datetime) -> Split:
        path, client = store.folder / "counters.json", self.clients_of(store)[1]
        made = CounterStore(store.home, client, path, f"counters.{store.name}")
        ledger = self._ledgers.setdefault((path, client), made)
        routers = {proxy.program: proxy.api for proxy in state.doors.values()}
        counters = await asyncio.to_thread(ledger.read, routers, set(state.revisions)) if routers else {}
        return Split(weights=weights, counters=counters, seen=seen)


def _weights(order: ShiftOrder) -> dict[str, int]:
    if order.stable is None and 0 < order.weight < 100:
        raise PreconditionError(f"{order.candidate} cannot have {order.weight} %: there is nothing to have the rest")
    shares = {order.candidate: order.weight, **({order.stable: 100 - order.weight} if order.stable else {})}
    return {id: weight for id, weight in shares.items() if weight > 0}


def _gaining(wanted: dict[str, int], before: TargetState) -> list[str]:
    return [id for id, weight in wanted.items() if weight > before.weights.get(id, 0)]


def _divide(state: TargetState, wanted: dict[str, int]) -> None:
    for id in wanted:
        if not state.kept(id).serving():
            raise UnsafeChangeError(f"{id} gets no traffic: none of its instances takes requests any more")
    state.weights = wanted


def _known(state: TargetState, revision: Revision) -> Revision:
    """The revision as the target knows it; one that it meets for the first time must be whole."""
    if revision.id not in state.revisions:
        state.revisions[revision.id] = RevisionRecord(revision=whole(revision))
    return state.revisions[revision.id].revision


def serve(kept: RevisionRecord) -> None:
    """Its instances get requests when the revision has weight."""
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

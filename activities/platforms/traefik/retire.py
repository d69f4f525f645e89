"""Removing is where users get hurt: an instance goes only after the router has let go of it and it has answered.

First out of the router's lists, then the wait for requests under way, then the end of the process, then whatever
belongs to nobody any more: files, front proxies, and, after a first deployment that failed, the whole target.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Generic

from activities.heartbeat import waits_for
from activities.platforms.traefik.interfaces import Files, Ingress, Instances, S
from activities.platforms.traefik.state import Instance, RevisionRecord, TargetState, TargetStore
from models.errors import UnsafeChangeError
from models.release import Order, Retired, RetireOrder

LOOK_EVERY = 0.05
# A request may have been given its instance just before the router changed its lists, and connect just after.
QUIET_FOR = 0.2


class Retirement(Generic[S]):
    """The parts of `retire`, in their order: `take_out`, `drain`, `end`."""

    def __init__(self, instances: Instances[S], files: Files[S], ingress: Ingress[S]) -> None:
        self._instances = instances
        self._files = files
        self._ingress = ingress

    async def take_out(self, store: S, order: RetireOrder) -> tuple[TargetState, list[Instance]]:
        """Choose who goes, and tell the router.

        Raises:
            UnsafeChangeError: it would take away what serves.
        """
        state = await asyncio.to_thread(_enter, store, order)
        kept = state.revisions.get(order.revision)
        if kept is None:
            return state, []
        living = kept.living()
        healthy = await self._instances.healthy(store, kept, living) if order.keep_instances else []
        best = sorted(living, key=lambda one: (not one.serving, one not in healthy, one.number))
        staying = best[: order.keep_instances]
        return await asyncio.to_thread(_take_out, store, order, staying, any(one in healthy for one in staying))

    async def drain(self, store: S, order: RetireOrder, state: TargetState, victims: list[Instance]) -> Retired:
        """Wait until no router has a connection to them, or for as long as the order's platform allows."""
        began = quiet_since = time.monotonic()
        longest = order.platform.drain.total_seconds()
        if order.drain_until is not None:
            longest = min(longest, (order.drain_until - datetime.now(UTC)).total_seconds())
        deadline, until = began + longest, datetime.now(UTC) + timedelta(seconds=longest)
        while victims:
            connections = await asyncio.to_thread(self._ingress.connections, store, state, victims)
            now = time.monotonic()
            quiet_since = now if connections else quiet_since
            if now - quiet_since >= QUIET_FOR or now >= deadline:
                break
            if connections:
                some = f"{connections} connection{'' if connections == 1 else 's'}"
                waits_for(f"{some} to {order.revision} to end", until)
            await asyncio.sleep(LOOK_EVERY)
        else:
            connections = 0
        return Retired(
            instances=tuple(self._instances.name(store, order.revision, instance.number) for instance in victims),
            drained=not connections,
            evidence={"drain_seconds": round(time.monotonic() - began, 3), "connections_left": connections},
        )

    def end(self, store: S, order: RetireOrder, victims: list[Instance]) -> None:
        """Stop them, and remove what belongs to nobody any more.

        Raises:
            FencedOutError: somebody newer may need them again.
        """
        numbers = {instance.number for instance in victims}
        with store.programs(order.fence):
            with store.change(order.fence) as state:
                going = [one for one in _instances(state, order) if one.stopping or one.number in numbers]
                for instance in going:
                    instance.serving, instance.stopping = False, True
            kept = state.revisions.get(order.revision)
            if kept is not None:
                self._instances.stop(store, kept, going)
            with store.change(order.fence) as state:
                kept = state.revisions.get(order.revision)
                if kept is not None:
                    kept.instances = kept.living()
            self._clean_up(store, order)

    def close_unused_addresses(self, store: S, order: Order) -> None:
        """Close front proxies at addresses that no revision uses any more."""
        with store.programs(order.fence):
            self._ingress.close(store, order.fence, keep=store.read().addresses_in_use())

    def close_all_addresses(self, store: S, order: Order) -> None:
        """Close all front proxies: nobody serves users any more."""
        with store.programs(order.fence):
            self._ingress.close(store, order.fence, keep=set())

    def _clean_up(self, store: S, order: RetireOrder) -> None:
        state = store.read()
        empty = state.stable is None and not any(kept.instances for kept in state.revisions.values())
        gone = list(state.revisions) if empty else _prunable(store, state, order)
        if order.forget and order.revision != state.stable and not _instances(state, order):
            gone = [*(id for id in gone if id != order.revision), order.revision]
        if gone:
            with store.change(order.fence) as state:
                state.history = [id for id in state.history if id not in gone]
                state.weights = {id: weight for id, weight in state.weights.items() if id not in gone}
            for id in gone:
                self._files.remove(store, id)
            with store.change(order.fence) as state:
                for id in gone:
                    state.revisions.pop(id, None)
        self._files.remove_orphans(store, set(state.revisions))
        self._ingress.close(store, order.fence, keep=set() if empty else store.read().addresses_in_use())
        if empty:
            self._ingress.teardown(store)
            store.forget(order.fence)


def _enter(store: TargetStore, order: RetireOrder) -> TargetState:
    with store.change(order.fence) as state:
        return state


def _instances(state: TargetState, order: RetireOrder) -> list[Instance]:
    kept = state.revisions.get(order.revision)
    return kept.instances if kept else []


def _take_out(
    store: TargetStore, order: RetireOrder, staying: list[Instance], healthy: bool
) -> tuple[TargetState, list[Instance]]:
    stay = {instance.number for instance in staying}
    with store.change(order.fence) as state:
        kept = state.kept(order.revision)
        going = [instance for instance in kept.living() if instance.number not in stay]
        if going:
            _refuse_harm(state, kept, order, bool(stay), healthy)
        for instance in going:
            instance.serving = False
    return state, going


def _refuse_harm(state: TargetState, kept: RevisionRecord, order: RetireOrder, some_stay: bool, healthy: bool) -> None:
    weight = state.weights.get(order.revision, 0)
    if not some_stay and (weight or state.stable == order.revision):
        what = f"has {weight} % of the traffic" if weight else "is stable"
        raise UnsafeChangeError(f"{kept.revision.id} is not retired: it {what}")
    if weight and not healthy:
        raise UnsafeChangeError(
            f"{kept.revision.id} keeps its instances: none of those that would stay is healthy right now"
        )


def _prunable(store: TargetStore, state: TargetState, order: RetireOrder) -> list[str]:
    """Revisions that are not kept for a rollback, and those whose files are gone; never one that runs.

    The one that was just retired stays, unless it is to be forgotten: a rehearsal brings it in again.
    """
    idle = [
        id
        for id, kept in state.revisions.items()
        if id not in (state.stable, order.revision) and not kept.instances and not state.weights.get(id)
    ]
    former = set(state.history[: order.platform.keep])
    return [id for id in idle if id not in former or not store.revision_folder(id).exists()]

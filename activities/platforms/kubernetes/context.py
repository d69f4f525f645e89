"""One order, one target: everything that its verb needs, and what can be said of the target as a whole."""

import asyncio
from collections.abc import Mapping

import httpx

from activities.platforms.kubernetes.adoption import find_running, resume
from activities.platforms.kubernetes.api import Json
from activities.platforms.kubernetes.cluster import Cluster
from activities.platforms.kubernetes.gateway_metrics import Gateways
from activities.platforms.kubernetes.guarded_write import annotation
from activities.platforms.kubernetes.manifests import may_go
from activities.platforms.kubernetes.names import ID, REVISION
from activities.platforms.kubernetes.pods import Pods
from activities.platforms.kubernetes.prepare import Preparing
from activities.platforms.kubernetes.retire import KubernetesRetirement
from activities.platforms.kubernetes.rollout import Staging
from activities.platforms.kubernetes.state import KubernetesRevisionRecord, KubernetesTargetState, KubernetesTargetStore
from activities.platforms.kubernetes.traffic import Traffic
from models.errors import PreconditionError
from models.platforms import KubernetesPlatformSpec, of_kind
from models.release import Fence, Order, RetireOrder, ShiftOrder, Snapshot


class Target:
    """A target of a cluster, as one verb sees it."""

    def __init__(self, cluster: Cluster, order: Order, direct: httpx.AsyncClient, gateways: Gateways) -> None:
        self.cluster, self.order, self.direct = cluster, order, direct
        self.platform = of_kind(order.platform, KubernetesPlatformSpec)
        self.store = KubernetesTargetStore(cluster, order)
        self.pods = Pods(cluster, direct)
        self.traffic = Traffic(cluster, self.platform, order.fence, gateways)
        self.staging = Staging(cluster, self.pods, self.traffic)
        self.preparing = Preparing(cluster, self.platform, self.traffic)
        self.retiring = KubernetesRetirement(cluster, self.platform, self.pods, self.traffic, self.staging)

    async def running(self, state: KubernetesTargetState) -> KubernetesRevisionRecord | None:
        """What runs and was never ours, where that may be stable; None elsewhere."""
        stable = state.revisions.get(state.stable or "")
        if stable is not None and not stable.adopted:
            return None
        service = await self.traffic.users_service()
        return await find_running(self.cluster, self.pods, self.order, self.platform, service)

    async def known(self) -> KubernetesTargetState:
        """The state as it is, with what runs there already; changes nothing."""
        state = await self.store.read()
        resume(state, await self.running(state))
        return state

    async def noted(self, state: KubernetesTargetState) -> KubernetesTargetState:
        """The state; how users were led by somebody who died before noting it is noted now."""
        seen = await self.traffic.look(state)
        if seen.last_route_writer is None or not state.unrecorded_route_write(seen.last_route_writer):
            return state
        led = seen.last_route_writer
        return (await self.store.change(lambda state: state.lead(seen.weights, found=led, by=led)))[0]

    async def replicas(self, state: KubernetesTargetState) -> dict[str, int]:
        """Revision → how many pods its Deployment is to have."""
        found = await asyncio.gather(*(self._replicas(kept) for kept in state.revisions.values()))
        return dict(zip(state.revisions, found, strict=True))

    async def snapshot(self, state: KubernetesTargetState) -> Snapshot:
        """What serves now, from a state that has just been read."""
        replicas, weights = await asyncio.gather(self.replicas(state), self.traffic.weights(state))
        stable = state.revisions.get(state.stable or "")
        previous = next((state.revisions[id] for id in state.history if id in state.revisions), None)
        return Snapshot(
            stable=stable.revision if stable else None,
            instances=replicas[stable.revision.id] if stable else 0,
            previous=previous.revision if previous else None,
            leftovers=tuple(id for id in state.revisions if id != state.stable and (replicas[id] or weights.get(id))),
            weights=weights,
            generation=state.generation,
            address=(stable.revision.platform if stable else self.platform).address,
            fence=self.store.highest_fence(),
        )

    async def clean_up(self, order: RetireOrder) -> None:
        """Remove what belongs to nobody any more.

        Raises:
            FencedOutError: somebody newer may need it.
        """
        state = await self.store.check()
        replicas, led = await asyncio.gather(self.replicas(state), self.traffic.last_route_writer())
        empty = state.stable is None and not any(replicas.values())
        gone = list(state.revisions) if empty else _prunable(state, order, replicas)
        if order.forget and order.revision != state.stable and not replicas.get(order.revision):
            gone = [*(id for id in gone if id != order.revision), order.revision]
        going = [state.revisions[id] for id in gone if id in state.revisions]
        stable = state.revisions.get(state.stable or "")
        alone = not any(replicas[id] for id in state.revisions if id != state.stable)
        if alone and (empty or (stable is not None and stable.adopted)):
            await self._leave_as_it_was(state)
        elif going:
            await self.traffic.pass_over(state, {kept.service for kept in going})
        await asyncio.gather(*(self.preparing.remove(kept) for kept in going))
        await self._remove_orphans(state)
        # What was written here moved nobody.
        ours = not state.unrecorded_route_write(led) and await self.traffic.last_route_writer() == order.fence
        await self.store.change(lambda state: _forget(state, gone, order.fence if ours else state.led))
        if empty:
            await self._remove_made(state)
            await self.store.forget()

    async def _replicas(self, kept: KubernetesRevisionRecord) -> int:
        found = await self.cluster.api.get(self.cluster.apps("deployments", kept.deployment))
        return int(found["spec"].get("replicas") or 0) if found else 0

    async def _leave_as_it_was(self, state: KubernetesTargetState) -> None:
        """What was there before us serves alone, or nothing does: its Service and route are as they were."""
        if await self.traffic.users_service() is not None:
            await self.traffic.release(state)

    async def _remove_orphans(self, state: KubernetesTargetState) -> None:
        """What an attempt has made that was overtaken by somebody newer, and died before it could remove it."""
        for collection in (self.cluster.apps("deployments"), self.cluster.core("services")):
            for thing in await self.cluster.api.list(collection, self.store.label):
                id = annotation(thing, ID)
                if REVISION in (thing["metadata"].get("labels") or {}) and id and id not in state.revisions:
                    await self.cluster.api.delete(f"{collection}/{thing['metadata']['name']}", thing["metadata"]["uid"])

    async def _remove_made(self, state: KubernetesTargetState) -> None:
        target = next(iter(self.store.label.values()))

        async def remove(path: str) -> None:
            there = await self.cluster.api.get(path)
            if there is not None and may_go(_typed(there, path), target):
                await self.cluster.api.delete(path, there["metadata"]["uid"])

        await asyncio.gather(*(remove(path) for path in state.made))


def shares_of(order: ShiftOrder, state: KubernetesTargetState) -> dict[str, int]:
    """Revision → percent, as the order divides; also those that get nothing, where they are known.

    Raises:
        PreconditionError: a revision of the order was never staged, or nothing is there to have the rest.
    """
    if order.stable is None and 0 < order.weight < 100:
        raise PreconditionError(f"{order.candidate} cannot have {order.weight} %: there is nothing to have the rest")
    rest = {order.stable: 100 - order.weight} if order.stable else {}
    wanted = {**rest, order.candidate: order.weight}
    for id, weight in wanted.items():
        if weight:
            state.kept(id)
    return {id: weight for id, weight in wanted.items() if id in state.revisions}


def become(state: KubernetesTargetState, snapshot: Snapshot) -> None:
    """Stable and its history are what they were."""
    if snapshot.stable is None:
        state.stable, state.history = None, []
        state.divide({})
        return
    stable, history = snapshot.stable.id, state.history
    if stable in history:
        history = history[history.index(stable) + 1 :]
    if snapshot.previous is not None:
        history = [snapshot.previous.id, *(id for id in history if id != snapshot.previous.id)]
    state.stable, state.history = stable, [id for id in history if id in state.revisions]
    state.divide({stable: 100})


def _prunable(state: KubernetesTargetState, order: RetireOrder, replicas: Mapping[str, int]) -> list[str]:
    """Revisions that are not kept for a rollback; never one that runs.

    The one that was just retired stays, unless it is to be forgotten: a rehearsal brings it in again.
    """
    idle = [
        id
        for id in state.revisions
        if id not in (state.stable, order.revision) and not replicas[id] and not state.weights.get(id)
    ]
    former = set(state.history[: order.platform.keep])
    return [id for id in idle if id not in former]


def _forget(state: KubernetesTargetState, gone: list[str], led: Fence) -> None:
    state.led = led
    state.history = [id for id in state.history if id not in gone]
    state.weights = {id: weight for id, weight in state.weights.items() if id not in gone}
    for id in gone:
        state.revisions.pop(id, None)


def _typed(thing: Json, path: str) -> Json:
    # The server leaves the kind away in lists only; the path tells it all the same.
    kind = "PersistentVolumeClaim" if "/persistentvolumeclaims/" in path else thing.get("kind", "")
    return {**thing, "kind": kind}

"""Removing is where users get hurt: a pod ends only after nothing leads to it any more, and it had time to answer.

First out of the endpoints, by a label, then the time for requests under way, then the end. How many requests a pod
still has under way is nothing that a cluster knows: the drain is a time, and it counts from when the traffic left.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta

from activities.heartbeat import waits_for
from activities.platforms.kubernetes.api import Json
from activities.platforms.kubernetes.autoscalers import scalers_of
from activities.platforms.kubernetes.cluster import Cluster
from activities.platforms.kubernetes.names import OFF, ON, REVISION, TRAFFIC
from activities.platforms.kubernetes.pods import Pods, ends, pod_path
from activities.platforms.kubernetes.rollout import Staging
from activities.platforms.kubernetes.state import KubernetesRevisionRecord, KubernetesTargetState, KubernetesTargetStore
from activities.platforms.kubernetes.traffic import Traffic
from models.errors import UnavailableError, UnsafeChangeError, WriteConflictError
from models.platforms import KubernetesPlatformSpec
from models.release import Retired, RetireOrder

LOOK_EVERY = 0.1
CHECK_EVERY = 1.0
# A gateway follows the endpoints a moment later than we do.
SETTLES_WITHIN = 0.5
ENDS_WITHIN = 30.0
FIRST_TO_GO = "-1000"
_COST = "controller.kubernetes.io/pod-deletion-cost"


class KubernetesRetirement:
    """Takes pods out of the traffic, waits, ends them."""

    def __init__(
        self, cluster: Cluster, platform: KubernetesPlatformSpec, pods: Pods, traffic: Traffic, staging: Staging
    ) -> None:
        self._cluster, self._platform = cluster, platform
        self._pods, self._traffic, self._staging = pods, traffic, staging

    async def retire(
        self,
        store: KubernetesTargetStore,
        order: RetireOrder,
        state: KubernetesTargetState,
        kept: KubernetesRevisionRecord,
    ) -> Retired:
        """End pods of the revision until `keep_instances` are left.

        Raises:
            UnsafeChangeError: it would take away what serves.
            FencedOutError: somebody newer may need them again.
        """
        living, seen = await asyncio.gather(self._pods.of(kept), self._traffic.look(state))
        unrecorded = state.unrecorded_route_write(seen.last_route_writer)
        weight = seen.weights.get(order.revision, 0) or (0 if unrecorded else state.weights.get(order.revision, 0))
        staying = await self._choose(kept, living, order.keep_instances)
        going = [pod for pod in living if pod not in staying]
        if going:
            await self._refuse_harm(state, kept, weight, staying)
        if going and order.keep_instances and (why := await self._why_all_stay(kept)):
            return Retired(evidence={"kept": why})
        began = time.monotonic()
        until = None
        if going and order.keep_instances:
            await self._take_out(state, going)
        if going and (order.keep_instances or unrecorded):
            until = datetime.now(UTC) + order.platform.drain
        elif going:
            until = state.quiet_at(order.revision, order.platform.drain)
        leaving = await self._pods.leaving(kept)
        if leaving and until is None:
            until = datetime.now(UTC) + order.platform.drain
        await self._drain(store, order, until)
        waited = round(time.monotonic() - began, 3)
        await self._end(store, kept, order.keep_instances, [*going, *leaving])
        return Retired(
            instances=tuple(pod["metadata"]["name"] for pod in going),
            drained=until is None,
            evidence={"drain_seconds": waited, "drained_by": "time: the cluster does not count requests under way"},
        )

    async def take_back(self, kept: KubernetesRevisionRecord) -> None:
        """Pods that were taken out and have not ended yet take traffic again."""
        for pod in await self._pods.leaving(kept):
            await self._relabel(pod, {TRAFFIC: ON}, "0")

    async def _why_all_stay(self, kept: KubernetesRevisionRecord) -> str:
        """Why pods of this revision do not end one by one; empty when they may."""
        if kept.adopted:
            # One that loses a label is replaced at once, and what replaces it can get users before it is gone again.
            return "the Deployment was there before: its pods all stay until another release has everything"
        if await scalers_of(self._cluster, [kept.deployment]):
            return "an autoscaler decides how many there are"
        users = await self._traffic.users_service() or {"spec": {}}
        if not {TRAFFIC, REVISION} & (users["spec"].get("selector") or {}).keys():
            return "users share a Service with pods that were there before, which carry none of our labels"
        return ""

    async def _choose(self, kept: KubernetesRevisionRecord, living: list[Json], keep: int) -> list[Json]:
        if not keep:
            return []
        healthy = await self._pods.healthy(kept, living)
        return sorted(living, key=lambda pod: pod not in healthy)[:keep]

    async def _refuse_harm(
        self, state: KubernetesTargetState, kept: KubernetesRevisionRecord, weight: int, staying: list[Json]
    ) -> None:
        id = kept.revision.id
        if not staying and (weight or state.stable == id):
            what = f"has {weight} % of the traffic" if weight else "is stable"
            raise UnsafeChangeError(f"{id} is not retired: it {what}")
        if weight and not await self._pods.any_healthy(kept, staying):
            raise UnsafeChangeError(f"{id} keeps its instances: none of those that would stay is healthy right now")

    async def _take_out(self, state: KubernetesTargetState, going: list[Json]) -> None:
        """Nothing leads to these pods when this returns; they run on."""
        await asyncio.gather(*(self._relabel(pod, {TRAFFIC: OFF}, FIRST_TO_GO) for pod in going))
        names = {pod["metadata"]["name"] for pod in going}
        await self._traffic.without(self._traffic.ours(state), names)
        await asyncio.sleep(SETTLES_WITHIN)

    async def _relabel(self, pod: Json, labels: dict[str, str], cost: str) -> None:
        path = pod_path(self._cluster, pod)
        while True:
            there = await self._cluster.api.get(path)
            if there is None or there["metadata"]["uid"] != pod["metadata"]["uid"]:
                return
            body = {"metadata": {"labels": labels, "annotations": {_COST: cost}}}
            try:
                await self._cluster.api.patch(path, there["metadata"]["resourceVersion"], body)
            except WriteConflictError:
                continue
            return

    async def _drain(self, store: KubernetesTargetStore, order: RetireOrder, until: datetime | None) -> None:
        if until is not None and order.drain_until is not None:
            until = min(until, order.drain_until)
        if until is not None:
            waits_for(f"the requests that pods of {order.revision} have under way", until)
        while until is not None and (left := (until - datetime.now(UTC)) / timedelta(seconds=1)) > 0:
            await asyncio.sleep(min(CHECK_EVERY, left))
            await store.check()

    async def _end(
        self, store: KubernetesTargetStore, kept: KubernetesRevisionRecord, keep: int, going: list[Json]
    ) -> None:
        await store.check()
        await self._staging.scale(store, kept, lambda now: min(now, keep))
        names = {pod["metadata"]["name"] for pod in going}
        patience = self._platform.stop.total_seconds() + ENDS_WITHIN
        began = time.monotonic()
        while left := await self._left(names):
            waited = time.monotonic() - began
            if waited > patience:
                raise UnavailableError(f"{', '.join(sorted(pod['metadata']['name'] for pod in left))} do not end")
            # The cluster chose others to end: these are to go all the same.
            for pod in left if waited > ENDS_WITHIN / 6 else ():
                if not ends(pod):
                    await self._cluster.api.delete(pod_path(self._cluster, pod), pod["metadata"]["uid"])
            await asyncio.sleep(LOOK_EVERY)

    async def _left(self, names: set[str]) -> list[Json]:
        found = await asyncio.gather(*(self._cluster.api.get(self._cluster.core("pods", name)) for name in names))
        return [pod for pod in found if pod is not None]

"""A Deployment that has its replicas may still serve nobody: a revision is up when each of its pods has answered.

Pods are waited for until a deadline, and no longer where waiting cannot help: a program that ends again and again, an
image that nobody has, a node that is nowhere. Then the reason and the pod's last lines are told.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from activities.heartbeat import shorten
from activities.platforms.kubernetes.adoption import current_hash
from activities.platforms.kubernetes.api import Json
from activities.platforms.kubernetes.cluster import Cluster
from activities.platforms.kubernetes.guarded_write import check_fence, other_field_managers
from activities.platforms.kubernetes.names import FENCE, HASH
from activities.platforms.kubernetes.pods import (
    Pods,
    conditions,
    container_status,
    not_running,
    pod_path,
    restarts_of,
)
from activities.platforms.kubernetes.state import KubernetesRevisionRecord, KubernetesTargetStore
from activities.platforms.kubernetes.traffic import Traffic
from activities.platforms.probes import Unready
from models.errors import DriftError, NotReadyError, PreconditionError, UnavailableError, WriteConflictError
from models.platforms import KubernetesPlatformSpec, of_kind
from models.platforms.kubernetes import Drift
from models.release import Fence

LOOK_EVERY = 0.2
# A Deployment says something of its own only when it is in trouble, and then for seconds.
LOOKS_PER_DEPLOYMENT = 5
STATE_LASTS = 0.5
# The third start without one good answer: the fourth would be no different.
HOPELESS_STARTS = 3
MOST_CONFLICTS = 20
# What a container waits for → how long it may, in seconds, before it is hopeless.
_HOPELESS = {
    "InvalidImageName": 0.0,
    "ErrImageNeverPull": 0.0,
    "ImagePullBackOff": 10.0,
    "ErrImagePull": 20.0,
    "CreateContainerConfigError": 5.0,
    "CreateContainerError": 15.0,
}
_CANNOT_START = ("StartError", "ContainerCannotRun")
UNSCHEDULABLE_FOR = 45.0
REFUSED_FOR = 3.0


@dataclass
class _RolloutWait:
    """What is known of pods that are not ready yet: since when a state lasts, how often each had been started."""

    since: dict[tuple[str, str], float] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    ready: set[str] = field(default_factory=set)

    def lasts(self, name: str, state: str) -> float:
        now = time.monotonic()
        return now - self.since.setdefault((name, state), now)


class Staging:
    """Brings up the pods of revisions."""

    def __init__(self, cluster: Cluster, pods: Pods, traffic: Traffic) -> None:
        self._cluster, self._pods, self._traffic = cluster, pods, traffic

    async def bring_up(
        self, store: KubernetesTargetStore, kept: KubernetesRevisionRecord, count: int, deadline: datetime
    ) -> None:
        """See that there are at least `count` pods, and wait until each of them is healthy and ready.

        Raises:
            NotReadyError: the deadline is over, or one of them cannot become ready any more.
            FencedOutError: somebody newer has taken over the target.
        """
        await self._another_chance(kept)
        await self.scale(store, kept, lambda now: max(now, count))
        wait, looks, unready_yet = _RolloutWait(), 0, Unready()
        while True:
            # What others wait for here as well is read once for all of them.
            _, pods = await asyncio.gather(store.check_lately(STATE_LASTS), self._pods.lately(kept, LOOK_EVERY))
            fresh = [pod for pod in pods if pod["metadata"]["name"] not in wait.ready]
            said = await asyncio.gather(*(self._pods.unready(kept, pod) for pod in fresh))
            wait.ready |= {pod["metadata"]["name"] for pod, wrong in zip(fresh, said, strict=True) if not wrong}
            waiting = [(pod, wrong) for pod, wrong in zip(fresh, said, strict=True) if wrong]
            if not waiting and len(pods) >= count and await self._all_lead_there(kept, pods):
                return
            if looks % LOOKS_PER_DEPLOYMENT == 0:
                self._look_at_deployment(kept, await self.deployment(kept), wait)
            looks += 1
            for pod, _ in waiting:
                await self._look_at_pod(kept, pod, wait)
            if datetime.now(UTC) >= deadline:
                await self._too_late(kept, pods, waiting, count)
            await unready_yet.tell(
                {pod["metadata"]["name"]: partial(self._pods.explain, kept, pod, wrong) for pod, wrong in waiting}
            )
            await asyncio.sleep(LOOK_EVERY)

    async def scale(
        self, store: KubernetesTargetStore, kept: KubernetesRevisionRecord, wanted: Callable[[int], int]
    ) -> int:
        """Give the revision's Deployment another number of replicas; returns how many it had.

        Raises:
            FencedOutError: somebody newer has been there.
            DriftError: somebody else has changed what its pods are made of.
        """
        path, what, said = self._cluster.apps("deployments", kept.deployment), f"the Deployment {kept.deployment}", ""
        for _ in range(MOST_CONFLICTS):
            deployment = await self.deployment(kept)
            check_fence(deployment, store.fence, what)
            await self._check_template(kept, deployment)
            now = int(deployment["spec"].get("replicas") or 0)
            try:
                await self._cluster.api.change(path, _scaled(deployment, store.fence, wanted(now)))
            except WriteConflictError as error:
                said = str(error)
                continue
            return now
        raise UnavailableError(f"{what} is being changed by somebody else all the time: {said}")

    async def deployment(self, kept: KubernetesRevisionRecord) -> Json:
        """The revision's Deployment.

        Raises:
            PreconditionError: it is gone.
        """
        found = await self._cluster.api.get(self._cluster.apps("deployments", kept.deployment))
        if found is None:
            raise PreconditionError(f"the Deployment {kept.deployment} of the revision {kept.revision.id} is gone")
        return found

    async def _check_template(self, kept: KubernetesRevisionRecord, deployment: Json) -> None:
        platform = of_kind(kept.revision.platform, KubernetesPlatformSpec)
        if kept.adopted:
            changed = await current_hash(self._cluster, deployment) != kept.selector.get(HASH)
        else:
            changed = platform.drift is Drift.STOP and bool(other_field_managers(deployment, "spec", "template"))
        if changed:
            who = (other_field_managers(deployment, "spec", "template") or ["somebody else"])[-1]
            raise DriftError(f"the pods of the Deployment {kept.deployment} were changed by {who}: it is not touched")

    async def _another_chance(self, kept: KubernetesRevisionRecord) -> None:
        """What failed in an earlier attempt is waited for by the cluster, longer each time: it begins anew at once."""
        for pod in await self._pods.of(kept):
            status = container_status(kept, pod) or {}
            waiting = (status.get("state") or {}).get("waiting") or {}
            if not kept.adopted and waiting.get("reason") in ("CrashLoopBackOff", "ImagePullBackOff"):
                await self._cluster.api.delete(pod_path(self._cluster, pod), pod["metadata"]["uid"], grace=0)

    async def _all_lead_there(self, kept: KubernetesRevisionRecord, pods: list[Json]) -> bool:
        return {pod["metadata"]["name"] for pod in pods} <= await self._traffic.endpoints(kept.service)

    def _look_at_deployment(self, kept: KubernetesRevisionRecord, deployment: Json, wait: _RolloutWait) -> None:
        generation = int(deployment["metadata"].get("generation") or 0)
        if int(deployment.get("status", {}).get("observedGeneration") or 0) < generation:
            return
        for one in conditions(deployment):
            said = f"{one.get('reason')}: {one.get('message')}"
            failed = one.get("type") == "ReplicaFailure" and one.get("status") == "True"
            if failed and wait.lasts(kept.deployment, "ReplicaFailure") >= REFUSED_FOR:
                raise NotReadyError(f"the cluster makes no more pods of {kept.deployment}: {shorten(said)}")
            if one.get("type") == "Progressing" and one.get("reason") == "ProgressDeadlineExceeded":
                raise NotReadyError(f"{kept.deployment} does not progress: {shorten(said)}")

    async def _look_at_pod(self, kept: KubernetesRevisionRecord, pod: Json, wait: _RolloutWait) -> None:
        name, status = pod["metadata"]["name"], container_status(kept, pod) or {}
        before = wait.restarts.setdefault(name, restarts_of(kept, pod) if kept.adopted else 0)
        waiting = (status.get("state") or {}).get("waiting") or {}
        ended = (status.get("state") or {}).get("terminated") or (status.get("lastState") or {}).get("terminated") or {}
        if ended.get("reason") in _CANNOT_START:
            command = _command(kept, pod)
            raise NotReadyError(f"{name}: {command} cannot be started: {shorten(str(ended.get('message')), 600)}")
        starts = restarts_of(kept, pod) - before + 1
        if starts >= HOPELESS_STARTS and "running" not in (status.get("state") or {}):
            said = f"{name} was started {starts} times and never became ready ({_exit(ended)})"
            raise await self._told(kept, pod, said)
        for reason in [reason for reason in _waiting_for(pod) if reason in _HOPELESS]:
            if wait.lasts(name, reason) >= _HOPELESS[reason]:
                said = f"{name} cannot become ready: {reason}: {waiting.get('message') or not_running(kept, pod)}"
                raise await self._told(kept, pod, shorten(said))
        scheduled = next((one for one in conditions(pod) if one.get("type") == "PodScheduled"), {})
        if scheduled.get("reason") == "Unschedulable" and wait.lasts(name, "Unschedulable") >= UNSCHEDULABLE_FOR:
            raise NotReadyError(f"{name} finds no node: Unschedulable: {shorten(str(scheduled.get('message')), 600)}")

    async def _too_late(
        self, kept: KubernetesRevisionRecord, pods: list[Json], waiting: list[tuple[Json, str]], count: int
    ) -> None:
        if not waiting:
            said = f"only {len(pods)} of {count} pods are there" if len(pods) < count else "its endpoints are not there"
            raise NotReadyError(f"{kept.deployment} is not ready in time: {said}")
        pod, wrong = waiting[0]
        said = f"{pod['metadata']['name']} is not ready in time: {wrong}"
        raise await self._told(kept, pod, said)

    async def _told(self, kept: KubernetesRevisionRecord, pod: Json, sentence: str) -> NotReadyError:
        return NotReadyError(sentence, await self._pods.log(kept, pod))


def _waiting_for(pod: Json) -> list[str]:
    """What containers of the pod wait for; those beside the service count as well."""
    status = pod.get("status", {})
    every = (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
    return [str(w["reason"]) for one in every if (w := (one.get("state") or {}).get("waiting")) and w.get("reason")]


def _command(kept: KubernetesRevisionRecord, pod: Json) -> str:
    container = next(each for each in pod["spec"]["containers"] if each["name"] == kept.container)
    command = container.get("command") or container.get("args") or ["its program"]
    return str(command[0])


def _exit(ended: Json) -> str:
    return f"exit code {ended['exitCode']}" if "exitCode" in ended else "no exit code"


def _scaled(deployment: Json, fence: Fence, replicas: int) -> list[Json]:
    """The JSON patch that notes the fence and changes the number, unless somebody has changed more than the status."""
    meta = deployment["metadata"]
    noted = {**(meta.get("annotations") or {}), FENCE: fence.model_dump_json()}
    patch: list[Json] = [{"op": "test", "path": "/metadata/generation", "value": meta["generation"]}]
    if meta.get("annotations"):
        patch.append({"op": "test", "path": "/metadata/annotations", "value": meta["annotations"]})
    patch.append({"op": "add", "path": "/metadata/annotations", "value": noted})
    if replicas != int(deployment["spec"].get("replicas") or 0):
        patch.append({"op": "replace", "path": "/spec/replicas", "value": replicas})
    return patch

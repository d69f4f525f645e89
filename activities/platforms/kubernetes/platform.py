"""The Kubernetes platform: a Deployment and a Service for each revision, in the user's own namespace.

Each verb records its fence, notes what it wants in the target's state, makes it so, and returns when the cluster
confirms it. Nothing runs in the cluster but what the user has: whatever is between two verbs is in its objects.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from activities.platforms.kubernetes.adoption import resume
from activities.platforms.kubernetes.api import Json
from activities.platforms.kubernetes.autoscalers import move_scalers, scalers_of
from activities.platforms.kubernetes.cluster import Clusters, in_pod
from activities.platforms.kubernetes.config_copies import environment_secret
from activities.platforms.kubernetes.context import Target, become, shares_of
from activities.platforms.kubernetes.gateway_metrics import Gateways
from activities.platforms.kubernetes.lanes import Lane
from activities.platforms.kubernetes.ownership import claim
from activities.platforms.kubernetes.pods import address_of, direct_client
from activities.platforms.kubernetes.preflight import Examining
from activities.platforms.kubernetes.probes import Probes
from activities.platforms.kubernetes.state import KubernetesRevisionRecord, KubernetesTargetState
from activities.platforms.kubernetes.traffic import ALL, TrafficReading
from activities.platforms.probes import ask_as_user
from activities.platforms.traefik.interfaces import whole
from home.paths import Home
from models.checks import Examination, PreflightCheck
from models.errors import PreconditionError, SecretUnresolvedError, UnavailableError, UnsafeChangeError
from models.platforms import KubernetesPlatformSpec, of_kind
from models.platforms import Platform as PlatformModel
from models.platforms.kubernetes import Reach
from models.release import (
    Capabilities,
    Fence,
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

# How old, in seconds, may be what watches read: the state of a target, its route, who its pods are, the counters. It is
# read for all targets of a namespace at once.
STATE_LASTS = 2.0
ROUTE_LASTS = 1.0
PODS_LAST = 1.5
COUNTERS_LAST = 0.2
SEEN_WITHIN = 8.0
FEWEST_LOOKS, MOST_LOOKS = 2, 30
SEEN_EVERY = 0.03
# What a gateway says for itself when it leads to no pod.
NOBODY_SERVES = (502, 503, 504)
BY_RATIO = "there is no platform.route: traffic is divided by the number of pods, which only approximates a weight"
UNCOUNTED = "there are no platform.counters: requests are not counted, a canary is judged by its probes alone"
NO_PREVIEW = "pods are asked through the API server (platform.reach): smoke tests have no preview address"


class KubernetesPlatform:
    """All targets of all clusters. What each verb promises is said in `activities.platforms.base`.

    Args:
        home: not used: what is known of a target is in its cluster.
    """

    # The gateways are asked this often; the API server is not.
    count_every = 0.4

    def __init__(self, home: Home | None = None) -> None:
        self._clusters = Clusters()
        self._direct = direct_client()
        self._gateways = Gateways()
        self._probes = Probes()
        self._watched: dict[tuple[str, str], tuple[Fence, float]] = {}

    async def aclose(self) -> None:
        """Close all connections; nothing that runs is touched."""
        await asyncio.gather(self._clusters.aclose(), self._direct.aclose(), self._gateways.aclose())

    async def capabilities(self, platform: PlatformModel) -> Capabilities:
        settings = of_kind(platform, KubernetesPlatformSpec)
        preview = (settings.reach or (Reach.PODS if in_pod() else Reach.API)) is Reach.PODS
        unmet = {BY_RATIO: settings.route, UNCOUNTED: settings.counts_requests, NO_PREVIEW: preview}
        return Capabilities(
            exact_weights=settings.route is not None,
            preview=preview,
            in_place_roll=True,
            owns_address=False,
            sees_requests=False,
            counts_requests=settings.counts_requests,
            notes=tuple(note for note, met in unmet.items() if not met),
        )

    async def examine(self, check: PreflightCheck) -> Examination:
        spec = check.spec
        # The fence of a reader orders nothing.
        fence, endpoints = Fence(epoch=0, sequence=0), spec.verify.endpoints
        order = Order(
            service=spec.service,
            target=spec.target,
            platform=spec.platform,
            fence=fence,
            endpoints=endpoints,
            health=spec.verify.rule,
        )
        return await Examining(await self._target(order), check).examine()

    async def snapshot(self, order: Order) -> Snapshot:
        target = await self._target(order)
        return await target.snapshot(await target.known())

    async def logs(self, order: Order, *, candidate: bool, lines: int, since: Mapping[str, str]) -> Logs:
        target = await self._target(order)
        state = await target.known()
        kept = state.chosen(candidate=candidate)
        pods = await target.pods.of(kept)
        printed = await asyncio.gather(*(target.pods.printed(kept, pod, lines, since) for pod in pods))
        return Logs(revision=kept.revision.id, printed=tuple(printed))

    async def stage(self, order: StageOrder) -> Staged:
        target, revision, began = await self._target(order), order.revision, time.monotonic()
        await claim(target.cluster, target.platform, order)
        state = await target.store.enter()
        if revision.id not in state.revisions:
            running = await target.running(state)
            state, _ = await target.store.change(lambda state: resume(state, running))
        state = await target.noted(state)
        kept = await self._prepared(target, order, state)
        state = await target.preparing.bind_users(target.store)
        await target.retiring.take_back(kept)
        count = await self._count(target, order, state)
        await target.staging.bring_up(target.store, kept, count, order.deadline)
        reports = await target.pods.report(kept, order.instances, with_version=True, before_users=True)
        preview = await target.pods.of(kept) if target.cluster.reach is Reach.PODS else []
        return Staged(
            inspection=Inspection(revision=revision.id, expected=order.instances, instances=reports),
            preview=tuple(address_of(kept, pod) for pod in preview),
            seconds=time.monotonic() - began,
        )

    async def shift(self, order: ShiftOrder) -> Split:
        target = await self._target(order, Lane.MOVE)
        async with _guessing(target, order) as guessed:
            state, read = await asyncio.gather(target.store.check(), target.traffic.read())
            wanted, seen = shares_of(order, state), await target.traffic.look(state, read)
            gaining = [state.kept(id) for id in _gaining(wanted, seen.weights)]
            serving = await asyncio.gather(*(_any_serves(target, kept, guessed) for kept in gaining))
        for kept, serves in zip(gaining, serving, strict=True):
            if not serves:
                id = kept.revision.id
                raise UnsafeChangeError(f"{id} gets no more traffic: none of its instances is healthy right now")
        state = await self._divide(target, state, wanted, seen)
        return await self._split(target, state, wanted)

    async def promote(self, order: PromoteOrder) -> Snapshot:
        target = await self._target(order)
        state = await target.store.enter()
        kept = state.kept(order.revision)
        weights = await target.traffic.weights(state)
        if weights != {order.revision: 100}:
            raise UnsafeChangeError(
                f"{order.revision} does not have all the traffic, but {weights}: it is not stable yet"
            )
        await _move_scalers(target, state, kept)
        state, _ = await target.store.change(lambda state: state.make_stable(order.revision, withdraw=order.withdraw))
        return await target.snapshot(state)

    async def retire(self, order: RetireOrder) -> Retired:
        target = await self._target(order)
        state = await target.store.enter()
        kept = state.revisions.get(order.revision)
        retired = Retired() if kept is None else await target.retiring.retire(target.store, order, state, kept)
        if order.keep_instances == 0:
            await target.clean_up(order)
        return retired

    async def restore(self, order: RestoreOrder) -> Split:
        target, snapshot = await self._target(order, Lane.MOVE), order.snapshot
        state = await target.store.check()
        if snapshot.stable is None:
            return await _restore_nothing(target, snapshot)
        stable = snapshot.stable.id
        if stable not in state.revisions:
            # Before the first effect of a deployment, what it found is not written down yet.
            running = await target.running(state)
            state, _ = await target.store.change(lambda state: resume(state, running))
        kept = state.kept(stable)
        # Traffic first, to whatever of it is up; what waits for pods comes after.
        await self._give_all(target, state, kept)
        state = await target.store.enter()
        await target.retiring.take_back(kept)
        await _move_scalers(target, state, kept)
        await target.staging.bring_up(target.store, kept, max(1, snapshot.instances), order.deadline)
        if not await self._give_all(target, state, kept):
            raise UnsafeChangeError(f"no traffic was given to {stable}: none of its instances is healthy right now")
        state, _ = await target.store.change(lambda state: become(state, snapshot))
        return await self._split(target, state, {stable: 100})

    async def inspect(self, order: InspectOrder) -> Inspection:
        target = await self._target(order)
        kept = (await target.known()).revisions.get(order.revision.id)
        reports = await target.pods.report(kept, order.instances, with_version=True) if kept else ()
        if kept is None:
            reports = tuple(_unknown(order.revision, number) for number in range(1, order.instances + 1))
        return Inspection(revision=order.revision.id, expected=order.instances, instances=reports)

    async def split(self, order: Order) -> Split:
        if isinstance(order, WatchOrder):
            return await self._split_lately(order)
        target = await self._target(order)
        state = await target.store.read()
        # Asked often: what is written down need not be found out anew.
        return await self._split(target, state if state.revisions else await target.known())

    async def probe(self, order: Order, revision: Revision) -> tuple[InstanceReport, ...]:
        target, age = await self._target(order, Lane.WATCH), self._watched_for(order)
        kept = (await target.store.read_lately(min(STATE_LASTS, age))).revisions.get(revision.id)
        return await self._probes.report(target.pods, kept, min(PODS_LAST, age)) if kept else ()

    async def _split_lately(self, order: Order) -> Split:
        """For watches, many of which ask again and again: read for all targets of the namespace at once."""
        target, age = await self._target(order, Lane.WATCH), self._watched_for(order)
        state = await target.store.read_lately(min(STATE_LASTS, age))
        if not state.revisions:
            return await self._split(target, await target.known())
        weights, counters = await asyncio.gather(
            target.traffic.weights_lately(state, min(ROUTE_LASTS, age)),
            self._gateways.read(target.cluster, target.platform, target.store, state, COUNTERS_LAST),
        )
        exact = target.platform.route is not None
        return Split(weights=weights, counters=counters, exact=exact, seen=datetime.now(UTC))

    def _watched_for(self, order: Order) -> float:
        """Seconds since this worker has met the order: a watch sees nothing that was read before it began."""
        key, now = (order.service, order.target), time.monotonic()
        fence, since = self._watched.get(key, (None, now))
        if fence != order.fence:
            since = now
            self._watched[key] = (order.fence, now)
        return now - since

    async def _target(self, order: Order, lane: Lane = Lane.WORK) -> Target:
        cluster = (await self._clusters.of(of_kind(order.platform, KubernetesPlatformSpec))).on(lane)
        return Target(cluster, order, self._direct, self._gateways)

    async def _prepared(
        self, target: Target, order: StageOrder, state: KubernetesTargetState
    ) -> KubernetesRevisionRecord:
        """The revision with everything but its pods, made when this is the first time."""
        kept = state.revisions.get(order.revision.id)
        if kept is None or not (kept.prepared or kept.adopted):
            return await target.preparing.prepare(target.store, order, whole(order.revision))
        with suppress(SecretUnresolvedError):
            # Its values are in the cluster already; who tells of its last words must know them all the same.
            await asyncio.to_thread(environment_secret, kept.revision, kept.deployment, {})
        return kept

    async def _count(self, target: Target, order: StageOrder, state: KubernetesTargetState) -> int:
        """Where an autoscaler decides how many pods stable has, a whole candidate has as many."""
        stable = state.revisions.get(state.stable or "")
        if stable is None or order.instances < order.platform.instances:
            return order.instances
        if not await scalers_of(target.cluster, [stable.deployment]):
            return order.instances
        return max(order.instances, (await target.replicas(state))[stable.revision.id])

    async def _give_all(self, target: Target, state: KubernetesTargetState, kept: KubernetesRevisionRecord) -> bool:
        """All traffic to a revision of which something is healthy right now; none is moved when nothing is."""
        seen, serves = await asyncio.gather(target.traffic.look(state), _any_serves(target, kept))
        if not serves:
            return False
        id = kept.revision.id
        others = {other: 0 for other in seen.weights if other != id and other in state.revisions}
        await self._divide(target, state, {**others, id: 100}, seen)
        return True

    async def _divide(
        self, target: Target, state: KubernetesTargetState, wanted: dict[str, int], seen: TrafficReading
    ) -> KubernetesTargetState:
        """Lead users, and note it. The state is given as it was just read, and returned as it is then."""
        planned, fence = state.model_copy(deep=True), target.order.fence
        planned.divide(wanted)
        await target.traffic.divide(
            planned,
            wanted,
            seen,
            lambda found: target.store.change(lambda state: state.lead(wanted, found=found, by=fence)),
        )
        await self._see(target, planned, seen.weights)
        return planned

    async def _see(self, target: Target, state: KubernetesTargetState, before: dict[str, int]) -> None:
        """Where one revision has everything now, see that users are answered, and not by those that had it before.

        Raises:
            UnavailableError: they are not, or are, for too long.
        """
        whole = state.whole()
        if whole is None or before == {whole: 100}:
            return
        revision = state.kept(whole).revision
        leaving = {id: weight for id, weight in before.items() if id != whole}
        left = {state.kept(id).revision.release.version for id in leaving} - {revision.release.version}
        # So many at once that somebody who is still led to the others would be among them.
        times = min(MOST_LOOKS, ALL // min(leaving.values(), default=ALL) + FEWEST_LOOKS)
        deadline, answers, url = time.monotonic() + SEEN_WITHIN, False, target.platform.base_url
        while True:
            looks = [ask_as_user(self._direct, url, revision.endpoints, revision.health) for _ in range(times)]
            found = await asyncio.gather(*looks)
            answers = answers or any(status for status, _ in found)
            # Not every worker reaches the address of the users: then no answer is no contradiction.
            wrong = [(status, version) for status, version in found if version in left or status in NOBODY_SERVES]
            wrong += [(status, version) for status, version in found if answers and not status]
            if not wrong:
                return
            if time.monotonic() > deadline:
                status, version = wrong[0]
                said = f"is {version} still" if version in left else f"answers {status or 'nothing'}"
                raise UnavailableError(f"{whole} has all the traffic, but {target.platform.address} {said}")
            await asyncio.sleep(SEEN_EVERY)

    async def _split(self, target: Target, state: KubernetesTargetState, wanted: dict[str, int] | None = None) -> Split:
        exact = target.platform.route is not None
        weights, counters = await asyncio.gather(
            target.traffic.weights(state),
            self._gateways.read(target.cluster, target.platform, target.store, state),
        )
        if exact and wanted is not None and weights != {id: weight for id, weight in wanted.items() if weight}:
            raise UnavailableError(f"the route divides {weights} and not {wanted}: another effect came in between")
        return Split(weights=weights, counters=counters, exact=exact, seen=datetime.now(UTC))


def _gaining(wanted: Mapping[str, int], before: Mapping[str, int]) -> list[str]:
    return [id for id, weight in wanted.items() if weight > before.get(id, 0)]


@dataclass(frozen=True)
class _Guess:
    """A revision as a watch of this worker has read it last, and what is being asked of it since."""

    kept: KubernetesRevisionRecord
    serving: asyncio.Task[tuple[list[Json], set[str]]]
    asked: dict[str, asyncio.Task[str]]


@asynccontextmanager
async def _guessing(target: Target, order: ShiftOrder) -> AsyncIterator[dict[str, _Guess]]:
    """Asks those that will probably gain side by side with what must be known before: each moment counts.

    What has changed since it was read by a watch is asked anew.
    """
    guessed: dict[str, _Guess] = {}
    with suppress(PreconditionError, ValidationError):
        state = target.store.guess()
        for id in _gaining(shares_of(order, state), state.weights):
            kept = state.kept(id)
            serving = asyncio.create_task(_serving(target, kept))
            guessed[id] = _Guess(kept, serving, target.pods.ask_early(kept))
    try:
        yield guessed
    finally:
        under_way: list[asyncio.Task[Any]] = [
            task for guess in guessed.values() for task in (guess.serving, *guess.asked.values())
        ]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def _serving(target: Target, kept: KubernetesRevisionRecord) -> tuple[list[Json], set[str]]:
    """The pods of a revision, and the names of those that its Service leads to."""
    return await asyncio.gather(target.pods.of(kept), target.traffic.endpoints(kept.service))


async def _any_serves(
    target: Target, kept: KubernetesRevisionRecord, guessed: Mapping[str, _Guess] | None = None
) -> bool:
    """Whether one of the pods that the revision's Service leads to answers healthy right now."""
    guess = (guessed or {}).get(kept.revision.id)
    if guess is None or guess.kept.model_copy(update={"idle_since": kept.idle_since}) != kept:
        guess = None
    pods, names = await (guess.serving if guess else _serving(target, kept))
    among = (pod for pod in pods if pod["metadata"]["name"] in names)
    return await target.pods.any_healthy(kept, among, guess.asked if guess else None)


async def _move_scalers(target: Target, state: KubernetesTargetState, to: KubernetesRevisionRecord) -> None:
    deployments = {target.platform.deployment, *(kept.deployment for kept in state.revisions.values())}
    await move_scalers(target.cluster, deployments, to.deployment, target.order.fence, target.platform.drift)


async def _restore_nothing(target: Target, snapshot: Snapshot) -> Split:
    """Back to before the first deployment: nobody answers users; pods and objects go when they are retired."""
    state = await target.store.enter()
    if await target.traffic.users_service() is not None:
        await target.traffic.nobody(state)
    await target.store.change(lambda state: become(state, snapshot))
    return Split(weights={}, counters={}, seen=datetime.now(UTC))


def _unknown(revision: Revision, number: int) -> InstanceReport:
    name = f"{revision.id}/{number}"
    return InstanceReport(name=name, address="", running=False, healthy=False, detail="it was never staged")

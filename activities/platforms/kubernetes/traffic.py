"""Users' requests are divided by an HTTPRoute's weights, or, without one, by how many pods the users' Service has.

The users' Service is bound to one revision by its selector before a second one exists, so that whoever calls it inside
of the cluster never meets a candidate by accident; it follows when the candidate has everything. A weight counts when
the gateway has accepted the route's new generation; a selector when the endpoints have followed it.

The route is written before anything else is: gateways look at every ConfigMap and Service, and may look away for a
moment after each change. What is noted of it in the target's state follows at once.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from activities.platforms.kubernetes.api import Json
from activities.platforms.kubernetes.cluster import Cluster
from activities.platforms.kubernetes.gateway_metrics import HELD_BACK_WITHIN, Following, Gateways
from activities.platforms.kubernetes.guarded_write import OwnedField, fence_of, write, written_lately
from activities.platforms.kubernetes.names import NOBODY, ON, REVISION, TRAFFIC
from activities.platforms.kubernetes.pods import conditions, selector_of
from activities.platforms.kubernetes.state import KubernetesRevisionRecord, KubernetesTargetState
from models.errors import PreconditionError, UnavailableError
from models.platforms import KubernetesPlatformSpec
from models.release import Fence

CONFIRMED_WITHIN = 10.0
LOOK_EVERY = 0.03
ALL = 100


@dataclass(frozen=True)
class RouteReading:
    """The route and the users' Service as they were just read, and how many configurations each gateway had loaded."""

    route: Json | None
    service: Json | None
    loaded: dict[str, float]


@dataclass(frozen=True)
class TrafficReading:
    """The route and the users' Service as they were just read.

    Attributes:
        weights: revision → percent, as they divide.
        loaded: gateway → how many configurations it had put into force.
    """

    route: Json | None
    service: Json | None
    weights: dict[str, int]
    loaded: dict[str, float]

    @property
    def last_route_writer(self) -> Fence | None:
        """Of the effect that wrote the route last; None without one."""
        return fence_of(self.route) if self.route else None


class Traffic:
    """The route and the users' Service of one target."""

    def __init__(self, cluster: Cluster, platform: KubernetesPlatformSpec, fence: Fence, gateways: Gateways) -> None:
        self._cluster, self._platform, self._fence, self._gateways = cluster, platform, fence, gateways
        self._name = platform.service_name
        self._selector = OwnedField(f"the selector of the Service {self._name}", _selector, "spec", "selector")

    async def users_service(self) -> Json | None:
        """The Service that users' requests go through."""
        return await self._cluster.api.get(self._cluster.core("services", self._name))

    async def users_route(self) -> Json | None:
        """The HTTPRoute; None where the spec names none, or there is none."""
        return await self._cluster.api.get(self._cluster.route(self._platform.route)) if self._platform.route else None

    async def weights(self, state: KubernetesTargetState) -> dict[str, int]:
        """Revision → percent, as the cluster itself has it; those above 0."""
        if self._platform.route:
            route = await self.users_route()
            return self._of_route(state, route) if route else {}
        return await self._of_endpoints(state)

    async def weights_lately(self, state: KubernetesTargetState, within: float) -> dict[str, int]:
        """The same as they were at most `within` seconds ago, where a route has them: for watches."""
        if not self._platform.route:
            return await self._of_endpoints(state)
        route = await self._cluster.api.get_lately(self._cluster.routes(), self._platform.route, "", within)
        return self._of_route(state, route) if route else {}

    async def read(self) -> RouteReading:
        """What is to be changed when traffic moves, read at once: every moment counts to those who get errors."""
        if not self._platform.route:
            return RouteReading(None, await self.users_service(), {})
        route, service, loaded = await asyncio.gather(
            self.users_route(), self.users_service(), self._gateways.loaded(self._platform)
        )
        return RouteReading(route, service, loaded)

    async def look(self, state: KubernetesTargetState, read: RouteReading | None = None) -> TrafficReading:
        """The same, and how it divides; `read` is what was just read."""
        read = read or await self.read()
        if not self._platform.route:
            return TrafficReading(None, read.service, await self._of_endpoints(state), {})
        return TrafficReading(
            read.route, read.service, self._of_route(state, read.route) if read.route else {}, read.loaded
        )

    async def last_route_writer(self) -> Fence | None:
        """The effect that wrote the route last; None without a route."""
        route = await self.users_route()
        return fence_of(route) if route else None

    async def divide(
        self,
        state: KubernetesTargetState,
        wanted: Mapping[str, int],
        seen: TrafficReading,
        note: Callable[[Fence | None], Awaitable[object]],
    ) -> None:
        """Give each revision of `wanted` its weight, those with 0 too; returns when that is in force and noted.

        Args:
            state: of the target, with these weights.
            wanted: revision → percent.
            seen: what was found by `look`.
            note: writes the state; is given the effect that had written the route before, None without a route.

        Raises:
            DriftError, FencedOutError, PreconditionError: the route or the Service cannot be written.
            UnavailableError: the gateway does not confirm.
        """
        whole = next((id for id, weight in wanted.items() if weight == ALL), None)
        if self._platform.route:
            route, changed, found = await self._write_route(state, wanted, seen.route)
            await asyncio.gather(
                self._confirmed(route, changed, seen.loaded),
                self.bind(state, whole or state.bound, seen.service),
                note(found),
            )
            return
        await note(None)
        if whole:
            await self.bind(state, whole, seen.service)
            await self._follow(state, {whole})
        else:
            sharing = [id for id, weight in wanted.items() if weight]
            selector = {**(state.base or {}), **_common([state.kept(id) for id in sharing])}
            await self._write_selector(selector, seen.service)
            await self._follow(state, set(sharing))

    async def bind(self, state: KubernetesTargetState, revision: str | None, there: Json | None = None) -> None:
        """Lead the users' Service to the pods of one revision, or to nobody; `there` is that Service, just read."""
        leads_to = state.kept(revision).selector if revision else {REVISION: NOBODY}
        await self._write_selector({**(state.base or {}), **leads_to}, there)

    async def nobody(self, state: KubernetesTargetState) -> None:
        """Lead users nowhere: before the first deployment there was nothing to lead them to."""
        await self.bind(state, None)
        if self._platform.route and await self.users_route() is not None:
            await self._as_before(state)

    async def release(self, state: KubernetesTargetState) -> None:
        """Leave the users' Service and the route as they were before us: an adopted Deployment is all there is."""
        if state.base is not None:
            await self._write_selector(state.base)
        if self._platform.route:
            await self._as_before(state)

    async def pass_over(self, state: KubernetesTargetState, services: Collection[str]) -> None:
        """The route does not name these Services any more; none of them has a weight."""
        route = await self.users_route()
        ours = self.ours(state)
        refs = [ref for rule in (route or {"spec": {}})["spec"].get("rules") or () for ref in _refs(rule, ours)]
        if any(ref["name"] in services for ref in refs):
            ids = {kept.service: id for id, kept in state.revisions.items()}
            left = {ids[r["name"]]: r.get("weight", 1) for r in refs if r["name"] in ids and r["name"] not in services}
            await self._write_route(state, left)

    async def endpoints(self, service: str) -> set[str]:
        """The names of the pods that a Service has as ready endpoints."""
        label = {"kubernetes.io/service-name": service}
        found = await self._cluster.api.list(self._cluster.slices(), label)
        return {
            str((endpoint.get("targetRef") or {}).get("name"))
            for one in found
            for endpoint in one.get("endpoints") or ()
            if (endpoint.get("conditions") or {}).get("ready") is not False
        }

    async def without(self, services: Collection[str], pods: set[str]) -> None:
        """Wait until none of the Services leads to one of these pods any more.

        Raises:
            UnavailableError: one does for too long.
        """
        deadline = time.monotonic() + CONFIRMED_WITHIN
        while True:
            found = await asyncio.gather(*(self.endpoints(service) for service in services))
            left = set().union(*found) & pods
            if not left:
                return
            if time.monotonic() > deadline:
                raise UnavailableError(f"the endpoints still lead to {', '.join(sorted(left))}")
            await asyncio.sleep(LOOK_EVERY)

    # The route.

    def ours(self, state: KubernetesTargetState) -> set[str]:
        """The names of all Services that lead to this target."""
        return {self._name, *(kept.service for kept in state.revisions.values())}

    def _of_route(self, state: KubernetesTargetState, route: Json) -> dict[str, int]:
        by_service = {kept.service: id for id, kept in state.revisions.items()}
        ours = self.ours(state)
        rules = route["spec"].get("rules") or ()
        refs = next((found for rule in rules if (found := _refs(rule, ours))), [])
        total = sum(ref.get("weight", 1) for ref in refs)
        shares: dict[str, int] = {}
        for ref in refs:
            id, weight = by_service.get(ref["name"], state.bound), ref.get("weight", 1)
            if id is not None and weight and total:
                shares[id] = shares.get(id, 0) + weight
        return percent(shares)

    async def _as_before(self, state: KubernetesTargetState) -> None:
        """The route leads to the users' Service, as before the first deployment."""
        loaded = await self._gateways.loaded(self._platform)
        route, changed, _ = await self._write_route(state, {})
        await self._confirmed(route, changed, loaded)

    async def _confirmed(self, route: Json, changed: bool, loaded: dict[str, float]) -> None:
        """Returns when gateways divide as the route says that was written."""
        uid, generation = route["metadata"]["uid"], int(route["metadata"].get("generation") or 0)
        following = self._gateways.following
        if changed:
            following[uid] = Following(generation, loaded, loaded)
        known = following.get(uid)
        if known is None or known.generation != generation:
            # Another worker may have written it a moment ago, and died.
            await self._accepted(route, loaded)
            await asyncio.sleep(HELD_BACK_WITHIN if written_lately(route) else 0)
        elif known.before is not None and known.unaccepted is not None:
            unaccepted = await self._accepted(route, known.unaccepted)
            following[uid] = Following(generation, known.before, unaccepted)
            # A gateway accepts what it has read, and divides by it a moment later.
            await self._gateways.in_force(self._platform, known.before, unaccepted)
        following[uid] = Following(generation)

    async def _write_route(
        self, state: KubernetesTargetState, wanted: Mapping[str, int], there: Json | None = None
    ) -> tuple[Json, bool, Fence]:
        """The route as it is now, whether it leads elsewhere than before, and the effect that had written it before."""
        before = Fence(epoch=0, sequence=0)
        ours, name = self.ours(state), self._platform.route or ""
        services = [(state.kept(id).service, weight) for id, weight in wanted.items()] or [(self._name, 1)]
        part = OwnedField(f"the HTTPRoute {name}", lambda route: _owned(route, ours), "spec", "rules")

        def change(route: Json) -> None:
            nonlocal before
            before, found = fence_of(route), False
            for rule in route["spec"].get("rules") or ():
                refs = _refs(rule, ours)
                if not refs:
                    continue
                if len(refs) != len(rule["backendRefs"]):
                    raise PreconditionError(
                        f"a rule of {part.what} also leads to other Services: it cannot be divided exactly"
                    )
                found = True
                rule["backendRefs"] = [{**refs[0], "name": service, "weight": weight} for service, weight in services]
            if not found:
                raise PreconditionError(f"no rule of {part.what} leads to the Service {self._name}")

        path = self._cluster.route(name)
        now, changed = await write(self._cluster, path, part, change, self._fence, self._platform.drift, there)
        return now, changed, before

    async def _accepted(self, route: Json, loaded: dict[str, float]) -> dict[str, float]:
        """Returns how many configurations the gateways had loaded when they had not accepted this one yet."""
        generation, deadline = route["metadata"].get("generation", 0), time.monotonic() + CONFIRMED_WITHIN
        while why := _unaccepted(route, generation):
            if time.monotonic() > deadline:
                raise UnavailableError(f"the gateway does not confirm the HTTPRoute {self._platform.route}: {why}")
            await asyncio.sleep(LOOK_EVERY)
            count, there = await self._gateways.loaded(self._platform), await self.users_route()
            if there is None:
                raise PreconditionError(f"the HTTPRoute {self._platform.route} is gone")
            route, loaded = there, count if _unaccepted(there, generation) else loaded
        return loaded

    # The users' Service.

    async def _write_selector(self, selector: Mapping[str, str], there: Json | None = None) -> None:
        def change(service: Json) -> None:
            service["spec"]["selector"] = dict(selector)

        path = self._cluster.core("services", self._name)
        await write(self._cluster, path, self._selector, change, self._fence, self._platform.drift, there)

    async def _of_endpoints(self, state: KubernetesTargetState) -> dict[str, int]:
        names = await self.endpoints(self._name)
        return percent({id: len(pods & names) for id, pods in (await self._pods(state)).items()})

    async def _pods(self, state: KubernetesTargetState) -> dict[str, set[str]]:
        async def named(kept: KubernetesRevisionRecord) -> set[str]:
            found = await self._cluster.api.list(self._cluster.core("pods"), selector_of(kept))
            return {pod["metadata"]["name"] for pod in found}

        found = await asyncio.gather(*(named(kept) for kept in state.revisions.values()))
        return dict(zip(state.revisions, found, strict=True))

    async def _follow(self, state: KubernetesTargetState, wanted: set[str]) -> None:
        deadline = time.monotonic() + CONFIRMED_WITHIN
        while set(there := await self._of_endpoints(state)) != wanted:
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"the endpoints of the Service {self._name} lead to {there}, and not to {wanted}"
                )
            await asyncio.sleep(LOOK_EVERY)


def percent(shares: Mapping[str, int]) -> dict[str, int]:
    """The shares in whole percent, 100 in all; the rounding goes to the largest."""
    total = sum(shares.values())
    found = {id: round(ALL * share / total) for id, share in shares.items() if share} if total else {}
    if found:
        largest = max(found, key=lambda id: found[id])
        found[largest] += ALL - sum(found.values())
    return found


def _common(sharing: list[KubernetesRevisionRecord]) -> dict[str, str]:
    """What pods that take traffic of all these have in common, beside what the users' Service selected before us."""
    return {} if any(kept.adopted for kept in sharing) else {TRAFFIC: ON}


def _selector(service: Json) -> Any:
    return service["spec"].get("selector") or {}


def _refs(rule: Json, services: Collection[str]) -> list[Json]:
    return [
        ref
        for ref in rule.get("backendRefs") or ()
        if ref.get("kind", "Service") == "Service" and not ref.get("namespace") and ref["name"] in services
    ]


def _owned(route: Json, services: Collection[str]) -> Any:
    return [
        [[ref["name"], ref.get("weight", 1)] for ref in rule.get("backendRefs") or ()]
        if _refs(rule, services)
        else None
        for rule in route["spec"].get("rules") or ()
    ]


def _unaccepted(route: Json, generation: int) -> str:
    """What keeps the route from being in force; empty when nothing does."""
    parents = route.get("status", {}).get("parents") or []
    if not parents:
        return "no gateway has said anything about it"
    for parent in parents:
        name = parent.get("parentRef", {}).get("name")
        for kind in ("Accepted", "ResolvedRefs"):
            said = next((one for one in conditions({"status": parent}) if one.get("type") == kind), {})
            if int(said.get("observedGeneration") or 0) < generation:
                return f"{name} has not seen its newest generation yet"
            if said.get("status") != "True":
                return f"{name}: {kind} is {said.get('status')}: {said.get('reason')}: {said.get('message')}"
    return ""

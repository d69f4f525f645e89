"""The Compose platform: a service of a user's Compose file, on any Docker host, behind a router of its own.

The verbs are those of every platform that Traefik serves. What is particular to this one is the beginning: a stack that
runs already is adopted as the stable revision.
"""

import asyncio
from datetime import UTC, datetime
from typing import NamedTuple

import httpx
from docker.models.containers import Container

from activities.platforms.compose import adoption, handover, preflight
from activities.platforms.compose.engine import Engines
from activities.platforms.compose.ingress import ComposeIngress
from activities.platforms.compose.instances import ComposeInstances, is_running, why_not_running
from activities.platforms.compose.project import read_project
from activities.platforms.compose.revision_files import ComposeFiles
from activities.platforms.compose.startup import ComposeStarting
from activities.platforms.compose.state import ComposeStore
from activities.platforms.compose.transport import Transports
from activities.platforms.traefik.platform import ROUTER_STARTS_WITHIN, TraefikPlatform, serve
from activities.platforms.traefik.state import RevisionRecord, TargetState
from home.paths import Home
from models.checks import Examination, PreflightCheck
from models.errors import PreconditionError, UnavailableError
from models.platforms import ComposePlatformSpec, of_kind
from models.platforms import Platform as PlatformModel
from models.release import (
    Capabilities,
    Inspection,
    InspectOrder,
    InstanceReport,
    Order,
    RestoreOrder,
    Revision,
    Snapshot,
    Split,
    StageOrder,
)


class _Before(NamedTuple):
    """What serves users at the target's address and is not ours yet."""

    revision: Revision
    containers: list[Container]
    port: int


class ComposePlatform(TraefikPlatform[ComposeStore]):
    """All targets of all Docker hosts of a worker."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._engines = Engines()
        self._reaches = Transports()
        super().__init__(
            ComposeInstances(self._reaches), ComposeStarting(self._reaches), ComposeFiles(), ComposeIngress()
        )

    async def aclose(self) -> None:
        """Close the connections to Docker, to instances and routers; nothing that runs is touched."""
        await super().aclose()
        await self._reaches.aclose()
        self._engines.close()

    async def capabilities(self, platform: PlatformModel) -> Capabilities:
        host = of_kind(platform, ComposePlatformSpec).host or ""
        near = not host.startswith(("ssh://", "tcp://"))
        notes = () if near else ("smoke tests run after the switch: the new containers cannot be asked from here",)
        return Capabilities(exact_weights=True, preview=near, in_place_roll=True, notes=notes)

    async def examine(self, check: PreflightCheck) -> Examination:
        spec = check.spec
        try:
            store = await self._store(spec.service, spec.target, spec.platform)
            return await preflight.examine(store, check)
        except (PreconditionError, UnavailableError) as error:
            return preflight.unreachable(error)

    async def snapshot(self, order: Order) -> Snapshot:
        snapshot = await super().snapshot(order)
        if snapshot.stable is not None:
            return snapshot
        before = await self._before(await self.store_of(order), order)
        if before is None:
            return snapshot
        count, weights = len(before.containers), {before.revision.id: 100}
        return snapshot.model_copy(update={"stable": before.revision, "instances": count, "weights": weights})

    async def arrive(self, store: ComposeStore, order: StageOrder) -> tuple[str, ...]:
        """A stack that served before is adopted once the first candidate is ready, and never before that."""
        state = await asyncio.to_thread(store.read)
        before = await self._before(store, order) if state.stable is None and state.adopted is None else None
        if before is not None:
            template = adoption.template_of(before.containers, before.port)
            await asyncio.to_thread(handover.note, store, order.fence, before.revision, before.containers, template)
            state = await asyncio.to_thread(store.read)
        adopted = state.adopted
        if adopted is None or adopted.revision == order.revision.id:
            return ()
        if adopted.gap is None:
            count = len(adopted.containers)
            await self._starting.bring_up(store, order.fence, adopted.revision, count, order.deadline)
            state, _ = await self.change(store, order, _let_adopted_serve)
            await self.confirm(store, state, ROUTER_STARTS_WITHIN)
            template = await asyncio.to_thread(store.template, order.revision.id)
            platform = of_kind(order.revision.platform, ComposePlatformSpec)
            await handover.hand_over(store, order.fence, platform, template)
            adopted = (await asyncio.to_thread(store.read)).adopted or adopted
        if state.stable != adopted.revision:
            return ()
        listen = order.revision.platform.address
        return (f"{listen} was handed over to the router: connections were refused for {adopted.gap:.2f} s",)

    async def restore(self, order: RestoreOrder) -> Split:
        store, stable = await self.store_of(order), order.snapshot.stable
        state, _ = await self.change(store, order, lambda _: None)
        if stable is None or (state.adopted is not None and state.adopted.gap is not None):
            return await super().restore(order)
        before = await self._before(store, order)
        if before is None or before.revision.id != stable.id:
            return await super().restore(order)
        # What served before still has the address: nothing was ever taken from it.
        _, copies = await self.change(store, order, _let_go_of_adopted)
        if copies is not None:
            await asyncio.to_thread(self._instances.stop, store, copies, copies.instances)
            await asyncio.to_thread(self._files.remove, store, stable.id)
        return Split(weights={stable.id: 100}, counters={}, seen=datetime.now(UTC))

    async def inspect(self, order: InspectOrder) -> Inspection:
        store = await self.store_of(order)
        if order.revision.id not in (await asyncio.to_thread(store.read)).revisions:
            before = await self._before(store, order)
            if before is not None and before.revision.id == order.revision.id:
                reports = tuple(_as_it_runs(each) for each in before.containers)
                return Inspection(revision=order.revision.id, expected=order.instances, instances=reports)
        return await super().inspect(order)

    async def store_of(self, order: Order, *, fresh: bool = True) -> ComposeStore:
        store = await self._store(order.service, order.target, order.platform)
        if fresh:
            await asyncio.to_thread(store.synchronise)
        return store

    def clients_of(self, store: ComposeStore) -> tuple[httpx.AsyncClient, httpx.Client]:
        reach = self._reaches.of(store)
        return reach.client, reach.metrics

    def patience(self, store: ComposeStore) -> float:
        # A change goes through Docker; elsewhere, a question is a process on another machine as well.
        return 3.0 if self._reaches.of(store).near else 4.0

    async def _store(self, service: str, target: str, platform: PlatformModel) -> ComposeStore:
        def make() -> ComposeStore:
            engine = self._engines.of(of_kind(platform, ComposePlatformSpec))
            return ComposeStore(self._home, engine, service, target)

        return await asyncio.to_thread(make)

    async def _before(self, store: ComposeStore, order: Order) -> _Before | None:
        return await asyncio.to_thread(_find_before, store, order)


def _find_before(store: ComposeStore, order: Order) -> _Before | None:
    platform = of_kind(order.platform, ComposePlatformSpec)
    if not adoption.serves_there(store.engine, platform):
        return None
    variables = {"VERSION": "", "SERVICE": order.service, "TARGET": order.target, "REVISION": ""}
    try:
        project = read_project(store.engine, platform, variables)
        port = project.port
    except PreconditionError:
        # Whoever examines the platform is told so.
        return None
    found = adoption.find(store.engine, platform, project.name)
    return _Before(adoption.revision_of(order.service, platform, found), found, port) if found else None


def _let_adopted_serve(state: TargetState) -> None:
    if state.adopted is not None:
        serve(state.kept(state.adopted.revision))
        handover.become_stable(state)


def _let_go_of_adopted(state: TargetState) -> RevisionRecord | None:
    """Gives its copies, which are to be ended."""
    if state.adopted is None:
        return None
    copies = state.revisions.pop(state.adopted.revision, None)
    state.weights.pop(state.adopted.revision, None)
    state.stable, state.adopted = None, None
    return copies


def _as_it_runs(container: Container) -> InstanceReport:
    running = is_running(container)
    return InstanceReport(
        name=str(container.name),
        address="",
        running=running,
        healthy=running and adoption.is_well(container),
        detail="" if running else why_not_running(container),
    )

"""An instance is a container with a number and an address of its own: how it is, how it is made, how it ends."""

import asyncio
import itertools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docker.errors
from docker.models.containers import Container

from activities.heartbeat import shorten
from activities.platforms.compose.cli import wait_for_last
from activities.platforms.compose.engine import LABEL
from activities.platforms.compose.network import TargetNetwork
from activities.platforms.compose.state import INSTANCE, ComposeStore
from activities.platforms.compose.transport import Transport, Transports
from activities.platforms.printed import LARGEST_PIECE, read_timed, seconds
from activities.platforms.probes import ask_health, ask_unfit, ask_version, first_good
from activities.platforms.traefik.state import Instance, RevisionRecord, TargetState
from models.errors import UnavailableError
from models.release import InstanceReport, Printed, Revision

UNHEALTHY = "its own health check says unhealthy"


class ComposeInstances:
    """The containers of the revisions of all targets: see `activities.platforms.traefik.interfaces`."""

    def __init__(self, reaches: Transports) -> None:
        self._reaches = reaches

    async def report(
        self,
        store: ComposeStore,
        kept: RevisionRecord,
        expected: int = 0,
        with_version: bool = False,
        before_users: bool = False,
    ) -> tuple[InstanceReport, ...]:
        found, reach = await asyncio.to_thread(self._look, store, kept.revision.id)
        living = kept.living()
        reports = await asyncio.gather(
            *(self._report(store, reach, kept, one, found, with_version, before_users) for one in living)
        )
        taken = {instance.number for instance in living}
        absent = [number for number in range(1, expected + 1) if number not in taken][: max(0, expected - len(living))]
        return (*reports, *(_absent(self.name(store, kept.revision.id, number)) for number in absent))

    async def healthy(self, store: ComposeStore, kept: RevisionRecord, among: list[Instance]) -> list[Instance]:
        found, reach = await asyncio.to_thread(self._look, store, kept.revision.id)
        said = await asyncio.gather(*(_wrong(reach, kept, one, found.get(one.number)) for one in among))
        return [instance for instance, wrong in zip(among, said, strict=True) if not wrong]

    async def any_healthy(self, store: ComposeStore, kept: RevisionRecord, among: list[Instance]) -> bool:
        found, reach = await asyncio.to_thread(self._look, store, kept.revision.id)
        return await first_good(_wrong(reach, kept, one, found.get(one.number)) for one in among)

    def preview(self, store: ComposeStore, kept: RevisionRecord) -> tuple[str, ...]:
        return tuple(instance.url for instance in kept.living()) if self._reaches.of(store).near else ()

    def logs(
        self, store: ComposeStore, kept: RevisionRecord, lines: int, since: Mapping[str, str]
    ) -> tuple[Printed, ...]:
        return tuple(_printed(store, each, lines, since) for each in numbered(store, kept.revision.id).values())

    def name(self, store: ComposeStore, revision: str, number: int) -> str:
        return f"{project_name(store, revision)}-{number}"

    def stop(self, store: ComposeStore, kept: RevisionRecord, instances: list[Instance]) -> None:
        wait_for_last(store.command_lock)
        going, seconds = {one.number for one in instances}, kept.revision.platform.stop.total_seconds()
        found = [each for number, each in numbered(store, kept.revision.id).items() if number in going]
        with ThreadPoolExecutor(max_workers=max(1, len(found))) as pool:
            for ended in [pool.submit(_end, store, container, seconds) for container in found]:
                ended.result()

    def _look(self, store: ComposeStore, revision: str) -> tuple[dict[int, Container], Transport]:
        return numbered(store, revision), self._reaches.of(store)

    async def _report(
        self,
        store: ComposeStore,
        reach: Transport,
        kept: RevisionRecord,
        instance: Instance,
        found: dict[int, Container],
        with_version: bool,
        before_users: bool,
    ) -> InstanceReport:
        name, container = self.name(store, kept.revision.id, instance.number), found.get(instance.number)
        restarts = restarts_of(container) if container else 0
        if container is None or not is_running(container):
            why = why_not_running(container)
            return InstanceReport(
                name=name, address=instance.url, running=False, healthy=False, restarts=restarts, detail=shorten(why)
            )
        wrong = await _wrong(reach, kept, instance, container)
        asked = with_version and not wrong
        version, unknown = await ask_version(reach.client, instance.url, kept.revision) if asked else (None, "")
        unfit = await ask_unfit(reach.client, instance.url, kept.revision) if before_users and not wrong else {}
        return InstanceReport(
            name=name,
            address=instance.url,
            running=True,
            healthy=not wrong,
            version=version,
            restarts=restarts,
            detail=shorten("; ".join(part for part in (wrong, unknown) if part)),
            unfit={endpoint: shorten(said) for endpoint, said in unfit.items()},
        )


def _printed(store: ComposeStore, container: Container, lines: int, since: Mapping[str, str]) -> Printed:
    name = str(container.name)
    cursor = since.get(name, "")
    # Without `follow` and `stream` it is one answer.
    wanted: dict[str, Any] = {"since": seconds(cursor)} if cursor else {"tail": lines}
    with store.engine.asking():
        try:
            said = container.logs(timestamps=True, **wanted)
        except docker.errors.NotFound:
            said = b""  # it has just been removed
    return read_timed(name, said[-LARGEST_PIECE:].decode(errors="replace"), cursor)


def project_name(store: ComposeStore, revision: str) -> str:
    """The Compose project that a revision is; also what the names of its containers begin with."""
    slug = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "-" for letter in revision)
    return f"{store.service}-{store.target}-{slug.lower()}"


def labels(store: ComposeStore, revision: Revision, instance: Instance) -> dict[str, str]:
    """What an instance's container is labelled with."""
    return {
        **store.labels,
        f"{LABEL}.role": INSTANCE,
        f"{LABEL}.revision": revision.id,
        f"{LABEL}.number": str(instance.number),
        f"{LABEL}.describes": revision.model_dump_json().replace("$", "$$"),
    }


def numbered(store: ComposeStore, revision: str) -> dict[int, Container]:
    """The containers of a revision, by their numbers."""
    return {int(each.labels[f"{LABEL}.number"]): each for each in store.containers(INSTANCE, revision=revision)}


def is_running(container: Container) -> bool:
    """Whether its process runs; one that waits to be started again does not."""
    state: dict[str, Any] = container.attrs["State"]
    return bool(state.get("Running")) and not state.get("Restarting")


def restarts_of(container: Container) -> int:
    """How often Docker has started it again."""
    return int(container.attrs.get("RestartCount") or 0)


def why_not_running(container: Container | None) -> str:
    """Why it does not, in a few words."""
    if container is None:
        return "it was never started"
    state: dict[str, Any] = container.attrs["State"]
    if state.get("Error"):
        return f"{container.attrs.get('Path')} cannot be started: {state['Error']}"
    if state.get("OOMKilled"):
        return "it took more memory than it may have, and was killed"
    return f"it ended with exit code {state.get('ExitCode')}"


def check_says(container: Container) -> str | None:
    """What the container's own health check says: starting, healthy or unhealthy; None where it has none."""
    health: dict[str, Any] | None = container.attrs["State"].get("Health")
    said = str(health.get("Status")) if health else "none"
    return None if said == "none" else said


def add_instances(
    kept: RevisionRecord, count: int, port: int, target_network: TargetNetwork, state: TargetState
) -> None:
    """Note instances that are to be started, with an address each, until there are `count`."""
    taken = {one.host for each in state.revisions.values() for one in each.instances}
    while len(kept.instances) < count:
        numbers = {one.number for one in kept.instances}
        number = next(number for number in itertools.count(1) if number not in numbers)
        host = target_network.instance_address(taken)
        taken.add(host)
        kept.instances.append(Instance(number=number, port=port, host=host))


async def _wrong(reach: Transport, kept: RevisionRecord, instance: Instance, container: Container | None) -> str:
    """What is wrong with it; empty when nothing is."""
    if container is None or not is_running(container):
        return why_not_running(container)
    if check_says(container) == "unhealthy":
        return f"{UNHEALTHY}{_last_check(container)}"
    return await ask_health(reach.client, instance.url, kept.revision, reach.connects)


def _last_check(container: Container) -> str:
    log: list[dict[str, Any]] = container.attrs["State"]["Health"].get("Log") or []
    said = str(log[-1].get("Output") or "").strip() if log else ""
    return f": {shorten(said, 200)}" if said else ""


def _end(store: ComposeStore, container: Container, seconds: float) -> None:
    try:
        with store.engine.asking():
            try:
                container.stop(timeout=max(0, round(seconds)))
                # Its anonymous volumes stay: no volume is ever removed.
                container.remove(force=True)
            except docker.errors.NotFound:
                return
    except UnavailableError:
        still = store.engine.container(str(container.id))
        if still is not None:
            raise


def _absent(name: str) -> InstanceReport:
    return InstanceReport(name=name, address="", running=False, healthy=False, detail="there is no such instance")

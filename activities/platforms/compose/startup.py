"""A started container is not an instance yet: it is one when it answers for itself.

This starts what is missing of a revision, as a Compose project of its own, and waits for it. It ends waiting early for
what can only get worse: a container that ends again and again. One that is unhealthy may still become healthy.
"""

import asyncio
import json
from datetime import UTC, datetime
from functools import partial
from typing import Any

import docker.errors
from docker.models.containers import Container

from activities.heartbeat import last_lines, shorten
from activities.platforms.compose import adoption, revision_files
from activities.platforms.compose.cli import STARTS_WITHIN, CommandFailedError, compose, wait_for_last
from activities.platforms.compose.engine import LABEL
from activities.platforms.compose.instances import (
    add_instances,
    check_says,
    is_running,
    labels,
    numbered,
    project_name,
    restarts_of,
    why_not_running,
)
from activities.platforms.compose.network import TargetNetwork
from activities.platforms.compose.network import find as find_network
from activities.platforms.compose.project import Template
from activities.platforms.compose.state import ComposeStore
from activities.platforms.compose.transport import Transport, Transports
from activities.platforms.probes import Unready, ask_health, ask_ready, explain
from activities.platforms.traefik.state import Instance, RevisionRecord
from models.errors import NotReadyError, PreconditionError, UnavailableError
from models.identity import of_instance
from models.release import Fence, Revision

# The third start without one healthy answer: the fourth would be no different.
HOPELESS_STARTS = 3
LOOK_EVERY = 0.2
_LINES = 40
LONGEST_LOG = 1200


class ComposeStarting:
    """Brings up containers of all targets: see `activities.platforms.traefik.interfaces`."""

    def __init__(self, reaches: Transports) -> None:
        self._reaches = reaches

    async def bring_up(self, store: ComposeStore, fence: Fence, revision: str, count: int, deadline: datetime) -> None:
        refused = await asyncio.to_thread(self._start_missing, store, fence, revision, count)
        reach = await asyncio.to_thread(self._reaches.of, store)
        ready: set[int] = set()
        unready_yet = Unready()
        # What happened to one that serves for weeks says nothing about now.
        before: dict[int, int] = {}
        while True:
            kept = (await asyncio.to_thread(store.read)).kept(revision)
            found = await asyncio.to_thread(numbered, store, revision)
            before = {number: before.get(number, restarts_of(each)) for number, each in found.items()}
            waiting = [one for one in kept.living() if one.number not in ready]
            details = await asyncio.gather(*(_unready(reach, kept, one, found.get(one.number)) for one in waiting))
            wrong = {one.number: detail for one, detail in zip(waiting, details, strict=True) if detail}
            ready |= {one.number for one in waiting} - wrong.keys()
            if not wrong:
                return
            for number, detail in wrong.items():
                name, container = f"{project_name(store, revision)}-{number}", found.get(number)
                if container is not None:
                    starts = 1 + restarts_of(container) - before[number]
                    await asyncio.to_thread(_give_up_if_hopeless, store, name, container, starts, detail)
                elif refused:
                    raise NotReadyError(f"{name} cannot be started: {shorten(refused, LONGEST_LOG)}")
                if datetime.now(UTC) >= deadline:
                    said = f"{name} is not ready in time: {detail}"
                    raise await asyncio.to_thread(_told, container, said, store)
            await unready_yet.tell(
                {
                    f"{project_name(store, revision)}-{one.number}": partial(
                        _explain, reach, kept, one, found.get(one.number), wrong[one.number]
                    )
                    for one in waiting
                    if one.number in wrong
                }
            )
            # Somebody newer may have taken over meanwhile, and removed what is waited for.
            await asyncio.to_thread(_pass, store, fence)
            await asyncio.sleep(LOOK_EVERY)

    def _start_missing(self, store: ComposeStore, fence: Fence, revision: str, count: int) -> str:
        """Gives what Docker said of a start that it refused; empty when it refused none."""
        template = store.template(revision)
        with store.programs(fence):
            wait_for_last(store.command_lock)
            target_network = find_network(store)
            if target_network is None:
                raise PreconditionError(
                    f"{store.service}/{store.target} has no network: its front proxies were not opened"
                )
            with store.change(fence) as target:
                instances = target.kept(revision).instances
                ended = [instance.number for instance in instances if instance.stopping]
                serving = [instance.number for instance in instances if instance.serving]
            found = numbered(store, revision)
            # What failed before starts afresh: Docker waits longer and longer with it.
            failed = [number for number, each in found.items() if number not in serving and restarts_of(each)]
            old = [each for number, each in found.items() if number in (*ended, *failed) or not is_running(each)]
            for container in old:
                with store.engine.asking():
                    container.remove(force=True)
            with store.change(fence) as target:
                kept = target.kept(revision)
                kept.instances = kept.living()
                add_instances(kept, count, template.port, target_network, target)
            running = {number for number, each in found.items() if each not in old}
            absent = [one for one in kept.instances if one.number not in running]
            if not absent:
                return ""
            if template.adopted:
                adoption.start(store, target_network, template, kept, absent)
                return ""
            return _up(store, target_network, template, kept, absent)


def _up(
    store: ComposeStore, target_network: TargetNetwork, template: Template, kept: RevisionRecord, absent: list[Instance]
) -> str:
    revision = kept.revision
    values = revision_files.environment(store, revision, template)
    # By number: the names are the user's, and some of them mean something to the docker command itself.
    variables = {f"VALUE_{number}": value for number, value in enumerate(values.values())}
    names = {name: f"${{VALUE_{number}}}" for number, name in enumerate(values)}
    project = project_name(store, revision.id)
    _see_names_free(store, project, revision, absent)
    model = {
        "name": project,
        "services": {
            _key(one): _service(store, target_network, template, revision, one, names) for one in kept.instances
        },
        "networks": {name: {"name": name, "external": True} for name in (target_network.name, *template.networks)},
        "volumes": {name: {"name": real, "external": True} for name, real in template.volumes.items()},
        **template.rest,
    }
    file = store.revision_folder(revision.id) / ".up.json"
    store.home.write(file, json.dumps(model, indent=1))
    command = ("-f", str(file), "up", "-d", "--no-recreate", "--no-build", "--pull", "never", "--no-deps")
    try:
        compose(
            store.engine,
            *command,
            *(_key(one) for one in absent),
            environment=variables,
            within=STARTS_WITHIN,
            lock=store.command_lock,
        )
    except CommandFailedError as error:
        if not store.engine.answers():
            raise UnavailableError(f"Docker at {store.engine.named} went away: {error}") from error
        return str(error)
    return ""


def _service(
    store: ComposeStore,
    target_network: TargetNetwork,
    template: Template,
    revision: Revision,
    instance: Instance,
    environment: dict[str, str],
) -> dict[str, Any]:
    networks: dict[str, Any] = {name: {} for name in template.networks}
    name = f"{project_name(store, revision.id)}-{instance.number}"
    return {
        **template.service,
        "image": template.image,
        "pull_policy": "never",
        "container_name": name,
        "environment": of_instance(environment, revision.identity, name),
        "networks": {target_network.name: {"ipv4_address": instance.host}, **networks},
        "labels": {**(template.service.get("labels") or {}), **labels(store, revision, instance)},
    }


def _key(instance: Instance) -> str:
    return f"instance-{instance.number}"


def _see_names_free(store: ComposeStore, project: str, revision: Revision, absent: list[Instance]) -> None:
    for one in absent:
        name = f"{project}-{one.number}"
        stranger = store.engine.container(name)
        if stranger is not None and stranger.labels.get(f"{LABEL}.revision") != revision.id:
            raise PreconditionError(
                f"there is a container {name} that is none of {store.service}/{store.target}: rename it"
            )


async def _unready(reach: Transport, kept: RevisionRecord, instance: Instance, container: Container | None) -> str:
    """What keeps it from taking traffic; empty when nothing does."""
    if container is None or not is_running(container):
        return f"it does not run ({why_not_running(container)})"
    revision = kept.revision
    detail = await ask_health(reach.client, instance.url, revision, reach.connects) or await ask_ready(
        reach.client, instance.url, revision
    )
    said = check_says(container)
    return detail or (f"its own health check says {said}" if said not in (None, "healthy") else "")


async def _explain(
    reach: Transport, kept: RevisionRecord, instance: Instance, container: Container | None, detail: str
) -> str:
    if container is None or not is_running(container):
        return detail
    return await explain(reach.client, instance.url, kept.revision, detail)


def _give_up_if_hopeless(store: ComposeStore, name: str, container: Container, starts: int, detail: str) -> None:
    state: dict[str, Any] = container.attrs["State"]
    if not is_running(container) and state.get("Error"):
        raise NotReadyError(f"{name}: {why_not_running(container)}")
    if starts >= HOPELESS_STARTS:
        why = f"{name} was started {starts} times and never became ready: {detail}"
        raise _told(container, why, store)
    if state.get("Status") == "exited":
        raise _told(container, f"{name} has ended: {why_not_running(container)}", store)


def _told(container: Container | None, sentence: str, store: ComposeStore) -> NotReadyError:
    if container is None:
        return NotReadyError(sentence)
    with store.engine.asking():
        try:
            log = container.logs(tail=_LINES).decode(errors="replace")
        except docker.errors.NotFound:
            log = ""
    return NotReadyError(sentence, last_lines(log))


def _pass(store: ComposeStore, fence: Fence) -> None:
    with store.change(fence):
        pass

"""An address has one owner: where something serves already, it must let go before the router can have it.

First a copy of what serves is brought up behind the router, and the router is seen to divide as it should. Only then
the old containers let go of the address, and the router takes it: users are refused for as long as Docker needs for
that, and requests that are under way at that moment are cut off. How long it was is measured and told.
"""

import asyncio
import socket
import time
from collections.abc import Callable

from docker.models.containers import Container

from activities.platforms.compose import adoption, ingress
from activities.platforms.compose.ingress import is_published
from activities.platforms.compose.project import Template
from activities.platforms.compose.state import FRONT_PROXY, ComposeStore
from activities.platforms.traefik.state import Adopted, RevisionRecord, TargetState
from models.errors import UnavailableError
from models.platforms import ComposePlatformSpec
from models.release import Fence, Revision

_OPENS_WITHIN = 10.0


def note(store: ComposeStore, fence: Fence, revision: Revision, found: list[Container], template: Template) -> None:
    """Note what is adopted before anything of it is touched."""
    store.keep(store.revision_folder(revision.id), template)
    with store.change(fence) as state:
        if revision.id not in state.revisions:
            # It was there before everything that is known.
            state.revisions = {revision.id: RevisionRecord(revision=revision), **state.revisions}
        if state.adopted is None:
            networks = {str(each.id): adoption.networks_of(each) for each in found}
            state.adopted = Adopted(revision=revision.id, containers=networks)


def become_stable(state: TargetState) -> None:
    """What is adopted serves from now on, behind a router that nobody comes to yet."""
    if state.adopted is not None:
        state.stable = state.adopted.revision
        state.weights = {state.adopted.revision: 100}


async def hand_over(store: ComposeStore, fence: Fence, platform: ComposePlatformSpec, template: Template) -> float:
    """The address becomes the router's; gives for how many seconds nobody had it.

    Raises:
        UnavailableError: the router did not get it; who had it has it again.
    """
    return await asyncio.to_thread(_hand_over, store, fence, platform, template)


def undo(store: ComposeStore, adopted: Adopted) -> None:
    """Who had the address has it again."""
    adoption.give_back(store, adopted.containers)


def _hand_over(store: ComposeStore, fence: Fence, platform: ComposePlatformSpec, template: Template) -> float:
    with store.programs(fence):
        adopted = store.read().adopted
        if adopted is None:
            return 0.0
        proxy = next(each for each in store.containers(FRONT_PROXY) if each.labels.get(_LISTEN) == platform.listen)
        running = [store.engine.container(id) for id in adopted.containers]
        old = [each for each in running if each is not None and each.status == "running"]
        began = time.monotonic()
        adoption.release_address(store, old)
        try:
            _take(store, proxy, template)
        except UnavailableError:
            undo(store, adopted)
            raise
        _wait(lambda: _accepts(store, platform.listen))
        gap = time.monotonic() - began
        with store.change(fence) as state:
            if state.adopted is not None:
                state.adopted = state.adopted.model_copy(update={"gap": round(gap, 3)})
        adoption.put_away(store, adopted.containers, platform.stop.total_seconds())
    return gap


_LISTEN = "deployment-specialist.listen"


def _take(store: ComposeStore, proxy: Container, template: Template) -> None:
    ingress.publish(store, proxy, template)
    proxy.reload()
    if not is_published(proxy):
        raise UnavailableError(f"the router {proxy.name} did not get the address")


def _accepts(store: ComposeStore, listen: str) -> bool:
    """Whether somebody accepts connections there; on another machine, Docker's word is taken for it."""
    if not store.engine.is_here():
        return True
    host, _, port = listen.rpartition(":")
    at = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))  # noqa: S104  translated
    try:
        socket.create_connection((at, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _OPENS_WITHIN
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)

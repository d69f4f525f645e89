"""Users come to one address; it must be open before the first instance and stay open until the last one is gone.

A front proxy is a container with a router. It reaches instances over the target's own network, takes the released
service's names on the networks of the Compose file, so that neighbours come through it as well, and publishes the
address. Docker publishes a container's ports when it joins a network that leads outside: a router can be warm before
that.
"""

import hashlib
import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker.errors
from docker.models.containers import Container
from docker.types import LogConfig

from activities.heartbeat import shorten
from activities.platforms.compose import adoption
from activities.platforms.compose import network as compose_network
from activities.platforms.compose.cli import inside
from activities.platforms.compose.engine import LABEL
from activities.platforms.compose.network import TargetNetwork
from activities.platforms.compose.project import Template
from activities.platforms.compose.state import FRONT_PROXY, STATE, ComposeStore
from activities.platforms.traefik.config import static_configuration
from activities.platforms.traefik.state import FrontProxyRecord, Instance, TargetState
from embedded.ingress.front_proxy import address, listen_at
from models.errors import PreconditionError, UnavailableError
from models.platforms import ComposePlatformSpec, of_kind
from models.release import Fence, Revision

_API = 9180
_OUTSIDE = "bridge"
_CLOSES_WITHIN = 12
# Meanwhile nobody has the address: requests under way get this long, and no longer.
_REPLACED_WITHIN = 2
_ESTABLISHED = "01"
_LOG = LogConfig(type=LogConfig.types.JSON, config={"max-size": "10m", "max-file": "2"})
# After a crash of its own Docker takes what was to run unless stopped for stopped.
_UP_AGAIN: Any = {"Name": "always"}


class ComposeIngress:
    """The front proxies of all targets: see `activities.platforms.traefik.interfaces`."""

    def check(self, store: ComposeStore, revision: Revision) -> None:
        platform = of_kind(revision.platform, ComposePlatformSpec)
        if platform.listen in store.read().doors:
            return
        holder = holder_of(store, platform)
        if holder:
            raise PreconditionError(
                f"users cannot be served at {platform.listen}: it belongs to {holder}. "
                "Choose another platform.listen, or stop what has it."
            )

    def open(self, store: ComposeStore, fence: Fence, revision: Revision) -> None:
        platform = of_kind(revision.platform, ComposePlatformSpec)
        template = store.template(revision.id)
        with store.programs(fence):
            proxy = store.read().doors.get(platform.listen)
            if proxy is None:
                self.check(store, revision)
            container = self._container(store, proxy)
            name = platform.proxy.name or f"{store.service}-{store.target}-proxy"
            target_network = compose_network.ensure(store, name)
            if container is not None and is_outdated(container, platform):
                # A router reads its settings when it starts, and Docker gives the address to one container only.
                with store.engine.asking():
                    container.stop(timeout=_REPLACED_WITHIN)
                    container.remove(force=True)
                container = None
            if proxy is None or container is None:
                self._remove_orphans(store)
                before, (container, proxy) = proxy, self._create(store, target_network, platform, template, name)
                with store.change(fence) as state:
                    state.doors[platform.listen] = proxy
                if before == proxy:
                    # Nothing has changed but the container, which has no routes yet.
                    store.publish_again()
            if container.status != "running":
                with store.engine.asking():
                    container.start()
            if not _somebody_elses(store, platform):
                publish(store, container, template)

    def close(self, store: ComposeStore, fence: Fence, keep: set[str]) -> list[str]:
        closed = [proxy for listen, proxy in store.read().doors.items() if listen not in keep]
        for proxy in closed:
            container = self._container(store, proxy)
            if container is not None:
                with store.engine.asking():
                    # Its last users get their answers.
                    container.stop(timeout=_CLOSES_WITHIN)
                    container.remove(force=True)
            with store.change(fence) as state:
                state.doors.pop(proxy.listen, None)
        return [proxy.listen for proxy in closed]

    def teardown(self, store: ComposeStore) -> None:
        for container in store.containers(FRONT_PROXY):
            with store.engine.asking():
                container.remove(force=True)
        compose_network.remove(store)
        labels = [f"{name}={value}" for name, value in store.labels.items()]
        with store.engine.asking():
            for volume in store.engine.docker.volumes.list(filters={"label": labels}):
                volume.remove()

    def connections(self, store: ComposeStore, state: TargetState, instances: list[Instance]) -> int:
        wanted = {(instance.host, instance.port) for instance in instances}
        found = 0
        for container in store.containers(FRONT_PROXY):
            try:
                code, table, _ = inside(store.engine, container, "cat", "/proc/net/tcp")
                # The kernel writes a heading at least: an empty table is no sign that nobody is connected.
                if code or not table:
                    raise UnavailableError(f"the connections of the router {container.name} cannot be read")
            except UnavailableError:
                # One that does not run has no connections.
                container.reload()
                if container.status == "running":
                    raise
                continue
            found += sum(peer in wanted for peer in _peers(table))
        return found

    def why_silent(self, store: ComposeStore, state: TargetState) -> str:
        told = []
        for container in store.containers(FRONT_PROXY):
            if container.status != "running":
                error = container.attrs["State"].get("Error")
                told.append(f"{container.name} does not run: {container.status}{f', {error}' if error else ''}")
        return shorten("; ".join(told), 500)

    def _container(self, store: ComposeStore, proxy: FrontProxyRecord | None) -> Container | None:
        if proxy is None:
            return None
        return next((each for each in store.containers(FRONT_PROXY) if each.name == proxy.program), None)

    def _remove_orphans(self, store: ComposeStore) -> None:
        """Who made them died before anybody was told."""
        known = {proxy.program for proxy in store.read().doors.values()}
        for container in store.containers(FRONT_PROXY):
            if container.name not in known:
                with store.engine.asking():
                    container.remove(force=True)

    def _create(
        self,
        store: ComposeStore,
        target_network: TargetNetwork,
        platform: ComposePlatformSpec,
        template: Template,
        name: str,
    ) -> tuple[Container, FrontProxyRecord]:
        there = store.containers(FRONT_PROXY)
        names = {each.name for each in there}
        own = next(each for each in (name, f"{name}-2", f"{name}-3") if each not in names)
        taken = [
            about["IPAMConfig"]["IPv4Address"]
            for each in there
            for network, about in each.attrs["NetworkSettings"]["Networks"].items()
            if network == target_network.name and about.get("IPAMConfig")
        ]
        host = target_network.router_address(taken)
        api = _API if template.port != _API else _API + 1
        proxy = FrontProxyRecord(listen=platform.listen, program=own, api_port=api, api_host=host)
        _ensure_image(store, platform.proxy.image)
        volume = _volume(store, name)
        container = _make(store, target_network, platform, template, proxy, volume)
        file = f"{own}.yml"
        routes = Path(STATE, store.routes.name)
        static = static_configuration(f":{template.port}", f"{host}:{api}", routes, platform.trusts)
        try:
            store.put(container, {file: static})
        except BaseException:  # whatever it was goes on; a router without its configuration must not be found later
            container.remove(force=True)
            raise
        return container, proxy


def is_outdated(container: Container, platform: ComposePlatformSpec) -> bool:
    """Whether a router was made with other settings than it would be made with now."""
    return bool(container.labels.get(f"{LABEL}.settings") != _settings(platform))


def _settings(platform: ComposePlatformSpec) -> str:
    text = static_configuration("", "", Path(STATE), platform.trusts)
    return hashlib.sha256(text.encode()).hexdigest()


def publish(store: ComposeStore, container: Container, template: Template) -> None:
    """The front proxy is on all networks of the service, under its names; with the first one it publishes the address.

    Raises:
        UnavailableError: Docker could not give it the address.
    """
    container.reload()
    there = set(container.attrs["NetworkSettings"]["Networks"])
    for network in template.networks:
        if network not in there:
            _join(store, container, network, template.names)
    container.reload()
    if not is_published(container):
        # None of them leads outside.
        with store.engine.asking():
            store.engine.docker.networks.get(_OUTSIDE).connect(container)


def is_published(container: Container) -> bool:
    """Whether users who come to the address come to this front proxy."""
    ports: dict[str, list[Any] | None] = container.attrs["NetworkSettings"].get("Ports") or {}
    return any(ports.values())


def holder_of(store: ComposeStore, platform: ComposePlatformSpec) -> str:
    """Who has the address that the target wants, in words; empty when it is free, or will be handed over."""
    listen = platform.listen
    with store.engine.asking():
        running = store.engine.docker.containers.list(ignore_removed=True)
    for container in running:
        if not adoption.publishes(container, listen):
            continue
        labels = container.labels
        if f"{LABEL}.service" in labels:
            other = (labels[f"{LABEL}.service"], labels[f"{LABEL}.target"])
            return "" if other == (store.service, store.target) else f"{'/'.join(other)}, which is deployed here"
        if labels.get("com.docker.compose.service") == platform.service:
            return ""
        return f"the container {container.name}"
    if store.engine.is_here():
        try:
            listen_at(address(listen)).close()
        except OSError as error:
            return f"another program, or the address is not one of this machine ({error.strerror})"
    return ""


def _somebody_elses(store: ComposeStore, platform: ComposePlatformSpec) -> bool:
    """Whether the address is still that of containers that are to be adopted."""
    with store.engine.asking():
        running = store.engine.docker.containers.list(ignore_removed=True)
    return any(adoption.publishes(each, platform.listen) for each in running if f"{LABEL}.role" not in each.labels)


def _make(
    store: ComposeStore,
    target_network: TargetNetwork,
    platform: ComposePlatformSpec,
    template: Template,
    proxy: FrontProxyRecord,
    volume: str,
) -> Container:
    host, _, port = platform.listen.rpartition(":")
    at = "127.0.0.1" if host == "localhost" else host.strip("[]")
    labels = {
        **store.labels,
        f"{LABEL}.role": FRONT_PROXY,
        f"{LABEL}.listen": platform.listen,
        f"{LABEL}.settings": _settings(platform),
        "com.docker.compose.project": proxy.program,
        "com.docker.compose.service": "proxy",
        "com.docker.compose.container-number": "1",
        "com.docker.compose.oneoff": "False",
    }
    endpoint = store.engine.docker.api.create_endpoint_config(ipv4_address=proxy.api_host)
    with store.engine.asking():
        stranger = store.engine.container(proxy.program)
        if stranger is not None:
            raise PreconditionError(
                f"there is a container {proxy.program} that is none of ours: set platform.proxy.name"
            )
        return store.engine.docker.containers.create(
            platform.proxy.image,
            [f"--configFile={STATE}/{proxy.program}.yml"],
            name=proxy.program,
            labels=labels,
            network=target_network.name,
            networking_config={target_network.name: endpoint},
            ports={f"{template.port}/tcp": (at, int(port))},
            volumes={volume: {"bind": STATE, "mode": "rw"}},
            restart_policy=_UP_AGAIN,
            cap_drop=["ALL"],
            cap_add=["NET_BIND_SERVICE"],
            security_opt=["no-new-privileges"],
            read_only=True,
            log_config=_LOG,
        )


def _join(store: ComposeStore, container: Container, network: str, names: list[str]) -> None:
    try:
        with store.engine.asking():
            store.engine.docker.networks.get(network).connect(container, aliases=names)
    except UnavailableError as error:
        raise UnavailableError(f"the router {container.name} does not get its address: {error}") from error


def _ensure_image(store: ComposeStore, image: str) -> None:
    with store.engine.asking():
        try:
            store.engine.docker.images.get(image)
        except docker.errors.ImageNotFound:
            try:
                store.engine.docker.images.pull(image)
            except docker.errors.ImageNotFound as error:
                raise PreconditionError(
                    f"the router's image {image} is not there, and cannot be pulled: {error}"
                ) from error


def _volume(store: ComposeStore, name: str) -> str:
    labels = [f"{key}={value}" for key, value in store.labels.items()]
    with store.engine.asking():
        found = store.engine.docker.volumes.list(filters={"label": labels})
        if found:
            return str(found[0].name)
        return str(store.engine.docker.volumes.create(name, labels={**store.labels, f"{LABEL}.role": "state"}).name)


def _peers(table: bytes) -> Iterator[tuple[str, int]]:
    """The other ends of the established connections in a table of the kernel."""
    for line in table.decode(errors="replace").splitlines()[1:]:
        words = line.split()
        if len(words) > 3 and words[3] == _ESTABLISHED:
            host, _, port = words[2].partition(":")
            yield str(ipaddress.IPv4Address(int.from_bytes(bytes.fromhex(host), "little"))), int(port, 16)

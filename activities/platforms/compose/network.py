"""A router must never meet a stranger at an address that was an instance's a moment ago.

Each target has a network of its own, which only its instances and routers are in, each at an address that it keeps for
life. The network leads nowhere else: what a service talks to, it talks to over the networks of its Compose file.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

import docker.errors
from docker.models.networks import Network
from docker.types import IPAMConfig, IPAMPool

from activities.platforms.compose.engine import LABEL
from activities.platforms.compose.state import ComposeStore
from models.errors import PreconditionError, UnavailableError

# Below are Docker's own address and those of the routers.
_FIRST_INSTANCE = 10
_FIRST_ROUTER = 2


@dataclass(frozen=True)
class TargetNetwork:
    """A target's network."""

    name: str
    subnet: ipaddress.IPv4Network
    gateway: str

    def router_address(self, taken: Iterable[str]) -> str:
        """A free address for a router."""
        return self._free(_FIRST_ROUTER, _FIRST_INSTANCE, set(taken))

    def instance_address(self, taken: Iterable[str]) -> str:
        """A free address for an instance."""
        return self._free(_FIRST_INSTANCE, self.subnet.num_addresses - 1, set(taken))

    def _free(self, first: int, end: int, taken: set[str]) -> str:
        for offset in range(first, min(end, first + 1000)):
            address = str(self.subnet[offset])
            if address != self.gateway and address not in taken:
                return address
        raise PreconditionError(f"the network {self.name} has no free address left")


def find(store: ComposeStore) -> TargetNetwork | None:
    """The target's network; None when there is none."""
    found = _networks(store, "network")
    return _ground(found[0]) if found else None


def ensure(store: ComposeStore, name: str) -> TargetNetwork:
    """The target's network, which is there afterwards. Needs the target's programs."""
    found = find(store)
    if found is not None:
        return found
    docker_ = store.engine.docker
    with store.engine.asking():
        for left in _networks(store, "trial"):
            left.remove()
        # Docker knows which addresses are free; an instance keeps its own only where they were asked for by name.
        labels = {**store.labels, f"{LABEL}.role": "trial"}
        trial = docker_.networks.create(f"{name}-trial", driver="bridge", internal=True, labels=labels)
        trial.reload()
        subnet = trial.attrs["IPAM"]["Config"][0]["Subnet"]
        trial.remove()
        pool = IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)])
        labels = {**store.labels, f"{LABEL}.role": "network"}
        docker_.networks.create(name, driver="bridge", internal=True, ipam=pool, labels=labels)
    made = find(store)
    if made is None:
        raise UnavailableError(f"the network {name} was made and is not there")
    return made


def remove(store: ComposeStore) -> None:
    """Nothing of the target is left that needs it."""
    for network in _networks(store):
        with store.engine.asking():
            try:
                network.remove()
            except docker.errors.NotFound:
                continue


def _networks(store: ComposeStore, role: str = "") -> list[Network]:
    labels = [f"{name}={value}" for name, value in store.labels.items()]
    labels += [f"{LABEL}.role={role}"] if role else []
    with store.engine.asking():
        return list(store.engine.docker.networks.list(filters={"label": labels}))


def _ground(network: Network) -> TargetNetwork:
    config = network.attrs["IPAM"]["Config"][0]
    subnet = ipaddress.IPv4Network(config["Subnet"])
    return TargetNetwork(str(network.name), subnet, str(config.get("Gateway") or subnet[1]))

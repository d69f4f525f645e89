"""A Docker daemon of the tests must not meet anybody else's: it gets a bridge and a range of addresses of its own.

The rules of the machine's packet filter stay as they are: published ports work through Docker's own small proxies.
"""

import ipaddress
import json
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from tests.servers.cache import Missing, locked, run

_SECONDS = 20
# 10.128.0.0/16 to 10.191.0.0/16: neither Kubernetes' nor Docker's defaults.
_RANGES = range(128, 192)


def take_range(name: str) -> ipaddress.IPv4Network:
    """Makes a bridge of this name with the first addresses of a free 10.N.0.0/16, and gives that range.

    Raises:
        Missing: all ranges are taken.
    """
    with locked("docker-bridges"):
        taken = [address for _, address in _addresses()]
        numbers = list(_RANGES)
        random.shuffle(numbers)
        for number in numbers:
            wanted = ipaddress.ip_network(f"10.{number}.0.0/16")
            if not any(address in wanted for address in taken):
                run(["ip", "link", "add", name, "type", "bridge"], timeout=_SECONDS)
                run(["ip", "address", "add", f"{wanted[1]}/24", "dev", name], timeout=_SECONDS)
                run(["ip", "link", "set", name, "up"], timeout=_SECONDS)
                return ipaddress.IPv4Network(wanted)
    raise Missing("no range of addresses is free for a Docker daemon of the tests")


def give_back(addresses: ipaddress.IPv4Network) -> None:
    """Removes every bridge with an address in this range."""
    for name in {name for name, address in _addresses() if address in addresses}:
        # A daemon that ended a moment ago may still be removing its own.
        with suppress(RuntimeError):
            run(["ip", "link", "delete", name], timeout=_SECONDS)


def _addresses() -> Iterator[tuple[str, ipaddress.IPv4Address]]:
    said: list[dict[str, Any]] = json.loads(run(["ip", "-json", "-4", "address"], timeout=_SECONDS))
    for interface in said:
        for each in interface.get("addr_info", ()):
            yield interface["ifname"], ipaddress.IPv4Address(each["local"])

"""A Docker daemon of the tests must not meet anybody else's: it gets a bridge and a range of addresses of its own.

The rules of the machine's packet filter stay as they are: published ports work through Docker's own small proxies.
"""

import ipaddress
import json
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.servers.cache import NotInstalledError, locked, run

_SECONDS = 20
# 10.128.0.0/16 to 10.191.0.0/16: neither Kubernetes' nor Docker's defaults.
_RANGES = range(128, 192)


def take_range(name: str, *, apart: bool = False) -> ipaddress.IPv4Network:
    """Makes a bridge of this name with the first addresses of a free 10.N.0.0/16, and gives that range.

    Args:
        name: of the bridge.
        apart: in a network namespace of the same name, like another machine. This one reaches it over a cable, at the
            address `far_end`; what is behind that, it does not reach.

    Raises:
        NotInstalledError: all ranges are taken.
    """
    with locked("docker-bridges"):
        taken = [address for _, address in _addresses()]
        numbers = list(_RANGES)
        random.shuffle(numbers)
        for number in numbers:
            wanted = ipaddress.IPv4Network(f"10.{number}.0.0/16")
            if not any(address in wanted for address in taken):
                there = ["ip", "-n", name] if apart else ["ip"]
                if apart:
                    _lay_cable(name, wanted)
                run([*there, "link", "add", name, "type", "bridge"], timeout=_SECONDS)
                run([*there, "address", "add", f"{wanted[1]}/24", "dev", name], timeout=_SECONDS)
                run([*there, "link", "set", name, "up"], timeout=_SECONDS)
                return wanted
    raise NotInstalledError("no range of addresses is free for a Docker daemon of the tests")


def far_end(addresses: ipaddress.IPv4Network) -> str:
    """Where another machine with this range is reached."""
    return str(addresses[-2])


def _lay_cable(name: str, addresses: ipaddress.IPv4Network) -> None:
    near, far = f"{name[:12]}-n", f"{name[:12]}-f"
    run(["ip", "netns", "add", name], timeout=_SECONDS)
    run(["ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", name], timeout=_SECONDS)
    run(["ip", "address", "add", f"{addresses[-3]}/30", "dev", near], timeout=_SECONDS)
    run(["ip", "link", "set", near, "up"], timeout=_SECONDS)
    run(["ip", "-n", name, "address", "add", f"{addresses[-2]}/30", "dev", far], timeout=_SECONDS)
    run(["ip", "-n", name, "link", "set", far, "up"], timeout=_SECONDS)
    run(["ip", "-n", name, "link", "set", "lo", "up"], timeout=_SECONDS)


def give_back(addresses: ipaddress.IPv4Network, name: str) -> None:
    """Removes every bridge and cable with an address in this range, and the namespace of this name."""
    if Path("/var/run/netns", name).exists():
        run(["ip", "netns", "delete", name], timeout=_SECONDS)
    for name in {name for name, address in _addresses() if address in addresses}:
        # A daemon that ended a moment ago may still be removing its own.
        with suppress(RuntimeError):
            run(["ip", "link", "delete", name], timeout=_SECONDS)


def _addresses() -> Iterator[tuple[str, ipaddress.IPv4Address]]:
    said: list[dict[str, Any]] = json.loads(run(["ip", "-json", "-4", "address"], timeout=_SECONDS))
    for interface in said:
        for each in interface.get("addr_info", ()):
            yield interface["ifname"], ipaddress.IPv4Address(each["local"])

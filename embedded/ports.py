"""Chooses ports on the loopback: below the range from which the kernel serves outgoing connections, so that no such
connection takes one between our choice and its use.
"""

import random
import socket
from collections.abc import Collection

import psutil

from models.errors import StackError

LOWEST, HIGHEST = 20000, 32000


def is_free(port: int, address: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def choose(count: int = 1, avoid: Collection[int] = ()) -> list[int]:
    """`count` different free ports from 20000 to 32000, none of `avoid`, beginning anywhere.

    Raises:
        StackError: there are not so many.
    """
    span = HIGHEST - LOWEST + 1
    start = random.randrange(span)  # noqa: S311  spreads the choices of several processes; no secret
    found: list[int] = []
    for offset in range(span):
        port = LOWEST + (start + offset) % span
        if port not in avoid and is_free(port):
            found.append(port)
            if len(found) == count:
                return found
    raise StackError(f"There are no {count} free ports between {LOWEST} and {HIGHEST}.")


def listening(pid: int) -> set[int]:
    """The TCP ports at which a process of ours listens; none when it is gone."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return set()
    return {found.laddr.port for found in connections if found.status == psutil.CONN_LISTEN}

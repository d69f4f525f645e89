"""Chooses the ports that tests listen at, so that no two processes of tests on this machine are given the same one.

They are below the range from which the product chooses its own, and below the one of the kernel's outgoing connections.
"""

import fcntl
import os
import random
import tempfile
from pathlib import Path

from embedded import ports

LOWEST, HIGHEST = 10000, 19999
_given: set[int] = set()
# Kept open: closing any descriptor of a file lets go of all locks that this process has on it.
_FILE = Path(tempfile.gettempdir(), f"deployment-specialist-test-ports-{os.getuid()}")
_taken = os.open(_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def free_port() -> int:
    """A port that nobody listens at, and that is this process's own until it ends: also while nobody listens there."""
    span = range(LOWEST, HIGHEST + 1)
    start = random.randrange(len(span))  # noqa: S311  spreads the choices; no secret
    for offset in range(len(span)):
        port = span[(start + offset) % len(span)]
        if port not in _given and _take(port) and ports.is_free(port):
            _given.add(port)
            return port
    raise AssertionError(f"there is no free port between {LOWEST} and {HIGHEST}")


def _take(port: int) -> bool:
    """Locks one byte for the port; the kernel lets go of it when this process ends, however it ends."""
    try:
        fcntl.lockf(_taken, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True

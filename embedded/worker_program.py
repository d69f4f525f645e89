"""The home's own worker, as a supervised program."""

import importlib.util
import os
import sys
import zlib
from pathlib import Path

from embedded.supervision.programs import Program
from embedded.temporal_server import NAMESPACE
from home.paths import VARIABLE, Home
from models.errors import StackError

NAME = "worker"
# Changes with the code: a worker of an older release is replaced by `up`.
BUILD = "DEPLOYMENT_SPECIALIST_BUILD"
_OURS = ("TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", VARIABLE, BUILD)
_PACKAGES = ("activities", "embedded", "home", "models", "workflows")


def script() -> Path:
    """The file of the module `worker`, in a checkout or installed.

    Raises:
        StackError: it is not there.
    """
    found = importlib.util.find_spec(NAME)
    if found is None or found.origin is None:
        raise StackError("The file worker.py was not found: this installation is not complete.")
    return Path(found.origin).resolve()


def program(home: Home, address: str, file: Path) -> Program:
    """The worker, with the caller's environment except what would lead it to another Temporal."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
    environment = {
        **kept,
        "TEMPORAL_ADDRESS": address,
        "TEMPORAL_NAMESPACE": NAMESPACE,
        # The user's own profile may name certificates and keys of another server.
        "TEMPORAL_CONFIG_FILE": os.devnull,
        VARIABLE: str(home.path),
        BUILD: _build(file),
    }
    return Program(NAME, (sys.executable, str(file)), file.parent, environment, stop_seconds=15.0)


def same(one: Program | None, other: Program) -> bool:
    """Whether a worker may stay as it is: its code and its Temporal are the same.

    The caller's environment does not count: `up` from another terminal must not take the worker from a deployment.
    """
    if one is None:
        return False
    return one.argv == other.argv and all(one.environment.get(name) == other.environment[name] for name in _OURS)


def ready_pid(home: Home) -> int | None:
    """The process of the worker that last said it polls; None when none has."""
    try:
        return int((home.path / "worker.ready").read_text())
    except (FileNotFoundError, ValueError):
        return None


def _build(file: Path) -> str:
    sources = [file, *(path for name in _PACKAGES for path in sorted((file.parent / name).rglob("*.py")))]
    seen = 0
    for path in sources:
        about = path.stat()
        seen = zlib.crc32(f"{path.name} {about.st_size} {about.st_mtime_ns}".encode(), seen)
    return f"{seen:08x}"

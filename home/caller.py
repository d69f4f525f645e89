"""Hands the environment of whoever deploys to the worker of the same home.

The worker keeps the environment of the shell that first started it, for weeks; a service that is deployed from another
shell must find the programs that its own user finds. Only names that a program needs to run at all are kept, and none
of them is a secret.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from home.paths import VARIABLE, Home

# What a program needs of the machine to run at all; everything else is the spec's to say.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "SSL_CERT_FILE", "SSL_CERT_DIR")


def hand_over(home: Home, service: str, target: str, environment: Mapping[str, str]) -> None:
    """Keeps what the caller's environment says, for the deployments of this target.

    Raises:
        StackError: it cannot be written.
    """
    path = _path(home.path, service, target)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    found = {name: environment[name] for name in INHERITED if environment.get(name)}
    home.write(path, json.dumps(found, indent=1))


def inherited(service: str, target: str) -> dict[str, str]:
    """What programs of this target inherit: what the last caller handed over, else this process's own environment."""
    home = os.environ.get(VARIABLE)
    given = _read(_path(Path(home), service, target)) if home else None
    source: Mapping[str, str] = os.environ if given is None else given
    return {name: source[name] for name in INHERITED if source.get(name)}


def _path(home: Path, service: str, target: str) -> Path:
    # No name has a dot.
    return home / "callers" / f"{service}.{target}.json"


def _read(path: Path) -> dict[str, str] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except (OSError, ValueError):
        return None
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else None

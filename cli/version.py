"""Which release of this program runs."""

import tomllib
from importlib import metadata
from pathlib import Path

from cli.invocation import INSTALLED


def own_version() -> str:
    """The version: that of the checkout it runs from, or that of the installed package."""
    try:
        project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        if project["name"] == INSTALLED:
            return str(project["version"])
    except (OSError, ValueError, KeyError):
        pass
    return metadata.version(INSTALLED)

"""Which machine was looked at, and how big what was found there is: said alike in every finding about a machine."""

import platform

from models.spec import DeploymentSpec


def where(spec: DeploymentSpec) -> dict[str, str]:
    """Evidence: the worker's machine, and whether the service runs there too."""
    runs = "the worker and the service" if spec.platform.kind == "local" else "the worker"
    return {"machine": f"{platform.node() or 'this machine'} ({runs})"}


def readable(size: float) -> str:
    """Bytes in the unit that people would choose."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"

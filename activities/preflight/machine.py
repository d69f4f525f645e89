"""Which machine was looked at: said alike in every finding about a machine."""

import platform

from models.spec import DeploymentSpec


def where(spec: DeploymentSpec) -> dict[str, str]:
    """Evidence: the worker's machine, and whether the service runs there too."""
    runs = "the worker and the service" if spec.platform.kind == "local" else "the worker"
    return {"machine": f"{platform.node() or 'this machine'} ({runs})"}

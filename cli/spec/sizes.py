"""What is too large for Temporal is refused before anything starts: later it would end a workflow in the middle."""

from typing import Any

from pydantic_core import to_json

from models.carrying import LARGEST_SPEC
from models.spec import DeploymentSpec


def too_large(spec: DeploymentSpec) -> str:
    """Says by how much a spec is too large as it travels, and what of it is the largest; empty when it is not."""
    size = len(to_json(spec))
    if size <= LARGEST_SPEC:
        return ""
    parts = {name: len(to_json(value)) for name, value in _parts(spec)}
    largest = max(parts, key=lambda name: parts[name])
    return (
        f"it is {size:,} bytes as it travels through Temporal (JSON, every default written out), and at most "
        f"{LARGEST_SPEC:,} can: {largest} alone has {parts[largest]:,}"
    )


def _parts(spec: DeploymentSpec) -> list[tuple[str, Any]]:
    """The sections of a spec, two levels deep."""
    found: list[tuple[str, Any]] = []
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        inner = getattr(type(value), "model_fields", {})
        found += [(f"{name}.{key}", getattr(value, key)) for key in inner] or [(name, value)]
    return found

"""References to secrets. A spec, a workflow and a report name a secret; only a worker ever reads it."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from models.base import SpecModel

_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,127}|file:/[^\x00-\x1f\x7f]{1,1000}", re.ASCII)


def _check(value: Any) -> Any:
    if isinstance(value, str) and not _REFERENCE.fullmatch(value):
        raise ValueError("a secret is referred to as env:NAME or file:/absolute/path")
    return value


SecretReference = Annotated[
    str,
    BeforeValidator(_check),
    WithJsonSchema({"type": "string", "pattern": "^(env:[A-Za-z_][A-Za-z0-9_]*|file:/.+)$"}),
]


class Secret(SpecModel):
    """A value that is read from `secret` by the worker at the moment it is needed."""

    secret: SecretReference

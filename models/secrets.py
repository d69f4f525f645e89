"""References to secrets. A spec, a workflow and a report name a secret; only a worker ever reads it."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, WithJsonSchema
from pydantic.fields import FieldInfo

from models.base import SpecModel

_REFERENCE = re.compile(
    r"env:[A-Za-z_][A-Za-z0-9_]{0,127}"
    r"|file:/[^\x00-\x1f\x7f]{1,1000}"
    r"|vault:[A-Za-z0-9_.-]{1,100}(?:/(?!\.{1,2}(?:/|#))[A-Za-z0-9_.@~ -]{1,200}){1,20}#[^\x00-\x1f\x7f#]{1,200}",
    re.ASCII,
)
FORMS = "env:NAME, file:/absolute/path or vault:mount/path#key"


def _check(value: Any) -> Any:
    if isinstance(value, str) and not _REFERENCE.fullmatch(value):
        raise ValueError(f"a secret is referred to as {FORMS}")
    return value


# Marks the fields that hold one, so that all of a spec's references can be found.
_MARK = object()

SecretReference = Annotated[
    str,
    BeforeValidator(_check),
    WithJsonSchema({"type": "string", "pattern": "^(env:[A-Za-z_][A-Za-z0-9_]*|file:/.+|vault:[^#]+/[^#]+#.+)$"}),
    _MARK,
]


class Secret(SpecModel):
    """A value that is read from `secret` by the worker at the moment it is needed."""

    secret: SecretReference


def references(model: BaseModel) -> dict[str, str]:
    """Finds all references in a spec: reference → the first key that uses it."""
    found: dict[str, str] = {}
    for path, reference in _walk(model, ()):
        found.setdefault(reference, ".".join(path))
    return found


def _walk(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, Secret):
        yield path, value.secret
    elif isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            inner = getattr(value, name)
            if isinstance(inner, str):
                yield from [((*path, name), inner)] if _is_reference(field) else []
            else:
                yield from _walk(inner, (*path, name))
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _walk(inner, (*path, str(name)))
    elif isinstance(value, tuple):
        for i, inner in enumerate(value):
            yield from _walk(inner, (*path, str(i)))


def _is_reference(field: FieldInfo) -> bool:
    return _MARK in field.metadata or _is_marked(field.annotation)


def _is_marked(annotation: Any) -> bool:
    return _MARK in getattr(annotation, "__metadata__", ()) or any(_is_marked(part) for part in get_args(annotation))

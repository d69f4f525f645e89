"""`--set KEY=VALUE` and `--version V`: a pipeline changes a value without rewriting the file.

A value for a key of type text is the text that was typed, whatever it looks like: nobody quotes twice in a shell. Any
other value, a number, a list, a mapping, is read as YAML with the same guards as a file. Which one it is, is said by
the type of the key in the schema.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from cli.spec.yaml_source import Document, Path, UnreadableSpecError, parse
from models.schema_types import Schemas, fits, types
from models.spec import DeploymentSpec

DEEPEST = 20
_NUMBERS = {"integer": int, "boolean": bool, "number": float}


def apply(document: Document, overrides: Sequence[str], version: str | None) -> tuple[dict[Path, str], list[str]]:
    """Puts the values into the document.

    Returns:
        Which path came from which option, and the sentences on options that could not be understood.
    """
    origins: dict[Path, str] = {}
    problems: list[str] = []
    for text in overrides:
        key, equals, value = text.partition("=")
        shown = f"--set {key[:200]!a}" if not key.isprintable() else f"--set {key[:200]}"
        if not equals or not key:
            # Without = the whole text may be a value: it is not repeated.
            problems.append("--set: this takes KEY=VALUE, like --set platform.instances=3")
            continue
        try:
            origins[_set(document, key, value)] = shown
        except UnreadableSpecError as error:
            problems.append(f"{shown}: {error}")
    if version is not None:
        try:
            origins[_set(document, "release.version", version.encode(errors="replace").decode())] = "--version"
        except UnreadableSpecError as error:
            problems.append(f"--version: {error}")
    return origins, problems


@cache
def _schemas() -> Schemas:
    return Schemas(DeploymentSpec)


def _set(document: Document, key: str, value: str) -> Path:
    """Puts a value at its place; returns the path."""
    parts = key.split(".")
    if len(parts) > DEEPEST or "" in parts:
        raise UnreadableSpecError("the key is a path like platform.instances or strategy.steps.0.watch")
    path: Path = ()
    place: Any = document.data
    for i, name in enumerate(parts):
        part = _step(place, name)
        path = (*path, part)
        if i == len(parts) - 1:
            place[part] = _read(path, value, document)
            return path
        here = place.get(part) if isinstance(place, dict) else place[part]
        if here is None or _gives_way(document, path, here):
            document.written.pop(path, None)
            place[part] = {}
        place = place[part]
    raise AssertionError("a key has at least one part")


def _step(place: Any, name: str) -> str | int:
    """The key, or the position in a list, that one part of a path stands for."""
    if isinstance(place, dict):
        return name
    if not isinstance(place, list) or not (name.isascii() and name.isdigit() and len(name) < 6):
        raise UnreadableSpecError("there is no such place in the file")
    if int(name) >= len(place):
        raise UnreadableSpecError(f"the list has {len(place)} items; the first one is 0")
    return int(name)


def _gives_way(document: Document, path: Path, here: Any) -> bool:
    """Whether a text makes room for a mapping, as in `environment.TOKEN.secret=env:TOKEN`."""
    return not isinstance(here, dict | list) and {"string", "object"} <= types(_schemas().at(path, document.data))


def _read(path: Path, value: str, document: Document) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UnreadableSpecError("the value is not UTF-8 text") from None
    if "\0" in value:
        raise UnreadableSpecError("a NUL character cannot be used")
    schemas = _schemas().at(path, document.data)
    allowed = types(schemas)
    for inner in [inner for inner in document.written if inner[: len(path)] == path]:
        del document.written[inner]
    if not schemas or allowed == {"string"}:
        return value
    if "string" in allowed:
        return _read_as_text(value, schemas, allowed)
    parsed = _parse(value)
    document.written.update({(*path, *inner): text for inner, text in parsed.written.items()})
    return parsed.data


def _read_as_text(value: str, schemas: Sequence[Any], allowed: set[str]) -> Any:
    """The text, unless it is the other thing that the key may also be: `null`, a number, a mapping with its keys."""
    if value == "null" and "null" in allowed:
        return None
    if allowed <= {"string", "null"}:
        return value
    try:
        other = _parse(value).data
    except UnreadableSpecError:
        return value
    numbers = {kind for name, kind in _NUMBERS.items() if name in allowed}
    return other if type(other) in numbers or fits(other, schemas) else value


def _parse(value: str) -> Document:
    parsed = parse(value) if value.strip() else Document("")
    if parsed.problems:
        raise UnreadableSpecError(parsed.problems[0][2])
    return parsed

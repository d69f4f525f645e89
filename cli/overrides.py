"""`--set KEY=VALUE` and `--version V`: a pipeline changes a value without rewriting the file.

A value is read as YAML, with the same guards as a file, so that `--set platform.instances=3` is a number. A version
and an environment variable stay the text that was typed: nobody quotes twice in a shell.
"""

from collections.abc import Sequence
from typing import Any

from cli.yaml_source import Document, Path, Unreadable, parse

DEEPEST = 20
_TYPED_TEXT = (("release", "version"), ("platform", "environment", None))


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
        path = _path(key)
        try:
            _put(document, path, _read(path, value, document))
        except Unreadable as error:
            problems.append(f"{shown}: {error}")
            continue
        origins[path] = shown
    if version is not None:
        path = ("release", "version")
        document.written.pop(path, None)
        try:
            _put(document, path, version.encode(errors="replace").decode())
            origins[path] = "--version"
        except Unreadable as error:
            problems.append(f"--version: {error}")
    return origins, problems


def _path(key: str) -> Path:
    return tuple(int(part) if part.isascii() and part.isdigit() and len(part) < 6 else part for part in key.split("."))


def _read(path: Path, value: str, document: Document) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unreadable("the value is not UTF-8 text") from None
    if not value.strip():
        parsed = Document("")
    else:
        parsed = parse(value)
    if parsed.problems:
        raise Unreadable(parsed.problems[0][2])
    for inner in [inner for inner in document.written if inner[: len(path)] == path]:
        del document.written[inner]
    typed_text = any(
        len(path) == len(pattern) and all(b is None or a == b for a, b in zip(path, pattern, strict=True))
        for pattern in _TYPED_TEXT
    )
    if typed_text and not isinstance(parsed.data, dict | list | str):
        return value
    document.written.update({(*path, *inner): text for inner, text in parsed.written.items()})
    return parsed.data


def _put(document: Document, path: Path, value: Any) -> None:
    if len(path) > DEEPEST or "" in path:
        raise Unreadable("the key is a path like platform.instances or strategy.steps.0.watch")
    place: Any = document.data
    for i, part in enumerate(path):
        if isinstance(place, list) and isinstance(part, int):
            if part >= len(place):
                raise Unreadable(f"the list has {len(place)} items; the first one is 0")
        elif isinstance(place, dict) and isinstance(part, str):
            if i < len(path) - 1 and place.get(part) is None:
                place[part] = {}
        else:
            raise Unreadable("there is no such place in the file")
        here: Any = place
        if i == len(path) - 1:
            here[part] = value
        else:
            place = here[part]

"""What a model says about a wrong value is made for programmers; here it becomes a sentence for whoever wrote the file.

No sentence repeats a value: a password may have been written where a name belongs.
"""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cli.yaml_source import Document, Path

_PATTERNS = {
    "^[0-9a-f]{7,64}$": "a git revision has 7 to 64 small hexadecimal digits",
    "^[A-Z]{3,10}$": "a method is written in capital letters, like GET",
    r"^/[\x21-\x7e]*$": "a path on the service begins with / and has no spaces, like /health",
    r"^[^\x00\r\n]+$": "a path has no line breaks and no NUL characters",
    r"^[^\x00]*$": "a NUL character cannot be used",
}
_MUST_BE_MAPPING = "this must be a mapping: keys with values, indented below"
_MUST_BE_LIST = "this must be a list: items that begin with -, or [a, b]"
_SENTENCES = {
    "string_type": "this must be text",
    "string_unicode": "this must be text",
    "int_type": "this must be a whole number",
    "int_from_float": "this must be a whole number",
    "int_parsing": "this must be a whole number",
    "int_parsing_size": "this number is far too large",
    "float_type": "this must be a number",
    "bool_type": "this must be true or false",
    "dict_type": _MUST_BE_MAPPING,
    "mapping_type": _MUST_BE_MAPPING,
    "model_type": _MUST_BE_MAPPING,
    "model_attributes_type": _MUST_BE_MAPPING,
    "tuple_type": _MUST_BE_LIST,
    "list_type": _MUST_BE_LIST,
    "greater_than_equal": "this must be at least {ge}",
    "greater_than": "this must be more than {gt}",
    "less_than_equal": "this must be at most {le}",
    "less_than": "this must be less than {lt}",
    "string_too_short": "this must have at least {min_length} characters",
    "string_too_long": "this must have at most {max_length} characters",
    "too_short": "this must have at least {min_length} items",
    "too_long": "this must have at most {max_length} items",
    "literal_error": "this must be {expected}",
}
_SCALAR_WANTED = {"string_type", "int_type", "float_type", "bool_type"}
_MAPPING_WANTED = {"model_type", "model_attributes_type", "dict_type", "mapping_type"}


def explain(error: ValidationError, document: Document, model: type[BaseModel]) -> Iterator[tuple[Path, str]]:
    """Yields for each problem the path it is at, in the file, and a sentence."""
    schema = model.model_json_schema()
    for path, detail in _one_per_union(error.errors(include_url=False), document.data):
        yield path, _sentence(path, detail, document, schema)


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns `; did you mean X?`, or what is known, or nothing."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    close = close or difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known here: {', '.join(names)}" if names else ""


def _one_per_union(errors: list[ErrorDetails], data: Any) -> Iterator[tuple[Path, ErrorDetails]]:
    """Of the alternatives of a union, keeps the one that was meant: a mapping was not meant to be text."""
    placed = [(*_place(error, data), error) for error in errors]
    for path, branch, value, error in placed:
        others = [
            other for p, b, _, other in placed if b is not None and b != branch and p[: len(path)] == path
        ]  # errors of the other alternatives, at this value or inside it
        kind = error["type"]
        if branch is not None and others:
            if isinstance(value, dict) and kind in _SCALAR_WANTED:
                continue
            if not isinstance(value, dict) and kind in _MAPPING_WANTED:
                continue
        yield path, error


def _place(error: ErrorDetails, data: Any) -> tuple[Path, str | None, Any]:
    """Finds the value that is meant; a location also names a union's alternatives, which no file contains."""
    path: list[str | int] = []
    branch: str | None = None
    loc = error["loc"]
    for i, part in enumerate(loc):
        if part == "[key]":
            continue
        if isinstance(data, dict) and part in data:
            data = data[part]
            path.append(part)
        elif isinstance(data, list | tuple) and isinstance(part, int) and part < len(data):
            data = data[part]
            path.append(part)
        elif error["type"] == "missing" and i == len(loc) - 1:
            path.append(part)
        else:
            branch = str(part)
    return tuple(path), branch, data


def _sentence(path: Path, error: ErrorDetails, document: Document, schema: dict[str, Any]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    written = document.written.get(path)
    if kind == "extra_forbidden":
        return "unknown key" + nearest(str(path[-1]), known_keys(schema, path[:-1], document.data))
    if kind == "union_tag_not_found":
        return f"this needs a {context['discriminator'].strip(chr(39))}"
    if kind == "union_tag_invalid":
        known = context["expected_tags"].replace("'", "").split(", ")
        return f"there is no {context['discriminator'].strip(chr(39))} of that name{nearest(context['tag'], known)}"
    if kind == "missing":
        return "this key is missing"
    if path == ("release", "version") and written is not None:
        return f'without quotes YAML reads a number here; write version: "{written}"'
    if kind == "string_type" and written is not None:
        return "this must be text; put quotes around it"
    if kind == "value_error":
        return str(context["error"])
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(str(context.get("pattern")), "this is not written as it must be")
    if kind == "too_short" and context.get("min_length") == 1:
        return "this must not be empty"
    return _SENTENCES.get(kind, "this cannot be used here").format(**context)


def known_keys(schema: dict[str, Any], path: Path, data: Any = None) -> set[str]:
    """Looks up which keys a mapping at this path may have; empty where any key may stand.

    Args:
        schema: of the whole file.
        path: where the mapping is.
        data: the whole file: where a mapping says which of several kinds it is, only that kind's keys are known.
    """
    places = [schema]
    for part in path:
        places = [inner for place in places for inner in _inside(place, part, schema, data)]
        data = _follow(data, part)
    return {
        name for place in places for found in _resolved(place, schema, data) for name in found.get("properties", {})
    }


def _follow(data: Any, part: str | int) -> Any:
    try:
        return data[part]
    except (LookupError, TypeError):
        return None


def _inside(place: dict[str, Any], part: str | int, schema: dict[str, Any], data: Any) -> Iterator[dict[str, Any]]:
    for found in _resolved(place, schema, data):
        if isinstance(part, int):
            inner = [found.get("items")]
        elif part in found.get("properties", {}):
            inner = [found["properties"][part]]
        else:
            inner = [found.get("additionalProperties"), *found.get("patternProperties", {}).values()]
        yield from (place for place in inner if isinstance(place, dict))


def _resolved(place: dict[str, Any], schema: dict[str, Any], data: Any) -> Iterator[dict[str, Any]]:
    """Follows references and alternatives; of several kinds only the one that the data says it is."""
    if "$ref" in place:
        yield from _resolved(schema["$defs"][place["$ref"].rsplit("/", 1)[-1]], schema, data)
    alternatives = [*place.get("anyOf", []), *place.get("oneOf", []), *place.get("allOf", [])]
    told = place.get("discriminator", {})
    meant = told.get("mapping", {}).get(str(_follow(data, told.get("propertyName", ""))))
    for alternative in [{"$ref": meant}] if meant else alternatives:
        yield from _resolved(alternative, schema, data)
    if not alternatives and "$ref" not in place:
        yield place

"""What a model says about a wrong value is made for programmers; here it becomes a sentence for whoever wrote the file.

No sentence repeats a value: a password may have been written where a name belongs.
"""

import copy
import difflib
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cli.spec.yaml_source import Document, Path

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
# A mistake behind a mistake behind a mistake; who has more of them gets the rest the next time.
_ROUNDS = 3
_SCALAR_WANTED = {"string_type", "int_type", "float_type", "bool_type"}
_MAPPING_WANTED = {"model_type", "model_attributes_type", "dict_type", "mapping_type"}


M = TypeVar("M", bound=BaseModel)


def explain(error: ValidationError, document: Document, model: type[M]) -> tuple[list[tuple[Path, str]], M | None]:
    """Says for each problem the path it is at, in the file, and a sentence.

    A wrong kind or a misspelt key hides everything that belongs to it, and the rules about several keys: so the file is
    looked at again with these put right, and what is found then is told as well.

    Returns:
        The problems, and the model as it would be without those mistakes; None where others are left.
    """
    schema = model.model_json_schema()
    details = list(_one_per_union(error.errors(include_url=False), document.data))
    found = [(path, _sentence(path, detail, document, schema)) for path, detail in details]
    mended, told = Mended(document.data), {path for path, _ in details}
    for _ in range(_ROUNDS):
        mended.changed = False
        for path, detail in details:
            mended.mend(path, detail, schema)
        if not mended.changed:
            return found, None
        try:
            return found, model.model_validate(mended.data)
        except ValidationError as again:
            details = list(_one_per_union(again.errors(include_url=False), mended.data))
        as_mended = Document(mended.data, written=document.written)
        for path, detail in details:
            written = mended.as_written(path)
            if written not in told and not (detail["type"] == "missing" and mended.guessed(path)):
                told.add(written)
                found.append((written, _sentence(path, detail, as_mended, schema)))
    return found, None


@dataclass(frozen=True)
class _Kind:
    """The keys that a kind of mapping knows, and those that it needs."""

    known: frozenset[str]
    needed: frozenset[str]

    def likeness(self, keys: Set[str]) -> int:
        """How much a mapping with these keys looks like it."""
        return len(self.known & keys) - len(self.needed - keys)


class Mended:
    """A file's data with those mistakes put right whose right value is plain: kinds and names of keys."""

    def __init__(self, data: Any) -> None:
        self.data = copy.deepcopy(data)
        self.changed = False
        self._renamed: dict[Path, str] = {}
        self._guessed: set[Path] = set()

    def mend(self, path: Path, error: ErrorDetails, schema: dict[str, Any]) -> None:
        """Puts one mistake right; one whose right value nobody can know stays."""
        if error["type"] == "extra_forbidden":
            place = self._at(path[:-1])
            if not isinstance(place, dict) or path[-1] not in place:
                return
            value = place.pop(path[-1])
            right = closest(str(path[-1]), known_keys(schema, path[:-1], self.data))
            if right and right not in place:
                place[right] = value
                self._renamed[(*path[:-1], right)] = str(path[-1])
            self.changed = True
        elif error["type"] in ("union_tag_invalid", "union_tag_not_found"):
            place, key = self._at(path), error.get("ctx", {})["discriminator"].strip("'")
            kinds = _kinds(schema, path, self.data)
            if isinstance(place, dict) and kinds:
                meant = closest(str(place.get(key, "")), kinds)
                if meant is None:
                    self._guessed.add(path)
                    meant = max(kinds, key=lambda kind: kinds[kind].likeness(place.keys()))
                place[key] = meant
                self.changed = True

    def guessed(self, path: Path) -> bool:
        """Whether it lies in something of a kind that was only guessed from its keys: what it lacks is not known."""
        return any(path[: len(place)] == place for place in self._guessed)

    def as_written(self, path: Path) -> Path:
        """The same place in the file as it was written."""
        return tuple(self._renamed.get(path[: i + 1], part) for i, part in enumerate(path))

    def _at(self, path: Path) -> Any:
        place = self.data
        for part in path:
            place = _follow(place, part)
        return place


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant; None when none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    close = close or difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return close[0] if close else None


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns `; did you mean X?`, or what is known, or nothing."""
    names = sorted(known)
    if close := closest(word, names):
        return f"; did you mean {close}?"
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
    places, data = _places(schema, path, data)
    return {
        name for place in places for found in _resolved(place, schema, data) for name in found.get("properties", {})
    }


def _kinds(schema: dict[str, Any], path: Path, data: Any) -> dict[str, _Kind]:
    """The kinds that a mapping at this path may be of."""
    found = {}
    for place in _places(schema, path, data)[0]:
        for alternative in (place, *place.get("anyOf", [])):
            told = alternative.get("discriminator", {})
            for kind, reference in told.get("mapping", {}).items():
                one = schema["$defs"][reference.rsplit("/", 1)[-1]]
                needed = frozenset(one.get("required", [])) - {told.get("propertyName")}
                found[kind] = _Kind(frozenset(one.get("properties", {})), needed)
    return found


def _places(schema: dict[str, Any], path: Path, data: Any) -> tuple[list[dict[str, Any]], Any]:
    """What the schema says of a path, and what the data has there."""
    places = [schema]
    for part in path:
        places = [inner for place in places for inner in _inside(place, part, schema, data)]
        data = _follow(data, part)
    return places, data


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

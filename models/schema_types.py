"""Says of which types the value of a spec's key is, from the JSON Schema of the spec.

What is typed on a command line has no type of its own. Whether `6801028` is a number or the text of a git revision,
and whether `#` begins a comment, is decided by the key that it is for.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

Schema = Mapping[str, Any]
Path = Sequence[str | int]


class Schemas:
    """The JSON Schema of a model, to be asked about the keys in a document of it."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._whole: Schema = model.model_json_schema()

    def at(self, path: Path, document: Any) -> list[Schema]:
        """What the schema allows at a path: one schema for each type; none where there is no such key.

        Args:
            path: keys and positions.
            document: as it is so far; its `kind` says which one of several mappings is meant.
        """
        found = list(self._alternatives(self._whole, document))
        for part in path:
            document = _inside(document, part)
            found = [
                each
                for schema in found
                for inner in _below(schema, part)
                for each in self._alternatives(inner, document)
            ]
        return found

    def _alternatives(self, schema: Schema, document: Any) -> Iterator[Schema]:
        while "$ref" in schema:
            schema = self._whole["$defs"][schema["$ref"].removeprefix("#/$defs/")]
        several = schema.get("anyOf") or schema.get("oneOf")
        if several is None:
            yield schema
            return
        flat = [each for one in several for each in self._alternatives(one, document)]
        mappings = [each for each in flat if each.get("type") == "object"]
        yield from [each for each in mappings if _may_be(each, document)] or mappings
        yield from (each for each in flat if each.get("type") != "object")


def types(schemas: Sequence[Schema]) -> set[str]:
    """The names of the types, like `string`; empty where anything may be, or nothing."""
    return {str(schema["type"]) for schema in schemas if "type" in schema}


def fits(value: Any, schemas: Sequence[Schema]) -> bool:
    """Whether a mapping is one of those that the schemas describe, by its keys and the patterns of its texts."""
    return isinstance(value, dict) and any(
        _is_of(value, schema) for schema in schemas if schema.get("type") == "object"
    )


def _is_of(value: dict[str, Any], schema: Schema) -> bool:
    properties = schema.get("properties", {})
    if not set(schema.get("required", ())) <= value.keys() <= properties.keys():
        return False
    return all(
        isinstance(inner, str) and re.search(properties[key]["pattern"], inner) is not None
        for key, inner in value.items()
        if "pattern" in properties[key]
    )


def _inside(document: Any, part: str | int) -> Any:
    try:
        return document[part]
    except (KeyError, IndexError, TypeError):
        return None


def _below(schema: Schema, part: str | int) -> Iterator[Schema]:
    if "type" not in schema:
        yield schema  # anything may be there, and in it
    elif isinstance(part, int):
        if isinstance(inner := schema.get("items"), Mapping):
            yield inner
    elif part in (properties := schema.get("properties", {})):
        yield properties[part]
    else:
        patterns = schema.get("patternProperties", {})
        yield from (inner for pattern, inner in patterns.items() if re.search(pattern, part))
        if isinstance(inner := schema.get("additionalProperties"), Mapping):
            yield inner


def _may_be(schema: Schema, document: Any) -> bool:
    """Whether a mapping with a fixed word in it, like `kind: local`, is the one that the document has."""
    if not isinstance(document, dict):
        return True
    fixed = {key: inner["const"] for key, inner in schema.get("properties", {}).items() if "const" in inner}
    return all(document.get(key) in (None, word) for key, word in fixed.items())

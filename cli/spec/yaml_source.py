"""A spec file comes from anywhere: a mistake in it must get a line number, and malice in it must get nowhere.

YAML can name Python objects, say a key twice, hide a billion nodes behind ten aliases, and turn `1.10` into 1.1. What
is read here is plain data (mappings, lists, text, numbers, true, false, null), bounded in size, nodes and depth, and
each value keeps the line it came from.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

LARGEST = 1 << 20
MOST_NODES = 20_000
DEEPEST = 50
LONGEST_NUMBER = 64

Path = tuple[str | int, ...]

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C parser reads 1 MiB in a blink, Python's does not
_CORE = "tag:yaml.org,2002:"
_COLLECTIONS = {_CORE + "map", _CORE + "seq"}
_SCALARS = {_CORE + kind for kind in ("str", "int", "float", "bool", "null")}
# Unquoted dates and `=` get these tags on their own; here they are the text that they look like.
_TEXT_AFTER_ALL = {_CORE + "timestamp", _CORE + "value"}
_MERGE = _CORE + "merge"


class UnreadableSpecError(Exception):
    """No document can be read here; `line` says where, 0 when that is not known."""

    def __init__(self, sentence: str, line: int = 0) -> None:
        super().__init__(sentence)
        self.line = line


@dataclass
class Document:
    """Plain data and where it came from.

    Attributes:
        lines: path → line, counted from 1, of the key or list item.
        written: path → the text of a number or boolean as it was written, before YAML understood it.
        problems: line, path, sentence of what is wrong with the YAML, but not so wrong that the rest cannot be read.
    """

    data: Any
    lines: dict[Path, int] = field(default_factory=dict)
    written: dict[Path, str] = field(default_factory=dict)
    problems: list[tuple[int, Path, str]] = field(default_factory=list)


def decode(raw: bytes) -> str:
    """Turns a file's bytes into text.

    Raises:
        UnreadableSpecError: it is too large, not UTF-8, or holds NUL characters.
    """
    if len(raw) > LARGEST:
        raise UnreadableSpecError(f"the file is larger than {LARGEST >> 20} MiB; a spec has a few kilobytes")
    if b"\0" in raw:
        raise UnreadableSpecError(
            "the file holds a NUL character; it is no text", raw[: raw.index(b"\0")].count(b"\n") + 1
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableSpecError("the file is not UTF-8 text", raw[: error.start].count(b"\n") + 1) from None


def parse(text: str) -> Document:
    """Reads one YAML document.

    Raises:
        UnreadableSpecError: it is no YAML, or more than a spec can be.
    """
    try:
        _scan(text)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # The parser may stand behind the last line when it misses something.
        line = min(mark.line, text.rstrip().count("\n")) + 1 if mark else 0
        raise UnreadableSpecError(_what_yaml_says(error), line) from None
    except yaml.YAMLError as error:
        raise UnreadableSpecError(f"this is no YAML: {getattr(error, 'reason', 'it cannot be read')}") from None
    except RecursionError:
        raise UnreadableSpecError(f"it is nested deeper than {DEEPEST} levels") from None
    except (ValueError, OverflowError):  # an escape beyond Unicode, like "\UFFFFFFFF", in PyYAML's own reader
        raise UnreadableSpecError("it holds an escape that stands for no character") from None
    if node is None:
        raise UnreadableSpecError('the file is empty; a spec begins with "service: NAME"')
    document = Document(None)
    document.data = _Walk(document).value(node, (), 1)
    return document


def _what_yaml_says(error: yaml.MarkedYAMLError) -> str:
    said = "; ".join(part for part in (error.context, error.problem) if part)
    hint = ' (a text with ": ", "#", "*", "&" or "@" needs quotes)' if "found character" in said else ""
    return f"this is no YAML: {said}{hint}"


def _scan(text: str) -> None:
    """Refuses what must not even be composed, event by event, so that its size does not matter."""
    depth = nodes = documents = 0
    for event in yaml.parse(text, Loader=_LOADER):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise UnreadableSpecError("a second document begins here; a spec file holds one", line)
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if not isinstance(event, yaml.NodeEvent):
            continue
        nodes += 1
        if nodes > MOST_NODES:
            raise UnreadableSpecError(f"it has more than {MOST_NODES:,} values", line)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise UnreadableSpecError(f"it is nested deeper than {DEEPEST} levels", line)
        tag = getattr(event, "tag", None)
        if tag not in (None, "!") and tag not in _COLLECTIONS | _SCALARS:
            short = str(tag).replace(_CORE, "!!")
            raise UnreadableSpecError(f"the tag {short[:80]!a} is not allowed; a spec is plain data", line)


class _Walk:
    """Turns the node graph into data, counting what aliases multiply."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._nodes = 0
        self._open: set[int] = set()
        self._constructor = SafeConstructor()

    def value(self, node: yaml.Node, path: Path, depth: int) -> Any:
        line = node.start_mark.line + 1
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise UnreadableSpecError(f"its aliases unfold to more than {MOST_NODES:,} values", line)
        if depth > DEEPEST:
            raise UnreadableSpecError(f"it is nested deeper than {DEEPEST} levels", line)
        if id(node) in self._open:
            raise UnreadableSpecError("an alias stands for something that contains it", line)
        self._document.lines.setdefault(path, line)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path, line)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*path, i), depth + 1) for i, item in enumerate(node.value)]
            return self._mapping(node, path, depth)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.Node, path: Path, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: list[yaml.Node] = []
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise UnreadableSpecError("a key is a word, not a list or a mapping", line)
            if key.tag == _MERGE:
                merged.extend(self._merged(value, line))
                continue
            name = self._text(key.value, path, line)
            if name in found:
                first = self._document.lines[(*path, name)]
                self._problem(line, (*path, name), f"the key is here a second time; the first is in line {first}")
                continue
            self._document.lines[(*path, name)] = line
            found[name] = self.value(value, (*path, name), depth + 1)
        for source in merged:
            for name, value in self.value(source, path, depth + 1).items():
                found.setdefault(name, value)
        return found

    def _merged(self, value: yaml.Node, line: int) -> Iterator[yaml.Node]:
        for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            if not isinstance(source, yaml.MappingNode):
                raise UnreadableSpecError("<< takes a mapping or a list of mappings", line)
            yield source

    def _scalar(self, node: yaml.ScalarNode, path: Path, line: int) -> Any:
        text: str = node.value
        kind = node.tag.removeprefix(_CORE)
        if node.tag in _TEXT_AFTER_ALL or kind == "str" or (kind in ("int", "float") and ":" in text):
            return self._text(text, path, line)  # 12:30 is a number to base 60 in YAML 1.1, and to nobody else
        if kind == "null":
            return None
        if kind not in ("int", "float", "bool"):
            raise UnreadableSpecError("this is no value that a spec can hold", line)
        self._document.written[path] = text[:LONGEST_NUMBER]
        return self._number(node, kind, path, line)

    def _number(self, node: yaml.ScalarNode, kind: str, path: Path, line: int) -> Any:
        construct = getattr(self._constructor, f"construct_yaml_{kind}")
        try:
            value = construct(node) if len(node.value) <= LONGEST_NUMBER else None
        except (ValueError, KeyError, IndexError, yaml.YAMLError):  # an explicit tag on a text that does not fit it
            value = None
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            self._problem(line, path, "this is no number that can be used here")
            return None
        return value

    def _text(self, text: str, path: Path, line: int) -> str:
        if "\0" in text:
            self._problem(line, path, "a NUL character cannot be used")
        try:
            text.encode()
        except UnicodeEncodeError:
            self._problem(line, path, "half of a surrogate pair is no character")
            return ""
        return text.replace("\0", "")

    def _problem(self, line: int, path: Path, sentence: str) -> None:
        self._document.problems.append((line, path, sentence))

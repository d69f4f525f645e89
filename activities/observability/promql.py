"""A misspelt metric is no error to Prometheus: its query answers nothing, and the alert never fires.

So each selector is taken out of the expression, and asked for by itself.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import promql_parser
from promql_parser import MatchOp

from models.preflight.environment import fits

_PARTS = ("lhs", "rhs", "expr", "param", "args", "vector_selector")
# What they are asked about is meant to be missing.
_OF_WHAT_IS_MISSING = ("absent", "absent_over_time")
_AT_HAND = ("500", "5xx", "error", "failure", "true", "200", "2xx", "success", "false", "ok", "other")


class NotPromqlError(ValueError):
    """The expression is none; the text is what the parser says."""


@dataclass(frozen=True)
class Selector:
    """One selector of an expression.

    Attributes:
        metric: its name; empty where the expression finds it by a matcher.
        text: as Prometheus reads it.
        labels: names that it asks for.
    """

    metric: str
    text: str
    labels: frozenset[str]


def find_selectors(expression: str) -> tuple[Selector, ...]:
    """All selectors of an expression, each once, but those in `absent`.

    Raises:
        NotPromqlError: it is no PromQL.
    """
    return tuple(dict.fromkeys(_walk(_parse(expression))))


def _parse(expression: str) -> promql_parser.Expr:
    try:
        return promql_parser.parse(expression)
    except ValueError as error:
        raise NotPromqlError(str(error)) from None


def _walk(node: object) -> Iterator[Selector]:
    if isinstance(node, promql_parser.Call) and node.func.name in _OF_WHAT_IS_MISSING:
        return
    if isinstance(node, promql_parser.VectorSelector):
        labels = frozenset(matcher.name for matcher in node.matchers.matchers)
        text = f"{node.name or ''}{node.matchers if labels else ''}"
        yield Selector(node.name or "", text, labels - {"__name__"})
        return
    for part in _PARTS:
        inner = getattr(node, part, None)
        for each in inner if isinstance(inner, list) else (inner,):
            if each is not None:
                yield from _walk(each)


def narrowed(selector: str, labels: Mapping[str, str]) -> str:
    """The selector, for series with these labels alone."""
    metric, _, rest = selector.partition("{")
    own = rest.rstrip("} ").rstrip(",").strip()
    more = [f"{name}={quoted(value)}" for name, value in labels.items()]
    return f"{metric}{{{','.join([*more, own] if own else more)}}}"


def quoted(value: str) -> str:
    """A string of PromQL."""
    return json.dumps(value, ensure_ascii=False)


def example_labels(selector: str, *, taken: bool) -> dict[str, str] | None:
    """Labels that the selector takes, or such that it does not take; None where no value is at hand."""
    node = _parse(selector)
    if not isinstance(node, promql_parser.VectorSelector):
        return None
    found: dict[str, str] = {}
    matchers = node.matchers.matchers
    for name in dict.fromkeys(each.name for each in matchers):
        own = [each for each in matchers if each.name == name]
        exact = [each.value for each in own if each.op == MatchOp.Equal]
        value = next((value for value in (*exact, *_AT_HAND) if _takes(own, value) is taken), None)
        if value is None:
            return None
        found[name] = value
    return found


def _takes(matchers: list[promql_parser.Matcher], value: str) -> bool:
    return all(_takes_one(each, value) for each in matchers)


def _takes_one(matcher: promql_parser.Matcher, value: str) -> bool:
    if matcher.op in (MatchOp.Equal, MatchOp.NotEqual):
        return (matcher.value == value) is (matcher.op == MatchOp.Equal)
    return fits(matcher.value, value) is (matcher.op == MatchOp.Re)

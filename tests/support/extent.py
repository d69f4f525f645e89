"""How much the tests try: what decides in minutes, or with FULL=1 in the environment everything, as at night."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

FULL = os.environ.get("FULL", "") not in ("", "0")
_FULL_ONLY = (pytest.mark.full,)


def chosen(cases: Mapping[str, Any] | Iterable[Any], *always: str) -> list[Any]:
    """Parameters of a test: those whose ids are given here always, all others with FULL=1."""
    named = cases if isinstance(cases, Mapping) else {str(case): case for case in cases}
    assert set(always) <= set(named), set(always) - set(named)
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), id=id, marks=() if id in always else _FULL_ONLY)
        for id, case in named.items()
    ]

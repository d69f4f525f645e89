"""Which tests one process has, with `pytest -n`: those that share a home or servers, and no more."""

from pathlib import Path

import pytest

from tests.conftest import ONE_BY_ONE, SCENARIOS, TOGETHER, share_of
from tests.support.extent import chosen

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", [*SCENARIOS, *TOGETHER, *ONE_BY_ONE])
def test_what_is_named_is_there(path: str) -> None:
    assert (ROOT / path).exists()


def test_scenarios_with_one_home_are_one_process_s() -> None:
    assert {share_of(f"{path}::test_a[x]") for path in SCENARIOS} == {"scenarios"}
    kubernetes = {share_of(f"tests/integration/kubernetes/{name}.py::test") for name in ("test_a", "test_b")}
    assert kubernetes == {"tests/integration/kubernetes/"}


def test_a_file_is_one_process_s_and_a_platform_is_tried_by_all() -> None:
    assert share_of("tests/unit/test_a.py::TestIt::test[x::y]") == "tests/unit/test_a.py"
    tried = [f"tests/integration/platforms/test_a.py::test[{name}]" for name in ("x", "y")]
    assert [share_of(test) for test in tried] == tried


def test_what_another_test_tries_already_is_marked() -> None:
    cases = chosen({"a": (1, 2), "b": 3}, "a")

    assert [(case.id, case.values, [mark.name for mark in case.marks]) for case in cases] == [
        ("a", (1, 2), []), ("b", (3,), ["full"]),
    ]  # fmt: skip
    with pytest.raises(AssertionError, match="nothing"):
        chosen(["a"], "nothing")

"""What did not run did not pass, what passed at a second try is told, and the next run begins with what was left."""

from pathlib import Path
from typing import Any, Literal

import pytest

from tests.servers import cache
from tests.support import ledger
from tests.support.ledger import Ledger, Memory, Suite, left_over, summary

When = Literal["setup", "call", "teardown"]
Outcome = Literal["passed", "failed", "skipped"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))


def report(test: str, outcome: Outcome, when: When = "call") -> pytest.TestReport:
    return pytest.TestReport(test, ("", 0, test), {}, outcome, None, when)


def run(path: Path, selected: list[str], *reports: pytest.TestReport) -> Suite:
    """One try, as pytest tells it."""
    found = Ledger(path.stem, path)
    found.selected(selected)
    for each in reports:
        found.pytest_runtest_logreport(each)
    found.pytest_sessionfinish()
    return Suite.read(path)


def said(suites: list[Suite], *expected: str) -> tuple[bool, list[str]]:
    lines: list[str] = []
    return summary(suites, expected, lines.append), lines


def test_all_that_ran_and_passed_is_green(tmp_path: Path) -> None:
    suite = run(tmp_path / "unit.json", ["a", "b"], report("a", "passed"), report("b", "passed"))

    good, lines = said([suite], "unit")

    assert (good, lines[-1]) == (True, "2 passed, 0 failed")


def test_what_was_cut_off_did_not_pass_and_is_first_the_next_time(tmp_path: Path) -> None:
    suite = run(tmp_path / "compose.json", ["a", "b", "c"], report("a", "passed"), report("b", "passed", "setup"))

    good, lines = said([suite])

    assert not good
    assert lines[-1] == "1 passed, 2 failed, of those failed, 2 did not run"
    assert "compose was cut off: 2 tests did not run; the next run begins with them" in lines
    assert left_over("compose") == ["b", "c"]
    run(tmp_path / "again" / "compose.json", ["a", "b", "c"], *(report(test, "passed") for test in "abc"))
    assert left_over("compose") == []


def test_a_second_try_is_told_and_counted_from_run_to_run(tmp_path: Path) -> None:
    for checkout in ("one", "two"):
        path = tmp_path / checkout / "chaos.json"
        run(path, ["a", "b"], report("a", "failed"), report("b", "passed"))
        suite = run(path, ["a"], report("a", "passed"))

    good, lines = said([suite])

    assert (good, lines[-1]) == (True, "2 passed, 0 failed")
    assert "flaky, passed when tried again, 2 times on this machine: a" in lines
    assert Memory.read().flaky == {"a": 2}


@pytest.mark.parametrize("when", ["setup", "call", "teardown"])
def test_a_test_is_as_good_as_its_worst_part(tmp_path: Path, when: When) -> None:
    parts: list[Any] = ["setup", "call", "teardown"]
    suite = run(
        tmp_path / "x.json", ["a"], *(report("a", "failed" if each == when else "passed", each) for each in parts)
    )

    good, lines = said([suite])

    assert (good, lines[-1]) == (False, "0 passed, 1 failed")
    assert "failed: a" in lines


def test_a_suite_that_was_skipped_or_never_begun_has_not_passed(tmp_path: Path) -> None:
    suites = [
        run(tmp_path / "unit.json", ["a", "b"], report("a", "passed"), report("b", "skipped", "setup")),
        run(tmp_path / "kubernetes.json", ["c"], report("c", "skipped", "setup")),
    ]

    assert said(suites[:1], "unit")[0]
    good, lines = said(suites, "unit", "kubernetes", "compose")
    assert not good
    assert lines[-1] == "1 passed, 2 failed, 2 skipped, of those failed, 2 did not run"
    assert any(line.startswith("compose") and line.endswith("did not run") for line in lines)


def test_nothing_at_all_is_not_green(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ledger, "HERE", tmp_path)

    assert ledger.main([]) == ledger.main(["unit"]) == 1


def test_a_memory_that_cannot_be_read_is_begun_anew(tmp_path: Path) -> None:
    (cache.folder() / "suites.json").write_text("{")

    assert Memory.read() == Memory()


def test_what_is_only_shown_is_told_and_does_not_decide(tmp_path: Path) -> None:
    good_one = run(tmp_path / "unit.json", ["a"], report("a", "passed"))
    bad_one = run(tmp_path / "compose.json", ["b", "c"], report("b", "failed"))
    lines: list[str] = []

    assert summary([good_one, bad_one], ["unit"], lines.append, shown=["compose"])

    assert lines[-1] == "1 passed, 0 failed"
    assert "failed: b" in lines
    assert not said([good_one, bad_one], "unit")[0]

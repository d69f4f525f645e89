"""Says what of a suite has run: one that was cut off did not pass, and a second try hides nothing.

`pytest --ledger NAME` notes under `build/suites/` what became of each selected test; tries of the same name add up.
What did not run, and what passed only when it was tried again, is kept outside the checkout as well: the next run of
that name begins with the former, and the latter is counted. `python -m tests.support.ledger` sums up, for `.ci/run`.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.servers import cache

HERE = Path(__file__).parents[2] / "build" / "suites"
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclass
class Suite:
    """What became of the tests of one suite.

    Attributes:
        tries: test → what came of it, once for each time that it ran; empty for one that has not.
    """

    name: str
    tries: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Suite":
        return cls(path.stem, json.loads(path.read_text())) if path.exists() else cls(path.stem)

    def of(self, ends: Callable[[list[str]], bool]) -> list[str]:
        return [test for test, tries in self.tries.items() if ends(tries)]

    @property
    def passed(self) -> list[str]:
        return self.of(lambda tries: tries[-1:] == [PASSED])

    @property
    def failed(self) -> list[str]:
        return self.of(lambda tries: tries[-1:] == [FAILED])

    @property
    def skipped(self) -> list[str]:
        return self.of(lambda tries: tries[-1:] == [SKIPPED])

    @property
    def not_run(self) -> list[str]:
        return self.of(lambda tries: not tries)

    @property
    def flaky(self) -> list[str]:
        """Those that failed, and passed when they were tried again."""
        return self.of(lambda tries: FAILED in tries and tries[-1] == PASSED)


@dataclass
class Memory:
    """What earlier runs on this machine have left: what did not run, and how often each test was flaky."""

    not_run: dict[str, list[str]] = field(default_factory=dict)
    flaky: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls) -> "Memory":
        try:
            return cls(**json.loads(_kept().read_text()))
        except (OSError, ValueError, TypeError):
            return cls()

    def write(self) -> None:
        half = _kept().with_suffix(".half")
        half.write_text(json.dumps(vars(self), indent=1))
        half.rename(_kept())


def _kept() -> Path:
    return cache.folder() / "suites.json"


class Ledger:
    """Notes what runs, in the process that has all reports."""

    def __init__(self, name: str, path: Path) -> None:
        self._path = path
        self._suite = Suite.read(path)
        self._name = name
        self._this_time: dict[str, str] = {}

    def selected(self, tests: Iterable[str]) -> None:
        for test in tests:
            self._suite.tries.setdefault(test, [])

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.selected(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        self.selected(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test is as good as its worst part: what is set up, called and torn down."""
        so_far = self._this_time.get(report.nodeid)
        if report.failed or so_far is None or (report.skipped and so_far == PASSED):
            # Set up well, it has not run yet.
            if report.when == "setup" and report.passed:
                return
            self._this_time[report.nodeid] = FAILED if report.failed else SKIPPED if report.skipped else PASSED

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Also when it was interrupted: what has run by then is noted."""
        flaky_before = set(self._suite.flaky)
        for test, came in self._this_time.items():
            self._suite.tries.setdefault(test, []).append(came)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self._suite.tries, indent=1))
        with cache.locked("suites"):
            memory = Memory.read()
            memory.not_run[self._name] = self._suite.not_run
            for test in set(self._suite.flaky) - flaky_before:
                memory.flaky[test] = memory.flaky.get(test, 0) + 1
            memory.write()


def left_over(name: str | None) -> list[str]:
    """What the run before this one had no time for."""
    return Memory.read().not_run.get(name, []) if name else []


def summary(
    suites: list[Suite], expected: Iterable[str], say: Callable[[str], None], shown: Collection[str] = ()
) -> bool:
    """Says what ran and what did not, with a count last; gives whether that is good enough. `shown` decides nothing."""
    memory, counts = Memory.read(), Counter[str]()
    say(f"{'suite':<12}{'passed':>8}{'failed':>8}{'skipped':>9}{'not run':>9}")
    for suite in suites:
        row = {kind: len(getattr(suite, kind)) for kind in (PASSED, FAILED, SKIPPED, "not_run")}
        counts.update({} if suite.name in shown else row)
        say(f"{suite.name:<12}{row[PASSED]:>8}{row[FAILED]:>8}{row[SKIPPED]:>9}{row['not_run']:>9}")
    missing = [name for name in expected if name not in {suite.name for suite in suites}]
    for name in missing:
        say(f"{name:<12} did not run")
    for suite in suites:
        for test in suite.failed:
            say(f"failed: {test}")
        for test in suite.flaky:
            say(f"flaky, passed when tried again, {memory.flaky.get(test, 1)} times on this machine: {test}")
        if suite.not_run:
            say(f"{suite.name} was cut off: {len(suite.not_run)} tests did not run; the next run begins with them")
    # One whose tests were all left out has shown nothing.
    decide = [suite for suite in suites if suite.name not in shown]
    missing += [suite.name for suite in decide if not suite.passed and not suite.failed and not suite.not_run]
    failed = counts[FAILED] + counts["not_run"] + len(missing)
    rest = [f"{counts[SKIPPED]} skipped"] * bool(counts[SKIPPED])
    if counts["not_run"] or missing:
        rest.append(f"of those failed, {counts['not_run'] + len(missing)} did not run")
    say(", ".join([f"{counts[PASSED]} passed", f"{failed} failed", *rest]))
    return failed == 0 and counts[PASSED] > 0


def main(arguments: list[str]) -> int:
    """Sums up what is noted under `build/suites`; 1 unless all of that, and all that was expected, ran and passed."""
    parser = argparse.ArgumentParser(description="Says what of the suites ran, and what did not.")
    parser.add_argument("expected", nargs="*", help="suites that have to have run")
    parser.add_argument("--shown", action="append", default=[], help="a suite that does not decide")
    asked = parser.parse_args(arguments)
    suites = [Suite.read(path) for path in sorted(HERE.glob("*.json"), key=lambda path: path.stat().st_mtime)]
    return 0 if summary(suites, asked.expected, print, asked.shown) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

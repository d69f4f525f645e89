"""A program that crashed three times has said it three times: what is told is its last start alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from embedded.supervision.supervisor import Program, Supervisor
from home.paths import Home

LAUNCH = Path(__file__).parents[2] / "embedded" / "supervision" / "launch.py"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def defined(home: Home, code: str) -> tuple[Supervisor, Path]:
    """A program that is defined and was never started."""
    supervisor = Supervisor(home)
    program = Program("crash", (sys.executable, "-SEc", code), home.path, {})
    supervisor._programs.save(program)
    home.logs.mkdir(exist_ok=True)
    return supervisor, home.programs / "crash" / "launch.json"


def start(description: Path) -> None:
    subprocess.run([sys.executable, "-IS", str(LAUNCH), str(description)], timeout=30, check=False)


def test_only_what_was_printed_since_the_last_start_is_told(home: Home) -> None:
    supervisor, description = defined(home, "import sys; print('boom', sys.argv); raise SystemExit(1)")
    for _ in range(3):
        start(description)

    assert supervisor.log_tail("crash").count("boom") == 3
    assert supervisor.last_run("crash").count("boom") == 1
    assert len(json.loads((description.parent / "process.json").read_text())["log_marks"]) == 2


def test_of_a_start_that_is_silent_so_far_the_one_before_is_told(home: Home) -> None:
    supervisor, description = defined(home, "print('boom')")
    start(description)
    record = description.parent / "process.json"
    found = json.loads(record.read_text())
    length = supervisor.log("crash").stat().st_size
    record.write_text(json.dumps(found | {"log_marks": [found["log_marks"][-1], length]}))

    assert supervisor.last_run("crash") == "boom\n"


@pytest.mark.parametrize("marks", [None, [], [10_000], ["x"], [-1]])
def test_a_record_of_a_former_release_or_a_log_that_was_emptied_tells_what_there_is(
    home: Home, marks: list[object] | None
) -> None:
    supervisor, description = defined(home, "print('boom')")
    start(description)
    record = description.parent / "process.json"
    found = json.loads(record.read_text())
    found.pop("log_marks")
    record.write_text(json.dumps(found | ({} if marks is None else {"log_marks": marks})))

    assert supervisor.last_run("crash") == "boom\n"
    assert supervisor.last_run("never") == ""

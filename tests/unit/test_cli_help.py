"""Help is quick, complete, and its exit codes are those of the outcomes."""

import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from cli import main
from models.outcome import EXIT_CODES, Outcome

STARTER = Path(__file__).parents[2] / "starter.py"
HEAVY = {"temporalio", "pydantic", "rich", "yaml", "httpx", "psutil"}


@pytest.mark.parametrize("command", list(main._COMMANDS))
def test_each_command_explains_itself_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["deployment-specialist", command, "--help"])
    assert main.run([command, "--help"]) == 0

    text = capsys.readouterr().out
    assert f"deployment-specialist {command}" in text and "Example:" in text and "Exit codes:" in text


def test_the_exit_codes_in_the_help_are_those_of_the_outcomes() -> None:
    for outcome, code in EXIT_CODES.items():
        word = str(outcome) if outcome is not Outcome.DEPLOYED else "deployed"
        assert any(line.split()[:1] == [str(code)] and word in line for line in main.EXIT_CODES.splitlines()), outcome


def test_help_imports_nothing_heavy() -> None:
    probe = (
        "import sys; sys.path.insert(0, sys.argv[1]); from cli.main import run; run(['--help']); run(['deploy', '-h']);"
        f"print('heavy:', *sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, str(STARTER.parent)], capture_output=True, text=True, timeout=30, check=True
    )

    assert done.stdout.splitlines()[-1] == "heavy:"


def test_help_is_quick() -> None:
    times = []
    for _ in range(5):
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, str(STARTER), "--help"], capture_output=True, timeout=30, check=True)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime)

    # Processor time: what else runs on the machine does not count. The bench measures what a user waits.
    assert statistics.median(times) < 0.3


def test_no_arguments_print_the_help_and_are_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([]) == 2
    assert "Commands:" in capsys.readouterr().err


def test_a_defect_is_one_sentence_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("no\x1b[31m way")

    monkeypatch.setattr(main.commands, "main", lambda **_: broken())

    assert main.run(["schema"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("ZeroDivisionError: no [31m way") and "Traceback" not in said

    monkeypatch.setenv("DEPLOYMENT_SPECIALIST_DEBUG", "1")
    assert main.run(["schema"]) == 1
    assert "Traceback" in capsys.readouterr().err

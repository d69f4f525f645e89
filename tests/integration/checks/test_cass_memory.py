"""What cass memory is asked before and told after, by the answers of `cm` as they were observed."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from activities.trackers.cass_memory import CassMemory, Rule
from models.errors import TrackerRefusedError
from models.outcome import FailureType, Outcome, classify
from models.report import DeploymentReport
from models.spec import StrategyKind
from models.verdict import Stage

FAKE = Path(__file__).parents[2] / "support" / "fake_cm.py"


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "cm"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{FAKE.read_text()}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setenv("CASS_MEMORY_HOME", str(tmp_path))
    return tmp_path


def calls(memory: Path) -> list[list[str]]:
    found: list[list[str]] = json.loads((memory / "calls.json").read_text())
    return found


def report(outcome: Outcome) -> DeploymentReport:
    failed = outcome is not Outcome.DEPLOYED
    return DeploymentReport(
        outcome=outcome,
        workflow_id="deploy/shop/staging",
        run_id="run",
        service="shop",
        target="staging",
        version="1.1.0",
        strategy=StrategyKind.CANARY,
        started=datetime(2026, 1, 2, tzinfo=UTC),
        failure=classify(FailureType.SMOKE, Stage.VERIFY, "checkout answered 500") if failed else None,
    )


async def test_known_rules_are_told_how_it_ended(memory: Path) -> None:
    assert await CassMemory().rules("Deploy") == [Rule("b-1", "Warm the cache before 50 %")]

    said = await CassMemory().learn("dep-0", "Deploy", report(Outcome.ROLLED_BACK))

    outcome = calls(memory)[-1]
    assert said == "cass memory: failure, 1 of 1 rules"
    assert outcome[:5] == ["outcome", "failure", "b-1", "--session", "dep-0"]
    assert "smoke_tests_failed: checkout answered 500" in outcome[6]


async def test_without_a_rule_a_new_one_is_learned(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CM", "empty")

    await CassMemory().learn("dep-0", "Deploy", report(Outcome.DEPLOYED))

    _, added, outcome = calls(memory)
    assert added[:2] == ["playbook", "add"] and added[3:5] == ["--category", "deployment"]
    assert outcome[:3] == ["outcome", "success", "b-2"]


@pytest.mark.parametrize(
    ("mode", "said"), [("unknown", "to no rule"), ("error", "no such bullet"), ("usage", "unknown option")]
)
async def test_what_it_does_not_take_is_said(
    memory: Path, monkeypatch: pytest.MonkeyPatch, mode: str, said: str
) -> None:
    monkeypatch.setenv("FAKE_CM", mode)

    with pytest.raises(TrackerRefusedError, match=said):
        await CassMemory().learn("dep-0", "Deploy", report(Outcome.DEPLOYED))

"""What a task says decides what is deployed, and everything wrong with it is found before anything starts."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from activities.trackers.beads import Task
from cli import main
from cli.client import tracking
from cli.exits import CommandError
from models.errors import TrackerUnavailableError
from models.gates import GATES, ask_gates, demand, find_gate
from models.outcome import Outcome
from models.report import DeploymentReport, Phase
from models.spec import StrategyKind
from models.verdict import CheckResult, Stage, StageResult, Verdict

SPEC = """
service: shop
target: {target}
release: {{version: "1.0.0"}}
platform: {{kind: local, run: ["python3", "app.py"], listen: "127.0.0.1:8080"}}
"""


class FakeBeads:
    """Answers with one task; counts what it is told."""

    task = Task("dep-1", "Deploy", "open", {})
    fails = 0
    told: list[str]

    async def read(self, task: str) -> Task:
        return self.task

    async def finish(self, task: str, report: DeploymentReport) -> str:
        if self.fails:
            type(self).fails -= 1
            raise TrackerUnavailableError("there is no program bd on the PATH")
        self.told.append(f"{task} {report.outcome}")
        return f"task {task}: closed"


@pytest.fixture
def beads(monkeypatch: pytest.MonkeyPatch) -> type[FakeBeads]:
    FakeBeads.task, FakeBeads.fails, FakeBeads.told = Task("dep-1", "Deploy", "open", {"stage": 6}), 0, []
    monkeypatch.setattr(tracking, "Beads", FakeBeads)
    monkeypatch.setattr(tracking, "PAUSE", 0.0)
    return FakeBeads


def given(beads: type[FakeBeads], status: str = "open", **metadata: Any) -> None:
    beads.task = Task("dep-1", "Deploy", status, metadata)


def test_the_target_is_staging_unless_the_task_says_otherwise(beads: type[FakeBeads]) -> None:
    given(beads, stage="deploy", version="1.2.0", quality_gates={"smoke": True, "monitoring": False})

    wanted = tracking.read_task("dep-1")

    assert (wanted.target, wanted.version, wanted.gates) == ("staging", "1.2.0", ("gate_smoke_tests_pass",))


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"stage": 5}, "for the stage 5, not for 6"),
        ({}, "for the stage None"),
        ({"stage": 6, "quality_gates": ["coffee"]}, "demands the gate coffee, which there is not"),
    ],
)
def test_a_task_that_makes_no_sense_here_starts_nothing(
    beads: type[FakeBeads], metadata: dict[str, Any], said: str
) -> None:
    given(beads, **metadata)

    with pytest.raises(CommandError, match=said) as stop:
        tracking.read_task("dep-1")

    assert stop.value.code == 2


def test_a_folder_gives_the_one_spec_of_the_target(beads: type[FakeBeads], tmp_path: Path) -> None:
    for target in ("staging", "production"):
        (tmp_path / f"{target}.yaml").write_text(SPEC.format(target=target))
    (tmp_path / "compose.yaml").write_text("services: {}\ntarget: staging\n")
    (tmp_path / "broken.yml").write_text("{")
    given(beads, stage=6, deployment_target="production")
    wanted = tracking.read_task("dep-1")

    assert tracking.choose_spec(str(tmp_path), wanted) == str(tmp_path / "production.yaml")
    assert tracking.choose_spec("other.yaml", wanted) == "other.yaml"
    (tmp_path / "again.yaml").write_text(SPEC.format(target="production"))
    with pytest.raises(CommandError, match=r"again\.yaml, production\.yaml"):
        tracking.choose_spec(str(tmp_path), wanted)


def test_a_spec_of_another_target_and_a_closed_task_start_nothing(
    beads: type[FakeBeads], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPLOYMENT_SPECIALIST_HOME", str(tmp_path / "home"))
    spec = tmp_path / "spec.yaml"
    (tmp_path / "app.py").write_text("")
    spec.write_text(SPEC.format(target="production"))

    assert main.run(["deploy", str(spec), "--task", "dep-1"]) == 2
    assert "is for staging" in capsys.readouterr().err
    spec.write_text(SPEC.format(target="staging"))
    given(beads, "closed", stage=6)
    assert main.run(["deploy", str(spec), "--task", "dep-1"]) == 2
    assert "closed already" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["deploy"], ["deploy", "x.yaml", "--finish-tracking"]])
def test_what_is_missing_is_said(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASK_ID", raising=False)

    assert main.run(arguments) == 2


def report(outcome: Outcome, phase: Phase = Phase.FINISHED) -> DeploymentReport:
    return DeploymentReport(
        outcome=outcome,
        phase=phase,
        workflow_id="deploy/shop/staging",
        run_id="run",
        service="shop",
        target="staging",
        version="1",
        strategy=StrategyKind.ROLLING,
        started=datetime(2026, 1, 1, tzinfo=UTC),
    )


async def test_beads_that_is_down_for_a_moment_is_told_all_the_same(beads: type[FakeBeads]) -> None:
    wanted = tracking.Wanted(beads.task, "staging", (), None)
    beads.fails = 2

    await tracking.finish(wanted, report(Outcome.DEPLOYED))

    assert beads.told == ["dep-1 deployed"]


async def test_beads_that_stays_down_is_said_loudly_with_what_repairs_it(
    beads: type[FakeBeads], capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = tracking.Wanted(beads.task, "staging", (), None)
    beads.fails = 99

    await tracking.finish(wanted, report(Outcome.DEPLOYED))

    said = capsys.readouterr().err
    assert "BEADS WAS NOT TOLD: there is no program bd on the PATH" in said
    assert "--task dep-1 --finish-tracking" in " ".join(said.split())


@pytest.mark.parametrize(
    ("outcome", "phase", "told"),
    [
        (Outcome.HELD, Phase.FORWARD, False),
        (Outcome.ROLLBACK_FAILED, Phase.ROLLBACK_FAILED, True),
        (Outcome.ROLLED_BACK, Phase.FINISHED, True),
    ],
)
async def test_beads_is_told_of_endings_and_of_a_rollback_that_needs_a_person(
    beads: type[FakeBeads], outcome: Outcome, phase: Phase, told: bool
) -> None:
    await tracking.finish(tracking.Wanted(beads.task, "staging", (), None), report(outcome, phase))

    assert bool(beads.told) is told


@pytest.mark.parametrize("gate", [each.name for each in GATES])
def test_a_gate_is_found_by_its_name_with_and_without_its_prefix(gate: str) -> None:
    assert find_gate(gate) == find_gate(gate.removeprefix("gate_").replace("_", "-")) == gate


@pytest.mark.parametrize("called", ["smoke", "smoke tests", "health_checks", "error-tracking", "rollback plan"])
def test_a_gate_is_found_by_what_tasks_call_it(called: str) -> None:
    assert find_gate(called) in {each.name for each in GATES}


def test_a_demanded_gate_that_is_skipped_is_closed_and_no_other() -> None:
    skipped = CheckResult(name="smoke_none", verdict=Verdict.SKIPPED, reason="there are no smoke tests")
    stage = StageResult(
        stage=Stage.VERIFY,
        verdict=Verdict.PASS,
        started=datetime(2026, 1, 1, tzinfo=UTC),
        seconds=1,
        checks=(skipped, CheckResult(name="running", verdict=Verdict.PASS)),
    )
    answers = {each.name: each for each in demand(ask_gates([stage]), ["gate_smoke_tests_pass", "gate_validated"])}

    closed = answers["gate_smoke_tests_pass"]
    assert (closed.verdict, closed.reason) == (Verdict.FAIL, "the task demands it, and: there are no smoke tests")
    assert answers["gate_validated"].verdict is Verdict.PASS

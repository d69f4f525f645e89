"""What becomes of a task in Beads, by the answers of `bd` as they were observed: both generations, and their traps."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from activities.trackers.beads import RUN_KEY, Beads
from models.errors import TrackerRefusedError, TrackerUnavailableError
from models.outcome import FailureType, Outcome, classify
from models.report import DeploymentReport
from models.spec import StrategyKind
from models.verdict import Stage

FAKE = Path(__file__).parents[2] / "support" / "fake_bd.py"
RUN = "0199aaaa-bbbb-7ccc-8ddd-eeeeffff0001"


class Repository:
    """A folder with issues, and a `bd` on PATH that answers for it."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        program = folder / "bin" / "bd"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!{sys.executable}\n{FAKE.read_text()}")
        program.chmod(0o755)
        patch.setenv("PATH", str(program.parent), prepend=":")
        patch.setenv("BEADS_DIR", str(folder))
        self._write({})
        self.add("dep-0", metadata={"stage": "deploy", "quality_gates": ["smoke"]})
        self.add("dep-1", needs=["dep-0"])
        self.add("dep-2", needs=["dep-0"], status="closed")

    def _write(self, db: dict[str, Any]) -> None:
        (self.folder / "db.json").write_text(json.dumps(db))

    def add(self, name: str, *, needs: list[str] | None = None, status: str = "open", **more: Any) -> None:
        issue = {"id": name, "title": name, "status": status, "metadata": {}, "needs": needs or [], "comments": []}
        self._write({**self.issues, name: {**issue, **more}})

    @property
    def issues(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = json.loads((self.folder / "db.json").read_text())
        return found

    @property
    def fixes(self) -> list[dict[str, Any]]:
        return [each for each in self.issues.values() if each.get("issue_type") == "bug"]

    def behave(self, mode: str) -> None:
        self.patch.setenv("FAKE_BD", mode)


@pytest.fixture(params=["1.0.5", "0.50", "envelope"])
def repository(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    here = Repository(tmp_path, monkeypatch)
    if request.param == "envelope":
        monkeypatch.setenv("BD_JSON_ENVELOPE", "1")
    else:
        here.behave(request.param)
    return here


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    return Repository(tmp_path, monkeypatch)


def report(outcome: Outcome, kind: FailureType | None = None) -> DeploymentReport:
    return DeploymentReport(
        outcome=outcome,
        workflow_id="deploy/shop/staging",
        run_id=RUN,
        service="shop",
        target="staging",
        version="1.1.0",
        previous_version="1.0.0",
        strategy=StrategyKind.CANARY,
        started=datetime(2026, 1, 2, tzinfo=UTC),
        failure=classify(kind, Stage.VERIFY, "checkout answered 500") if kind else None,
        report="/reports/one.json",
    )


async def test_a_task_is_read_and_claimed(repository: Repository) -> None:
    task = await Beads().read("dep-0")
    await Beads().claim(task)

    assert task.metadata == {"stage": "deploy", "quality_gates": ["smoke"]}
    assert repository.issues["dep-0"]["status"] == "in_progress"


async def test_a_success_closes_the_task_with_its_reason_and_a_comment(repository: Repository) -> None:
    for _ in range(2):
        await Beads().finish("dep-0", report(Outcome.DEPLOYED))

    issue = repository.issues["dep-0"]
    assert (issue["status"], issue["close_reason"]) == ("closed", "Completed: shop 1.1.0 is live on staging.")
    assert len(issue["comments"]) == 1
    assert all(said in issue["comments"][0] for said in ("1.1.0", "deployed", "/reports/one.json", RUN))
    assert repository.fixes == []


async def test_a_failure_makes_one_fix_task_that_the_open_dependents_wait_for(repository: Repository) -> None:
    failed = report(Outcome.ROLLED_BACK, FailureType.SMOKE)

    for _ in range(2):
        said = await Beads().finish("dep-0", failed)

    (fix,) = repository.fixes
    issues = repository.issues
    assert fix["metadata"] == {
        "stage": 6,
        "failure_type": "smoke_tests_failed",
        "original_task": "dep-0",
        RUN_KEY: RUN,
        "failure_details": "checkout answered 500",
    }
    assert (fix["priority"], fix["needs"]) == (0, ["dep-0"])
    assert issues["dep-1"]["needs"] == ["dep-0", fix["id"]]
    assert issues["dep-2"]["needs"] == ["dep-0"]
    assert (issues["dep-0"]["status"], issues["dep-0"]["close_reason"]) == (
        "closed",
        f"Failed - created fix task {fix['id']}",
    )
    assert fix["id"] in said


async def test_a_failed_rollback_makes_an_emergency_task_first(repository: Repository) -> None:
    await Beads().finish("dep-0", report(Outcome.ROLLBACK_FAILED, FailureType.HEALTH))

    emergency, fix = repository.fixes
    assert emergency["metadata"]["emergency"] is True
    assert (emergency["priority"], emergency["metadata"]["failure_type"]) == (0, "rollback_failure")
    assert "emergency" not in fix["metadata"]
    assert repository.issues["dep-1"]["needs"] == ["dep-0", fix["id"]]


@pytest.mark.parametrize("outcome", [Outcome.REJECTED, Outcome.FROZEN])
async def test_what_was_not_allowed_to_begin_is_given_back(one: Repository, outcome: Outcome) -> None:
    kind = FailureType.REJECTED if outcome is Outcome.REJECTED else FailureType.FROZEN
    await Beads().claim(await Beads().read("dep-0"))

    await Beads().finish("dep-0", report(outcome, kind))

    assert one.issues["dep-0"]["status"] == "open"
    assert one.fixes == []


@pytest.mark.parametrize("outcome", [Outcome.HELD, Outcome.RUNNING, Outcome.AWAITING_APPROVAL])
async def test_what_goes_on_stays_claimed(one: Repository, outcome: Outcome) -> None:
    await Beads().claim(await Beads().read("dep-0"))

    await Beads().finish("dep-0", report(outcome))

    assert one.issues["dep-0"]["status"] == "in_progress"


@pytest.mark.parametrize("call", range(1, 6))
async def test_whatever_call_is_cut_off_the_next_attempt_makes_no_second_fix_task(one: Repository, call: int) -> None:
    failed = report(Outcome.ROLLED_BACK, FailureType.SMOKE)
    one.behave(f"fail-at:{call}")
    with pytest.raises(TrackerRefusedError):
        await Beads().finish("dep-0", failed)
    one.behave("1.0.5")

    await Beads().finish("dep-0", failed)

    (fix,) = one.fixes
    assert fix["metadata"]["original_task"] == "dep-0"
    assert one.issues["dep-1"]["needs"] == ["dep-0", fix["id"]]
    assert one.issues["dep-0"]["status"] == "closed"


async def test_a_task_that_is_blocked_is_not_taken_for_closed(repository: Repository) -> None:
    with pytest.raises(TrackerRefusedError, match="blocked by open issues"):
        await Beads().finish("dep-1", report(Outcome.DEPLOYED))

    assert repository.issues["dep-1"]["status"] == "open"


async def test_an_unknown_task_and_one_that_is_closed_are_refused(repository: Repository) -> None:
    with pytest.raises(TrackerRefusedError, match="there is no task nope"):
        await Beads().read("nope")
    with pytest.raises(TrackerRefusedError, match="closed already"):
        await Beads().claim(await Beads().read("dep-2"))


async def test_a_program_that_is_missing_hangs_or_has_no_database_is_said(
    one: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.behave("hang")
    with pytest.raises(TrackerUnavailableError, match="did not end within"):
        await Beads(within=timedelta(seconds=1)).read("dep-0")
    one.behave("1.0.5")
    monkeypatch.setenv("BEADS_DIR", str(one.folder / "nowhere"))
    with pytest.raises(TrackerRefusedError, match="no beads database found"):
        await Beads().read("dep-0")
    monkeypatch.setenv("PATH", str(one.folder))
    with pytest.raises(TrackerUnavailableError, match="there is no program bd"):
        await Beads().read("dep-0")

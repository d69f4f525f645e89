"""A report says how it stands to a tired person in its first line, and to a program in the contract's words."""

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.close import CloseActivities
from activities.close.activities import write_report
from activities.close.markdown import render_markdown
from activities.secrets import resolver
from activities.secrets.resolver import remember
from home.paths import Home
from models.document import contract_document
from models.messages import Decision, Kind
from models.outcome import EXIT_CODES, FailureType, Outcome, classify
from models.plan import Plan, PlannedStep
from models.release import Split
from models.report import DeploymentReport, Measured, Undone
from models.spec import StrategyKind
from models.verdict import CheckResult, Stage, StageResult, Verdict

STARTED = datetime(2026, 11, 23, 2, 58, 7, tzinfo=UTC)


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "_known", set())
    monkeypatch.setattr(resolver, "_pattern", None)


def make_report(outcome: Outcome = Outcome.DEPLOYED, **changes: Any) -> DeploymentReport:
    report = DeploymentReport(
        outcome=outcome,
        workflow_id="deploy/shop/staging",
        run_id="0198c0de-1234-7000-8000-000000000000",
        service="shop",
        target="staging",
        version="1.1.0",
        previous_version="1.0.0",
        strategy=StrategyKind.CANARY,
        started=STARTED,
        ended=STARTED + timedelta(seconds=125),
        by="ada",
    )
    return report.model_copy(update=changes)


def rolled_back() -> DeploymentReport:
    checks = (
        CheckResult(name="artifacts", verdict=Verdict.PASS, reason="measured"),
        CheckResult(
            name="watch_10",
            verdict=Verdict.FAIL,
            reason="9 of 90 answers | were errors",
            evidence={"requests": 90, "errors": 9},
            seconds=3.2,
        ),
    )
    return make_report(
        Outcome.ROLLED_BACK,
        stages=(StageResult(stage=Stage.DEPLOY, verdict=Verdict.FAIL, started=STARTED, seconds=12.5, checks=checks),),
        failure=classify(FailureType.DEPLOYMENT, Stage.DEPLOY, "too many errors"),
        split=Split(weights={"1.0.0-abc": 100, "1.1.0-def": 0}, seen=STARTED),
        compensations=(
            Undone(what="take the candidate down", state="done"),
            Undone(what="restore the weights", state="failed", detail="the router did not answer"),
        ),
        not_rolled_back=("the database was not touched and not restored",),
        decisions=(Decision(what="approve", by="grace", at=STARTED, reason="looks good"),),
        measured=Measured(verdict_to_stable=0.123),
        plan=Plan(
            id="feedc0de",
            service="shop",
            target="staging",
            version="1.1.0",
            previous_version="1.0.0",
            strategy=StrategyKind.CANARY,
            first=False,
            steps=(
                PlannedStep(weight=10, watch=timedelta(seconds=90), candidate_instances=2, stable_instances=2),
                PlannedStep(weight=100, watch=timedelta(minutes=5), candidate_instances=2, stable_instances=2),
            ),
            bake=timedelta(minutes=5),
            min_requests=10,
            rehearse=True,
            approvals=(),
            approvers=(),
            digests={"directory": "a" * 64},
            config_hash="b" * 64,
        ),
    )


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Outcome.DEPLOYED, "shop 1.1.0 is live on staging"),
        (Outcome.ROLLED_BACK, "1.0.0 serves"),
        (Outcome.ROLLBACK_FAILED, "A person is needed"),
        (Outcome.AWAITING_APPROVAL, "waits for an approval"),
        (Outcome.REJECTED, "was not approved"),
        (Outcome.FROZEN, "a freeze is in force"),
        (Outcome.PREFLIGHT_FAILED, "before anything was changed"),
        (Outcome.HELD, "until a person decides"),
        (Outcome.RUNNING, "is being deployed"),
    ],
)
def test_the_first_line_says_the_outcome(outcome: Outcome, words: str) -> None:
    assert words in render_markdown(make_report(outcome)).splitlines()[0]


def test_a_first_deployment_that_was_taken_off_names_no_version_that_serves() -> None:
    first = render_markdown(make_report(Outcome.ROLLED_BACK, previous_version=None)).splitlines()[0]

    assert "nothing of it is left" in first


def test_a_rollback_on_request_says_so() -> None:
    first = render_markdown(make_report(Outcome.ROLLED_BACK, kind=Kind.ROLLBACK)).splitlines()[0]

    assert "rolled back on request" in first


@pytest.mark.parametrize(
    "text",
    [
        "`1.0.0-abc` 100 %",
        "**deployment_failed**, priority 0 in the stage deploy",
        "too many errors",
        "| deploy | **fail** | 12 s | 1 pass, 1 fail |",
        "- **watch_10** (deploy): fail. 9 of 90 answers \\| were errors",
        '"errors": 9',
        "| restore the weights | **failed** | the router did not answer |",
        "- Failed, and is still to be done: restore the weights",
        "- Not rolled back: the database was not touched and not restored",
        "| 2026-11-23 02:58:07 UTC | grace | approve | looks good |",
        "| from the verdict to all traffic on stable | 0.12 s |",
        "Plan `feedc0de`: canary, bake 5m.",
        "| 1 | 10 % | 1m30s | 2 | 2 |",
        f"`{'a' * 64}` directory",
        "0198c0de-1234-7000-8000-000000000000",
        "2 min 5 s",
    ],
)
def test_everything_a_person_asks_for_is_in_it(text: str) -> None:
    assert text in render_markdown(rolled_back())


def test_compensations_stand_in_the_order_in_which_they_run() -> None:
    text = render_markdown(rolled_back())

    assert text.index("| restore the weights") < text.index("| take the candidate down")


def test_a_text_of_somebody_else_cannot_break_a_table() -> None:
    decision = Decision(what="reject", by="eve", at=STARTED, reason="no |\n| fake | row |\n# heading <b>")

    text = render_markdown(make_report(decisions=(decision,)))

    assert "| no \\| \\| fake \\| row \\| # heading \\<b> |" in text
    assert "\n# heading" not in text


@pytest.mark.parametrize("outcome", list(Outcome))
def test_the_document_has_the_contracts_fields_first(outcome: Outcome) -> None:
    document = contract_document(make_report(outcome))

    assert list(document)[:12] == [
        *("outcome", "exit_code", "workflow_id", "run_id", "service", "target", "version", "previous_version"),
        *("strategy", "stages", "failure", "report"),
    ]
    assert document["exit_code"] == EXIT_CODES[outcome]
    assert DeploymentReport.model_validate(document) == make_report(outcome)


def test_stages_and_failure_have_the_contracts_words() -> None:
    document = contract_document(rolled_back())

    stage = document["stages"][0]
    assert {"stage", "verdict", "seconds", "checks"} <= stage.keys()
    assert {"name", "verdict", "reason", "evidence"} <= stage["checks"][1].keys()
    assert (stage["stage"], stage["checks"][1]["verdict"]) == ("deploy", "fail")
    assert {"type": "deployment_failed", "priority": 0, "requires_rollback": True}.items() <= document[
        "failure"
    ].items()


async def test_the_activity_writes_both_files_for_the_owner_only(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")

    written = await ActivityEnvironment().run(CloseActivities(home).write_report, rolled_back())

    path = Path(written.path)
    assert path == home.reports("shop", "staging") / "20261123T025807Z-00000000.json"
    files = {file.suffix: (stat.S_IMODE(file.stat().st_mode), file.read_text()) for file in path.parent.iterdir()}
    assert {mode for mode, _ in files.values()} == {0o600}
    assert json.loads(files[".json"][1])["report"] == str(path)
    assert files[".md"][1].startswith("# shop 1.1.0 was rolled back on staging")


def test_writing_again_ends_in_the_same_two_files(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")

    first = write_report(home, make_report(Outcome.RUNNING))
    second = write_report(home, rolled_back())

    assert first == second
    assert len(list(first.parent.iterdir())) == 2
    assert json.loads(first.read_text())["outcome"] == "rolled-back"


def test_a_secret_that_reads_like_a_number_leaves_the_json_whole(tmp_path: Path) -> None:
    remember("2026")
    remember("staging")
    report = make_report(reason="the pin is 2026", measured=Measured(verdict_to_stable=2026.0))

    document = json.loads(write_report(Home(tmp_path / "home"), report).read_text())

    assert document["reason"] == "the pin is ***"
    assert document["measured"]["verdict_to_stable"] == 2026.0
    assert document["target"] == "staging"

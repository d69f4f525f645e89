"""Reports as a worker would give them, for the tests of the command line."""

from datetime import UTC, datetime, timedelta
from typing import Any

from models.messages import Decision, Kind
from models.outcome import FailureType, Outcome, classify
from models.plan import CANARY_STEPS, Plan, PlannedStep
from models.release import Counters, Split
from models.report import DeploymentReport, Phase, Undone
from models.spec import StrategyKind
from models.verdict import CheckResult, Stage, StageResult, Verdict

BEGAN = datetime(2026, 5, 4, 9, 30, tzinfo=UTC)
PLAN = Plan(
    id="0123456789abcdef",
    service="shop",
    target="staging",
    version="1.1.0",
    previous_version="1.0.0",
    strategy=StrategyKind.CANARY,
    first=False,
    steps=tuple(
        PlannedStep(weight=s.weight, watch=s.watch, candidate_instances=2, stable_instances=2) for s in CANARY_STEPS
    ),
    bake=timedelta(minutes=5),
    min_requests=10,
    rehearse=True,
    approvals=(),
    approvers=("ann", "bob"),
    digests={},
    config_hash="",
)


def a_report(**fields: Any) -> DeploymentReport:
    """A deployment that has just begun, with `fields` instead of its own."""
    base: dict[str, Any] = {
        "workflow_id": "deploy/shop/staging",
        "run_id": "0f0e0d0c-0000-4000-8000-000000000001",
        "service": "shop",
        "target": "staging",
        "version": "1.1.0",
        "previous_version": "1.0.0",
        "strategy": StrategyKind.CANARY,
        "address": "127.0.0.1:8080",
        "by": "ann",
        "started": BEGAN,
    }
    return DeploymentReport(**(base | fields))


def passed(stage: Stage, checks: int = 3, seconds: float = 0.4) -> StageResult:
    """A stage that has passed."""
    found = tuple(CheckResult(name=f"check_{i}", verdict=Verdict.PASS, reason="fine") for i in range(checks))
    return StageResult(stage=stage, verdict=Verdict.PASS, started=BEGAN, seconds=seconds, checks=found)


def preflight() -> DeploymentReport:
    """The first stage is under way."""
    return a_report(stage=Stage.PREFLIGHT, doing="what serves now")


def second_step(weight: int = 25) -> DeploymentReport:
    """A canary at its second step."""
    return a_report(
        stage=Stage.DEPLOY,
        stages=(
            passed(Stage.PREFLIGHT),
            StageResult(stage=Stage.DEPLOY, verdict=Verdict.PASS, started=BEGAN + timedelta(seconds=1)),
        ),
        plan=PLAN,
        step=2,
        doing="step_25: watched for 5m",
        until=BEGAN + timedelta(minutes=16),
        split=Split(
            weights={"1.1.0-abc123": weight, "1.0.0-fed321": 100 - weight},
            counters={"1.1.0-abc123": Counters(requests=412), "1.0.0-fed321": Counters(requests=1237, errors=1)},
            seen=BEGAN,
        ),
    )


def failing() -> StageResult:
    """A deploy stage whose watch has failed."""
    bad = CheckResult(
        name="step_25",
        verdict=Verdict.FAIL,
        reason="41 of 412 answers of the candidate were errors (10.0%, stable 0.1%; allowed 5.0% beyond stable)",
    )
    return StageResult(
        stage=Stage.DEPLOY,
        verdict=Verdict.FAIL,
        started=BEGAN,
        seconds=613.2,
        checks=(*passed(Stage.DEPLOY).checks, bad),
    )


FAILURE = classify(FailureType.DEPLOYMENT, Stage.DEPLOY, "41 of 412 answers of the candidate were errors")
UNDONE = (
    Undone(what="the candidate 1.1.0-abc123", state="done"),
    Undone(what="traffic, instances and configuration: back to 1.0.0-fed321", state="done"),
)


def rolling_back() -> DeploymentReport:
    """A failed canary on its way back."""
    return a_report(
        phase=Phase.ROLLING_BACK,
        stages=(passed(Stage.PREFLIGHT), failing()),
        plan=PLAN,
        failure=FAILURE,
        doing="undo: the candidate 1.1.0-abc123",
        compensations=(UNDONE[0].model_copy(update={"state": "running"}), UNDONE[1]),
    )


def rollback_failed() -> DeploymentReport:
    """A rollback that waits for a person."""
    return a_report(
        outcome=Outcome.ROLLBACK_FAILED,
        phase=Phase.ROLLBACK_FAILED,
        stages=(passed(Stage.PREFLIGHT), failing()),
        plan=PLAN,
        failure=FAILURE,
        waiting_for="retry, skip or take-over: the candidate failed: StackError: it does not end",
        compensations=(
            UNDONE[0].model_copy(update={"state": "failed", "detail": "StackError: it does not end"}),
            UNDONE[1],
        ),
    )


def held() -> DeploymentReport:
    """An inconclusive watch has stopped it."""
    return second_step().model_copy(
        update={
            "outcome": Outcome.HELD,
            "waiting_for": "resume or rollback; held by deployment-specialist: step_25 was inconclusive",
            "decisions": (Decision(what="hold", by="deployment-specialist", at=BEGAN, reason="inconclusive"),),
        }
    )


def awaiting() -> DeploymentReport:
    """It waits for an approval."""
    return a_report(
        outcome=Outcome.AWAITING_APPROVAL,
        stages=(passed(Stage.PREFLIGHT),),
        plan=PLAN,
        waiting_for="approval of 1.1.0 before deploy, plan 0123456789abcdef, by ann, bob",
        until=BEGAN + timedelta(hours=24),
    )


def finished(outcome: Outcome, **fields: Any) -> DeploymentReport:
    """It has ended."""
    stages = tuple(passed(stage) for stage in Stage)
    own: dict[str, Any] = {"outcome": outcome, "phase": Phase.FINISHED, "stages": stages, "plan": PLAN}
    if outcome not in (Outcome.DEPLOYED,):
        own |= {"failure": FAILURE, "stages": (passed(Stage.PREFLIGHT), failing()), "compensations": UNDONE}
    own |= {"ended": BEGAN + timedelta(minutes=35), "report": "/somewhere/report.md"}
    return a_report(**(own | fields))


def rollback_done() -> DeploymentReport:
    """A rollback that was asked for after the end, and worked."""
    return finished(Outcome.ROLLED_BACK, kind=Kind.ROLLBACK, version="1.0.0", previous_version="1.1.0", failure=None)

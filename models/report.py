"""The one document about a deployment: its status while it runs, its result when it ended, the command line's JSON."""

from datetime import datetime
from enum import StrEnum

from models.base import WireModel
from models.messages import Decision, Kind
from models.outcome import Failure, Outcome
from models.plan import Plan
from models.release import Split
from models.spec import StrategyKind
from models.verdict import Stage, StageResult


class Phase(StrEnum):
    """Where a deployment stands."""

    FORWARD = "forward"
    ROLLING_BACK = "rolling-back"
    ROLLBACK_FAILED = "rollback-failed"
    FINISHED = "finished"


class Undone(WireModel):
    """One compensation: what it undoes, and how that went.

    Attributes:
        state: `registered`, `running`, `done`, `failed` or `skipped`.
    """

    what: str
    state: str = "registered"
    detail: str = ""


class Measured(WireModel):
    """Times that matter to users, in seconds; None where it did not come to that.

    Attributes:
        verdict_to_stable: from the failing verdict, or from the request to roll back, to 100 % stable at the router.
        rehearsal_back: how long the rehearsed rollback took until the old version was verified.
        rehearsal_forth: how long the redeploy after it took until the new version was verified.
    """

    verdict_to_stable: float | None = None
    rehearsal_back: float | None = None
    rehearsal_forth: float | None = None


class DeploymentReport(WireModel):
    """Everything about one run.

    Attributes:
        outcome: how it ended; while it runs: running, held, awaiting-approval or rollback-failed.
        waiting_for: what a person is asked for, in a sentence; empty when nobody is.
        until: when the wait under way ends.
        compensations: in the order in which they were registered; they run from the last to the first.
        not_rolled_back: what a rollback left as it was, in sentences.
        report: path of the report on the worker's machine; empty until it is written.
    """

    outcome: Outcome = Outcome.RUNNING
    phase: Phase = Phase.FORWARD
    kind: Kind = Kind.DEPLOY
    workflow_id: str
    run_id: str
    service: str
    target: str
    version: str
    previous_version: str | None = None
    strategy: StrategyKind
    address: str = ""
    by: str = ""
    reason: str = ""
    started: datetime
    ended: datetime | None = None
    stage: Stage | None = None
    step: int | None = None
    doing: str = ""
    until: datetime | None = None
    waiting_for: str = ""
    plan: Plan | None = None
    split: Split | None = None
    stages: tuple[StageResult, ...] = ()
    failure: Failure | None = None
    decisions: tuple[Decision, ...] = ()
    compensations: tuple[Undone, ...] = ()
    not_rolled_back: tuple[str, ...] = ()
    measured: Measured = Measured()
    report: str = ""

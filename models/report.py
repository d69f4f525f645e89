"""The one document about a deployment: its status while it runs, its result when it ended, the command line's JSON."""

from datetime import datetime
from enum import StrEnum

from pydantic_core import to_json

from models.base import WireModel
from models.messages import Decision, Kind
from models.notifications import Notified
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


# A report is a workflow's result and the answer to a query: Temporal takes 2 MiB of the one, 4 MiB of the other.
LARGEST_REPORT = 1 << 20
MOST_CHANGES = 200
LONGEST_LEFT = 1000


class DeploymentReport(WireModel):
    """Everything about one run.

    Attributes:
        outcome: how it ended; while it runs: running, held, awaiting-approval or rollback-failed.
        waiting_for: what a person is asked for, in a sentence; empty when nobody is.
        until: when the wait under way ends.
        compensations: in the order in which they were registered; they run from the last to the first.
        not_rolled_back: what a rollback left as it was, in sentences.
        task: the tracker's id of the task that it is for; empty where it is for none.
        notifications: who was told what, and whether it arrived; added to the report when everybody has been told.
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
    task: str = ""
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
    notifications: tuple[Notified, ...] = ()
    report: str = ""

    @property
    def cut_short(self) -> bool:
        """Whether the run was ended from outside: one that ends by itself says when."""
        return self.phase is Phase.FINISHED and self.ended is None

    def bounded(self) -> "DeploymentReport":
        """The same, small enough to travel: where it is not, the largest evidence is left out first, and says so."""
        report, size = self, _size(self)
        while size > LARGEST_REPORT:
            largest = max(
                (
                    (_size(check.evidence), s, c)
                    for s, each in enumerate(report.stages)
                    for c, check in enumerate(each.checks)
                ),
                default=(0, 0, 0),
            )
            if largest[0] <= LONGEST_LEFT:
                return report._without_lists()
            report = report._without_evidence(*largest)
            size = _size(report)
        return report

    def _without_evidence(self, size: int, stage: int, check: int) -> "DeploymentReport":
        result = self.stages[stage]
        checks, note = list(result.checks), {"left_out": f"{size:,} bytes: the report would be too large"}
        checks[check] = checks[check].model_copy(update={"evidence": note})
        stages = list(self.stages)
        stages[stage] = result.model_copy(update={"checks": tuple(checks)})
        return self.model_copy(update={"stages": tuple(stages)})

    def _without_lists(self) -> "DeploymentReport":
        if self.plan is None:
            return self
        changes = self.plan.changes
        cut = (
            (*changes[:MOST_CHANGES], f"and {len(changes) - MOST_CHANGES:,} more")
            if len(changes) > MOST_CHANGES
            else changes
        )
        update = {"changes": tuple(line[:LONGEST_LEFT] for line in cut), "digests": {}, "checks": ()}
        return self.model_copy(update={"plan": self.plan.model_copy(update=update)})


def _size(what: object) -> int:
    return len(to_json(what))

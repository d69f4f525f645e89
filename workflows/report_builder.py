"""What is known of a deployment so far: kept in one place, shown in the report, the status and the Temporal UI."""

from datetime import datetime

from temporalio import workflow

from models.gates import opens
from models.messages import DeploymentRequest
from models.outcome import Failure, Outcome
from models.plan import Plan
from models.release import Split
from models.report import DeploymentReport, Measured
from models.spec import DeploymentSpec
from models.verdict import CheckResult, Stage, StageResult, Verdict, combine
from workflows.current_details import render_panel
from workflows.message_handlers import MessageHandlers
from workflows.saga import Saga
from workflows.wire_names import OUTCOME_KEY, STAGE_KEY, VERSION_KEY


class ReportBuilder:
    """Collects; whoever changes something that people can see calls `show`."""

    def __init__(self, request: DeploymentRequest, desk: MessageHandlers, saga: Saga) -> None:
        self._request = request
        self._desk = desk
        self._saga = saga
        self.started = workflow.now()
        self.version = request.spec.release.version
        self.plan: Plan | None = None
        self.previous_version: str | None = None
        self.address = ""
        self.split: Split | None = None
        self.step: int | None = None
        self.doing = ""
        self.until: datetime | None = None
        self.waiting_for = ""
        self.ended: datetime | None = None
        self.outcome: Outcome | None = None
        self.failure: Failure | None = None
        self.measured = Measured()
        self.not_rolled_back: list[str] = []
        self.report_path = ""
        self._stages: list[StageResult] = []
        self._checks: list[CheckResult] = []
        self._stage: Stage | None = None
        self._stage_began = self.started

    @property
    def stages(self) -> tuple[StageResult, ...]:
        """The stages that have ended."""
        return tuple(self._stages)

    def begin(self, stage: Stage) -> None:
        """A stage begins."""
        self._stage, self._stage_began, self._checks = stage, workflow.now(), []
        workflow.upsert_search_attributes([STAGE_KEY.value_set(stage)])
        self.do("")

    def add(self, *checks: CheckResult) -> None:
        """Checks of the running stage have their verdicts."""
        self._checks.extend(checks)
        self.show()

    def replace(self, check: CheckResult) -> None:
        """A check of the running stage has another verdict now."""
        self._checks = [check if each.name == check.name else each for each in self._checks]
        self.show()

    def has_closed_check(self) -> bool:
        """Whether a check of the running stage says already why it does not go on."""
        return any(not opens(check.verdict) for check in self._checks)

    @property
    def stage(self) -> Stage | None:
        """The stage that is running."""
        return self._stage

    def moved_back(self, split: Split, seconds: float) -> None:
        """All traffic is on stable again, so many seconds after the verdict or the request."""
        self.split = split
        self.measured = self.measured.model_copy(update={"verdict_to_stable": round(max(seconds, 0.0), 4)})
        self.show()

    def end(self, *, stopped: bool = False) -> StageResult:
        """The running stage ends with what its checks say; one that was stopped has no verdict of its own."""
        result = self._result_so_far()
        assert result is not None  # noqa: S101  begin came before
        if stopped and opens(result.verdict):
            result = result.model_copy(update={"verdict": Verdict.SKIPPED})
        self._stages.append(result)
        self._stage, self._checks = None, []
        self.do("")
        return result

    def _result_so_far(self) -> StageResult | None:
        if self._stage is None:
            return None
        return StageResult(
            stage=self._stage,
            verdict=combine(check.verdict for check in self._checks),
            started=self._stage_began,
            seconds=round((workflow.now() - self._stage_began).total_seconds(), 3),
            checks=tuple(self._checks),
        )

    def do(self, what: str, *, until: datetime | None = None) -> None:
        """Says what is under way, and until when."""
        self.doing, self.until = what, until
        self.show()

    def show(self) -> None:
        """Brings the Temporal UI's panel up to date."""
        workflow.set_current_details(render_panel(self.report()))

    def change_version(self, version: str) -> None:
        """A rollback learns late which version it goes back to."""
        self.version = version
        workflow.upsert_search_attributes([VERSION_KEY.value_set(version)])

    def finish(self, outcome: Outcome) -> None:
        """The deployment has ended."""
        self.outcome, self.ended, self.waiting_for = outcome, workflow.now(), ""
        workflow.upsert_search_attributes([OUTCOME_KEY.value_set(outcome)])
        self.do("")

    def _standing(self) -> Outcome:
        if self._desk.phase == "rollback-failed":
            return Outcome.ROLLBACK_FAILED
        if self._desk.asked is not None:
            return Outcome.AWAITING_APPROVAL
        return Outcome.HELD if self._desk.inconclusive else Outcome.RUNNING

    def report(self) -> DeploymentReport:
        """The document about this deployment as of now."""
        running = self._result_so_far()
        if running is not None and not running.checks:
            running = running.model_copy(update={"verdict": Verdict.INCONCLUSIVE})
        info = workflow.info()
        spec: DeploymentSpec = self._request.spec
        return DeploymentReport(
            outcome=self.outcome or self._standing(),
            phase=self._desk.phase,
            kind=self._request.kind,
            workflow_id=info.workflow_id,
            run_id=info.run_id,
            service=spec.service,
            target=spec.target,
            version=self.version,
            previous_version=self.previous_version,
            strategy=spec.strategy.kind,
            address=self.address,
            by=self._request.by,
            task=self._request.task,
            reason=self._request.reason,
            started=self.started,
            ended=self.ended,
            stage=self._stage,
            step=self.step,
            doing=self.doing,
            until=self.until,
            waiting_for=self.waiting_for,
            plan=self.plan,
            split=self.split,
            stages=(*self._stages, running) if running is not None else self.stages,
            failure=self.failure,
            decisions=tuple(self._desk.decisions),
            compensations=tuple(each.shown() for each in self._saga.compensations),
            not_rolled_back=tuple(self.not_rolled_back),
            measured=self.measured,
            report=self.report_path,
        )

"""A deployment that does what a test tells it: the same wire as the real one, and none of its effects."""

from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from models.messages import Approval, Decision, DeploymentRequest, Request, Resolution
from models.outcome import Outcome
from models.report import DeploymentReport, Phase
from workflows import wire_names


@workflow.defn(name=wire_names.DEPLOYMENT_WORKFLOW)
class FakeWorkflow:
    """Shows the report it was last given; ends with one that is finished."""

    @workflow.init
    def __init__(self, request: DeploymentRequest) -> None:
        self._request = request
        self._decisions: list[Decision] = []
        self._report: DeploymentReport | None = None

    @workflow.run
    async def run(self, _: DeploymentRequest) -> DeploymentReport:
        """Waits for a finished report and ends as the real one does."""
        await workflow.wait_condition(lambda: self.status().phase is Phase.FINISHED)
        report = self.status()
        workflow.upsert_search_attributes([wire_names.OUTCOME_KEY.value_set(report.outcome)])
        if report.failure is not None:
            raise ApplicationError(str(report.outcome), report, type=report.outcome, non_retryable=True)
        return report

    @workflow.query(name=wire_names.STATUS)
    def status(self) -> DeploymentReport:
        """The report as this run's own."""
        spec, info = self._request.spec, workflow.info()
        own: dict[str, Any] = {
            "workflow_id": info.workflow_id,
            "run_id": info.run_id,
            "service": spec.service,
            "target": spec.target,
            "by": self._request.by,
            "reason": self._request.reason,
            "kind": self._request.kind,
        }
        shown = self._report or DeploymentReport(
            version=spec.release.version, strategy=spec.strategy.kind, started=info.start_time, **own
        )
        return shown.model_copy(update={**own, "decisions": (*shown.decisions, *self._decisions)})

    @workflow.signal
    def show(self, report: DeploymentReport) -> None:
        """From now on this is the status."""
        self._report = report

    @workflow.signal(name=wire_names.ROLLBACK)
    def roll_back(self, message: Request) -> None:
        """Only notes it: the test says what follows."""
        self._note("rollback", message.by, message.reason)

    @workflow.update(name=wire_names.ROLLBACK)
    def asked_to_roll_back(self, message: Request) -> Decision:
        """The same, with an answer."""
        return self._note("rollback", message.by, message.reason)

    @workflow.update(name=wire_names.APPROVE)
    def approve(self, message: Approval) -> Decision:
        """Takes a yes."""
        return self._note("approve deploy", message.by, message.reason)

    @approve.validator
    def _may_approve(self, message: Approval) -> None:
        if self.status().outcome is not Outcome.AWAITING_APPROVAL:
            raise ApplicationError("nothing waits for an approval now", type="Refused", non_retryable=True)

    @workflow.update(name=wire_names.REJECT)
    def reject(self, message: Approval) -> Decision:
        """Takes a no."""
        return self._note("reject deploy", message.by, message.reason)

    @workflow.update(name=wire_names.HOLD)
    def hold(self, message: Request) -> Decision:
        """Notes a hold."""
        return self._note("hold", message.by, message.reason)

    @workflow.update(name=wire_names.RESUME)
    def resume(self, message: Request) -> Decision:
        """Notes that it goes on."""
        return self._note("resume", message.by, message.reason)

    @workflow.update(name=wire_names.RESOLVE)
    def resolve(self, message: Resolution) -> Decision:
        """Notes a way out."""
        return self._note(message.way, message.by, message.reason)

    def _note(self, what: str, by: str, reason: str) -> Decision:
        decision = Decision(what=what, by=by, at=workflow.now(), reason=reason)
        self._decisions.append(decision)
        return decision

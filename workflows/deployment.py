"""A deployment, from top to bottom: six stages forward; one way back, at any moment, to exactly what was there before.

Whatever happens, it ends fully new, fully old, or waits loudly for a person. Each stage has its own module in
`workflows.stages`; what people can say to a running deployment is in `workflows.message_handlers`; how it is undone is
in `workflows.compensation`. This file changes only with `workflow.patched`: deployments that are under way run through
it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities import activity_stubs
    from models.messages import DeploymentRequest, Kind, Request
    from models.notifications import EventKind
    from models.outcome import Failure, FailureType, Outcome, classify
    from models.report import DeploymentReport, Phase
    from models.verdict import Stage
    from workflows import options, wire_names
    from workflows.approvals import approval
    from workflows.compensation import rollback_failed, take_traffic_back, undo_everything
    from workflows.concurrency import Tasks, run_to_completion, wait_until
    from workflows.failures import AbortedError, StageFailedError, describe
    from workflows.message_handlers import MessageHandlers
    from workflows.platform_client import execute
    from workflows.stages.close import close
    from workflows.stages.deploy import deploy, repair_traffic
    from workflows.stages.observe import observe
    from workflows.stages.preflight import find_way_back, preflight
    from workflows.stages.rehearse import rehearse
    from workflows.stages.verify import verify
    from workflows.transaction import Transaction


@workflow.defn(name=wire_names.DEPLOYMENT_WORKFLOW)
class DeploymentWorkflow(MessageHandlers):
    """Takes a service's target from one version to the next, or leaves it as it was."""

    @workflow.init
    def __init__(self, request: DeploymentRequest) -> None:
        super().__init__(request.spec.approvals.by, going_back=request.kind is Kind.ROLLBACK)
        self._cancelled = False
        self._t = Transaction(request, self)

    @workflow.run
    async def run(self, request: DeploymentRequest) -> DeploymentReport:
        """Runs to an end that can be relied on.

        Raises:
            ApplicationError: it did not end as it was meant to; its type is the outcome, its detail the report.
            CancelledError: it was cancelled, and everything is as it was before.
        """
        async with Tasks() as tasks:
            # A deployment that was begun before there were receivers has none.
            handing_over = tasks.start(self._t.announcer.hand_over()) if self._t.announcer.wanted else None
            await self._to_an_end(request)
            if handing_over is not None:  # what has ended is not cancelled any more, however late somebody asks
                await run_to_completion(workflow.wait([handing_over]), self._note_again)
        return self._ending()

    async def _to_an_end(self, request: DeploymentRequest) -> None:
        self._t.announce(EventKind.STARTED, *_asked(request))
        failure = await self._end_or_abort(self._six_stages() if request.kind is Kind.DEPLOY else self._the_way_back())
        if failure is None:
            outcome = Outcome.DEPLOYED if request.kind is Kind.DEPLOY else Outcome.ROLLED_BACK
        else:
            outcome = await run_to_completion(self._undo(failure), self._note_again)
        await run_to_completion(self._finish(outcome), self._note_again)

    async def _six_stages(self) -> None:
        await self._stage(Stage.PREFLIGHT, preflight)
        await self._stage(Stage.DEPLOY, deploy)
        await self._stage(Stage.VERIFY, verify)
        await self._stage(Stage.OBSERVE, observe)
        await self._stage(Stage.REHEARSE, rehearse)
        await self._stage(Stage.CLOSE, close)

    async def _the_way_back(self) -> None:
        """A rollback after the end of a deployment: in one step, without waiting for anybody."""
        await self._stage(Stage.PREFLIGHT, find_way_back)
        await self._stage(Stage.DEPLOY, repair_traffic if self._t.is_stable_already else deploy)
        await self._stage(Stage.VERIFY, verify)
        await self._stage(Stage.CLOSE, close)

    async def _stage(self, stage: Stage, body: Callable[[Transaction], Awaitable[None]]) -> None:
        await approval(self._t, stage)
        await self._t.stage(stage, body)

    async def _end_or_abort(self, stages: Coroutine[Any, Any, None]) -> Failure | None:
        """Waits for the stages, a request to roll back, or a cancellation; the last two move traffic at once."""
        async with Tasks() as tasks:
            forward = tasks.start(_failure_of(stages))
            try:
                await wait_until(lambda: forward.done() or self.rollback is not None)
            except asyncio.CancelledError:
                self._note_cancellation()
            if aborted := not forward.done():
                forward.cancel()
                await run_to_completion(self._traffic_first(forward), self._note_again)
        # What a stage that was interrupted has found is no reason: it looked while the traffic went back.
        failure = None if aborted or forward.cancelled() else forward.result()
        if failure is not None or self.rollback is None:
            return failure
        kind = FailureType.CANCELLED if self._cancelled else FailureType.REQUESTED
        said = f"{self.rollback.by}: {self.rollback.reason or 'no reason given'}"
        return classify(kind, self._t.record.stages[-1].stage if self._t.record.stages else None, said)

    async def _traffic_first(self, forward: "asyncio.Task[Failure | None]") -> None:
        async with Tasks() as tasks:
            tasks.start(take_traffic_back(self._t))
            await workflow.wait([forward])

    def _note_cancellation(self) -> None:
        self._cancelled = True
        if self.rollback is None:
            self._roll_back(Request(by="cancellation in Temporal", reason=workflow.cancellation_reason() or ""))

    def _note_again(self) -> None:
        self._note("cancel (the undoing is finished first)", "cancellation in Temporal", "")

    async def _undo(self, failure: Failure) -> Outcome:
        self._t.record.failure = failure
        if not self._t.saga.compensations:
            if failure.type is FailureType.REJECTED:
                return Outcome.REJECTED
            if failure.type is FailureType.FROZEN:
                return Outcome.FROZEN
            if self._t.request.kind is Kind.ROLLBACK and failure.stage is not Stage.PREFLIGHT:
                return Outcome.ROLLBACK_FAILED
            return Outcome.ROLLED_BACK if self.rollback is not None else Outcome.PREFLIGHT_FAILED
        outcome = await undo_everything(self._t)
        if self._t.request.kind is Kind.ROLLBACK and not self._cancelled:
            outcome = Outcome.ROLLBACK_FAILED  # it is as it was, but the rollback that was asked for did not happen
        if outcome is Outcome.ROLLBACK_FAILED:
            self._t.record.failure = rollback_failed(self._t.record.failure, "see what is left")
        return outcome

    async def _finish(self, outcome: Outcome) -> None:
        self.phase, self.ended_well = Phase.FINISHED, outcome is Outcome.DEPLOYED
        self._t.record.finish(outcome)
        try:
            written = await execute(
                activity_stubs.WRITE_REPORT, self._t.record.report().bounded(), options.RECORD, "write the report"
            )
            self._t.record.report_path = written.path
        except ActivityError as error:
            workflow.logger.error("the report could not be written: %s", describe(error))
            self._t.announce(EventKind.TROUBLE, "The report could not be written.", describe(error))
        self._t.announce_end(outcome)
        self._t.record.show()

    def _ending(self) -> DeploymentReport:
        report = self._t.record.report().bounded()
        if self.late_rollback is not None:
            asked = self.late_rollback
            workflow.continue_as_new(
                DeploymentRequest(spec=self._t.spec, kind=Kind.ROLLBACK, by=asked.by, reason=asked.reason)
            )
        if report.failure is None:
            return report
        if self._cancelled and report.outcome is Outcome.ROLLED_BACK:
            raise asyncio.CancelledError
        said = f"{report.outcome}: {report.failure.type}: {report.failure.reason}"
        raise ApplicationError(said, report, type=report.outcome, non_retryable=True)

    def changed(self) -> None:
        """Somebody has decided something: the panel shows it."""
        self._t.record.show()

    @workflow.query(name=wire_names.STATUS, description="The whole document about this deployment as of now")
    def status(self) -> DeploymentReport:
        """The report so far; also after the end."""
        return self._t.record.report().bounded()


def _asked(request: DeploymentRequest) -> tuple[str, ...]:
    what = "is rolled back" if request.kind is Kind.ROLLBACK else f"{request.spec.release.version} is being deployed"
    summary = f"{request.spec.service} on {request.spec.target}: {what}."
    return (summary, f"Asked for by {request.by}{f': {request.reason}' if request.reason else ''}")


async def _failure_of(stages: Coroutine[Any, Any, None]) -> Failure | None:
    """Runs the stages; gives the failure that ended them, if one did. Any other error is a bug: it fails the workflow
    task, which is retried until the bug is mended.
    """
    try:
        await stages
    except StageFailedError as error:
        return error.failure
    except AbortedError:
        pass
    return None

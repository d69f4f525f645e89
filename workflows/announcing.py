"""Hands a deployment's events to the workflow that tells its receivers. A deployment never waits for a receiver.

The events are handed over by a task beside the stages. What it waits for is Temporal alone, which has to answer for the
deployment anyway.
"""

from datetime import timedelta
from functools import partial

from temporalio import workflow
from temporalio.exceptions import FailureError
from temporalio.workflow import ChildWorkflowCancellationType, ParentClosePolicy

from models.messages import DeploymentRequest
from models.names import notifications_id
from models.notifications import Event, EventKind, NotificationsOrder
from models.report import DeploymentReport
from workflows import wire_names
from workflows.concurrency import wait_until
from workflows.failures import describe

# After so many reminders of one failed rollback they come at most this often: they stay in the history.
OFTEN = 48
SELDOM = timedelta(hours=6)


class Announcer:
    """Collects events, and hands them over in their order.

    Nothing happens for a spec without receivers: no command is issued, as in deployments from before there were any.
    """

    def __init__(self, request: DeploymentRequest) -> None:
        self._request = request
        self._started = workflow.now()
        self._events: list[Event] = []
        self._closed = False

    @property
    def wanted(self) -> bool:
        """Whether anybody is to be told."""
        return bool(self._request.spec.notify.receivers)

    def reminds_after(self, told: int) -> timedelta | None:
        """How long after the `told`th time a failed rollback is told again; None: nobody is told."""
        if not self.wanted:
            return None
        remind = self._request.spec.notify.remind
        return remind if told < OFTEN else max(remind, SELDOM)

    def announce(
        self,
        kind: EventKind,
        report: DeploymentReport,
        summary: str,
        *,
        details: tuple[str, ...] = (),
        commands: tuple[str, ...] = (),
        reminder: int = 0,
        last: bool = False,
    ) -> None:
        """Notes that something happened; it is handed over soon."""
        if not self.wanted or self._closed:
            return
        sequence = len(self._events) + 1
        self._events.append(
            Event(
                id=f"{report.run_id}.{sequence}",
                sequence=sequence,
                kind=kind,
                at=workflow.now(),
                service=report.service,
                target=report.target,
                version=report.version,
                previous_version=report.previous_version,
                outcome=report.outcome,
                by=report.by,
                address=report.address,
                summary=summary[:600],
                details=tuple(line[:600] for line in details[:20]),
                commands=commands,
                failure=report.failure.type if report.failure else "",
                workflow_id=report.workflow_id,
                run_id=report.run_id,
                reminder=reminder,
                last=last,
            )
        )
        self._closed = last

    def _has_more_than(self, handed: int) -> bool:
        return len(self._events) > handed or self._closed

    async def hand_over(self) -> None:
        """Starts the workflow beside this one and hands each event to it, until the last one."""
        spec, info = self._request.spec, workflow.info()
        order = NotificationsOrder(
            service=spec.service,
            target=spec.target,
            version=spec.release.version,
            deployment_id=info.workflow_id,
            deployment_run=info.run_id,
            started=self._started,
            receivers=spec.notify.receivers,
        )
        try:
            child = await workflow.start_child_workflow(
                wire_names.NOTIFICATIONS_WORKFLOW,
                order,
                id=notifications_id(spec.service, spec.target, info.run_id),
                # However this one ends, it learns of it; what it has been handed it still tells.
                parent_close_policy=ParentClosePolicy.REQUEST_CANCEL,
                cancellation_type=ChildWorkflowCancellationType.ABANDON,
                static_summary="tells the receivers",
            )
            handed = 0
            while True:
                await wait_until(partial(self._has_more_than, handed))
                if handed == len(self._events):
                    return
                event, handed = self._events[handed], handed + 1
                await child.signal(wire_names.ANNOUNCE, event)
        except FailureError as error:
            workflow.logger.error("the receivers are not told: %s", describe(error))

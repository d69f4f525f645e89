"""Tells the receivers of one deployment, beside it: the deployment hands over its events and waits for nobody.

Each receiver is told on its own, in the order in which things happened. An attempt runs once; whether another one
follows is decided here, by what came of it. At the end everything that was sent is added to the report.
"""

from datetime import timedelta
from functools import partial

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import activity_stubs
    from models.notifications import (
        Announcement,
        Answered,
        Delivery,
        Event,
        EventKind,
        NotificationsOrder,
        NotificationsRecord,
        Notified,
        Receiver,
    )
    from models.outcome import Outcome
    from workflows import options, wire_names
    from workflows.concurrency import Tasks, run_to_completion, sleep, wait_until
    from workflows.failures import describe
    from workflows.platform_client import execute

# Waited before another attempt; fewer are made while later events wait for this receiver.
PAUSES = tuple(timedelta(seconds=each) for each in (5, 15, 60, 180, 300))
ATTEMPTS_IN_A_QUEUE = 3


@workflow.defn(name=wire_names.NOTIFICATIONS_WORKFLOW)
class NotificationsWorkflow:
    """Tells everybody, and ends when nothing more can happen to the deployment."""

    @workflow.init
    def __init__(self, order: NotificationsOrder) -> None:
        self._order = order
        self._events: list[Event] = []
        self._notified: list[Notified] = []
        self._closed = False

    @workflow.run
    async def run(self, order: NotificationsOrder) -> NotificationsRecord:
        """Runs until the last event has been told, or the deployment was ended from outside."""
        await run_to_completion(self._tell_all(), self._deployment_ended)
        record = NotificationsRecord(
            service=order.service,
            target=order.target,
            deployment_run=order.deployment_run,
            started=order.started,
            notified=tuple(sorted(self._notified, key=lambda each: (each.happened, each.receiver))),
        )
        await run_to_completion(self._record(record), self._deployment_ended)
        return record

    @workflow.signal(name=wire_names.ANNOUNCE)
    def announce(self, event: Event) -> None:
        """Something happened to the deployment."""
        self._events.append(event)
        self._closed = self._closed or event.last

    @workflow.query(name=wire_names.STATUS, description="Who was told what so far")
    def status(self) -> list[Notified]:
        """What was sent so far, and what came of it."""
        return self._notified

    def _deployment_ended(self) -> None:
        """The deployment has ended, and with it whoever sends events: without a last one it was ended from outside."""
        if not self._closed:
            self._events.append(self._cut_short())
        self._closed = True

    def _cut_short(self) -> Event:
        order, sequence = self._order, len(self._events) + 1
        before = self._events[-1] if self._events else None
        return Event(
            id=f"{order.deployment_run}.{sequence}",
            sequence=sequence,
            kind=EventKind.TROUBLE,
            at=workflow.now(),
            service=order.service,
            target=order.target,
            version=order.version,
            previous_version=before.previous_version if before else None,
            outcome=before.outcome if before else Outcome.RUNNING,
            summary=f"The deployment of {order.service} {order.version} to {order.target} was ended from outside.",
            details=("It was terminated or ran out of time: nothing was undone. Traffic may be divided.",),
            commands=(f"status {order.service}/{order.target}",),
            workflow_id=order.deployment_id,
            run_id=order.deployment_run,
            last=True,
        )

    async def _tell_all(self) -> None:
        async with Tasks() as tasks:
            for receiver in self._order.receivers:
                tasks.start(self._tell(receiver))

    def _has_more_than(self, told: int) -> bool:
        return len(self._events) > told or self._closed

    async def _tell(self, receiver: Receiver) -> None:
        told = 0
        while True:
            await wait_until(partial(self._has_more_than, told))
            if told == len(self._events):
                return
            event, told = self._events[told], told + 1
            if event.kind in receiver.when:
                await self._deliver(receiver, event)

    async def _deliver(self, receiver: Receiver, event: Event) -> None:
        attempt = 0
        while True:
            attempt += 1
            answered = await self._attempt(receiver, event, attempt)
            final = answered.state in (Delivery.DELIVERED, Delivery.REFUSED) or attempt > len(PAUSES)
            if final or (attempt >= ATTEMPTS_IN_A_QUEUE and event is not self._events[-1]):
                break
            pause = max(PAUSES[attempt - 1], timedelta(seconds=answered.again_in or 0))
            await sleep(pause, f"before {receiver.name} is told again")
        self._notified.append(
            Notified(
                event=event.kind,
                event_id=event.id,
                receiver=receiver.name,
                state=answered.state,
                attempts=attempt,
                why=answered.why,
                happened=event.at,
                ended=workflow.now(),
            )
        )

    async def _attempt(self, receiver: Receiver, event: Event, attempt: int) -> Answered:
        order = Announcement(receiver=receiver, event=event, attempt=attempt)
        try:
            return await execute(activity_stubs.ANNOUNCE, order, options.ANNOUNCE, f"{event.kind} to {receiver.name}")
        except ActivityError as error:
            return Answered(state=Delivery.UNKNOWN, why=f"it is not known whether it arrived: {describe(error)}"[:300])

    async def _record(self, record: NotificationsRecord) -> None:
        try:
            await execute(activity_stubs.RECORD_NOTIFICATIONS, record, options.RECORD, "add them to the report")
        except ActivityError as error:
            workflow.logger.warning("the notifications are not in the report: %s", describe(error))

"""Deployments of one target take turns, first in, first out, whatever dies meanwhile: a target's queue is a workflow.

It starts each deployment under the target's own id, which stays the lock: whoever deploys or rolls back directly may
take it in between, and the queue waits once more. It never holds what is under way; it sees it end.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from pydantic import ValidationError
from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities import activity_stubs
    from models.messages import Decision, DeploymentRequest, Request
    from models.names import workflow_id
    from models.preflight.queueing import (
        LARGEST_TOGETHER,
        MOST_LEFT,
        MOST_WAITING,
        Entry,
        ExitKind,
        Left,
        QueueState,
        QueueView,
        StartOrder,
        Turn,
        TurnQuestion,
        Waiting,
        Withdrawal,
    )
    from workflows import options, wire_names
    from workflows.concurrency import Tasks, wait_until
    from workflows.failures import describe
    from workflows.platform_client import execute

# An empty queue stays for those who ask what became of their deployment; a later one begins anew.
_LINGERS = timedelta(minutes=10)
_LONGEST_HISTORY = 4000


@workflow.defn(name=wire_names.QUEUE_WORKFLOW)
class QueueWorkflow:
    """The deployments that wait for one target."""

    @workflow.init
    def __init__(self, state: QueueState) -> None:
        self._service, self._target = state.service, state.target
        self._waiting: list[Entry] = list(state.waiting)
        self._left: list[Left] = list(state.left)
        self._doing = ""
        self._starting = ""

    @workflow.run
    async def run(self, state: QueueState) -> QueueView:
        """Serves whoever waits, and ends when nobody has for a while."""
        while True:
            with suppress(TimeoutError):
                await wait_until(lambda: bool(self._waiting), _LINGERS, "empty")
            if not self._waiting:
                return self.view()
            await self._serve(self._waiting[0])
            self._do("")
            if self._is_long():
                workflow.continue_as_new(self._state())

    async def _serve(self, head: Entry) -> None:
        """Sees the target free and starts the first one; returns early when another one is first meanwhile."""
        beyond = ""
        while (turn := await self._turn_of(head, beyond)) is not None:
            if not turn.trouble:
                await self._start(head)
                return
            if head.supersede:
                self._leave(head, ExitKind.STOPPED, f"{turn.trouble}; nothing was started")
                return
            beyond = turn.run_id
            self._do(f"{turn.trouble}: a person deploys or rolls back first; or withdraws what waits")

    async def _turn_of(self, head: Entry, beyond: str) -> Turn | None:
        """Waits for its turn; None when it is not the first any more, or this run has become long."""
        if not beyond:
            self._do(
                "the older deployment is asked to roll back" if head.supersede else "the deployment before has to end"
            )
        question, waited = self._question(head, beyond), True
        try:
            async with Tasks() as tasks:
                waits = tasks.start(
                    execute(activity_stubs.WAIT_FOR_TURN, question, options.TURN, "until the target is free")
                )
                await wait_until(lambda: waits.done() or not self._is_first(head) or self._is_long())
                waited = waits.done() and self._is_first(head)
                if not waited:
                    tasks.cancel()
                    await workflow.wait([waits])
        except ActivityError:
            if waited:
                raise
            return None
        return waits.result() if waited else None

    def _question(self, head: Entry, beyond: str) -> TurnQuestion:
        assert head.asked is not None  # noqa: S101  set when it came in
        says = Request(
            by=head.by, reason=f"superseded by {head.version}, which {head.by} deploys (ticket {head.ticket})"
        )
        return TurnQuestion(
            workflow_id=workflow_id(self._service, self._target),
            outcome=wire_names.OUTCOME_KEY.name,
            stage=wire_names.STAGE_KEY.name,
            since=head.asked,
            beyond=beyond,
            update=wire_names.ROLLBACK if head.supersede else "",
            rollback=says if head.supersede else None,
            ticket=head.ticket,
        )

    async def _start(self, head: Entry) -> None:
        self._starting = head.ticket  # from here on it can be rolled back, and no longer withdrawn or replaced
        self._do(f"starts {head.version}")
        try:
            started = await execute(activity_stubs.START_DEPLOYMENT, self._order(head), options.START, self._doing)
        except ActivityError as error:
            self._leave(head, ExitKind.REFUSED, describe(error))
            return
        finally:
            self._starting = ""
        if started.run_id:
            self._leave(head, ExitKind.STARTED, run_id=started.run_id)

    def _order(self, head: Entry) -> StartOrder:
        request = _request(head)
        return StartOrder(
            workflow=wire_names.DEPLOYMENT_WORKFLOW,
            workflow_id=workflow_id(self._service, self._target),
            ticket=head.ticket,
            request=request,
            summary=f"{self._service} {request.spec.release.version} → {self._target}",
            attributes={
                wire_names.SERVICE_KEY.name: self._service,
                wire_names.TARGET_KEY.name: self._target,
                wire_names.VERSION_KEY.name: request.spec.release.version,
            },
        )

    def _is_first(self, entry: Entry) -> bool:
        return bool(self._waiting) and self._waiting[0].ticket == entry.ticket

    def _is_long(self) -> bool:
        info = workflow.info()
        return info.is_continue_as_new_suggested() or info.get_current_history_length() > _LONGEST_HISTORY

    def _state(self) -> QueueState:
        return QueueState(
            service=self._service, target=self._target, waiting=tuple(self._waiting), left=tuple(self._left)
        )

    def _do(self, what: str) -> None:
        self._doing = what
        lines = [f"### queue of {self._service} → {self._target}", what, ""]
        lines += [f"{n}. {each.version} by {each.by}, ticket {each.ticket}" for n, each in enumerate(self._waiting, 1)]
        workflow.set_current_details("\n".join(lines))

    def _leave(self, entry: Entry, how: ExitKind, reason: str = "", *, by: str = "", run_id: str = "") -> None:
        self._waiting = [each for each in self._waiting if each.ticket != entry.ticket]
        left = Left(
            ticket=entry.ticket,
            how=how,
            version=entry.version,
            by=by or entry.by,
            at=workflow.now(),
            run_id=run_id,
            reason=reason,
            strategy=entry.strategy,
        )
        self._left = [*self._left, left][-MOST_LEFT:]
        self._do(self._doing)

    # What can be said to it.

    @workflow.signal(name=wire_names.ENQUEUE, description="A deployment wants its turn")
    def enqueue(self, *sent: Any) -> None:
        """A signal, so that it counts also while no worker is there."""
        entry = _read(sent)
        known = {*(each.ticket for each in self._waiting), *(each.ticket for each in self._left)}
        if entry is None or entry.ticket in known:
            return
        entry = entry.model_copy(update={"asked": workflow.now()})
        if why := self._against(entry):
            self._leave(entry, ExitKind.REFUSED, why)
        elif entry.supersede:
            self._put_first(entry)
        else:
            self._waiting.append(entry)
        self._do(self._doing)

    def _against(self, entry: Entry) -> str:
        try:
            spec = _request(entry).spec
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            return f"the worker cannot read this request: {place}: {first['msg']}"
        if (spec.service, spec.target) != (self._service, self._target):
            return f"it is for {spec.service}/{spec.target}, and this is the queue of {self._service}/{self._target}"
        if len(self._waiting) >= MOST_WAITING:
            return f"the queue is full: {MOST_WAITING} deployments wait already"
        if self._is_too_large([each.request for each in (*self._waiting, entry)]):
            return f"the queue is full: together the specs have more than {LARGEST_TOGETHER >> 20} MiB"
        return ""

    def _is_too_large(self, requests: list[Any]) -> bool:
        if not workflow.patched("queue-counts-bytes"):
            return len(json.dumps(requests)) > LARGEST_TOGETHER
        # One alone fits: it is no larger than a spec may be.
        together = json.dumps(requests, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        return len(requests) > 1 and len(together) > LARGEST_TOGETHER

    def _put_first(self, entry: Entry) -> None:
        """Before those who wait; instead of one that wanted to supersede and has not been started."""
        for other in [each for each in self._waiting if each.supersede and each.ticket != self._starting]:
            why = f"superseded by {entry.version}, which {entry.by} deploys, before it was started"
            self._leave(other, ExitKind.REPLACED, why, by=entry.by)
        starting = [each for each in self._waiting if each.ticket == self._starting]
        self._waiting = [*starting, entry, *(each for each in self._waiting if each not in starting)]

    @workflow.update(name=wire_names.WITHDRAW)
    def withdraw(self, message: Withdrawal) -> Decision:
        """Takes a deployment out of the queue."""
        entry = next(each for each in self._waiting if each.ticket == message.ticket)
        said = f": {message.reason}" if message.reason else ""
        self._leave(entry, ExitKind.WITHDRAWN, f"withdrawn from the queue by {message.by}{said}", by=message.by)
        return Decision(what=f"withdraw {entry.version}", by=message.by, at=workflow.now(), reason=message.reason)

    @withdraw.validator
    def _may_withdraw(self, message: Withdrawal) -> None:
        why = ""
        if message.ticket == self._starting:
            why = "it is being started now; rollback undoes it"
        elif all(each.ticket != message.ticket for each in self._waiting):
            left = next((each for each in self._left if each.ticket == message.ticket), None)
            why = f"it waits no more: {left.how}" if left else f"no deployment with the ticket {message.ticket} waits"
        if why:
            raise ApplicationError(why, type="Refused", non_retryable=True)

    @workflow.query(name=wire_names.WAITING, description="Who waits, and what became of those who have waited")
    def view(self) -> QueueView:
        """The queue as of now."""
        waiting = (
            Waiting(
                ticket=each.ticket,
                version=each.version,
                by=each.by,
                asked=each.asked or workflow.info().start_time,
                supersede=each.supersede,
                strategy=each.strategy,
            )
            for each in self._waiting
        )
        return QueueView(waiting=tuple(waiting), left=tuple(self._left), doing=self._doing)


def _read(sent: Sequence[Any]) -> Entry | None:
    """What a signal carries, if it can be understood: one that cannot must not stop the others."""
    try:
        return Entry.model_validate(sent[0]) if len(sent) == 1 else None
    except ValidationError:
        return None


def _request(entry: Entry) -> DeploymentRequest:
    """The request as it would have come over the wire.

    Raises:
        ValidationError: this worker cannot read it.
    """
    return DeploymentRequest.model_validate_json(json.dumps(entry.request))

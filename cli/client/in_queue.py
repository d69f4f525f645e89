"""One place in a target's queue, seen from outside: the queue goes on whether anybody looks or not.

Worker and server may be away for a while; that is said once and the asking goes on.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from datetime import datetime

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowQueryFailedError, WorkflowQueryRejectedError
from temporalio.service import RPCError, RPCStatusCode

from cli.client.connection import ANSWER_WITHIN, rpc_sentence
from cli.client.status import StatusUnavailableError
from cli.exits import CommandError
from cli.render.summary import moment
from cli.render.terminal import clean, say
from models.names import queue_id, workflow_id
from models.preflight.queueing import ExitKind, Left, QueueView, Waiting
from workflows.wire_names import WAITING

Subject = tuple[str, str]
LOOK_BACK = 20


class InQueue:
    """Looks at the queue again and again for one ticket, and tells what changes.

    Args:
        client: of the Temporal in which it waits.
        subject: service and target.
        ticket: which one.
        patience: seconds for which nobody need know it.
    """

    def __init__(self, client: Client, subject: Subject, ticket: str, *, patience: float) -> None:
        self._client = client
        self.subject = subject
        self._patience = patience
        self._told = ""
        self._looks = 0
        self._unknown_since: float | None = None
        self.ticket = ticket
        self.seen: Waiting | None = None

    async def step(self) -> Left | None:
        """Looks once; returns what became of it when it waits no more.

        Raises:
            CommandError: nobody knows the ticket.
        """
        try:
            view = await look_at_queue(self._client, self.subject)
            found = next((each for each in view.left if each.ticket == self.ticket), None)
            number = next((n for n, each in enumerate(view.waiting) if each.ticket == self.ticket), None)
            if found is None and number is None:
                return await self._look_for_run()
        except (StatusUnavailableError, RPCError) as failed:
            self._tell(f"{failed}; trying on, the queue does not depend on this")
            return None
        self._unknown_since = None
        if found is not None:
            return found
        assert number is not None  # noqa: S101  asked above
        self.seen = view.waiting[number]
        doing = f": {clean(view.doing)}" if view.doing and number == 0 else ""
        self._tell(f"queued, number {number + 1} of {len(view.waiting)}, ticket {self.ticket}{doing}")
        await self._is_served()
        return None

    def _tell(self, what: str) -> None:
        if what != self._told:
            say(f"{datetime.now().astimezone():%H:%M:%S} {what}")
        self._told = what

    async def _look_for_run(self) -> Left | None:
        """A queue that was started anew has forgotten whom the former one has started; the runs have not."""
        async for run in self._client.list_workflows(f"WorkflowId = '{workflow_id(*self.subject)}'", limit=LOOK_BACK):
            if (await run.memo()).get("ticket") == self.ticket:
                return Left(ticket=self.ticket, how=ExitKind.STARTED, at=run.start_time, run_id=run.run_id)
        self._unknown_since = self._unknown_since or time.monotonic()
        if time.monotonic() - self._unknown_since > self._patience:
            name = "/".join(self.subject)
            raise CommandError(f"no deployment of {name} with the ticket {clean(self.ticket, 40)} is known")
        return None

    async def _is_served(self) -> None:
        """A queue that was ended from outside goes on answering; what waits in it waits for ever."""
        self._looks += 1
        if self._looks % 10:
            return
        try:
            description = await self._client.get_workflow_handle(queue_id(*self.subject)).describe(
                rpc_timeout=ANSWER_WITHIN
            )
        except RPCError:
            return  # the next look says more
        if description.status not in (WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.CONTINUED_AS_NEW):
            raise CommandError(f"the queue of {'/'.join(self.subject)} was ended from outside; nothing was started")


async def look_at_queue(client: Client, subject: Subject) -> QueueView:
    """Asks the queue.

    Raises:
        StatusUnavailableError: nobody answered; worth another try.
    """
    try:
        async with asyncio.timeout(ANSWER_WITHIN.total_seconds()):
            handle = client.get_workflow_handle(queue_id(*subject))
            view: QueueView = await handle.query(WAITING, result_type=QueueView)
            return view
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return QueueView()
        if error.status is RPCStatusCode.UNAVAILABLE:
            raise StatusUnavailableError("Temporal", "Temporal does not answer") from None
        raise StatusUnavailableError("the worker", "the worker does not answer") from None
    except (TimeoutError, WorkflowQueryFailedError, WorkflowQueryRejectedError):
        raise StatusUnavailableError("the worker", "the worker does not answer") from None


async def who_waits(client: Client, subject: Subject) -> list[Waiting]:
    """Those who wait, the next one first; none where nobody can be asked, which is said."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN.total_seconds()):
            description = await client.get_workflow_handle(queue_id(*subject)).describe()
        running = description.status is WorkflowExecutionStatus.RUNNING
        return list((await look_at_queue(client, subject)).waiting) if running else []
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            say(f"the queue could not be asked: {rpc_sentence(error)}")
    except (TimeoutError, StatusUnavailableError):
        say(f"there is a queue of {'/'.join(subject)}, and nobody answers who waits")
    return []


def describe_queue(waiting: Sequence[Waiting]) -> Iterator[str]:
    """One line for each one that waits."""
    for number, each in enumerate(waiting, start=1):
        how = "supersedes what runs" if each.supersede else f"waits since {moment(each.asked)}"
        yield f"queued, number {number}: {clean(each.version)} by {clean(each.by)}, {how}, ticket {each.ticket}"

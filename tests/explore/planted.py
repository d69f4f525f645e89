"""Old faults, put back on purpose: what shows that the explorer finds them.

Each was once in the workflow, or is what a rule of the workflow keeps out of it.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError

from models.messages import Approval
from tests.explore.world import World
from workflows import approvals, concurrency, message_handlers, saga, watch
from workflows.stages import rehearse
from workflows.transaction import Transaction

Undo = Callable[[], None]


def _replace(owner: Any, name: str, value: Any) -> Undo:
    before = getattr(owner, name)
    setattr(owner, name, value)
    return lambda: setattr(owner, name, before)


def a_watcher_is_left_behind() -> list[Undo]:
    """A wait that is over leaves its watcher running: whatever is stopped later on looks like a dead candidate."""

    async def wait(t: Transaction, decided: Callable[[], bool], longest: timedelta, summary: str) -> bool:
        guard = asyncio.create_task(_old_guard(t)) if t.moved else None
        try:
            await workflow.wait_condition(
                lambda: decided() or (guard is not None and guard.done()), timeout=longest, timeout_summary=summary
            )
        except TimeoutError:
            return False
        finally:
            t.record.waiting_for = ""
            if guard is not None and not guard.done():
                guard.cancel()
        if guard is not None and guard.done() and not guard.cancelled():
            guard.result()
        t.go_on()
        return True

    return [_replace(approvals, "_wait", wait)]


async def _old_guard(t: Transaction) -> None:
    while True:
        try:
            inspection = await t.verbs.inspect(t.candidate, t.plan.steps[-1].candidate_instances)
            await watch.Watched(t, "meanwhile", inspection).until(timedelta(hours=1), 0, note="while a person decides")
        except ActivityError:
            await workflow.sleep(10)


def undone_in_forward_order() -> list[Undo]:
    """The first effect is undone first: the candidate goes while it has users."""

    def open_(self: saga.Saga) -> list[saga.Compensation]:
        return [each for each in self.compensations if each.state not in ("done", "skipped")]

    return [_replace(saga.Saga, "open", open_)]


def a_watch_is_shortened_by_a_restart() -> list[Undo]:
    """A watch whose worker died passes as soon as it begins again, and nobody keeps the time that was promised."""
    real = World._watch

    def shortened(self: World, attempt: Any, order: Any) -> Any:
        if attempt.number > 1:
            order = order.model_copy(update={"deadline": self.server.now + timedelta(seconds=1)})
        return (yield from real(self, attempt, order))

    return [_replace(World, "_watch", shortened), _replace(watch, "sleep", _returns_at_once)]


async def _returns_at_once(*_: Any) -> None:
    pass


def a_cancelled_task_begins_to_wait() -> list[Undo]:
    """A watch's answer that comes with the end of the wait swallows that end: its watcher sleeps on for an hour."""
    return [_replace(concurrency, "_begins_no_wait_when_cancelled", lambda: None)]


def an_approval_is_bound_to_no_plan() -> list[Undo]:
    """A yes to one plan counts for another one."""
    real = message_handlers.MessageHandlers._against_approval

    def against(self: message_handlers.MessageHandlers, message: Approval) -> str:
        return real(self, message.model_copy(update={"plan": ""}))

    return [_replace(message_handlers.MessageHandlers, "_against_approval", against)]


def what_serves_is_retired() -> list[Undo]:
    """The rehearsal takes the candidate down before its users are somewhere else."""
    real = rehearse._back

    async def back(t: Transaction) -> None:
        await t.verbs.retire(t.candidate.id)
        await real(t)

    return [_replace(rehearse, "_back", back)]


PLANTED: dict[str, Callable[[], list[Undo]]] = {
    each.__name__: each
    for each in (
        a_watcher_is_left_behind,
        undone_in_forward_order,
        a_watch_is_shortened_by_a_restart,
        an_approval_is_bound_to_no_plan,
        what_serves_is_retired,
        a_cancelled_task_begins_to_wait,
    )
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Meanwhile the fault is there."""
    undo = PLANTED[name]()
    try:
        yield
    finally:
        for each in undo:
            each()

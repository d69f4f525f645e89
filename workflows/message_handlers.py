"""Where people speak to a running deployment: signals, updates with an answer, and what they have asked for so far.

Handlers only note what was asked, after checking that it makes sense now; the workflow acts on it. An update that makes
no sense is refused to its caller; a signal that makes none is noted as refused, because nobody waits for an answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from temporalio import workflow
from temporalio.exceptions import ApplicationError

from models.messages import Approval, Decision, Request, Resolution, Way
from models.names import same_person
from models.report import Phase
from models.verdict import Stage
from workflows import wire_names


@dataclass
class AskedApproval:
    """An approval that is waited for."""

    stage: Stage
    plan: str


class MessageHandlers:
    """Base of the workflow: its message handlers, and the state they set."""

    def __init__(self, approvers: Sequence[str], *, going_back: bool = False) -> None:
        self._approvers = approvers
        self._going_back = going_back
        self._approves_nothing = ""
        self.phase = Phase.FORWARD
        self.decisions: list[Decision] = []
        self.asked: AskedApproval | None = None
        self.approved: bool | None = None
        self.holding: Request | None = None
        self.inconclusive = False
        self.rollback: Request | None = None
        self.rollback_at: datetime | None = None
        self.late_rollback: Request | None = None
        self.ended_well = False
        self.resolution: Resolution | None = None

    # What would be refused, in one sentence; empty when it makes sense now.

    def _against_approval(self, message: Approval) -> str:
        if self.asked is None or self.approved is not None or self.rollback is not None:
            return "nothing waits for an approval now"
        if message.plan and message.plan != self.asked.plan:
            return f"that approval is for the plan {message.plan}; the one that waits is {self.asked.plan}"
        if self._approvers and message.by not in self._approvers:
            return f"{message.by} may not decide here; may: {', '.join(self._approvers)}"
        return ""

    def _against_yes(self, message: Approval) -> str:
        why = self._against_approval(message)
        if not why and self._approves_nothing and same_person(message.by, self._approves_nothing):
            return f"{message.by} has broken the glass: a second person approves it"
        return why

    def _against_rollback(self, _: Request) -> str:
        if self.phase is Phase.FINISHED:
            return "the deployment has just finished; ask again to go back to the release before it"
        if self._going_back or self.rollback is not None or self.phase is not Phase.FORWARD:
            return "it is being rolled back already"
        return ""

    def _against_hold(self, _: Request) -> str:
        if self.phase is not Phase.FORWARD or self.rollback is not None:
            return f"there is nothing to hold: {self.phase}"
        return "it is held already" if self.holding is not None else ""

    def _against_resume(self, _: Request) -> str:
        return "" if self.holding is not None and self.rollback is None else "it is not held"

    def _against_resolution(self, message: Resolution) -> str:
        if self.phase is not Phase.ROLLBACK_FAILED or self.resolution is not None:
            return "no failed rollback waits for a decision"
        if message.way is Way.SKIP and not message.reason:
            return "to skip an undo needs a reason"
        return ""

    # What is done when it does make sense.

    def _note(self, what: str, by: str, reason: str) -> Decision:
        decision = Decision(what=what, by=by, at=workflow.now(), reason=reason)
        self.decisions.append(decision)
        self.changed()
        return decision

    def _decide(self, message: Approval, approved: bool) -> Decision:
        assert self.asked is not None  # noqa: S101  checked by the validator, or by the signal's handler
        self.approved = approved
        return self._note(f"{'approve' if approved else 'reject'} {self.asked.stage}", message.by, message.reason)

    def _roll_back(self, message: Request) -> Decision:
        self.rollback, self.rollback_at = message, workflow.now()
        return self._note("rollback", message.by, message.reason)

    def break_glass(self, by: str, reason: str) -> None:
        """Somebody sets a freeze aside: for each approval from now on, it takes somebody else."""
        self._approves_nothing = by
        self._note("break-glass", by, reason)

    def hold_now(self, message: Request, *, inconclusive: bool = False) -> Decision:
        """Stops before the next move; also used by the workflow itself when a watch was inconclusive."""
        self.holding, self.inconclusive = message, inconclusive
        return self._note("hold", message.by, message.reason)

    def _go_on(self, message: Request) -> Decision:
        self.holding, self.inconclusive = None, False
        return self._note("resume", message.by, message.reason)

    def _resolve(self, message: Resolution) -> Decision:
        self.resolution = message
        return self._note(message.way, message.by, message.reason)

    def _refuse(self, what: str, message: Approval | Request | Resolution | None, why: str) -> None:
        self._note(f"{what} (refused: {why})", message.by if message is not None else "unknown", "")

    def changed(self) -> None:
        """Called whenever something that people can see has changed."""

    # A signal has no caller to refuse it to, and anything can be sent: a handler that fails, or does not take what was
    # sent, would stop the whole deployment. So these take anything, and note what they cannot use.

    @workflow.signal(name=wire_names.APPROVE, description="Lets the deployment go on where it waits for an approval")
    def signal_approve(self, *sent: Any) -> None:
        message = _read(Approval, sent)
        why = _UNREADABLE if message is None else self._against_yes(message)
        if message is None or why:
            self._refuse("approve", message, why)
        else:
            self._decide(message, True)

    @workflow.signal(name=wire_names.REJECT, description="Refuses the approval that is waited for")
    def signal_reject(self, *sent: Any) -> None:
        message = _read(Approval, sent)
        why = _UNREADABLE if message is None else self._against_approval(message)
        if message is None or why:
            self._refuse("reject", message, why)
        else:
            self._decide(message, False)

    @workflow.signal(name=wire_names.ROLLBACK, description="Emergency: traffic to stable at once, then all is undone")
    def signal_rollback(self, *sent: Any) -> None:
        # Never refused for its form: whoever pulls this need not know how to write it.
        message = _read(Request, sent) or Request(by="unknown", reason="a signal without a readable message")
        if self.phase is Phase.FINISHED and self.ended_well:
            self.late_rollback = message
        elif why := self._against_rollback(message):
            self._refuse("rollback", message, why)
        else:
            self._roll_back(message)

    @workflow.signal(name=wire_names.HOLD, description="Stops before the next move")
    def signal_hold(self, *sent: Any) -> None:
        message = _read(Request, sent) or Request(by="unknown", reason="a signal without a readable message")
        why = self._against_hold(message)
        if why:
            self._refuse("hold", message, why)
        else:
            self.hold_now(message)

    @workflow.signal(name=wire_names.RESUME, description="Goes on after a hold")
    def signal_resume(self, *sent: Any) -> None:
        message = _read(Request, sent)
        why = _UNREADABLE if message is None else self._against_resume(message)
        if message is None or why:
            self._refuse("resume", message, why)
        else:
            self._go_on(message)

    @workflow.signal(
        name=wire_names.RESOLVE, description="After a failed rollback: retry, skip with a reason, take over"
    )
    def signal_resolve(self, *sent: Any) -> None:
        message = _read(Resolution, sent)
        why = _UNREADABLE if message is None else self._against_resolution(message)
        if message is None or why:
            self._refuse("resolve", message, why)
        else:
            self._resolve(message)

    @workflow.update(name=wire_names.APPROVE)
    def approve(self, message: Approval) -> Decision:
        return self._decide(message, True)

    @workflow.update(name=wire_names.REJECT)
    def reject(self, message: Approval) -> Decision:
        return self._decide(message, False)

    @workflow.update(name=wire_names.ROLLBACK)
    def roll_back(self, message: Request) -> Decision:
        return self._roll_back(message)

    @workflow.update(name=wire_names.HOLD)
    def hold(self, message: Request) -> Decision:
        return self.hold_now(message)

    @workflow.update(name=wire_names.RESUME)
    def resume(self, message: Request) -> Decision:
        return self._go_on(message)

    @workflow.update(name=wire_names.RESOLVE)
    def resolve(self, message: Resolution) -> Decision:
        return self._resolve(message)

    @approve.validator
    def _may_approve(self, message: Approval) -> None:
        _refuse_to_caller(self._against_yes(message))

    @reject.validator
    def _may_reject(self, message: Approval) -> None:
        _refuse_to_caller(self._against_approval(message))

    @roll_back.validator
    def _may_roll_back(self, message: Request) -> None:
        _refuse_to_caller(self._against_rollback(message))

    @hold.validator
    def _may_hold(self, message: Request) -> None:
        _refuse_to_caller(self._against_hold(message))

    @resume.validator
    def _may_resume(self, message: Request) -> None:
        _refuse_to_caller(self._against_resume(message))

    @resolve.validator
    def _may_resolve(self, message: Resolution) -> None:
        _refuse_to_caller(self._against_resolution(message))


_UNREADABLE = "its message cannot be read"
M = TypeVar("M", bound=BaseModel)


def _read(model: type[M], sent: Sequence[Any]) -> M | None:
    """What a signal carries, if it can be understood."""
    try:
        return model.model_validate(sent[0]) if len(sent) == 1 else None
    except ValidationError:
        return None


def _refuse_to_caller(why: str) -> None:
    if why:
        raise ApplicationError(why, type="Refused", non_retryable=True)

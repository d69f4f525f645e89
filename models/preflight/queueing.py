"""Who waits for a target, and what became of those who have waited: what travels to and from a target's queue."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import AwareDatetime, Field

from models.base import WireModel
from models.messages import DeploymentRequest, Request
from models.names import Person
from models.preflight.conflicts import Conflict

MOST_WAITING = 20
MOST_LEFT = 50
LARGEST_TOGETHER = 1 << 20

Ticket = Annotated[str, Field(pattern=r"^[0-9a-f]{8,32}$")]


class Entry(WireModel):
    """A deployment that wants its turn.

    Attributes:
        ticket: made by whoever asks, so that asking twice is asking once.
        request: a `DeploymentRequest`, as it was sent: one that this worker cannot read stops nobody else.
        supersede: does not wait for what is under way to end on its own.
        asked: when the queue heard of it.
    """

    ticket: Ticket
    request: dict[str, Any]
    supersede: bool = False
    asked: AwareDatetime | None = None

    @property
    def version(self) -> str:
        """For people; empty where it cannot be read."""
        return self._found("spec", "release", "version")

    @property
    def strategy(self) -> str:
        """For people; empty where the spec leaves it to the default, or it cannot be read."""
        return self._found("spec", "strategy", "kind")

    @property
    def by(self) -> str:
        """Who asks, for people; empty where it cannot be read."""
        return self._found("by")

    def _found(self, *path: str) -> str:
        value: Any = self.request
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        return value[:100] if isinstance(value, str) else ""


class Waiting(WireModel):
    """One that waits, as people see it."""

    ticket: str
    version: str
    by: str
    asked: AwareDatetime
    supersede: bool = False
    strategy: str = ""


class ExitKind(StrEnum):
    """How a deployment left the queue."""

    STARTED = "started"
    WITHDRAWN = "withdrawn"
    REPLACED = "replaced"
    REFUSED = "refused"
    STOPPED = "stopped"


class Left(WireModel):
    """One that waits no more.

    Attributes:
        run_id: of the deployment that was started; else empty.
        reason: a sentence, where nothing was started.
    """

    ticket: str
    how: ExitKind
    version: str = ""
    by: str = ""
    at: AwareDatetime
    run_id: str = ""
    reason: str = ""
    strategy: str = ""


class QueueState(WireModel):
    """What a queue begins with, and what it hands to its next run."""

    service: str
    target: str
    waiting: tuple[Entry, ...] = ()
    left: tuple[Left, ...] = ()


class QueueView(WireModel):
    """The queue as people see it: the next one first; `doing` says what is waited for."""

    waiting: tuple[Waiting, ...] = ()
    left: tuple[Left, ...] = ()
    doing: str = ""


class Withdrawal(WireModel):
    """Somebody takes a deployment out of the queue."""

    ticket: str
    by: Person
    reason: str = ""


class TurnQuestion(WireModel):
    """Waits until no deployment is under way.

    Attributes:
        workflow_id: whose end is waited for: the lock of the target.
        outcome, stage: names of the search attributes that say how a run ended and where it stood.
        since: only how runs ended after this matters.
        beyond: a run that ended badly: another one must have ended since.
        update: what asks a running deployment to roll back; empty where nobody is asked.
        rollback: who asks for it, and why.
        ticket: for which entry.
    """

    workflow_id: str
    outcome: str
    stage: str
    since: AwareDatetime
    beyond: str = ""
    update: str = ""
    rollback: Request | None = None
    ticket: str = ""


class Turn(WireModel):
    """The target is free, or it waits for a person.

    Attributes:
        run_id: the newest run; empty where there was none.
        trouble: why nothing should be started by itself now, in a sentence; empty where all is well.
    """

    run_id: str = ""
    trouble: str = ""


class StartOrder(WireModel):
    """Starts a deployment, once for its ticket."""

    workflow: str
    workflow_id: str
    ticket: str
    request: DeploymentRequest
    summary: str
    attributes: dict[str, str]


class Started(WireModel):
    """The run that was started; empty where somebody else was quicker."""

    run_id: str = ""


class ConflictQuestion(WireModel):
    """Who is at work on a target, or waits for it?

    Attributes:
        status, waiting: names of the queries that a deployment and a queue answer.
        policy: what a deploy would do about it.
    """

    workflow_id: str
    queue_id: str
    status: str
    waiting: str
    policy: Conflict

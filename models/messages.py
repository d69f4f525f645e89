"""What people tell a running deployment: the payloads of its signals and updates."""

from datetime import datetime
from enum import StrEnum

from models.base import WireModel
from models.names import Person
from models.spec import DeploymentSpec


class Kind(StrEnum):
    """What a run of the workflow is for."""

    DEPLOY = "deploy"
    ROLLBACK = "rollback"


class DeploymentRequest(WireModel):
    """The workflow's input.

    Attributes:
        kind: `rollback` brings the release before the finished one back; the spec then says where, not what.
        reason: why; for a rollback it is required by the command line.
        break_glass: why a freeze is set aside, with the approval of a second person; empty where it is not.
        task: the tracker's id of the task that this is for; empty where it is for none.
        required_gates: gates that must be asked and passed: one that is skipped does not let it go on.
    """

    spec: DeploymentSpec
    kind: Kind = Kind.DEPLOY
    by: Person
    reason: str = ""
    break_glass: str = ""
    task: str = ""
    required_gates: tuple[str, ...] = ()


class Approval(WireModel):
    """A named person's yes or no. `plan` binds a yes to the plan that was read; empty means the one that waits."""

    by: Person
    reason: str = ""
    plan: str = ""


class Request(WireModel):
    """Somebody asks for a rollback, a hold, or to go on."""

    by: Person
    reason: str = ""


class Way(StrEnum):
    """The three ways out of a rollback that failed."""

    RETRY = "retry"
    SKIP = "skip"
    TAKE_OVER = "take-over"


class Resolution(WireModel):
    """A person's decision about a compensation that failed. A skip needs a reason."""

    way: Way
    by: Person
    reason: str = ""


class Decision(WireModel):
    """What a person decided, for the report."""

    what: str
    by: str
    at: datetime
    reason: str = ""

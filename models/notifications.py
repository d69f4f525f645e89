"""Who is told what about a deployment: the part of the spec, the events, and what came of telling them."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StrictBool, field_validator, model_validator

from models.base import SpecModel, WireModel
from models.names import Name
from models.outcome import Outcome
from models.platforms.base import as_tuple
from models.secrets import SecretReference
from models.units import Duration

MOST_RECEIVERS = 20


class EventKind(StrEnum):
    """What a receiver can be told about."""

    STARTED = "started"
    APPROVAL_NEEDED = "approval-needed"
    HELD = "held"
    STEP_PASSED = "step-passed"
    DEPLOYED = "deployed"
    ROLLED_BACK = "rolled-back"
    NOT_DEPLOYED = "not-deployed"
    ROLLBACK_FAILED = "rollback-failed"
    TROUBLE = "trouble"


DEFAULT_EVENTS = tuple(kind for kind in EventKind if kind is not EventKind.STEP_PASSED)


def _event(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return EventKind(value)
        except ValueError:
            raise ValueError(f"one of {', '.join(EventKind)}") from None
    return value


class _Receiver(SpecModel):
    name: Name = Field(description="what the report calls it")
    when: Annotated[tuple[Annotated[EventKind, BeforeValidator(_event)], ...], BeforeValidator(as_tuple)] = Field(
        default=DEFAULT_EVENTS, min_length=1, max_length=len(EventKind), description="default: all but step-passed"
    )


class AppriseReceiver(_Receiver):
    """A service that Apprise knows: Slack, Teams, Discord, e-mail, PagerDuty, Opsgenie and a hundred more."""

    kind: Literal["apprise"]
    to: SecretReference = Field(description="an Apprise URL; the worker reads it when it is needed")


class WebhookReceiver(_Receiver):
    """An HTTP endpoint that takes signed CloudEvents."""

    kind: Literal["webhook"]
    to: SecretReference = Field(description="the URL; the worker reads it when it is needed")
    signing_key: SecretReference = Field(description="the key of the HMAC in `webhook-signature`")
    insecure: StrictBool = Field(default=False, description="plain HTTP may also leave this machine")


Receiver = Annotated[AppriseReceiver | WebhookReceiver, Field(discriminator="kind")]


class NotifySpec(SpecModel):
    """Who is told, and how often a failed rollback is told again."""

    receivers: Annotated[tuple[Receiver, ...], BeforeValidator(as_tuple), Field(max_length=MOST_RECEIVERS)] = ()
    remind: Duration = Field(
        default=timedelta(minutes=30), description="a failed rollback is told again this often until somebody decides"
    )

    @field_validator("remind")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if not timedelta(minutes=1) <= value <= timedelta(days=7):
            raise ValueError("remind is between 1m and 7d")
        return value

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [receiver.name for receiver in self.receivers]
        if len(set(names)) != len(names):
            raise ValueError("two receivers have the same name")
        return self


class Event(WireModel):
    """Something that happened to a deployment, as every receiver is told.

    Attributes:
        id: the same each time this event is sent, so that a receiver can drop a repetition.
        sequence: events of one deployment count from 1, in the order in which they happened.
        summary: one sentence.
        details: more sentences, one a line.
        commands: what a person can run now, without the program's name.
        reminder: how often it was told before, for a failed rollback that still waits.
        last: nothing follows for this deployment.
    """

    id: str
    sequence: int
    kind: EventKind
    at: datetime
    service: str
    target: str
    version: str
    previous_version: str | None = None
    outcome: Outcome
    by: str = ""
    address: str = ""
    summary: str
    details: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    failure: str = ""
    workflow_id: str
    run_id: str
    reminder: int = 0
    last: bool = False


class Announcement(WireModel):
    """Send one event to one receiver, once.

    Attributes:
        attempt: counts from 1; another one follows only when this one was not accepted.
    """

    receiver: Receiver
    event: Event
    attempt: int = 1


class Delivery(StrEnum):
    """What came of one attempt, or of all of them."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"


class Answered(WireModel):
    """What a receiver answered to one attempt.

    Attributes:
        state: `refused` is final; after `unreachable` another attempt may help.
        again_in: seconds that the receiver wants to be left alone, where it said so.
    """

    state: Delivery
    why: str = ""
    again_in: float | None = None


class Notified(WireModel):
    """One event and one receiver, for the report.

    Attributes:
        why: what the receiver answered, or why it could not be asked; empty when it was delivered at once.
        ended: when it was delivered or given up.
    """

    event: EventKind
    event_id: str
    receiver: str
    state: Delivery
    attempts: int = 1
    why: str = ""
    happened: datetime
    ended: datetime


class NotificationsOrder(WireModel):
    """The input of the workflow that tells the receivers of one deployment."""

    service: str
    target: str
    version: str
    deployment_id: str
    deployment_run: str
    started: datetime
    receivers: tuple[Receiver, ...]


class NotificationsRecord(WireModel):
    """Everything that was sent for one deployment: to be added to its report."""

    service: str
    target: str
    deployment_run: str
    started: datetime
    notified: tuple[Notified, ...]

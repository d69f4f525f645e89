"""How a stage says that the deployment does not go on."""

from typing import Any

from temporalio.exceptions import ApplicationError, FailureError, TimeoutError

from models.outcome import Failure, FailureType, classify
from models.verdict import Stage


class StageFailedError(Exception):
    """The deployment does not go on: what was done is undone."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class AbortedError(Exception):
    """A person asked for the rollback, or the workflow was cancelled, while something else was under way."""


class TakenOverError(Exception):
    """A person has taken a failed rollback into own hands."""


def fail(kind: FailureType, stage: Stage | None, reason: str) -> StageFailedError:
    """Makes the exception for a failed stage."""
    return StageFailedError(classify(kind, stage, reason))


def evidence_of(error: BaseException) -> dict[str, Any]:
    """What an activity's failure carries as its proof, like the last lines of a program; empty for most."""
    while isinstance(error, FailureError) and error.cause is not None:
        error = error.cause
    details = error.details if isinstance(error, ApplicationError) else ()
    return details[0] if details and isinstance(details[0], dict) else {}


def describe(error: BaseException) -> str:
    """The sentence at the bottom of a Temporal failure, with its type; the ones above only say that it failed."""
    while isinstance(error, FailureError) and error.cause is not None:
        error = error.cause
    if isinstance(error, TimeoutError):
        return f"no answer in time ({error.type.name.lower().replace('_', ' ') if error.type else 'time-out'})"
    if isinstance(error, ApplicationError):
        return f"{error.type}: {error.message}" if error.type else error.message
    return str(error) or type(error).__name__

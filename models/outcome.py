"""How a deployment can end, which exit code says so, and what kind of failure it was."""

from enum import StrEnum

from models.base import WireModel
from models.verdict import Stage


class Outcome(StrEnum):
    """How a deployment ended, or where it stands."""

    DEPLOYED = "deployed"
    ROLLED_BACK = "rolled-back"
    ROLLBACK_FAILED = "rollback-failed"
    AWAITING_APPROVAL = "awaiting-approval"
    REJECTED = "rejected"
    FROZEN = "frozen"
    PREFLIGHT_FAILED = "preflight-failed"
    HELD = "held"
    RUNNING = "running"
    QUEUED = "queued"


USAGE_ERROR = 2
EXIT_CODES = {
    Outcome.DEPLOYED: 0,
    Outcome.ROLLED_BACK: 10,
    Outcome.ROLLBACK_FAILED: 11,
    Outcome.AWAITING_APPROVAL: 12,
    Outcome.REJECTED: 13,
    Outcome.FROZEN: 13,
    Outcome.PREFLIGHT_FAILED: 14,
    Outcome.HELD: 15,
    Outcome.RUNNING: 124,
    Outcome.QUEUED: 124,
}


class FailureType(StrEnum):
    """The kinds of failure of the spec's table, and those that it lacks."""

    PREFLIGHT = "pre_deployment_checks_failed"
    DEPLOYMENT = "deployment_failed"
    VALIDATION = "post_deployment_validation_failed"
    SMOKE = "smoke_tests_failed"
    HEALTH = "health_checks_failed"
    MONITORING = "monitoring_not_configured"
    ERROR_TRACKING = "error_tracking_not_configured"
    REHEARSAL = "rollback_plan_failed"
    ROLLBACK = "rollback_failure"
    REJECTED = "approval_rejected"
    FROZEN = "deployment_frozen"
    REQUESTED = "rollback_requested"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown_deployment_failure"


class Failure(WireModel):
    """Why a deployment did not end as `deployed`.

    Attributes:
        priority: 0 is the most urgent, as in Beads.
        requires_rollback: the new version must not go on serving. Whether or not, a failed stage is rolled back after
            the first effect; this says how bad it would be to keep it.
    """

    type: FailureType
    priority: int
    requires_rollback: bool
    stage: Stage | None = None
    reason: str = ""


_TABLE = {
    FailureType.PREFLIGHT: (0, False),
    FailureType.DEPLOYMENT: (0, True),
    FailureType.VALIDATION: (0, True),
    FailureType.SMOKE: (0, True),
    FailureType.HEALTH: (0, True),
    FailureType.MONITORING: (1, False),
    FailureType.ERROR_TRACKING: (1, False),
    FailureType.REHEARSAL: (1, False),
    FailureType.ROLLBACK: (0, True),
    FailureType.REJECTED: (2, True),
    FailureType.FROZEN: (2, False),
    FailureType.REQUESTED: (1, True),
    FailureType.CANCELLED: (1, True),
    FailureType.UNKNOWN: (1, False),
}


def classify(kind: FailureType, stage: Stage | None, reason: str) -> Failure:
    """Looks up how urgent a kind of failure is and whether it must be rolled back."""
    priority, requires_rollback = _TABLE[kind]
    return Failure(type=kind, priority=priority, requires_rollback=requires_rollback, stage=stage, reason=reason)

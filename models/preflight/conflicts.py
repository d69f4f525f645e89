"""What happens when a deployment of the same target is under way already."""

from enum import StrEnum


class Conflict(StrEnum):
    """Reject the later one, let it wait for its turn, or have the older one rolled back first."""

    REJECT = "reject"
    QUEUE = "queue"
    SUPERSEDE = "supersede"

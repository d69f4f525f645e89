"""May this deployment begin? Nothing on the target has changed when the answer is no."""

from activities.preflight.activities import PreflightActivities

__all__ = ["PreflightActivities"]

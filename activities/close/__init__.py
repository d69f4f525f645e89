"""What happened is written down, for people and for programs."""

from activities.close.activities import CloseActivities

__all__ = ["CloseActivities"]

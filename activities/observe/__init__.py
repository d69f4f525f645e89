"""Is somebody watching? Each watcher is seen working, not only configured."""

from activities.observe.activities import ObserveActivities

__all__ = ["ObserveActivities"]

"""Is somebody watching? Prometheus, Alertmanager, and what else is set up for a service and seen working."""

from activities.observability.activities import MonitoringActivities

__all__ = ["MonitoringActivities"]

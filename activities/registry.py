"""Every activity a worker offers, with the clients it needs put into it."""

from collections.abc import Callable
from typing import Any

from temporalio.common import MetricMeter

from activities.analysis.watch import WatchActivities
from activities.close.activities import CloseActivities
from activities.database.activities import DatabaseActivities
from activities.migrations.activities import MigrationActivities
from activities.notifications.activities import NotificationActivities
from activities.observability.activities import MonitoringActivities
from activities.observe.activities import ObserveActivities
from activities.platforms.activities import PlatformActivities
from activities.platforms.registry import Platforms
from activities.preflight.activities import PreflightActivities
from activities.preflight.lock import LockActivities
from activities.verify.activities import VerifyActivities
from home.paths import Home


def make_activities(home: Home, meter: MetricMeter = MetricMeter.noop) -> list[Callable[..., Any]]:
    """All activities, on all platforms, with their state under `home`; `meter` counts how deployments end."""
    platforms = Platforms(home)
    groups = (
        PreflightActivities(home),
        LockActivities(),
        PlatformActivities(platforms),
        WatchActivities(platforms),
        VerifyActivities(),
        ObserveActivities(platforms),
        MonitoringActivities(platforms),
        CloseActivities(home, meter),
        NotificationActivities(home),
        DatabaseActivities(home),
        MigrationActivities(),
    )
    return [
        member
        for group in groups
        for name in dir(group)
        if callable(member := getattr(group, name)) and hasattr(member, "__temporal_activity_definition")
    ]

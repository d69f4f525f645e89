"""The checks of the observe stage, as Temporal runs them."""

from collections.abc import Mapping

from temporalio import activity

from activities import activity_stubs
from activities.heartbeat import attempt
from activities.observe.error_tracking import check_error_tracking
from activities.observe.router_metrics import check_router_metrics
from activities.platforms.activities import find_platform
from activities.platforms.base import Platform
from models.checks import RouterCheck, SentryCheck
from models.verdict import CheckResult


class ObserveActivities:
    """Sees the watchers work.

    Args:
        platforms: a spec's `platform.kind` → the platform whose router counts.
    """

    def __init__(self, platforms: Mapping[str, Platform]) -> None:
        self._platforms = platforms

    @activity.defn(name=activity_stubs.CHECK_ROUTER_METRICS.name)
    async def check_router_metrics(self, check: RouterCheck) -> CheckResult:
        """Asks the front proxy and sees the router's counters rise."""
        async with attempt():
            return await check_router_metrics(check, await find_platform(self._platforms, check.spec.platform))

    @activity.defn(name=activity_stubs.CHECK_ERROR_TRACKING.name)
    async def check_error_tracking(self, check: SentryCheck) -> CheckResult:
        """Sends a test event and sees it accepted."""
        async with attempt():
            return await check_error_tracking(check)

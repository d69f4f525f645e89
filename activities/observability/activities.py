"""The watchers' activities, as Temporal runs them."""

import asyncio
from collections.abc import Mapping

from temporalio import activity

from activities import activity_stubs
from activities.check_result import Finding
from activities.heartbeat import attempt
from activities.observability.alertmanager import check_alertmanager
from activities.observability.prometheus import RULES, Instances, PrometheusWatcher
from activities.observability.promtool import check_rules
from activities.platforms.activities import find_platform
from activities.platforms.base import Platform
from models.checks import MonitoringOrder, MonitoringSeen
from models.errors import FencedOutError, PreconditionError, WatcherRefusedError
from models.release import InspectOrder, InstanceReport, Revision
from models.verdict import CheckResult, Verdict


class MonitoringActivities:
    """Sets the watchers of a target up, and sees them work.

    Args:
        platforms: a spec's `platform.kind` → the platform whose instances are watched.
    """

    def __init__(self, platforms: Mapping[str, Platform]) -> None:
        self._platforms = platforms

    @activity.defn(name=activity_stubs.SET_UP_MONITORING.name)
    async def set_up_monitoring(self, order: MonitoringOrder) -> MonitoringSeen:
        """Tells the watchers of the candidate, and sees each of them work, before any user reaches it."""
        async with attempt():
            prometheus, alertmanager = await asyncio.gather(self._prometheus(order), _alertmanager(order))
            return MonitoringSeen(checks=(*prometheus, *alertmanager))

    @activity.defn(name=activity_stubs.SEE_MONITORING.name)
    async def see_monitoring(self, order: MonitoringOrder) -> MonitoringSeen:
        """Sees that Prometheus watches what serves now."""
        async with attempt():
            spec = order.observe.prometheus
            if spec is None:
                return MonitoringSeen()
            watcher, instances = PrometheusWatcher(spec, order), await self._instances(order)
            await watcher.write_targets(instances)
            return MonitoringSeen(checks=await watcher.see(instances))

    @activity.defn(name=activity_stubs.FOLLOW_INSTANCES.name)
    async def follow_instances(self, order: MonitoringOrder) -> MonitoringSeen:
        """Announces the instances that there are now, and waits for nobody."""
        async with attempt():
            if order.observe.prometheus is not None:
                watcher = PrometheusWatcher(order.observe.prometheus, order)
                await watcher.write_targets(await self._instances(order))
            return MonitoringSeen()

    @activity.defn(name=activity_stubs.UNDO_MONITORING.name)
    async def undo_monitoring(self, order: MonitoringOrder) -> MonitoringSeen:
        """Gives the watchers back what they had: the rules, and the instances that serve again."""
        async with attempt():
            if order.observe.prometheus is not None:
                watcher = PrometheusWatcher(order.observe.prometheus, order)
                await watcher.write_targets(await self._instances(order))
                await watcher.put_rules_back()
            return MonitoringSeen()

    async def _prometheus(self, order: MonitoringOrder) -> tuple[CheckResult, ...]:
        spec = order.observe.prometheus
        if spec is None:
            return ()
        watcher = PrometheusWatcher(spec, order)
        tested = await check_rules(watcher.rules, order.order.service, order.order.target)
        if tested.verdict not in (Verdict.PASS, Verdict.SKIPPED):
            return (tested,)
        finding = Finding(RULES)
        try:
            instances = await self._instances(order)
            await watcher.write_targets(instances)
            since = await watcher.write_rules()
        except (WatcherRefusedError, PreconditionError) as error:
            return tested, finding.failed(str(error))
        return (tested, *await watcher.see(instances, since))

    async def _instances(self, order: MonitoringOrder) -> Instances:
        platform = await find_platform(self._platforms, order.order.platform)

        async def of(revision: Revision) -> tuple[InstanceReport, ...]:
            question = InspectOrder(**dict(order.order), revision=revision, instances=0)
            try:
                return (await platform.inspect(question)).instances
            except FencedOutError:
                raise
            except PreconditionError:  # it is not known there any more
                return ()

        reports = await asyncio.gather(*(of(revision) for revision in order.running))
        return list(zip(order.running, reports, strict=True))


async def _alertmanager(order: MonitoringOrder) -> tuple[CheckResult, ...]:
    spec = order.observe.alertmanager
    return () if spec is None else (await check_alertmanager(spec, order),)

"""An alert that fires and reaches nobody is found out at the first incident. Not here: a test alert is sent, seen
active, seen delivered, and resolved.

That it was delivered is known without owning the receiver: Alertmanager counts what it has asked of each integration,
and what of that failed. Of the counters it has, only those of requests are counted after the answer.
"""

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from activities.check_result import Finding, quote
from activities.observability.alert_rules import OWNER
from activities.observability.promql import quoted
from activities.observability.server_api import ServerApi
from models.checks import MonitoringOrder
from models.errors import WatcherRefusedError, WatcherUnavailableError
from models.observability import DEPLOYMENT, SERVICE, TARGET, VERSION, AlertmanagerSpec
from models.verdict import CheckResult

NAME = "alertmanager"
ALERT = "DeploymentSpecialistTest"
LOOK_EVERY = 0.5
# Should nobody come to resolve it, it ends by itself.
ENDS_AFTER = timedelta(minutes=5)


@dataclass(frozen=True)
class Counted:
    """By integration, like `webhook` or `slack`.

    Attributes:
        asked: requests that were answered, or failed.
        failed: those that failed; Alertmanager may try again.
        given_up: notifications that it does not try again.
    """

    asked: Mapping[str, float]
    failed: Mapping[str, float]
    given_up: Mapping[str, float]

    def since(self, before: "Counted", ways: Collection[str]) -> "Counted":
        """What has come since then, by these integrations."""
        return Counted(
            *(
                {way: risen for way in ways if (risen := now.get(way, 0.0) - then.get(way, 0.0)) > 0}
                for now, then in (
                    (self.asked, before.asked),
                    (self.failed, before.failed),
                    (self.given_up, before.given_up),
                )
            )
        )

    @property
    def delivered(self) -> list[str]:
        """The integrations that took something."""
        return [way for way, count in self.asked.items() if count > self.failed.get(way, 0.0)]


_COUNTERS = {
    "alertmanager_notification_requests_total": "asked",
    "alertmanager_notification_requests_failed_total": "failed",
    "alertmanager_notifications_failed_total": "given_up",
}


class Alertmanager:
    """One Alertmanager."""

    def __init__(self, alertmanager: AlertmanagerSpec) -> None:
        self._api = ServerApi("Alertmanager", alertmanager.url, alertmanager.token)

    async def alerts(self, match: Mapping[str, str], *, active: bool = True) -> list[dict[str, Any]]:
        """The alerts with these labels, as its API gives them (`status.state`, `receivers`, `labels`, `startsAt`).

        Args:
            match: labels and their values.
            active: without those that are silenced or inhibited.

        Raises:
            WatcherUnavailableError: it does not answer.
            WatcherRefusedError: it says no.
        """
        query = [("filter", f"{name}={quoted(value)}") for name, value in match.items()]
        if active:
            query += [("silenced", "false"), ("inhibited", "false")]
        found = await self._api.get("/api/v2/alerts", query)
        if not isinstance(found, list):
            raise WatcherRefusedError(f"what answers at {self._api.url} is no Alertmanager")
        return found

    async def post(self, labels: Mapping[str, str], annotations: Mapping[str, str], ends: datetime) -> None:
        """Lets an alert fire until then; the errors are those of `alerts`."""
        now = datetime.now(UTC)
        alert = {
            "labels": dict(labels),
            "annotations": dict(annotations),
            "startsAt": min(now, ends).isoformat(),
            "endsAt": ends.isoformat(),
        }
        self._api.demand(await self._api.post("/api/v2/alerts", [alert]))

    async def counted(self) -> Counted:
        """What it has sent until now; the errors are those of `alerts`."""
        found: dict[str, dict[str, float]] = {name: {} for name in _COUNTERS.values()}
        for family in text_string_to_metric_families(await self._api.text("/metrics")):
            for sample in family.samples:
                if (into := found.get(_COUNTERS.get(sample.name, ""))) is not None:
                    way = sample.labels.get("integration", "")
                    into[way] = into.get(way, 0.0) + sample.value
        return Counted(**found)

    async def integrations(self, receiver: str) -> list[str]:
        """The ways in which a receiver is told, like `webhook`; the errors are those of `alerts`."""
        status = await self._api.get("/api/v2/status")
        document = yaml.safe_load(status["config"]["original"])
        found = [each for each in document.get("receivers") or () if each.get("name") == receiver]
        return sorted(
            key.removesuffix("_configs") for each in found for key, value in each.items() if key != "name" and value
        )


async def check_alertmanager(spec: AlertmanagerSpec, order: MonitoringOrder) -> CheckResult:
    """Sends the test alert, sees it arrive, and resolves it.

    Pass: it was delivered, or is active at receivers whose group was told something just before. Fail: nobody is told,
    or telling failed. Error: Alertmanager does not answer.
    """
    finding, server = Finding(NAME), Alertmanager(spec)
    labels = {
        "alertname": ALERT,
        "severity": "none",
        SERVICE: order.order.service,
        TARGET: order.order.target,
        VERSION: order.candidate.release.version,
        DEPLOYMENT: order.candidate.id,
        "managed_by": OWNER,
        **spec.labels,
    }
    about = {"summary": f"a test of {OWNER} before it deploys; nothing is wrong, and it resolves itself"}
    try:
        before = await server.counted()
        await server.post(labels, about, datetime.now(UTC) + ENDS_AFTER)
        try:
            found = await _delivered(finding, server, labels, before, time.monotonic() + spec.within.total_seconds())
        finally:
            await server.post(labels, about, datetime.now(UTC))
    except WatcherUnavailableError as error:
        return finding.not_asked(str(error))
    except WatcherRefusedError as error:
        return finding.failed(str(error))
    except (KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        return finding.failed(
            f"what answers at {spec.url} is no Alertmanager: {type(error).__name__}: {quote(str(error))}"
        )
    return found


async def _delivered(
    finding: Finding, server: Alertmanager, labels: Mapping[str, str], before: Counted, deadline: float
) -> CheckResult:
    match = {name: labels[name] for name in ("alertname", DEPLOYMENT)}
    state, receivers, ways = "", [], list[str]()
    while True:
        found = await server.alerts(match, active=False)
        if found and not ways:
            state = found[0]["status"]["state"]
            receivers = sorted(each["name"] for each in found[0]["receivers"])
            ways = sorted({way for name in receivers for way in await server.integrations(name)})
        evidence = {"labels": dict(labels), "receivers": receivers, "integrations": ways, "state": state}
        if found:
            state = found[0]["status"]["state"]
            told = ", ".join(receivers)
            if not ways:
                return finding.failed(f"the alert is routed to {told}, which tells nobody", **evidence)
            if state == "suppressed":
                return finding.failed(f"the alert is silenced or inhibited: {told} is not told", **evidence)
            counted = (await server.counted()).since(before, ways)
            over = time.monotonic() >= deadline
            refusing = dict(counted.failed) if over else dict(counted.given_up)
            evidence |= {"asked": dict(counted.asked), "failed": dict(counted.failed)}
            if counted.delivered:
                said = f"the test alert was delivered to {told} by {', '.join(counted.delivered)}"
                return finding.passed(said, **evidence)
            if refusing:
                said = f"the test alert could not be delivered to {told}: {', '.join(refusing)} failed"
                return finding.failed(said, **evidence)
        if time.monotonic() >= deadline:
            if state == "active":
                return finding.passed(
                    f"the test alert is active at {', '.join(receivers)}; it was not delivered yet: its group waits "
                    "(group_wait, group_interval)",
                    **evidence,
                )
            return finding.failed("Alertmanager took the alert and does not show it", **evidence)
        await asyncio.sleep(LOOK_EVERY)

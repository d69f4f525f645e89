"""An alert that cannot fire is worse than none: somebody relies on it.

Prometheus is told the instances (file discovery) and the rules, and then it is asked whether it scrapes every instance,
has evaluated every rule without an error, and has series for every selector of every rule.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from activities.check_result import Finding, quote
from activities.http.client import Answer
from activities.observability.alert_rules import as_group, group_name, make_rules, match_of
from activities.observability.owned_files import OwnedFile
from activities.observability.promql import NotPromqlError, Selector, find_selectors, narrowed
from activities.observability.server_api import ServerApi
from models.checks import MonitoringOrder
from models.errors import WatcherRefusedError, WatcherUnavailableError
from models.observability import DEPLOYMENT, SERVICE, TARGET, VERSION, PrometheusSpec
from models.release import Fence, InstanceReport, Revision
from models.units import format_duration
from models.verdict import CheckResult

TARGETS, RULES, SERIES = "prometheus_targets", "prometheus_rules", "prometheus_series"
LOOK_EVERY = 0.5
# A metric that was there this long ago is not misspelt.
SEEN_SINCE = "10m"
_GO_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SUFFIXES = ("_bucket", "_sum", "_count")
Instances = Sequence[tuple[Revision, Sequence[InstanceReport]]]


class PrometheusWatcher:
    """The Prometheus of one target.

    Args:
        prometheus: where it is, and what it shall read.
        order: whose instances and alerts it is about.
    """

    def __init__(self, prometheus: PrometheusSpec, order: MonitoringOrder) -> None:
        self._spec = prometheus
        self._order = order
        self._service, self._target = order.order.service, order.order.target
        self._api = ServerApi("Prometheus", prometheus.url, prometheus.token)
        self.rules = make_rules(prometheus, self._service, self._target)

    @property
    def _fence(self) -> Fence:
        return self._order.order.fence

    def _targets_file(self) -> OwnedFile | None:
        return OwnedFile(self._spec.targets, self._service, self._target) if self._spec.targets else None

    def _rules_file(self) -> OwnedFile | None:
        return OwnedFile(self._spec.rules, self._service, self._target) if self._spec.rules else None

    # Setting up.

    async def write_targets(self, instances: Instances) -> None:
        """Announces exactly these instances.

        Raises:
            FencedOutError: a newer deployment has.
            PreconditionError: the file is somebody else's, or cannot be written.
        """
        file = self._targets_file()
        if file is not None:
            path = self._order.candidate.endpoints.metrics or "/metrics"
            groups = [_group(*each, self._service, self._target, path) for each in instances]
            await asyncio.to_thread(file.write, [each for each in groups if each["targets"]], self._fence)

    async def write_rules(self) -> datetime:
        """Gives it the rules, and has it read them. Returns when that was, by its own clock.

        Raises:
            FencedOutError: a newer deployment has.
            PreconditionError: the file is somebody else's, or cannot be written.
            WatcherRefusedError: it does not take them.
            WatcherUnavailableError: it does not answer.
        """
        file = self._rules_file()
        if file is not None:
            await asyncio.to_thread(file.write, as_group(self.rules, self._service, self._target), self._fence)
            return await self._reload()
        return await self._now()

    async def put_rules_back(self) -> None:
        """Gives it the rules back that it had before this deployment; the errors are those of `write_rules`."""
        file = self._rules_file()
        if file is not None and await asyncio.to_thread(file.put_back, self._fence):
            await self._reload()

    async def _reload(self) -> datetime:
        answer = await self._api.post("/-/reload")
        if answer.status in (403, 405):
            raise WatcherRefusedError(
                f"Prometheus at {self._spec.url} does not let itself be told to read its rules anew: "
                "start it with --web.enable-lifecycle"
            )
        if answer.status == 500:
            raise WatcherRefusedError(f"Prometheus does not take the rules: {quote(answer.text, 800)}")
        self._api.demand(answer)
        return _time_of(answer)

    async def _now(self) -> datetime:
        return _time_of(await self._api.send("GET", "/-/ready"))

    # Seeing.

    async def see(self, instances: Instances, since: datetime | None = None) -> tuple[CheckResult, ...]:
        """Asks until everything is as it must be, or its time is over.

        Args:
            instances: that must be scraped.
            since: rules must have been evaluated after this moment of its clock; default: from now on.
        """
        deadline = time.monotonic() + self._spec.within.total_seconds()
        scraped = await _until(deadline, TARGETS, lambda finding: self._targets(finding, instances))
        evaluated = await _until(deadline, RULES, lambda finding: self._rules(finding, since))
        series = await _until(deadline, SERIES, self._series)
        return scraped, evaluated, series

    async def _targets(self, finding: Finding, instances: Instances) -> CheckResult | None:
        if self._spec.targets and self._order.candidate.endpoints.metrics is None:
            return finding.failed("the service has no metrics to scrape (verify.endpoints.metrics: null)")
        active = (await self._api.get("/api/v1/targets", [("state", "active")]))["data"]["activeTargets"]
        match = match_of(self._spec, self._service, self._target)
        ours = [each for each in active if match.items() <= each.get("labels", {}).items()]
        wanted = {_host(one.address): one.name for _, reports in instances for one in reports if one.address}
        if self._spec.targets:
            found = {each.get("discoveredLabels", {}).get("__address__"): each for each in ours}
        else:
            found = {each.get("scrapeUrl", ""): each for each in ours}
        bad = [f"{name} at {host} is not scraped at all" for host, name in wanted.items() if host not in found]
        bad = bad if self._spec.targets else []
        bad += [
            f"{wanted.get(host, host)} is {each.get('health')}: {quote(each.get('lastError') or 'not scraped yet')}"
            for host, each in found.items()
            if each.get("health") != "up" and (host in wanted or not self._spec.targets)
        ]
        evidence = {"match": match, "targets": [each.get("scrapeUrl") for each in ours][:50]}
        if not ours:
            bad = [f"Prometheus scrapes nothing with {_said(match)}"]
            if self._spec.targets:
                bad[0] += f": its file_sd_configs must read {self._spec.targets}/*.yml"
        if bad:
            return finding.failed("; ".join(bad), **evidence)
        slow = max((_go_seconds(each.get("scrapeInterval", "")) for each in ours), default=0.0)
        short = [rule for rule in self.rules if rule.window and rule.window.total_seconds() < 2 * slow]
        if short:
            said = f"{short[0].alert} takes rates over {format_duration(short[0].window)}"
            return finding.failed(f"{said}, and the service is scraped every {slow:g} s: that is too short", **evidence)
        return finding.passed(f"Prometheus scrapes {len(ours)} of its instances", **evidence, scraped_every=slow)

    async def _rules(self, finding: Finding, since: datetime | None) -> CheckResult | None:
        if not self.rules or not self._spec.rules:
            return finding.skipped("the spec has no alerts (observe.prometheus.alerts and .rules)")
        document = await self._api.get("/api/v1/rules", [("type", "alert")])
        name = group_name(self._service, self._target)
        group = next((each for each in document["data"]["groups"] if each.get("name") == name), None)
        if group is None:
            return finding.failed(
                f"Prometheus has no group {name}: its rule_files must read {self._spec.rules}/*.yml", group=name
            )
        there = {each["name"]: each for each in group["rules"]}
        missing = [rule.alert for rule in self.rules if rule.alert not in there]
        bad = [f"{alert} is not loaded" for alert in missing]
        waiting = []
        for alert, each in there.items():
            if each.get("health") == "err":
                bad.append(f"{alert} cannot be evaluated: {quote(each.get('lastError') or '')}")
            elif each.get("health") != "ok" or (since and _time(each.get("lastEvaluation", "")) < since):
                waiting.append(f"{alert} has not been evaluated yet")
        evidence = {
            "group": name,
            "rules": {
                each["name"]: {"state": each.get("state"), "query": each.get("query")} for each in group["rules"]
            },
        }
        if bad or waiting:
            return finding.failed("; ".join((*bad, *waiting)), **evidence)
        return finding.passed(f"{len(there)} rules are loaded, and were evaluated without an error", **evidence)

    async def _series(self, finding: Finding) -> CheckResult | None:
        if not self.rules:
            return finding.skipped("the spec has no alerts (observe.prometheus.alerts)")
        bad: list[str] = []
        empty: list[str] = []
        asked = 0
        for rule in self.rules:
            try:
                selectors = find_selectors(rule.expr)
            except NotPromqlError as error:
                return finding.failed(f"{rule.alert} is no PromQL: {quote(str(error))}")
            for selector in selectors:
                asked += 1
                said, is_bad = await self._judge(selector)
                if said:
                    (bad if is_bad else empty).append(f"{rule.alert}: {said}")
        evidence = {"selectors": asked, "without_samples": empty}
        if bad:
            return finding.failed("; ".join(bad), **evidence)
        reason = f"all {asked} selectors of {len(self.rules)} rules lead to something"
        return finding.passed(f"{reason}; nothing yet of: {'; '.join(empty)}" if empty else reason, **evidence)

    async def _judge(self, selector: Selector) -> tuple[str, bool]:
        """What is wrong with a selector, and whether it is: a counter of errors may have no sample yet."""
        if not selector.metric or await self._count(selector.text):
            return "", False
        match = match_of(self._spec, self._service, self._target)
        ours = match if match.keys() <= selector.labels else {}
        if await self._count(narrowed(selector.metric, ours)):
            for label in sorted(selector.labels - ours.keys()):
                if not await self._count(f'{narrowed(selector.metric, ours)[:-1]}{"," if ours else ""}{label}!=""}}'):
                    return f"no series of {selector.metric} has a label {label}", True
            return f"{selector.text} has no sample, though {selector.metric} has some", False
        if await self._is_known(selector.metric):
            return f"{selector.metric} has no sample, and is known", False
        return f"there is no metric {selector.metric} (asked for as {selector.text})", True

    async def _count(self, selector: str) -> int:
        query = f"count(last_over_time({selector}[{SEEN_SINCE}]))"
        found = (await self._api.get("/api/v1/query", [("query", query)]))["data"]["result"]
        return int(float(found[0]["value"][1])) if found else 0

    async def _is_known(self, metric: str) -> bool:
        names = {metric, *(metric.removesuffix(suffix) for suffix in _SUFFIXES)}
        for name in names:
            if (await self._api.get("/api/v1/metadata", [("metric", name), ("limit", "1")]))["data"]:
                return True
        return False


async def _until(deadline: float, name: str, look: Callable[[Finding], Awaitable[CheckResult | None]]) -> CheckResult:
    """Looks again and again until what is seen opens a gate; the last look counts."""
    finding = Finding(name)
    while True:
        try:
            found = await look(finding)
        except WatcherUnavailableError as error:
            found = finding.not_asked(str(error))
        except WatcherRefusedError as error:
            return finding.failed(str(error))
        except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
            return finding.failed(f"what answers is no Prometheus: {type(error).__name__}: {error}")
        if found is not None and (found.verdict in ("pass", "skipped") or time.monotonic() >= deadline):
            return found
        await asyncio.sleep(LOOK_EVERY)


def _group(
    revision: Revision, reports: Sequence[InstanceReport], service: str, target: str, path: str
) -> dict[str, Any]:
    schemes = {urlsplit(one.address).scheme for one in reports if one.address} or {"http"}
    return {
        "targets": sorted(_host(one.address) for one in reports if one.address),
        "labels": {
            SERVICE: service,
            TARGET: target,
            VERSION: revision.release.version,
            DEPLOYMENT: revision.id,
            "__scheme__": schemes.pop() or "http",
            "__metrics_path__": revision.endpoints.metrics or path,
        },
    }


def _host(address: str) -> str:
    return urlsplit(address).netloc or address


def _said(match: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in match.items())


def _time_of(answer: Answer) -> datetime:
    try:
        return parsedate_to_datetime(answer.headers["date"])
    except (KeyError, ValueError):
        return datetime.now(UTC) - timedelta(seconds=1)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _go_seconds(text: str) -> float:
    return sum(float(number) * _SECONDS[unit] for number, unit in _GO_DURATION.findall(text))

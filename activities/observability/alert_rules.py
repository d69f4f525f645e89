"""The alerting rules of a spec as data, and cases in which each of them must fire and must be silent.

Nothing here asks anybody: Prometheus reads the rules, and `promtool test rules` the cases.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from activities.observability.promql import example_labels, narrowed
from models.observability import (
    DEPLOYMENT,
    SERVICE,
    TARGET,
    VERSION,
    AlertsSpec,
    ErrorRateAlert,
    InstanceDownAlert,
    LatencyAlert,
    OwnAlert,
    PrometheusSpec,
)
from models.units import format_duration, format_share

OWNER = "deployment-specialist"
_LONGEST_STEP, _SHORTEST_STEP = timedelta(seconds=15), timedelta(seconds=1)
_HUNDRED_PERCENT = 10_000
Series = list[dict[str, str]]


@dataclass(frozen=True)
class AlertRule:
    """One rule, with what makes it fire and what does not; both empty where nobody knows.

    Attributes:
        by: labels of a series that the alert keeps.
    """

    alert: str
    expr: str
    lasting: timedelta
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    window: timedelta = timedelta(0)
    fires: Series = field(default_factory=list)
    silent: Series = field(default_factory=list)
    kept: Mapping[str, str] = field(default_factory=dict)

    @property
    def step(self) -> timedelta:
        """How often it is scraped and evaluated in its cases: several times in the window of its rates."""
        return max(_SHORTEST_STEP, min(_LONGEST_STEP, self.window / 4)) if self.window else _LONGEST_STEP


def make_rules(prometheus: PrometheusSpec, service: str, target: str) -> tuple[AlertRule, ...]:
    """The rules of a spec."""
    about = _About(service, target, match_of(prometheus, service, target), ours=prometheus.targets is not None)
    alerts: AlertsSpec = prometheus.alerts
    made = [
        about.instance_down(alerts.instance_down) if alerts.instance_down else None,
        about.error_rate(alerts.error_rate) if alerts.error_rate else None,
        about.latency(alerts.latency) if alerts.latency else None,
        *(about.own(each) for each in alerts.own),
    ]
    return tuple(each for each in made if each is not None)


def match_of(prometheus: PrometheusSpec, service: str, target: str) -> dict[str, str]:
    """The labels by which the service's series are found."""
    return prometheus.match or {SERVICE: service, TARGET: target}


def as_group(rules: tuple[AlertRule, ...], service: str, target: str) -> dict[str, Any]:
    """What a file of `rule_files` says."""
    return {
        "groups": [
            {
                "name": group_name(service, target),
                # Evaluated as often as Prometheus evaluates by default.
                "rules": [
                    {
                        "alert": rule.alert,
                        "expr": rule.expr,
                        **({"for": as_prometheus(rule.lasting)} if rule.lasting else {}),
                        "labels": dict(rule.labels),
                        "annotations": dict(rule.annotations),
                    }
                    for rule in rules
                ],
            }
        ]
    }


def as_prometheus(value: timedelta) -> str:
    """A duration as Prometheus reads it: it knows no parts of a second but milliseconds."""
    milliseconds = round(value / timedelta(milliseconds=1))
    return f"{milliseconds}ms" if milliseconds % 1000 else format_duration(timedelta(milliseconds=milliseconds))


def group_name(service: str, target: str) -> str:
    """What the group of a target's rules is called."""
    return f"{OWNER}/{service}/{target}"


def as_tests(rules: tuple[AlertRule, ...], rules_file: str) -> dict[str, Any]:
    """What a file for `promtool test rules` says: each rule that we have made fires, and is silent."""
    cases: list[dict[str, Any]] = []
    for rule in rules:
        at = rule.window + rule.lasting + 4 * rule.step
        for series, fires in ((rule.fires, True), (rule.silent, False)):
            if series:
                alerts = [{"exp_labels": {**rule.kept, **rule.labels}, "exp_annotations": dict(rule.annotations)}]
                cases.append(
                    {
                        "interval": as_prometheus(rule.step),
                        "input_series": series,
                        "alert_rule_test": [
                            {
                                "eval_time": as_prometheus(at),
                                "alertname": rule.alert,
                                "exp_alerts": alerts if fires else [],
                            }
                        ],
                    }
                )
    return {
        "rule_files": [rules_file],
        "evaluation_interval": as_prometheus(min((rule.step for rule in rules), default=_LONGEST_STEP)),
        "tests": cases,
    }


@dataclass(frozen=True)
class _About:
    service: str
    target: str
    match: Mapping[str, str]
    ours: bool

    @property
    def by(self) -> str:
        return ", ".join([*self.match, *((VERSION, DEPLOYMENT) if self.ours else ())])

    @property
    def kept(self) -> dict[str, str]:
        return {**self.match, **({VERSION: "1.0.0", DEPLOYMENT: "1.0.0-abcdef"} if self.ours else {})}

    def labels(self, severity: str) -> dict[str, str]:
        return {"severity": severity, SERVICE: self.service, TARGET: self.target, "managed_by": OWNER}

    def series(self, metric: str, labels: Mapping[str, str], values: str) -> dict[str, str]:
        return {"series": narrowed(metric, {**self.kept, **labels}), "values": values}

    def instance_down(self, alert: InstanceDownAlert) -> AlertRule:
        labels = {"instance": "127.0.0.1:1", "job": "test"}
        return AlertRule(
            alert="InstanceDown",
            expr=f"{narrowed('up', self.match)} == 0",
            lasting=alert.lasting,
            labels=self.labels(alert.severity),
            annotations={"summary": f"an instance of {self.service} on {self.target} does not answer"},
            fires=[self.series("up", labels, "0x10000")],
            silent=[self.series("up", labels, "1x10000")],
            kept={**self.kept, **labels},
        )

    def error_rate(self, alert: ErrorRateAlert) -> AlertRule:
        rates = [
            f"sum by ({self.by}) (rate({narrowed(each, self.match)}[{as_prometheus(alert.window)}]))"
            for each in (alert.errors, alert.requests)
        ]
        return AlertRule(
            alert="ErrorRateTooHigh",
            expr=f"{rates[0]} / {rates[1]} > {alert.above:g}",
            lasting=alert.lasting,
            labels=self.labels(alert.severity),
            annotations={
                "summary": f"more than {format_share(alert.above)} of the answers of {self.service} on {self.target} "
                "are errors"
            },
            window=alert.window,
            fires=self._answers(alert, (1 + alert.above) / 2),
            silent=self._answers(alert, alert.above / 2),
            kept=self.kept,
        )

    def _answers(self, alert: ErrorRateAlert, share: float) -> Series:
        bad, good = example_labels(alert.errors, taken=True), example_labels(alert.errors, taken=False)
        every = example_labels(alert.requests, taken=True)
        if bad is None or good is None or every is None:
            return []
        errors = round(_HUNDRED_PERCENT * share)
        metric, counted = alert.errors.partition("{")[0], alert.requests.partition("{")[0]
        failed = self.series(metric, {**every, **bad} if metric == counted else bad, f"0+{errors}x10000")
        if metric == counted:
            # One counter for both: what is no error differs in a label.
            if not good:
                return []
            return [failed, self.series(metric, {**every, **good}, f"0+{_HUNDRED_PERCENT - errors}x10000")]
        return [failed, self.series(counted, every, f"0+{_HUNDRED_PERCENT}x10000")]

    def latency(self, alert: LatencyAlert) -> AlertRule:
        metric = f"{alert.histogram}_bucket"
        above = alert.above.total_seconds()
        rate = f"rate({narrowed(metric, self.match)}[{as_prometheus(alert.window)}])"

        def answers(*edges: tuple[float, int]) -> Series:
            known = [(f"{edge:g}", count) for edge, count in edges] + [("+Inf", 100)]
            return [self.series(metric, {"le": edge}, f"0+{count}x10000") for edge, count in known]

        return AlertRule(
            alert="LatencyTooHigh",
            expr=f"histogram_quantile({alert.quantile:g}, sum by (le, {self.by}) ({rate})) > {above:g}",
            lasting=alert.lasting,
            labels=self.labels(alert.severity),
            annotations={
                "summary": f"the slowest {format_share(round(1 - alert.quantile, 8))} of the answers of {self.service} "
                f"on {self.target} take longer than {format_duration(alert.above)}"
            },
            window=alert.window,
            fires=answers((above, 0), (above * 10, 100)),
            silent=answers((above / 10, 100), (above, 100)),
            kept=self.kept,
        )

    def own(self, alert: OwnAlert) -> AlertRule:
        about = {SERVICE: self.service, TARGET: self.target, "managed_by": OWNER}
        return AlertRule(
            alert=alert.alert,
            expr=alert.expr,
            lasting=alert.lasting,
            labels={**about, **alert.labels},
            annotations=dict(alert.annotations),
        )

"""What watches a service: the part of the spec, with the names by which its telemetry is found.

The words are those of Prometheus: an alert has `expr`, `for`, `labels` and `annotations`.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, StrictBool, field_validator, model_validator

from models.base import SpecModel
from models.platforms.base import PathText, as_tuple
from models.secrets import SecretReference
from models.units import Duration, Share

SERVICE, TARGET = "service_name", "deployment_environment_name"
VERSION, DEPLOYMENT = "service_version", "deployment_id"
_SELECTOR = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?:\{[^{}\n]*\})?", re.ASCII)
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_URL = re.compile(r"https?://[^\s/?#@]+(?:/[^\s?#]*)?", re.ASCII)
A_WHILE, LONGEST_WINDOW = timedelta(minutes=2), timedelta(days=1)


def _matching(pattern: re.Pattern[str], sentence: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if isinstance(value, str) and not pattern.fullmatch(value):
            raise ValueError(sentence)
        return value

    return BeforeValidator(check)


ServerUrl = Annotated[
    str,
    Field(max_length=2048),
    _matching(_URL, "an address is written like http://127.0.0.1:9090, without a user, a query or a fragment"),
]
Selector = Annotated[
    str,
    Field(max_length=1000),
    _matching(_SELECTOR, 'a metric with its matchers is written like http_requests_total{status=~"5.."}'),
]
Metric = Annotated[str, Field(max_length=200), _matching(_METRIC, "a metric has letters, digits, _ and :")]
Label = Annotated[str, Field(max_length=200), _matching(_LABEL, "a label has letters, digits and _")]
Text = Annotated[str, Field(max_length=2000)]


class _Alert(SpecModel):
    window: Duration = Field(default=A_WHILE, description="over which rates are taken")
    lasting: Duration = Field(default=A_WHILE, alias="for", description="how long it must be so before it fires")
    severity: Text = "critical"

    @field_validator("window", "lasting")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if value > LONGEST_WINDOW:
            raise ValueError("at most 1d")
        return value

    @field_validator("window")
    @classmethod
    def _not_nothing(cls, value: timedelta) -> timedelta:
        if value < timedelta(seconds=1):
            raise ValueError("window is at least 1s")
        return value


class ErrorRateAlert(_Alert):
    """Too many of the answers are errors."""

    above: Share
    errors: Selector = Field(default='http_requests_total{status=~"5.."}', description="counter of failed requests")
    requests: Selector = Field(default="http_requests_total", description="counter of all requests")

    @field_validator("above")
    @classmethod
    def _possible(cls, value: float) -> float:
        if not 0 < value < 1:
            raise ValueError("above is more than 0% and less than 100%")
        return value


class LatencyAlert(_Alert):
    """A quantile of the answers' times is too high."""

    quantile: Share = 0.95
    above: Duration
    histogram: Metric = Field(
        default="http_request_duration_seconds", description="of a histogram in seconds, without _bucket"
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not 0 < self.quantile < 1:
            raise ValueError("quantile is more than 0% and less than 100%")
        if self.above <= timedelta(0):
            raise ValueError("above is more than 0s")
        return self


class InstanceDownAlert(SpecModel):
    """An instance does not answer Prometheus."""

    lasting: Duration = Field(default=A_WHILE, alias="for", description="how long it must be so before it fires")
    severity: Text = "critical"


class OwnAlert(SpecModel):
    """An alerting rule in Prometheus' own words."""

    alert: Metric
    expr: Annotated[str, Field(min_length=1, max_length=10_000)]
    lasting: Duration = Field(default=timedelta(0), alias="for")
    labels: dict[Label, Text] = Field(default_factory=dict, max_length=50)
    annotations: dict[Label, Text] = Field(default_factory=dict, max_length=50)


class AlertsSpec(SpecModel):
    """What shall call somebody."""

    error_rate: ErrorRateAlert | None = None
    latency: LatencyAlert | None = None
    instance_down: InstanceDownAlert | None = InstanceDownAlert()
    own: Annotated[tuple[OwnAlert, ...], BeforeValidator(as_tuple), Field(max_length=100)] = ()

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [each.alert for each in self.own]
        if len(set(names)) != len(names):
            raise ValueError("two alerts of own have the same name")
        return self


class _Server(SpecModel):
    url: ServerUrl
    token: SecretReference | None = Field(default=None, description="sent as a bearer token")


class PrometheusSpec(_Server):
    """The Prometheus that scrapes the service and evaluates its alerts."""

    targets: PathText | None = Field(
        default=None, description="folder whose *.yml it reads as file_sd_configs; none: it finds the instances itself"
    )
    rules: PathText | None = Field(default=None, description="folder whose *.yml it reads as rule_files")
    match: dict[Label, Text] = Field(
        default_factory=dict, max_length=20, description="labels of the service's series; default: those we give"
    )
    alerts: AlertsSpec = AlertsSpec()
    within: Duration = Field(default=timedelta(minutes=2), description="until all of it must have been seen working")

    @model_validator(mode="after")
    def _places(self) -> Self:
        if not timedelta(seconds=5) <= self.within <= timedelta(minutes=30):
            raise ValueError("within is between 5s and 30m")
        if self.targets is None and not self.match:
            raise ValueError("without targets, match says by which labels the service's series are found")
        asked = self.alerts.error_rate or self.alerts.latency or self.alerts.own
        if self.rules is None and asked:
            raise ValueError("alerts need rules: the folder that Prometheus reads them from")
        return self

    def located(self, resolve: Callable[[str], str]) -> Self:
        """The same with every path in it made absolute by `resolve`."""
        targets, rules = (path and resolve(path) for path in (self.targets, self.rules))
        return self.model_copy(update={"targets": targets, "rules": rules})


class AlertmanagerSpec(_Server):
    """Who is told when an alert fires; a test alert proves that it arrives."""

    labels: dict[Label, Text] = Field(
        default_factory=dict, max_length=20, description="of the test alert, besides ours: they choose its route"
    )
    within: Duration = Field(default=timedelta(minutes=1), description="until the test alert must have been delivered")

    @field_validator("within")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if not timedelta(seconds=1) <= value <= timedelta(minutes=10):
            raise ValueError("within is between 1s and 10m")
        return value


class SentrySpec(SpecModel):
    """Where errors are tracked; a test event proves that they arrive."""

    dsn: SecretReference
    environment: str | None = Field(default=None, description="default: the target")


class ObserveSpec(SpecModel):
    """What must be seen watching the service."""

    sentry: SentrySpec | None = None
    prometheus: PrometheusSpec | None = None
    alertmanager: AlertmanagerSpec | None = None
    identity: StrictBool = Field(
        default=True, description="instances are told who they are in the words of OpenTelemetry, Sentry and Datadog"
    )

    def located(self, resolve: Callable[[str], str]) -> Self:
        """The same with every path in it made absolute by `resolve`."""
        return self.model_copy(update={"prometheus": self.prometheus and self.prometheus.located(resolve)})

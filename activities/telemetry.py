"""A dashboard must say how deployments end and how long users wait for a way back, without asking each history.

The worker offers Temporal's own measurements and these at one address, in Prometheus' format. What a deployment adds is
taken from its report when that is written: an activity, so that histories know nothing of it. An activity that is
done twice counts twice; that is rare, and a dashboard can bear it.

Deployments are rare too. A counter that first appears as 1 is no increase to Prometheus, so every service's counters
begin at 0 before anything ends. And times are told as those of the last deployment: over a handful of values a day a
histogram says less.
"""

import re
from collections.abc import Mapping

from temporalio.common import MetricMeter
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from models.errors import StackError
from models.messages import Kind
from models.outcome import Outcome
from models.report import DeploymentReport

VARIABLE = "DEPLOYMENT_SPECIALIST_METRICS"

ENDED = "deployments_ended"
OPEN = "deployments_open"
SECONDS = "deployment_last_seconds"
STAGE_SECONDS = "deployment_last_stage_seconds"
BACK_SECONDS = "deployment_last_verdict_to_stable_seconds"
REHEARSAL_SECONDS = "deployment_last_rehearsal_seconds"

_ENDS = (
    Outcome.DEPLOYED,
    Outcome.ROLLED_BACK,
    Outcome.ROLLBACK_FAILED,
    Outcome.REJECTED,
    Outcome.PREFLIGHT_FAILED,
)
_ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[0-9.]+):[0-9]{1,5}")


def make_runtime(address: str | None) -> Runtime | None:
    """The runtime for the worker's client that serves metrics at `address`; None when no address is given.

    Args:
        address: an IP address and a port, like `0.0.0.0:9464`; everybody who reaches it may read the metrics.

    Raises:
        StackError: this is no such address, or nobody can listen there.
    """
    if not address:
        return None
    if not _ADDRESS.fullmatch(address):
        raise StackError(f"{VARIABLE} is an IP address and a port, like 0.0.0.0:9464.")
    metrics = PrometheusConfig(bind_address=address, durations_as_seconds=True, counters_total_suffix=True)
    try:
        return Runtime(telemetry=TelemetryConfig(metrics=metrics))
    except (RuntimeError, ValueError) as error:
        raise StackError(f"{VARIABLE}: metrics cannot be served at {address}: {error}") from None


def introduce(meter: MetricMeter, service: str, target: str) -> None:
    """Begins the counters of a service on a target at 0; those that have begun stay as they are."""
    for kind in Kind:
        for outcome in _ENDS:
            _count(meter, 0, service, target, kind, outcome)


def record(meter: MetricMeter, report: DeploymentReport) -> None:
    """Counts a deployment that has ended, and says how many seconds it and its parts took."""
    about = {"service": report.service, "target": report.target}
    _count(meter, 1, report.service, report.target, report.kind, report.outcome)
    if report.ended is not None:
        took = (report.ended - report.started).total_seconds()
        labels = {**about, "kind": str(report.kind), "outcome": str(report.outcome)}
        _seconds(meter, SECONDS, "From start to end of the last one that ended so", took, labels)
    for stage in report.stages:
        labels = {**about, "stage": str(stage.stage), "verdict": str(stage.verdict)}
        _seconds(meter, STAGE_SECONDS, "How long the stage took when it last ended so", stage.seconds, labels)
    measured = report.measured
    _seconds(meter, BACK_SECONDS, "From verdict to 100 % stable, last time", measured.verdict_to_stable, about)
    for way, seconds in (("back", measured.rehearsal_back), ("forth", measured.rehearsal_forth)):
        _seconds(meter, REHEARSAL_SECONDS, "How long the last rehearsal took", seconds, {**about, "way": way})


def _count(meter: MetricMeter, how_many: int, service: str, target: str, kind: Kind, outcome: Outcome) -> None:
    labels = {"service": service, "target": target, "kind": str(kind), "outcome": str(outcome)}
    meter.create_counter(ENDED, "Deployments and rollbacks that have ended").add(how_many, labels)


def _seconds(meter: MetricMeter, name: str, meaning: str, value: float | None, labels: Mapping[str, str]) -> None:
    if value is not None:
        meter.create_gauge_float(name, meaning, "s").set(max(0.0, value), labels)

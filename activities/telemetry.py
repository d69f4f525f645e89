"""A dashboard must say how deployments end and how long users wait for a way back, without asking each history.

The worker offers Temporal's own measurements and these at one address, in Prometheus' format. What a deployment adds is
taken from its report when that is written: an activity, so that histories know nothing of it. An activity that is
done twice counts twice; that is rare, and a dashboard can bear it.
"""

import re
from collections.abc import Mapping

from temporalio.common import MetricMeter
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from models.errors import StackError
from models.report import DeploymentReport

VARIABLE = "DEPLOYMENT_SPECIALIST_METRICS"

ENDED = "deployments_ended"
SECONDS = "deployment_seconds"
STAGE_SECONDS = "deployment_stage_seconds"
BACK_SECONDS = "deployment_verdict_to_stable_seconds"
REHEARSAL_SECONDS = "deployment_rehearsal_seconds"
OPEN = "deployments_open"

_LONG = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0, 86400.0)
_SHORT = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0)
_BUCKETS: Mapping[str, tuple[float, ...]] = {
    SECONDS: _LONG,
    STAGE_SECONDS: _LONG,
    BACK_SECONDS: _SHORT,
    REHEARSAL_SECONDS: _LONG,
}
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
    metrics = PrometheusConfig(
        bind_address=address,
        durations_as_seconds=True,
        counters_total_suffix=True,
        histogram_bucket_overrides={name: list(buckets) for name, buckets in _BUCKETS.items()},
    )
    try:
        return Runtime(telemetry=TelemetryConfig(metrics=metrics))
    except (RuntimeError, ValueError) as error:
        raise StackError(f"{VARIABLE}: metrics cannot be served at {address}: {error}") from None


def record(meter: MetricMeter, report: DeploymentReport) -> None:
    """Counts a deployment that has ended, and its times in seconds.

    Args:
        meter: of the activity; it adds the namespace and the task queue by itself.
        report: of a run that has ended.
    """
    about = {"service": report.service, "target": report.target}
    kinds = {**about, "kind": str(report.kind), "strategy": str(report.strategy)}
    ended = {**kinds, "outcome": str(report.outcome), "failure": str(report.failure.type) if report.failure else ""}
    meter.create_counter(ENDED, "Deployments and rollbacks that have ended").add(1, ended)
    if report.ended is not None:
        took = (report.ended - report.started).total_seconds()
        _seconds(meter, SECONDS, "From start to end", took, {**kinds, "outcome": str(report.outcome)})
    for stage in report.stages:
        labels = {**about, "stage": str(stage.stage), "verdict": str(stage.verdict)}
        _seconds(meter, STAGE_SECONDS, "How long a stage took", stage.seconds, labels)
    measured = report.measured
    _seconds(meter, BACK_SECONDS, "From verdict to 100 % stable", measured.verdict_to_stable, about)
    for way, seconds in (("back", measured.rehearsal_back), ("forth", measured.rehearsal_forth)):
        _seconds(meter, REHEARSAL_SECONDS, "How long the rehearsal took", seconds, {**about, "way": way})


def _seconds(meter: MetricMeter, name: str, meaning: str, value: float | None, labels: Mapping[str, str]) -> None:
    if value is not None:
        meter.create_histogram_float(name, meaning, "s").record(max(0.0, value), labels)

"""What a service says of itself: health, ready, live, metrics, version.

Asked once, through the front door. A service that does not answer there is a `fail`, not an `error`: its users would
not get an answer either. `error` is left for a question that this machine could not put.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from activities.asking import LARGEST_BODY, Answer, CannotAskError, NoAnswerError, ask
from activities.finding import Finding, quote
from models.checks import EndpointCheck
from models.verdict import CheckResult

LARGEST_METRICS = 10 << 20
HEALTHY = ("healthy", "ok", "up", "pass", "passing")


class _WrongError(Exception):
    """The service answered, and the answer is not the one that was hoped for."""


async def check_endpoint(check: EndpointCheck) -> CheckResult:
    """Asks one endpoint once.

    `health` wants 200 and, where the body is a JSON object with a `status`, one of healthy, ok, up, pass, passing;
    `ready` wants 200 and no `ready` that is false; `live` wants 200; `metrics` wants 200 and Prometheus or OpenMetrics
    text with a sample in it; `version` wants a JSON object with the `version` that was deployed.
    """
    finding = Finding(f"endpoint_{check.endpoint}")
    if check.path is None:
        return finding.skipped(
            f"the service has no {check.endpoint} endpoint (verify.endpoints.{check.endpoint}: null)"
        )
    judge = _JUDGES.get(check.endpoint)
    if judge is None:
        return finding.not_asked(f"there is no check for an endpoint {quote(check.endpoint)}")
    evidence: dict[str, Any] = {"path": check.path}
    largest = LARGEST_METRICS if check.endpoint == "metrics" else LARGEST_BODY
    try:
        answer = await ask("GET", check.base_url.rstrip("/") + check.path, check.timeout, largest=largest)
        evidence |= {"status": answer.status, "milliseconds": round(answer.seconds * 1000, 1)}
        if answer.status != 200:
            raise _WrongError(_wrong_status(check, answer))
        # Parsing ten megabytes of metrics takes a while, and the activity must go on beating.
        said, seen = await asyncio.to_thread(judge, check, answer)
    except CannotAskError as error:
        return finding.not_asked(f"{check.path} could not be asked: {error}", **evidence)
    except NoAnswerError as error:
        return finding.failed(f"{check.path} did not answer: {error}", **evidence)
    except _WrongError as error:
        return finding.failed(str(error), **evidence)
    return finding.passed(f"{check.path} {said}", **evidence, **seen)


def _wrong_status(check: EndpointCheck, answer: Answer) -> str:
    said = f"{check.path} answered {answer.status}, expected 200"
    if answer.status == 404:
        return f"{said}; if the service has no such endpoint, set verify.endpoints.{check.endpoint} to null"
    if 300 <= answer.status < 400:
        return f"{said}; it redirects to {quote(answer.headers.get('location', 'nowhere'))}, which is not followed"
    return f"{said}: {quote(answer.text)}" if answer.body else said


def _health(check: EndpointCheck, answer: Answer) -> tuple[str, dict[str, Any]]:
    document = _document(answer)
    if "status" not in document:
        return "answered 200", {}
    status = document["status"]
    if not isinstance(status, str) or status.lower() not in HEALTHY:
        raise _WrongError(f"{check.path} says status {quote(status)}, expected one of {', '.join(HEALTHY)}")
    return f"says status {status}", {"said": status}


def _ready(check: EndpointCheck, answer: Answer) -> tuple[str, dict[str, Any]]:
    if _document(answer).get("ready", True) is False:
        raise _WrongError(f"{check.path} answered 200, but says that it is not ready: {quote(answer.text)}")
    return "answered 200", {}


def _live(check: EndpointCheck, answer: Answer) -> tuple[str, dict[str, Any]]:
    return "answered 200", {}


def _version(check: EndpointCheck, answer: Answer) -> tuple[str, dict[str, Any]]:
    version = _document(answer).get("version")
    if version is None:
        raise _WrongError(
            f'{check.path} must answer {{"version": "{check.version}"}}, but answered {quote(answer.text)}'
        )
    if version != check.version:
        raise _WrongError(f"{check.path} says version {quote(version)}, expected {check.version}")
    return f"says version {version}", {"said": version}


def _metrics(check: EndpointCheck, answer: Answer) -> tuple[str, dict[str, Any]]:
    openmetrics = answer.headers.get("content-type", "").startswith("application/openmetrics-text")
    try:
        text = answer.body.decode()
        families = list((parse_openmetrics if openmetrics else parse_prometheus)(text))
    # The parsers tell a text they do not understand by whatever its first fault runs into.
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        form = "OpenMetrics" if openmetrics else "Prometheus"
        raise _WrongError(f"{check.path} is no {form} text: {quote(str(error))}") from None
    samples = sum(len(family.samples) for family in families)
    if not samples:
        raise _WrongError(f"{check.path} is Prometheus text without a single sample")
    return f"has {samples} samples", {"families": len(families), "samples": samples}


_JUDGES: dict[str, Callable[[EndpointCheck, Answer], tuple[str, dict[str, Any]]]] = {
    "health": _health,
    "ready": _ready,
    "live": _live,
    "metrics": _metrics,
    "version": _version,
}


def _document(answer: Answer) -> dict[str, Any]:
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}

"""Judges what a service answers for itself, the same way before its first user and after.

Staging asks each instance, verify asks through the front proxy; what either of them accepts is decided here, and what
is healthy in `models.health`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from activities.check_result import quote
from models.health import HEALTHY, JUDGED, HealthRule, wrong_status

LARGEST_METRICS = 10 << 20
# What is longer is not a document about health: only the status counts then, as it does for a router.
LARGEST_DOCUMENT = 64 << 10


class WrongAnswerError(Exception):
    """The service answered, and the answer is not the one that was hoped for."""


@dataclass(frozen=True)
class EndpointAnswer:
    """What was answered.

    Attributes:
        location: where a redirect leads.
    """

    status: int
    body: bytes = b""
    content_type: str = ""
    location: str = ""

    @property
    def text(self) -> str:
        """The body as text; what is not valid in it is replaced."""
        return self.body.decode("utf-8", "replace")


def judge_answer(
    endpoint: str, path: str, said: EndpointAnswer, rule: HealthRule, version: str, *, used: bool = True
) -> tuple[str, dict[str, Any]]:
    """Says in a few words what an endpoint answered, with evidence.

    `health`, `ready` and `live` want what the rule of health wants; `metrics` wants 200 and Prometheus or OpenMetrics
    text with a sample in it; `version` wants 200 and a JSON object with the `version` that was deployed.

    Args:
        endpoint: health, ready, live, metrics or version.
        path: that was asked.
        said: the answer.
        rule: what a healthy answer is.
        version: the one that was deployed.
        used: it has had users; a service may count nothing before.

    Raises:
        WrongAnswerError: it is not the answer that was hoped for.
    """
    if endpoint in JUDGED:
        return _healthy(endpoint, path, said, rule)
    if said.status != HEALTHY:
        raise WrongAnswerError(
            wrong_status(endpoint, path, said.status, body=said.body, location=said.location, host=rule.host)
        )
    if endpoint == "version":
        return _version(path, said, version)
    return _metrics(path, said, used=used)


def _healthy(endpoint: str, path: str, said: EndpointAnswer, rule: HealthRule) -> tuple[str, dict[str, Any]]:
    body = said.body if len(said.body) <= LARGEST_DOCUMENT else b""
    wrong = rule.wrong(endpoint, path, said.status, body, said.location)
    if wrong:
        raise WrongAnswerError(wrong)
    return f"answered {said.status}", {}


def _version(path: str, said: EndpointAnswer, expected: str) -> tuple[str, dict[str, Any]]:
    try:
        document = json.loads(said.body)
    except (ValueError, RecursionError):
        document = None
    version = document.get("version") if isinstance(document, dict) else None
    if version is None:
        raise WrongAnswerError(f'{path} must answer {{"version": "{expected}"}}, but answered {quote(said.text)}')
    if version != expected:
        raise WrongAnswerError(f"{path} says version {quote(version)}, expected {expected}")
    return f"says version {version}", {"said": version}


def _metrics(path: str, said: EndpointAnswer, *, used: bool) -> tuple[str, dict[str, Any]]:
    openmetrics = said.content_type.startswith("application/openmetrics-text")
    parse: Callable[[str], Any] = parse_openmetrics if openmetrics else parse_prometheus
    try:
        families = list(parse(said.body.decode()))
    # The parsers tell a text they do not understand by whatever its first fault runs into.
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        form = "OpenMetrics" if openmetrics else "Prometheus"
        raise WrongAnswerError(f"{path} is no {form} text: {quote(str(error))}") from None
    samples = sum(len(family.samples) for family in families)
    if not samples and used:
        raise WrongAnswerError(f"{path} is Prometheus text without a single sample")
    return f"has {samples} samples", {"families": len(families), "samples": samples}

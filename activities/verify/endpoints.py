"""What a service says of itself: health, ready, live, metrics, version.

Asked through the front proxy. A service that does not answer there is a `fail`, not an `error`: its users would
not get an answer either. `error` is left for a question that this machine could not put.
"""

import asyncio
from typing import Any

from activities.check_result import Finding, quote
from activities.http.client import LARGEST_BODY, Answer, CannotAskError, NoAnswerError, ask
from activities.http.endpoint_answers import (
    LARGEST_DOCUMENT,
    LARGEST_METRICS,
    EndpointAnswer,
    WrongAnswerError,
    judge_answer,
)
from models.checks import EndpointCheck
from models.health import JUDGED
from models.verdict import CheckResult

ENDPOINTS = (*JUDGED, "metrics", "version")
# As often as a watch asks before it believes that an instance has stopped answering.
TRIES = 3
AGAIN_AFTER = 0.2


async def check_endpoint(check: EndpointCheck) -> CheckResult:
    """Asks one endpoint; where no whole answer comes in time, a few times.

    What it must answer is what it had to answer before its first user: see `activities.http.endpoint_answers`.
    """
    finding = Finding(f"endpoint_{check.endpoint}")
    if check.path is None:
        return finding.skipped(
            f"the service has no {check.endpoint} endpoint (verify.endpoints.{check.endpoint}: null)"
        )
    if check.endpoint not in ENDPOINTS:
        return finding.not_asked(f"there is no check for an endpoint {quote(check.endpoint)}")
    evidence: dict[str, Any] = {"path": check.path}
    try:
        said, milliseconds = await _ask(check, check.path)
        evidence |= {"status": said.status, "milliseconds": milliseconds}
        # Parsing ten megabytes of metrics takes a while, and the activity must go on beating.
        words, seen = await asyncio.to_thread(
            judge_answer, check.endpoint, check.path, said, check.health, check.version
        )
    except CannotAskError as error:
        return finding.not_asked(f"{check.path} could not be asked: {error}", **evidence)
    except NoAnswerError as error:
        return finding.failed(f"{check.path} did not answer: {error}", **evidence)
    except WrongAnswerError as error:
        return finding.failed(str(error), **evidence)
    return finding.passed(f"{check.path} {words}", **evidence, **seen)


async def _ask(check: EndpointCheck, path: str) -> tuple[EndpointAnswer, float]:
    judged = check.endpoint in JUDGED
    within, tries = (check.health.within, TRIES) if judged else (check.timeout, 1)
    largest = LARGEST_METRICS if check.endpoint == "metrics" else LARGEST_DOCUMENT if judged else LARGEST_BODY
    for left in reversed(range(tries)):
        try:
            answer = await ask(
                "GET",
                check.base_url.rstrip("/") + path,
                within,
                headers=check.health.headers,
                largest=largest,
                whole=not judged,
            )
        except NoAnswerError:
            if not left:
                raise
            await asyncio.sleep(AGAIN_AFTER)
        else:
            return _said(answer), round(answer.seconds * 1000, 1)
    raise AssertionError("the last try returns or raises")


def _said(answer: Answer) -> EndpointAnswer:
    headers = answer.headers
    return EndpointAnswer(answer.status, answer.body, headers.get("content-type", ""), headers.get("location", ""))

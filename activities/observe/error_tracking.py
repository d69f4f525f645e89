"""Error tracking that is configured but does not accept events is found out at the first incident. Not here.

A test event, tagged with release and environment, is sent as a Sentry envelope. It is posted by our own client and not
by the SDK's, whose transport works in the background and drops what it cannot deliver: the answer is what is asked for.
"""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, cast

from sentry_sdk.envelope import Envelope
from sentry_sdk.utils import BadDsn, Dsn

from activities.check_result import Finding, quote
from activities.http.client import Answer, CannotAskError, NoAnswerError, ask
from activities.secrets.resolver import remember, resolve
from models.checks import SentryCheck
from models.errors import SecretUnresolvedError
from models.verdict import CheckResult

CLIENT = "deployment-specialist"
MESSAGE = "deployment-specialist: test event"
# All tries and waits together stay below the minute that a check may take.
WITHIN = timedelta(seconds=10)
TRIES = 3
AGAIN_AFTER = 1.0
LONGEST_WAIT = 10.0


async def check_error_tracking(check: SentryCheck) -> CheckResult:
    """Sends the event and judges the answer.

    200 is a pass; any other answer that another try would get as well is a fail; no answer, a server's own error and a
    limit that lasts longer than `LONGEST_WAIT` seconds are errors of the watcher, not of the service.
    """
    finding = Finding("error_tracking")
    try:
        dsn = _read_dsn(await asyncio.to_thread(resolve, check.sentry.dsn))
    except SecretUnresolvedError as error:
        return finding.failed(f"observe.sentry.dsn: {error}")
    except (BadDsn, ValueError):
        return finding.failed(f"observe.sentry.dsn: the value of {check.sentry.dsn} is no Sentry DSN")
    event_id = uuid.uuid4().hex
    evidence: dict[str, Any] = {"event_id": event_id, "host": dsn.netloc, "project": dsn.project_id}
    event = _make_event(check, event_id)
    said = "it was not asked"
    for n in range(TRIES):
        wait = AGAIN_AFTER
        try:
            answer = await _send(dsn, event)
        except CannotAskError as error:
            return finding.not_asked(f"{dsn.netloc} could not be asked: {error}", **evidence)
        except NoAnswerError as error:
            said = f"{dsn.netloc} did not answer: {error}"
        else:
            if answer.status == 200:
                return finding.passed(f"{dsn.netloc} accepted the test event", **evidence, release=event["release"])
            said = f"{dsn.netloc} answered {answer.status}: {_cause(answer)}"
            if answer.status != 429 and answer.status < 500:
                return finding.failed(said, **evidence, status=answer.status)
            wait = _retry_after(answer)
        if wait > LONGEST_WAIT:
            said += f"; it wants to be asked again in {wait:.0f} s"
            break
        if n + 1 < TRIES:
            await asyncio.sleep(wait)
    return finding.not_asked(said, **evidence)


def _read_dsn(value: str) -> Dsn:
    dsn = Dsn(value)
    # Either may come back alone in an answer or an error.
    for key in (dsn.public_key, dsn.secret_key):
        if key:
            remember(key)
    return dsn


def _make_event(check: SentryCheck, event_id: str) -> dict[str, Any]:
    release = check.release
    return {
        "event_id": event_id,
        "timestamp": datetime.now(UTC).isoformat(),
        "platform": "python",
        "level": "info",
        "logger": CLIENT,
        "message": MESSAGE,
        "release": f"{release.service}@{release.version}",
        "environment": check.sentry.environment or check.target,
        "tags": {"service": release.service, "target": check.target, "version": release.version},
    }


async def _send(dsn: Dsn, event: dict[str, Any]) -> Answer:
    authority = dsn.to_auth(CLIENT)
    envelope = Envelope(headers={"event_id": event["event_id"], "sent_at": event["timestamp"]})
    envelope.add_event(cast(Any, event))
    return await ask(
        "POST",
        authority.get_api_url(),
        WITHIN,
        headers={"Content-Type": "application/x-sentry-envelope", "X-Sentry-Auth": authority.to_header()},
        content=envelope.serialize(),
    )


def _cause(answer: Answer) -> str:
    known = {
        400: "it does not understand the event",
        401: "the key of the DSN is missing or wrong",
        403: "the key of the DSN is not allowed, or disabled",
        404: "there is no such project, or the address of the DSN is wrong",
        413: "the event is too large for it",
        429: "too many events",
    }
    said = quote(answer.headers.get("x-sentry-error", "") or answer.text)
    return "; ".join(filter(None, (known.get(answer.status, ""), said)))


def _retry_after(answer: Answer) -> float:
    """Seconds that the server asks to wait; both forms of the header, RFC 9110 section 10.2.3."""
    value = answer.headers.get("retry-after", "")
    if value.isdecimal() and value.isascii():
        return float(value[:9])
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return AGAIN_AFTER

"""Sends an event to an HTTP endpoint, signed as Standard Webhooks has it (standardwebhooks.com).

`webhook-id` is the event's id and the same each time it is sent, so that a receiver can drop a repetition;
`webhook-timestamp` is the time of this attempt, so that a receiver can refuse an old one; `webhook-signature` is
`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.
"""

import base64
import hmac
import time
from binascii import Error as NotBase64
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from activities.http.client import Answer, CannotAskError, NoAnswerError
from activities.http.ssrf import reach
from activities.notifications import messages
from models.notifications import Answered, Delivery, Event

WITHIN = timedelta(seconds=10)
LARGEST_ANSWER = 64 << 10
_PREFIX = "whsec_"
_AGAIN = frozenset({408, 425, 429})
LONGEST_WAIT = 3600.0


def sign(key: str, event_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`. A key that begins with `whsec_` is base64 behind it; any other is its bytes."""
    raw = key.encode()
    if key.startswith(_PREFIX):
        try:
            raw = base64.b64decode(key.removeprefix(_PREFIX), validate=True)
        except NotBase64:
            raw = key.encode()
    signed = f"{event_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(raw, signed, "sha256")).decode()


async def post(url: str, key: str, event: Event, *, insecure: bool) -> Answered:
    """Sends the event once.

    Args:
        url: where to.
        key: signs it.
        event: what is told.
        insecure: plain HTTP may also leave this machine.
    """
    body, timestamp = messages.cloud_event(event), int(time.time())
    headers = {
        "Content-Type": "application/cloudevents+json; charset=utf-8",
        "User-Agent": "deployment-specialist",
        "webhook-id": event.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(key, event.id, timestamp, body),
    }
    try:
        reached = await reach(
            "POST", url, WITHIN, secret_headers=headers, content=body, largest=LARGEST_ANSWER, insecure=insecure
        )
    except NoAnswerError as error:
        return Answered(state=Delivery.UNREACHABLE, why=str(error))
    except CannotAskError as error:
        return Answered(state=Delivery.REFUSED, why=str(error))
    return _judge(reached.answer)


def _judge(answer: Answer) -> Answered:
    if 200 <= answer.status < 300:
        return Answered(state=Delivery.DELIVERED)
    why = f"it answered {answer.status}"
    if answer.status in _AGAIN or answer.status >= 500:
        return Answered(state=Delivery.UNREACHABLE, why=why, again_in=_again_in(answer))
    return Answered(state=Delivery.REFUSED, why=why)


def _again_in(answer: Answer) -> float | None:
    said = answer.headers.get("retry-after", "")
    if said.isdecimal():
        return min(float(said[:9]), LONGEST_WAIT)
    try:
        seconds = (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None
    return min(max(seconds, 0.0), LONGEST_WAIT)

"""Sends an event to a service that Apprise knows: chat, e-mail, pagers.

Apprise says only whether the service took the message; why it did not stands in its log, which is read for the report
and never to decide.
"""

import asyncio
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

from activities.notifications import messages
from activities.secrets.resolver import remember, scrub
from models.notifications import Answered, Delivery, Event, EventKind

WITHIN = 20.0
LONGEST_REASON = 300
_SHORTEST_SECRET = 8
_FAILURES = (EventKind.ROLLED_BACK, EventKind.NOT_DEPLOYED, EventKind.ROLLBACK_FAILED)
_WARNINGS = (EventKind.APPROVAL_NEEDED, EventKind.HELD, EventKind.TROUBLE)


async def send(url: str, event: Event) -> Answered:
    """Sends the event once; a service that does not take it may take it later."""
    _remember_parts(url)
    try:
        async with asyncio.timeout(WITHIN):
            return await asyncio.to_thread(_send, url, event)
    except TimeoutError:
        return Answered(state=Delivery.UNKNOWN, why=f"no answer within {WITHIN:.0f}s")


def _send(url: str, event: Event) -> Answered:
    from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType

    asset = AppriseAsset(app_id="deployment-specialist", app_desc="deployment-specialist", app_url="", async_mode=False)
    told = Apprise(asset=asset)
    if not told.add(url):
        return Answered(state=Delivery.REFUSED, why="its secret is not an Apprise URL")
    kind = NotifyType.SUCCESS if event.kind is EventKind.DEPLOYED else NotifyType.INFO
    if event.kind in _FAILURES:
        kind = NotifyType.FAILURE
    elif event.kind in _WARNINGS:
        kind = NotifyType.WARNING
    with _captured() as lines:
        taken = told.notify(
            body=messages.text(event), title=messages.title(event), notify_type=kind, body_format=NotifyFormat.TEXT
        )
    if taken:
        return Answered(state=Delivery.DELIVERED)
    said = f": {scrub(lines[-1])[:LONGEST_REASON]}" if lines else ""
    return Answered(state=Delivery.UNREACHABLE, why=f"the service did not take it{said}")


@contextmanager
def _captured() -> Iterator[list[str]]:
    """Collects what Apprise logs in this thread: others may be telling other receivers."""
    lines: list[str] = []
    this = threading.get_ident()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == this:
                lines.append(" ".join(record.getMessage().split()))

    logger, handler = logging.getLogger("apprise"), Collector(logging.WARNING)
    logger.addHandler(handler)
    # It would print addresses with tokens in them.
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


def _remember_parts(url: str) -> None:
    """A service's tokens are parts of its URL, and may come back alone in a message."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    for piece in re.split(r"[/@:?&=#]", "/".join((parts.netloc, parts.path, parts.query, parts.fragment))):
        if len(piece) >= _SHORTEST_SECRET:
            remember(piece)
            remember(unquote(piece))

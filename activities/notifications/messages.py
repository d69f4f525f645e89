"""Writes an event for readers: a title and a text for people, a CloudEvent with a CDEvents body for programs.

CloudEvents 1.0 (cloudevents.io), structured JSON; CDEvents 0.4 (cdevents.dev): service deployed, upgraded and
rolledback where they fit, and custom events (`dev.cdeventsx.…`) for everything that CDEvents has no word for.
"""

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from activities.secrets.resolver import scrub, scrub_values
from models.notifications import Event, EventKind

CDEVENTS = "0.4.1"
_SERVICE = "0.2.0"
_CUSTOM = "0.1.0"
_TOOL = "deploymentspecialist"
_CUSTOM_WORDS = {
    EventKind.STARTED: "started",
    EventKind.APPROVAL_NEEDED: "approvalneeded",
    EventKind.HELD: "held",
    EventKind.STEP_PASSED: "steppassed",
    EventKind.DEPLOYED: "deployed",
    EventKind.ROLLED_BACK: "rolledback",
    EventKind.NOT_DEPLOYED: "notdeployed",
    EventKind.ROLLBACK_FAILED: "rollbackfailed",
    EventKind.TROUBLE: "trouble",
}
LONGEST_TITLE = 200
LONGEST_TEXT = 3000
PROGRAM = "deployment-specialist"


def title(event: Event) -> str:
    """One line for people, scrubbed."""
    again = f" (reminder {event.reminder})" if event.reminder else ""
    text = scrub(f"{event.service}/{event.target}: {event.kind}{again}")
    return " ".join(text.split())[:LONGEST_TITLE]


def text(event: Event) -> str:
    """The message for people, scrubbed: the sentence, the details, what can be run now."""
    lines = [event.summary, *event.details]
    if event.address:
        lines.append(f"Users reach it at {event.address}")
    lines += [f"{PROGRAM} {command}" for command in event.commands]
    return scrub("\n".join(lines))[:LONGEST_TEXT]


def cloud_event(event: Event) -> bytes:
    """The body of a webhook: a CloudEvent in structured JSON mode, scrubbed. The same event gives the same bytes."""
    kind, subject, content = _cdevent(event)
    source = f"/deployment-specialist/{event.workflow_id}"
    body = {
        "context": {
            "version": CDEVENTS,
            "id": event.id,
            "source": source,
            "type": kind,
            "timestamp": _time(event.at),
        },
        "subject": {"id": f"{event.service}/{event.target}", "source": source, "type": subject, "content": content},
        "customData": _custom(event),
        "customDataContentType": "application/json",
    }
    document = {
        "specversion": "1.0",
        "id": event.id,
        "source": source,
        "type": kind,
        "subject": f"{event.service}/{event.target}",
        "time": _time(event.at),
        "datacontenttype": "application/json",
        "data": scrub_values(body),
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _cdevent(event: Event) -> tuple[str, str, dict[str, Any]]:
    predicate = ""
    if event.kind is EventKind.DEPLOYED:
        predicate = "upgraded" if event.previous_version else "deployed"
    elif event.kind is EventKind.ROLLED_BACK and event.previous_version:
        predicate = "rolledback"
    if not predicate:
        return f"dev.cdeventsx.{_TOOL}-deployment.{_CUSTOM_WORDS[event.kind]}.{_CUSTOM}", f"{_TOOL}-deployment", {}
    serves = event.previous_version if predicate == "rolledback" else event.version
    content = {
        "environment": {"id": event.target},
        "artifactId": f"pkg:generic/{event.service}@{quote(serves or event.version, safe='')}",
    }
    return f"dev.cdevents.service.{predicate}.{_SERVICE}", "service", content


def _custom(event: Event) -> dict[str, Any]:
    shown = event.model_dump(mode="json", exclude={"at", "last"})
    return {**shown, "at": _time(event.at)}


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

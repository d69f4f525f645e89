"""The two activities of notifications: one attempt to tell one receiver, and adding what came of it to the report."""

import asyncio
import json
from pathlib import Path

from temporalio import activity

from activities import activity_stubs
from activities.activity_stubs import ReportPath
from activities.close.activities import report_file, write_report
from activities.heartbeat import shorten
from activities.notifications import services, webhook
from activities.secrets.resolver import resolve
from home.paths import Home
from models.errors import SecretUnavailableError, SecretUnresolvedError, StackError
from models.notifications import Announcement, Answered, Delivery, NotificationsRecord, WebhookReceiver
from models.report import DeploymentReport

LONGEST_WHY = 300


class NotificationActivities:
    """Tells receivers.

    Args:
        home: below whose reports it is recorded.
    """

    def __init__(self, home: Home) -> None:
        self._home = home

    @activity.defn(name=activity_stubs.ANNOUNCE.name)
    async def announce(self, order: Announcement) -> Answered:
        """Sends one event to one receiver once, and says what came of it: a failure is an answer, not an error."""
        answered = await _attempt(order)
        return answered.model_copy(update={"why": shorten(answered.why, LONGEST_WHY)})

    @activity.defn(name=activity_stubs.RECORD_NOTIFICATIONS.name)
    async def record_notifications(self, record: NotificationsRecord) -> ReportPath:
        """Adds who was told what to the report of the deployment; an empty path where no report is kept."""
        return ReportPath(path=await asyncio.to_thread(add_to_report, self._home, record))


async def _attempt(order: Announcement) -> Answered:
    receiver = order.receiver
    try:
        to = await asyncio.to_thread(resolve, receiver.to)
        if isinstance(receiver, WebhookReceiver):
            key = await asyncio.to_thread(resolve, receiver.signing_key)
            return await webhook.post(to, key, order.event, insecure=receiver.insecure)
    except SecretUnavailableError as error:
        return Answered(state=Delivery.UNREACHABLE, why=error.sentence)
    except SecretUnresolvedError as error:
        return Answered(state=Delivery.REFUSED, why=error.sentence)
    return await services.send(to, order.event)


def add_to_report(home: Home, record: NotificationsRecord) -> str:
    """Writes the deployment's report again with `notifications` in it; returns its path.

    Raises:
        StackError: a file cannot be written.
    """
    path = report_file(home, record.service, record.target, record.started, record.deployment_run)
    report = _read(path)
    if report is None:
        return ""
    write_report(home, report.model_copy(update={"notifications": record.notified}))
    return str(path)


def _read(path: Path) -> DeploymentReport | None:
    try:
        return DeploymentReport.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StackError(f"{path} is not a report: {error}") from None

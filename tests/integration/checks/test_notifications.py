"""What arrives at real receivers: an SMTP server, and HTTP servers that are slow, down, limited, or say no."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from temporalio.testing import ActivityEnvironment

from activities.close.activities import write_report
from activities.notifications import webhook
from activities.notifications.activities import NotificationActivities
from activities.secrets.resolver import scrub
from home.paths import Home
from models.notifications import (
    Announcement,
    Answered,
    Delivery,
    Event,
    EventKind,
    NotificationsRecord,
    Notified,
    Receiver,
)
from models.outcome import Outcome
from models.report import DeploymentReport
from models.spec import DeploymentSpec, StrategyKind
from tests.support.free_ports import free_port

# Apprise imports it where Python still has it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RUN = "0199aaaa-bbbb-7ccc-8ddd-eeeeffff0001"
KEY = "a-signing-key-for-tests"


def event(kind: EventKind = EventKind.DEPLOYED, **changes: Any) -> Event:
    fields: dict[str, Any] = {
        "id": f"{RUN}.3",
        "sequence": 3,
        "kind": kind,
        "at": STARTED,
        "service": "shop",
        "target": "staging",
        "version": "1.1.0",
        "previous_version": "1.0.0",
        "outcome": Outcome.DEPLOYED,
        "summary": "shop 1.1.0 is live on staging.",
        "details": ("one detail",),
        "workflow_id": "deploy/shop/staging",
        "run_id": RUN,
    }
    return Event(**{**fields, **changes})


def receiver(kind: str, **fields: Any) -> Receiver:
    spec = {
        "service": "shop",
        "target": "staging",
        "release": {"version": "1"},
        "platform": {"kind": "local", "run": ["true"], "listen": "127.0.0.1:8080"},
        "notify": {"receivers": [{"name": "ops", "kind": kind, "to": "env:NOTIFY_TO", **fields}]},
    }
    return DeploymentSpec.model_validate(spec).notify.receivers[0]


@dataclass
class Endpoint:
    """An HTTP server that keeps what it is sent, and answers what it is told to.

    Attributes:
        answers: status lines with headers, one after the other; 204 when they are used up. None: no answer at all.
    """

    port: int = 0
    answers: list[str | None] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/very-secret-token-in-a-path"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        original = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.got.append(({name.lower(): value for name, value in original.items()}, body))
        answer = self.answers.pop(0) if self.answers else "204 No Content"
        if answer is None:
            await reader.read()
        else:
            writer.write(f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
        writer.close()


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    here = Endpoint()
    async with await asyncio.start_server(here.serve, "127.0.0.1", 0) as server:
        here.port = server.sockets[0].getsockname()[1]
        yield here


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("DEPLOYMENT_SPECIALIST_HOME", str(tmp_path / "home"))
    return Home.from_environment()


async def tell(home: Home, to: Receiver, what: Event | None = None) -> Answered:
    order = Announcement(receiver=to, event=what or event())
    answered: Answered = await ActivityEnvironment().run(NotificationActivities(home).announce, order)
    return answered


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint) -> Receiver:
    monkeypatch.setenv("NOTIFY_TO", endpoint.url)
    monkeypatch.setenv("NOTIFY_KEY", KEY)
    return receiver("webhook", signing_key="env:NOTIFY_KEY")


async def test_a_webhook_gets_a_signed_cloud_event_with_a_cdevents_body(
    home: Home, hook: Receiver, endpoint: Endpoint
) -> None:
    answered = await tell(home, hook)

    assert answered == Answered(state=Delivery.DELIVERED)
    headers, body = endpoint.got[0]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(KEY.encode(), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["content-type"].startswith("application/cloudevents+json")
    document = json.loads(body)
    assert (document["specversion"], document["id"]) == ("1.0", headers["webhook-id"])
    assert document["type"] == document["data"]["context"]["type"] == "dev.cdevents.service.upgraded.0.2.0"
    content = document["data"]["subject"]["content"]
    assert content == {"environment": {"id": "staging"}, "artifactId": "pkg:generic/shop@1.1.0"}
    assert document["data"]["customData"]["summary"] == "shop 1.1.0 is live on staging."


@pytest.mark.parametrize(
    ("kind", "previous", "type_"),
    [
        (EventKind.DEPLOYED, None, "dev.cdevents.service.deployed.0.2.0"),
        (EventKind.ROLLED_BACK, "1.0.0", "dev.cdevents.service.rolledback.0.2.0"),
        (EventKind.ROLLED_BACK, None, "dev.cdeventsx.deploymentspecialist-deployment.rolledback.0.1.0"),
        (EventKind.ROLLBACK_FAILED, "1.0.0", "dev.cdeventsx.deploymentspecialist-deployment.rollbackfailed.0.1.0"),
    ],
)
async def test_the_type_of_an_event_says_what_happened(
    home: Home, hook: Receiver, endpoint: Endpoint, kind: EventKind, previous: str | None, type_: str
) -> None:
    await tell(home, hook, event(kind, previous_version=previous))

    assert json.loads(endpoint.got[0][1])["type"] == type_


async def test_an_event_that_is_sent_again_has_the_same_id_and_body(
    home: Home, hook: Receiver, endpoint: Endpoint
) -> None:
    await tell(home, hook)
    await tell(home, hook)

    (first, one), (second, other) = endpoint.got
    assert first["webhook-id"] == second["webhook-id"]
    assert one == other


def test_a_signing_key_in_the_form_of_standard_webhooks_is_decoded() -> None:
    # The example of standardwebhooks.com's own libraries.
    body = b'{"test": 2432232314}'
    signature = webhook.sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)

    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("answer", "state", "again_in"),
    [
        ("200 OK", Delivery.DELIVERED, None),
        ("400 Bad Request", Delivery.REFUSED, None),
        ("410 Gone", Delivery.REFUSED, None),
        ("302 Found\r\nLocation: http://127.0.0.1:1/", Delivery.REFUSED, None),
        ("429 Too Many Requests\r\nRetry-After: 17", Delivery.UNREACHABLE, 17.0),
        ("429 Too Many Requests\r\nRetry-After: whenever", Delivery.UNREACHABLE, None),
        ("503 Service Unavailable", Delivery.UNREACHABLE, None),
    ],
)
async def test_an_answer_says_whether_another_attempt_may_help(
    home: Home, hook: Receiver, endpoint: Endpoint, answer: str, state: Delivery, again_in: float | None
) -> None:
    endpoint.answers = [answer]

    answered = await tell(home, hook)

    assert (answered.state, answered.again_in) == (state, again_in)
    assert answered.why == ("" if state is Delivery.DELIVERED else f"it answered {answer[:3]}")
    assert len(endpoint.got) == 1


async def test_a_receiver_that_is_down_or_silent_is_unreachable(
    home: Home, hook: Receiver, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "WITHIN", webhook.WITHIN / 20)
    endpoint.answers = [None]
    silent = await tell(home, hook)
    monkeypatch.setenv("NOTIFY_TO", f"http://127.0.0.1:{free_port()}/")
    down = await tell(home, hook)

    assert silent.state is down.state is Delivery.UNREACHABLE
    assert "within" in silent.why and "refused" in down.why


async def test_a_secret_that_is_not_there_is_said_by_its_reference(
    home: Home, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOTIFY_KEY")

    answered = await tell(home, hook)

    assert answered.state is Delivery.REFUSED
    assert answered.why.startswith("env:NOTIFY_KEY:")


class Mailbox:
    """Keeps what an SMTP server is sent; refuses recipients when it is told to."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.refuse = False

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        if self.refuse:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append(message_from_bytes(envelope.content))
        return "250 OK"


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    box, port = Mailbox(), free_port()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    monkeypatch.setenv(
        "NOTIFY_TO", f"mailto://127.0.0.1:{port}?from=deploy@example.org&to=ops@example.org&mode=insecure"
    )
    yield box
    controller.stop()


async def test_an_e_mail_has_the_sentence_the_details_and_the_commands(home: Home, mailbox: Mailbox) -> None:
    asked = event(EventKind.APPROVAL_NEEDED, commands=("approve shop/staging --as NAME",))

    answered = await tell(home, receiver("apprise"), asked)

    assert answered == Answered(state=Delivery.DELIVERED)
    mail = mailbox.mails[0]
    assert mail["Subject"] == "shop/staging: approval-needed"
    text = mail.get_payload(decode=True)
    assert isinstance(text, bytes)
    for said in ("shop 1.1.0 is live on staging.", "one detail", "deployment-specialist approve shop/staging"):
        assert said in text.decode()


async def test_a_mail_server_that_refuses_or_is_down_is_said(
    home: Home, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailbox.refuse = True
    refused = await tell(home, receiver("apprise"))
    monkeypatch.setenv(
        "NOTIFY_TO", f"mailto://127.0.0.1:{free_port()}?from=a@example.org&to=b@example.org&mode=insecure"
    )
    down = await tell(home, receiver("apprise"))

    assert refused.state is down.state is Delivery.UNREACHABLE
    assert "did not take it" in refused.why
    assert mailbox.mails == []


async def test_what_is_no_apprise_url_is_refused_and_not_repeated(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_TO", "nonsense-with-a-token-1234567890")

    answered = await tell(home, receiver("apprise"))

    assert answered.state is Delivery.REFUSED
    assert "nonsense" not in answered.why


async def test_parts_of_an_apprise_url_are_secrets_too(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_TO", f"json://127.0.0.1:{free_port()}/path-with-token-98765/more")

    answered = await tell(home, receiver("apprise"))

    assert answered.state is Delivery.UNREACHABLE
    assert "token-98765" not in answered.why
    assert scrub("see path-with-token-98765") == "see ***"


def a_report() -> DeploymentReport:
    return DeploymentReport(
        outcome=Outcome.DEPLOYED,
        workflow_id="deploy/shop/staging",
        run_id=RUN,
        service="shop",
        target="staging",
        version="1.1.0",
        strategy=StrategyKind.CANARY,
        started=STARTED,
        ended=STARTED,
    )


async def test_who_was_told_what_is_added_to_the_report(home: Home) -> None:
    path = write_report(home, a_report())
    notified = Notified(
        event=EventKind.DEPLOYED,
        event_id=f"{RUN}.2",
        receiver="ops",
        state=Delivery.REFUSED,
        attempts=1,
        why="it answered 400",
        happened=STARTED,
        ended=STARTED,
    )
    record = NotificationsRecord(
        service="shop", target="staging", deployment_run=RUN, started=STARTED, notified=(notified,)
    )

    for _ in range(2):
        written = await ActivityEnvironment().run(NotificationActivities(home).record_notifications, record)

    assert written.path == str(path)
    assert [each["why"] for each in json.loads(path.read_text())["notifications"]] == ["it answered 400"]
    assert "| ops | **refused** | 1 | it answered 400 |" in path.with_suffix(".md").read_text()


async def test_a_report_that_is_not_there_is_not_made_up(home: Home) -> None:
    record = NotificationsRecord(service="shop", target="staging", deployment_run=RUN, started=STARTED, notified=())

    written = await ActivityEnvironment().run(NotificationActivities(home).record_notifications, record)

    assert written.path == ""

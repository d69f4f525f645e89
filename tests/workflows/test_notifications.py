"""Receivers are told beside the deployment: in order, each event, and whatever they do, the deployment goes its way."""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities import activity_stubs
from activities.activity_stubs import ReportPath
from models.messages import Approval, Kind, Resolution, Way
from models.names import notifications_id
from models.notifications import Announcement, Answered, Delivery, EventKind, NotificationsRecord, Notified
from models.outcome import Outcome
from models.report import DeploymentReport
from models.spec import DeploymentSpec
from models.verdict import Verdict
from tests.workflows.conftest import Bench, ended, make_spec, old_revision
from tests.workflows.simulated import SimulatedTarget
from workflows import wire_names
from workflows.deployment import DeploymentWorkflow
from workflows.notifications import NotificationsWorkflow

ALL = [str(kind) for kind in EventKind]


def with_receivers(*names: str, **changes: Any) -> DeploymentSpec:
    receivers = [{"name": name, "kind": "apprise", "to": f"env:{name.upper()}", "when": ALL} for name in names]
    return brief_spec(**{"notify": {"receivers": receivers, "remind": "30m"}, **changes})


def brief_spec(**changes: Any) -> DeploymentSpec:
    """On a real server watches take their time."""
    steps = [{"weight": 10, "watch": "1s"}, {"weight": 100, "watch": "1s"}]
    return make_spec(**{"strategy": {"kind": "canary", "steps": steps, "bake": "0s"}, **changes})


@dataclass
class Receivers:
    """Stands for the two activities: what arrived where, and what each receiver answers next.

    Attributes:
        answers: receiver → its next answers; `delivered` when they are used up.
        blocked: receivers that answer nothing until they are released.
    """

    sent: dict[str, list[Announcement]] = field(default_factory=lambda: defaultdict(list))
    answers: dict[str, list[Answered]] = field(default_factory=lambda: defaultdict(list))
    blocked: dict[str, asyncio.Event] = field(default_factory=dict)
    records: list[NotificationsRecord] = field(default_factory=list)

    @activity.defn(name=activity_stubs.ANNOUNCE.name)
    async def announce(self, order: Announcement) -> Answered:
        name = order.receiver.name
        if name in self.blocked:
            await self.blocked[name].wait()
        self.sent[name].append(order)
        return self.answers[name].pop(0) if self.answers[name] else Answered(state=Delivery.DELIVERED)

    @activity.defn(name=activity_stubs.RECORD_NOTIFICATIONS.name)
    async def record(self, record: NotificationsRecord) -> ReportPath:
        self.records.append(record)
        return ReportPath(path="report.json")

    def kinds(self, name: str) -> list[str]:
        return [str(each.event.kind) for each in self.sent[name]]


@dataclass
class Told:
    bench: Bench
    receivers: Receivers

    async def notified(self, spec: DeploymentSpec, run_id: str) -> tuple[Notified, ...]:
        """What the workflow beside the deployment has to say when it ends."""
        name = notifications_id(spec.service, spec.target, run_id)
        handle = self.bench.env.client.get_workflow_handle(name, result_type=NotificationsRecord)
        return tuple((await handle.result()).notified)


@pytest.fixture
async def told(real_server: WorkflowEnvironment) -> AsyncIterator[Told]:
    """Against the real server: it ends children as a deployment's end asks for."""
    target, receivers, queue = SimulatedTarget(), Receivers(), str(uuid.uuid4())
    target.serve(old_revision())
    async with Worker(
        real_server.client,
        task_queue=queue,
        workflows=[DeploymentWorkflow, NotificationsWorkflow],
        activities=[*_without_receivers(target), receivers.announce, receivers.record],
        max_heartbeat_throttle_interval=timedelta(milliseconds=100),
    ):
        yield Told(Bench(real_server, target, queue), receivers)


def _without_receivers(target: SimulatedTarget) -> list[Any]:
    own = (SimulatedTarget.announce.__name__, SimulatedTarget.record_notifications.__name__)
    return [each for each in target.activities() if each.__name__ not in own]


async def finish(handle: WorkflowHandle[Any, Any]) -> DeploymentReport:
    async with asyncio.timeout(60):
        return await ended(handle)


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  activities and the server move it, not this loop alone
            await asyncio.sleep(0.02)


async def test_each_event_is_told_once_in_order_and_is_in_the_record(told: Told) -> None:
    spec = with_receivers("ops", approvals={"before": ["deploy"]}, target="told")

    handle = await told.bench.start(spec)
    await until(lambda: "approval-needed" in told.receivers.kinds("ops"))
    await handle.execute_update(wire_names.APPROVE, Approval(by="ann"))
    report = await finish(handle)

    notified = await told.notified(spec, report.run_id)
    kinds = ["started", "approval-needed", "step-passed", "step-passed", "deployed"]
    assert told.receivers.kinds("ops") == kinds
    assert [str(each.event) for each in notified] == kinds
    assert {each.state for each in notified} == {Delivery.DELIVERED}
    sent = [each.event for each in told.receivers.sent["ops"]]
    assert len({event.id for event in sent}) == len(sent)
    asked = sent[1]
    assert report.plan is not None
    assert any(report.plan.id in line for line in asked.details)
    assert f"approve shop/told --as NAME --plan {report.plan.id}" in asked.commands
    assert told.receivers.records[-1].notified == notified


async def test_a_step_that_only_went_on_is_not_told_as_passed(told: Told) -> None:
    # The last step with stable beside it is strict.
    steps = [{"weight": weight, "watch": "1s", "on_inconclusive": "continue"} for weight in (20, 50)]
    strategy = {"kind": "canary", "steps": [*steps, {"weight": 100, "watch": "1s"}], "bake": "0s"}
    told.bench.target.watches = [Verdict.INCONCLUSIVE]
    spec = with_receivers("ops", strategy=strategy, target="went-on")

    report = await finish(await told.bench.start(spec))
    await told.notified(spec, report.run_id)

    assert told.receivers.kinds("ops") == ["started", "step-passed", "step-passed", "deployed"]
    said = next(check for stage in report.stages for check in stage.checks if check.name == "step_20")
    assert (said.verdict, said.evidence["let_go_on_by"]) == (Verdict.SKIPPED, "on_inconclusive: continue")


async def test_nobody_is_told_and_nothing_is_started_without_receivers(told: Told) -> None:
    handle = await told.bench.start(brief_spec(target="silent"))
    await finish(handle)

    history = await handle.fetch_history()
    assert not any(
        event.HasField("start_child_workflow_execution_initiated_event_attributes") for event in history.events
    )


async def test_receivers_hear_only_what_they_want_to_hear(told: Told) -> None:
    receivers = [
        {"name": "pager", "kind": "apprise", "to": "env:A", "when": ["rollback-failed"]},
        {"name": "chat", "kind": "apprise", "to": "env:B"},
    ]
    spec = brief_spec(target="choosy", notify={"receivers": receivers})

    report = await finish(await told.bench.start(spec))
    await told.notified(spec, report.run_id)

    assert told.receivers.kinds("pager") == []
    assert told.receivers.kinds("chat") == ["started", "deployed"]


async def test_a_receiver_that_never_answers_delays_neither_the_deployment_nor_another_receiver(told: Told) -> None:
    told.receivers.blocked["slow"] = asyncio.Event()
    spec = with_receivers("slow", "quick", target="slow")

    report = await finish(await told.bench.start(spec))

    assert report.outcome is Outcome.DEPLOYED
    await until(lambda: "deployed" in told.receivers.kinds("quick"))
    assert told.receivers.kinds("slow") == []
    told.receivers.blocked["slow"].set()
    notified = await told.notified(spec, report.run_id)
    assert told.receivers.kinds("slow") == told.receivers.kinds("quick")
    assert len(notified) == 2 * len(told.receivers.kinds("quick"))


async def test_a_refusal_is_final_and_in_the_record_with_its_reason(told: Told) -> None:
    told.receivers.answers["ops"] = [Answered(state=Delivery.REFUSED, why="it answered 400")]
    spec = with_receivers("ops", target="refusing")

    report = await finish(await told.bench.start(spec))
    notified = await told.notified(spec, report.run_id)

    assert report.outcome is Outcome.DEPLOYED
    assert (notified[0].state, notified[0].attempts, notified[0].why) == (Delivery.REFUSED, 1, "it answered 400")
    assert {each.state for each in notified[1:]} == {Delivery.DELIVERED}


async def test_what_was_not_taken_is_sent_again_with_the_same_id_before_anything_newer(told: Told) -> None:
    told.receivers.answers["ops"] = [Answered(state=Delivery.UNREACHABLE, why="connection refused")]
    spec = with_receivers("ops", target="again")

    report = await finish(await told.bench.start(spec))
    notified = await told.notified(spec, report.run_id)

    first, second, third = told.receivers.sent["ops"][:3]
    assert first.event == second.event and (first.attempt, second.attempt) == (1, 2)
    assert third.event.sequence == 2
    assert (notified[0].state, notified[0].attempts) == (Delivery.DELIVERED, 2)


@pytest.mark.parametrize(
    ("fails", "kinds"), [("watch", ["started", "rolled-back"]), ("preflight", ["started", "not-deployed"])]
)
async def test_a_deployment_that_fails_tells_how_it_ended(told: Told, fails: str, kinds: list[str]) -> None:
    if fails == "watch":
        told.bench.target.watches = [Verdict.FAIL]
    else:
        told.bench.target.verdicts["artifacts"] = Verdict.FAIL
    spec = with_receivers("ops", target=f"fails-{fails}")
    spec = spec.model_copy(update={"notify": spec.notify.model_copy(update={"receivers": (_default(spec),)})})

    report = await finish(await told.bench.start(spec))
    await told.notified(spec, report.run_id)

    assert told.receivers.kinds("ops") == kinds
    last = told.receivers.sent["ops"][-1].event
    assert report.failure is not None and report.failure.reason in " ".join(last.details)
    assert last.outcome is report.outcome


def _default(spec: DeploymentSpec) -> Any:
    kept = tuple(kind for kind in EventKind if kind is not EventKind.STEP_PASSED)
    return spec.notify.receivers[0].model_copy(update={"when": kept})


async def test_a_deployment_that_is_terminated_is_told_too(told: Told) -> None:
    spec = with_receivers("ops", approvals={"before": ["deploy"]}, target="terminated")
    handle = await told.bench.start(spec)
    await until(lambda: "approval-needed" in told.receivers.kinds("ops"))
    run_id = (await handle.describe()).run_id

    await handle.terminate("tests")
    await told.notified(spec, run_id)

    assert told.receivers.kinds("ops")[-1] == "trouble"
    assert "ended from outside" in told.receivers.sent["ops"][-1].event.summary


async def test_a_report_that_cannot_be_written_is_told(told: Told) -> None:
    told.bench.target.breaking["write_report"] = -1
    spec = with_receivers("ops", target="unwritten")

    report = await finish(await told.bench.start(spec))
    await told.notified(spec, report.run_id)

    assert told.receivers.kinds("ops")[-2:] == ["trouble", "deployed"]


async def test_a_failed_rollback_is_told_again_until_somebody_resolves_it(bench: Bench) -> None:
    target = bench.target
    target.watches, target.breaking["restore"] = [Verdict.FAIL], -1
    handle = await bench.start(with_receivers("ops"))
    await bench.until(Outcome.ROLLBACK_FAILED, handle)

    def failed() -> list[Any]:
        return [each.event for each in target.announced if each.event.kind is EventKind.ROLLBACK_FAILED]

    await bench.env.sleep(timedelta(minutes=65))
    await until(lambda: len(failed()) == 3)
    target.breaking["restore"] = 0
    await handle.execute_update(wire_names.RESOLVE, Resolution(way=Way.RETRY, by="ann"))
    report = await finish(handle)

    assert report.outcome is Outcome.ROLLED_BACK
    assert [event.reminder for event in failed()] == [0, 1, 2]
    assert timedelta(minutes=30) <= failed()[1].at - failed()[0].at < timedelta(minutes=31)
    assert any("resolve shop/staging retry" in command for command in failed()[0].commands)
    assert len({event.id for event in failed()}) == 3
    await until(lambda: target.announced[-1].event.kind is EventKind.ROLLED_BACK)


async def test_a_rollback_after_the_end_is_told(told: Told) -> None:
    target = told.bench.target
    older = old_revision("0.9.0")
    target.previous = older
    target.running[older.id] = (older, 0)
    spec = with_receivers("ops", target="back")

    report = await finish(await told.bench.start(spec, Kind.ROLLBACK))
    await told.notified(spec, report.run_id)

    assert told.receivers.kinds("ops")[-1] == "rolled-back"

"""A target in memory, behind the activities' real names and models, for tests of the workflow's decisions alone.

It keeps the promises that the conformance suite asks of a real platform: fenced, idempotent, no weight on what is not
up. It takes no time, so that a time-skipping server runs through half an hour of canary in a moment.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities import activity_stubs
from activities.activity_stubs import CapabilitiesQuestion, MigrationOrder, ReportPath
from activities.preflight.freezing import check_freeze
from models.checks import (
    EndpointCheck,
    Examination,
    MonitoringOrder,
    MonitoringSeen,
    PreflightCheck,
    RouterCheck,
    SentryCheck,
    SmokeCheck,
)
from models.notifications import Announcement, Answered, Delivery, NotificationsRecord
from models.preflight.backup import BackupMade
from models.preflight.ci import CiQuestion
from models.preflight.freezing import FREEZE, FreezeCheck
from models.preflight.migrations import MigrationsDone, MigrationsFound, Tried
from models.release import (
    Capabilities,
    Counters,
    Fence,
    Inspection,
    InspectOrder,
    InstanceReport,
    Order,
    PromoteOrder,
    RestoreOrder,
    Retired,
    RetireOrder,
    Revision,
    ShiftOrder,
    Snapshot,
    Split,
    Staged,
    StageOrder,
)
from models.report import DeploymentReport
from models.verdict import CheckResult, Verdict
from models.watch import WatchOrder, WatchReport

Hook = Callable[[str, int], Awaitable[None]]


@dataclass
class SimulatedTarget:
    """What serves, what was done to it, and what is going to go wrong.

    Attributes:
        calls: names of the activities, in the order in which they were begun.
        verdicts: check, endpoint or smoke test name → the verdict it will have.
        watches: verdicts of the watches in their order; `pass` when the list is used up.
        unfit: endpoint → why what the candidate answers there would be refused later.
        breaking: verb → how many of its calls fail from now on; -1: all.
        refusing: verbs that fail for good: no other attempt is worth its wait.
        migrations: what is found pending, one answer after the other; the last one stays.
        tried: what comes of trying them on the backup.
        judged_by: what of that they were judged by, each time they were looked at.
        hook: awaited at the begin of each call with its name and running number.
    """

    stable: Revision | None = None
    previous: Revision | None = None
    running: dict[str, tuple[Revision, int]] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    fence: tuple[int, int] = (0, 0)
    calls: list[str] = field(default_factory=list)
    weights_seen: list[int] = field(default_factory=list)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    watches: list[Verdict] = field(default_factory=list)
    watch_orders: list[WatchOrder] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    artifact_questions: list[PreflightCheck] = field(default_factory=list)
    ci_questions: list[CiQuestion] = field(default_factory=list)
    breaking: Counter[str] = field(default_factory=Counter)
    refusing: set[str] = field(default_factory=set)
    unhealthy: set[str] = field(default_factory=set)
    wrong_version: set[str] = field(default_factory=set)
    unfit: dict[str, str] = field(default_factory=dict)
    endpoint_questions: list[EndpointCheck] = field(default_factory=list)
    smoke_questions: list[SmokeCheck] = field(default_factory=list)
    examination: Examination = field(default_factory=Examination)
    hook: Hook | None = None
    migrations: list[MigrationsFound] = field(default_factory=list)
    tried: Tried | None = None
    judged_by: list[Tried | None] = field(default_factory=list)
    announced: list[Announcement] = field(default_factory=list)
    reports: list[DeploymentReport] = field(default_factory=list)
    watch_blocks: bool = False
    began: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def serve(self, revision: Revision) -> None:
        """Given: this revision serves all users."""
        self.stable = revision
        self.running[revision.id] = (revision, revision.platform.instances)
        self.weights = {revision.id: 100}

    async def _begin(self, name: str) -> None:
        self.calls.append(name)
        self.began[name] += 1
        if self.hook is not None:
            await self.hook(name, len(self.calls))
        if name in self.refusing:
            raise ApplicationError(f"{name} is refused", type="Impossible", non_retryable=True)
        if self.breaking[name]:
            self.breaking[name] -= 1
            raise ApplicationError(f"{name} is broken", type="Unavailable")

    def _take(self, order: Order) -> None:
        asked = (order.fence.epoch, order.fence.sequence)
        if asked < self.fence:
            raise ApplicationError("a newer effect was here", type="Stale", non_retryable=True)
        self.fence = asked

    def _split(self) -> Split:
        counters = {name: Counters(requests=100) for name in self.running}
        return Split(weights={k: v for k, v in self.weights.items() if v}, counters=counters, seen=datetime.now(UTC))

    def _inspection(self, revision: str, expected: int) -> Inspection:
        known, count = self.running.get(revision, (None, 0))
        version = known.release.version if known else None
        reports = tuple(
            InstanceReport(
                name=f"{revision}.{n}",
                address=f"127.0.0.1:{n}",
                running=True,
                healthy=revision not in self.unhealthy,
                version="0.0.0" if revision in self.wrong_version else version,
                unfit=self.unfit,
            )
            for n in range(count)
        )
        return Inspection(revision=revision, expected=expected, instances=reports)

    @activity.defn(name=activity_stubs.CAPABILITIES.name)
    async def capabilities(self, question: CapabilitiesQuestion) -> Capabilities:
        await self._begin("capabilities")
        return Capabilities(exact_weights=True, preview=True, in_place_roll=True)

    @activity.defn(name=activity_stubs.EXAMINE.name)
    async def examine(self, check: PreflightCheck) -> Examination:
        await self._begin("examine")
        return self.examination

    @activity.defn(name=activity_stubs.SNAPSHOT.name)
    async def snapshot(self, order: Order) -> Snapshot:
        await self._begin("snapshot")
        return Snapshot(
            stable=self.stable,
            previous=self.previous,
            instances=self.running[self.stable.id][1] if self.stable else 0,
            leftovers=tuple(each for each in self.running if self.stable is None or each != self.stable.id),
            weights=dict(self.weights),
            fence=Fence(epoch=self.fence[0], sequence=self.fence[1]),
        )

    @activity.defn(name=activity_stubs.STAGE.name)
    async def stage(self, order: StageOrder) -> Staged:
        await self._begin("stage")
        self._take(order)
        self.running[order.revision.id] = (order.revision, order.instances)
        return Staged(inspection=self._inspection(order.revision.id, order.instances), preview=("http://127.0.0.1:1",))

    @activity.defn(name=activity_stubs.SHIFT.name)
    async def shift(self, order: ShiftOrder) -> Split:
        await self._begin("shift")
        self._take(order)
        if order.weight and order.candidate not in self.running:
            raise ApplicationError("nothing is up there", type="Refused", non_retryable=True)
        self.weights = {order.candidate: order.weight}
        if order.stable is not None:
            self.weights[order.stable] = 100 - order.weight
        self.weights_seen.append(order.weight)
        return self._split()

    @activity.defn(name=activity_stubs.PROMOTE.name)
    async def promote(self, order: PromoteOrder) -> Snapshot:
        await self._begin("promote")
        self._take(order)
        self.previous, self.stable = None if order.withdraw else self.stable, self.running[order.revision][0]
        return Snapshot(stable=self.stable)

    @activity.defn(name=activity_stubs.RETIRE.name)
    async def retire(self, order: RetireOrder) -> Retired:
        await self._begin("retire")
        self._take(order)
        if order.keep_instances:
            self.running[order.revision] = (self.running[order.revision][0], order.keep_instances)
        elif self.weights.get(order.revision):
            raise ApplicationError("it serves", type="Refused", non_retryable=True)
        else:
            self.running.pop(order.revision, None)
        return Retired()

    @activity.defn(name=activity_stubs.RESTORE.name)
    async def restore(self, order: RestoreOrder) -> Split:
        await self._begin("restore")
        self._take(order)
        snapshot = order.snapshot
        self.stable = snapshot.stable
        self.weights = {}
        if snapshot.stable is not None:
            self.running[snapshot.stable.id] = (snapshot.stable, snapshot.instances)
            self.weights = {snapshot.stable.id: 100}
        return self._split()

    @activity.defn(name=activity_stubs.INSPECT.name)
    async def inspect(self, order: InspectOrder) -> Inspection:
        await self._begin("inspect")
        return self._inspection(order.revision.id, order.instances)

    @activity.defn(name=activity_stubs.WATCH.name)
    async def watch(self, order: WatchOrder) -> WatchReport:
        await self._begin("watch")
        self.watch_orders.append(order)
        while self.watch_blocks:
            activity.heartbeat()
            await asyncio.sleep(0.05)
        verdict = self.watches.pop(0) if self.watches else Verdict.PASS
        now = datetime.now(UTC)
        moved = verdict is Verdict.FAIL and order.stable is not None
        if moved and order.stable is not None:
            self._take(order)
            self.weights = {order.stable.id: 100, order.candidate.id: 0}
            self.weights_seen.append(0)
        return WatchReport(
            verdict=verdict,
            reason=f"the watch says {verdict}",
            verdict_at=now,
            stable_at=now if moved else None,
            split=self._split() if moved else None,
            stable_probed=True if moved else None,
        )

    async def _check(self, name: str, evidence: dict[str, Any] | None = None) -> CheckResult:
        await self._begin(name)
        verdict = self.verdicts.get(name, Verdict.PASS)
        return CheckResult(name=name, verdict=verdict, reason=f"{name} says {verdict}", evidence=evidence or {})

    @activity.defn(name=activity_stubs.CHECK_ARTIFACTS.name)
    async def check_artifacts(self, question: PreflightCheck) -> CheckResult:
        self.artifact_questions.append(question)
        return await self._check("artifacts", {"digests": {"directory": "0" * 64, **self.digests}})

    @activity.defn(name=activity_stubs.CHECK_ENVIRONMENT.name)
    async def check_environment(self, question: PreflightCheck) -> CheckResult:
        return await self._check("environment")

    @activity.defn(name=activity_stubs.CHECK_CI.name)
    async def check_ci(self, question: CiQuestion) -> CheckResult:
        self.ci_questions.append(question)
        return await self._check("ci")

    @activity.defn(name=activity_stubs.CHECK_DISK.name)
    async def check_disk(self, question: PreflightCheck) -> CheckResult:
        return await self._check("disk")

    @activity.defn(name=activity_stubs.CHECK_MEMORY.name)
    async def check_memory(self, question: PreflightCheck) -> CheckResult:
        return await self._check("memory")

    @activity.defn(name=activity_stubs.CHECK_LOAD.name)
    async def check_load(self, question: PreflightCheck) -> CheckResult:
        return await self._check("load")

    @activity.defn(name=activity_stubs.CHECK_DESCRIPTORS.name)
    async def check_descriptors(self, question: PreflightCheck) -> CheckResult:
        return await self._check("descriptors")

    @activity.defn(name=activity_stubs.CHECK_ADDRESS.name)
    async def check_address(self, question: PreflightCheck) -> CheckResult:
        return await self._check("address")

    @activity.defn(name=activity_stubs.CHECK_FREEZE.name)
    async def check_freeze(self, question: FreezeCheck) -> CheckResult:
        await self._begin(FREEZE)
        return check_freeze(question)

    @activity.defn(name=activity_stubs.CHECK_ENDPOINT.name)
    async def check_endpoint(self, question: EndpointCheck) -> CheckResult:
        self.endpoint_questions.append(question)
        return await self._check(question.endpoint)

    @activity.defn(name=activity_stubs.RUN_SMOKE_TEST.name)
    async def run_smoke_test(self, question: SmokeCheck) -> CheckResult:
        self.smoke_questions.append(question)
        return await self._check(f"smoke_{question.test.name}")

    @activity.defn(name=activity_stubs.CHECK_ROUTER_METRICS.name)
    async def check_router_metrics(self, question: RouterCheck) -> CheckResult:
        return await self._check("router_metrics")

    @activity.defn(name=activity_stubs.CHECK_ERROR_TRACKING.name)
    async def check_error_tracking(self, question: SentryCheck) -> CheckResult:
        return await self._check("error_tracking")

    @activity.defn(name=activity_stubs.SET_UP_MONITORING.name)
    async def set_up_monitoring(self, order: MonitoringOrder) -> MonitoringSeen:
        checks = [await self._check("set_up_monitoring")]
        return MonitoringSeen(checks=(*checks, await self._check("alertmanager")))

    @activity.defn(name=activity_stubs.SEE_MONITORING.name)
    async def see_monitoring(self, order: MonitoringOrder) -> MonitoringSeen:
        return MonitoringSeen(checks=(await self._check("see_monitoring"),))

    @activity.defn(name=activity_stubs.FOLLOW_INSTANCES.name)
    async def follow_instances(self, order: MonitoringOrder) -> MonitoringSeen:
        await self._begin("follow_instances")
        return MonitoringSeen()

    @activity.defn(name=activity_stubs.UNDO_MONITORING.name)
    async def undo_monitoring(self, order: MonitoringOrder) -> MonitoringSeen:
        await self._begin("undo_monitoring")
        return MonitoringSeen()

    @activity.defn(name=activity_stubs.MAKE_BACKUP.name)
    async def make_backup(self, question: PreflightCheck) -> BackupMade:
        made = await self._check("backup", {"id": "20261124T223000Z-0a1b2c", "sha256": "0" * 64})
        return BackupMade(**made.model_dump(), tried=self.tried)

    @activity.defn(name=activity_stubs.SEE_BACKUP.name)
    async def see_backup(self, question: PreflightCheck) -> CheckResult:
        assert question.expected == {"20261124T223000Z-0a1b2c": "0" * 64}
        return await self._check("backup_as_planned")

    @activity.defn(name=activity_stubs.LOOK_AT_MIGRATIONS.name)
    async def look_at_migrations(self, question: PreflightCheck) -> MigrationsFound:
        await self._begin("look_at_migrations")
        self.judged_by.append(question.tried)
        return self.migrations.pop(0) if len(self.migrations) > 1 else self.migrations[0]

    @activity.defn(name=activity_stubs.RUN_MIGRATIONS.name)
    async def run_migrations(self, order: MigrationOrder) -> MigrationsDone:
        return MigrationsDone(check=await self._check("migrated"), applied=tuple(each.id for each in order.expected))

    @activity.defn(name=activity_stubs.WRITE_REPORT.name)
    async def write_report(self, report: DeploymentReport) -> ReportPath:
        await self._begin("write_report")
        self.reports.append(report)
        return ReportPath(path="report.json")

    @activity.defn(name=activity_stubs.ANNOUNCE.name)
    async def announce(self, order: Announcement) -> Answered:
        self.announced.append(order)
        return Answered(state=Delivery.DELIVERED)

    @activity.defn(name=activity_stubs.RECORD_NOTIFICATIONS.name)
    async def record_notifications(self, record: NotificationsRecord) -> ReportPath:
        return ReportPath(path="report.json")

    def activities(self) -> list[Callable[..., Any]]:
        """All activities, for a worker."""
        return [
            member
            for name in dir(self)
            if callable(member := getattr(self, name)) and hasattr(member, "__temporal_activity_definition")
        ]

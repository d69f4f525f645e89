"""The activities as the simulated worker runs them: the real names, models and errors, over the model of a target."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from temporalio.exceptions import ApplicationError

from activities import activity_stubs
from activities.activity_stubs import CapabilitiesQuestion, MigrationOrder, ReportPath, Signature
from activities.preflight.freezing import check_freeze
from models.checks import EndpointCheck, Examination, PreflightCheck, RouterCheck, SentryCheck, SmokeCheck
from models.errors import DeploymentSpecialistError, FencedOutError, UnavailableError, UnsafeChangeError
from models.judges.candidate import CandidateJudge, Judgement, Observation
from models.judges.state import JudgeState, Reading, Settings
from models.judges.votes import Arm
from models.notifications import Announcement, Answered, Delivery, NotificationsRecord
from models.outcome import Outcome
from models.preflight.backup import BackupMade, BackupOrder, Restored
from models.preflight.freezing import FreezeCheck
from models.preflight.migrations import Effect, MigrationsDone, MigrationsFound, PendingMigration
from models.preflight.queueing import Started, StartOrder, Turn, TurnQuestion
from models.release import (
    Capabilities,
    Counters,
    InstanceReport,
    Order,
    RestoreOrder,
    Revision,
    ShiftOrder,
    Snapshot,
    Split,
    StageOrder,
)
from models.report import DeploymentReport
from models.verdict import CheckResult, Stage, Verdict
from models.watch import WatchOrder, WatchReport
from tests.explore import sdk
from tests.explore.server import Attempt, AttemptCancelled, Body, Server, Until
from tests.explore.target import Target
from workflows import wire_names
from workflows.deployment import DeploymentWorkflow

SIGNATURES = {each.name: each for each in vars(activity_stubs).values() if isinstance(each, Signature)}
EFFECTS = (
    activity_stubs.STAGE.name,
    activity_stubs.SHIFT.name,
    activity_stubs.PROMOTE.name,
    activity_stubs.RETIRE.name,
    activity_stubs.RESTORE.name,
    activity_stubs.RUN_MIGRATIONS.name,
)
BACKUP_ID = "20260302T080000Z-0a1b2c"
POLL = 0.5
TICKET = "ticket"


@dataclass
class World:
    """Everything outside of the workflows.

    Attributes:
        verdicts: check → what it says, where that is not `pass`.
        blind: running numbers of the watches whose router cannot be read at their end.
        early: running numbers of the watches that answer long before their time.
        migrations: those that are pending.
        started: the deployment's own idea of which version is brought in, for checks at the front proxy.
    """

    server: Server
    target: Target
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    blind: frozenset[int] = frozenset()
    early: frozenset[int] = frozenset()
    migrations: tuple[str, ...] = ()
    applied: list[str] = field(default_factory=list)
    reports: list[DeploymentReport] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    answered: Callable[[Attempt, Any, str, Any], None] = lambda _attempt, _order, _error, _result: None

    def perform(self, attempt: Attempt) -> Body:
        """The body of an attempt: what `activities.heartbeat.attempt` makes of errors, around what is done."""
        activity = attempt.activity
        signature = SIGNATURES[activity.type]
        order = sdk.from_payload(activity.payload, signature.takes)
        try:
            result = yield from self._do(attempt, order)
        except DeploymentSpecialistError as error:
            self.answered(attempt, order, error.wire_name, None)
            raise ApplicationError(error.sentence, type=error.wire_name, non_retryable=not error.retryable) from None
        assert isinstance(result, signature.gives), (activity.type, type(result))
        self.answered(attempt, order, "", result)
        return result

    def _do(self, attempt: Attempt, order: Any) -> Generator[float | Until, None, Any]:
        name = attempt.activity.type
        if isinstance(order, StageOrder | RestoreOrder):  # as `activities.heartbeat.deadline_of_work`
            unattended = timedelta(seconds=attempt.activity.unattended)
            order = order.model_copy(update={"deadline": order.deadline + unattended})
        if (verb := getattr(self.target, name, None)) is not None and name in _VERBS:
            result = yield from verb(order)
            return result.abridge() if isinstance(result, Snapshot) else result
        result = yield from getattr(self, f"_{name}")(attempt, order)
        return result

    # What is only asked.

    def _capabilities(self, _attempt: Attempt, _question: CapabilitiesQuestion) -> Body:
        yield 0.01
        return Capabilities(exact_weights=True, preview=True, in_place_roll=True)

    def _examine(self, _attempt: Attempt, _question: PreflightCheck) -> Body:
        yield 0.1
        return Examination()

    def _check(self, name: str, seconds: float, evidence: dict[str, Any] | None = None) -> Body:
        yield seconds
        verdict = self.verdicts.get(name, Verdict.PASS)
        return CheckResult(name=name, verdict=verdict, reason=f"{name} says {verdict}", evidence=evidence or {})

    def _check_artifacts(self, _attempt: Attempt, question: PreflightCheck) -> Body:
        name = "artifacts_as_planned" if question.expected else "artifacts"
        return self._check(name, 0.5, {"digests": {"directory": "0" * 64}})

    def _check_environment(self, _attempt: Attempt, _question: PreflightCheck) -> Body:
        return self._check("environment", 0.05)

    def _check_disk(self, _attempt: Attempt, _question: PreflightCheck) -> Body:
        return self._check("disk", 0.05)

    def _check_memory(self, _attempt: Attempt, _question: PreflightCheck) -> Body:
        return self._check("memory", 0.05)

    def _check_load(self, _attempt: Attempt, _question: PreflightCheck) -> Body:
        return self._check("load", 0.05)

    def _check_descriptors(self, _attempt: Attempt, _question: PreflightCheck) -> Body:
        return self._check("descriptors", 0.05)

    def _check_address(self, _attempt: Attempt, _question: PreflightCheck) -> Body:
        return self._check("address", 0.05)

    def _check_freeze(self, _attempt: Attempt, question: FreezeCheck) -> Body:
        yield 0.02
        return check_freeze(question)

    def _check_endpoint(self, _attempt: Attempt, question: EndpointCheck) -> Body:
        """Asked through the front proxy: whoever has the traffic answers."""
        yield 0.1
        serving = [self.target.revisions[id] for id in self.target.weights if id in self.target.revisions]
        versions = {kept.revision.release.version for kept in serving}
        good = serving and all(self.target.any_healthy(kept) for kept in serving)
        if question.endpoint == "version":
            good = good and versions == {question.version}
        verdict = Verdict.PASS if good else Verdict.FAIL
        said = f"answered by {', '.join(sorted(versions)) or 'nobody'}"
        return CheckResult(name=question.endpoint, verdict=verdict, reason=said)

    def _run_smoke_test(self, _attempt: Attempt, question: SmokeCheck) -> Body:
        yield 0.5
        serving = [self.target.revisions[id] for id in self.target.weights if id in self.target.revisions]
        ill = any(self.target.is_ill(kept, "errors") for kept in serving)
        name = f"smoke_{question.test.name}"
        verdict = Verdict.FAIL if ill else self.verdicts.get(name, Verdict.PASS)
        return CheckResult(name=name, verdict=verdict, reason=f"{name} says {verdict}")

    def _check_router_metrics(self, _attempt: Attempt, _question: RouterCheck) -> Body:
        return self._check("router_metrics", 0.5)

    def _check_error_tracking(self, _attempt: Attempt, _question: SentryCheck) -> Body:
        return self._check("error_tracking", 0.5)

    def _write_report(self, _attempt: Attempt, report: DeploymentReport) -> Body:
        yield 0.05
        self.reports.append(report)
        yield 0.01
        return ReportPath(path="report.json")

    def _announce(self, _attempt: Attempt, _order: Announcement) -> Body:
        yield 0.3
        return Answered(state=Delivery.DELIVERED)

    def _record_notifications(self, _attempt: Attempt, _record: NotificationsRecord) -> Body:
        yield 0.05
        return ReportPath(path="report.json")

    # The database.

    def _make_backup(self, _attempt: Attempt, _question: PreflightCheck) -> Body:
        made = yield from self._check("backup", 20.0, {"id": BACKUP_ID, "sha256": "0" * 64})
        return BackupMade(**made.model_dump())

    def _see_backup(self, _attempt: Attempt, _question: PreflightCheck) -> Body:
        return self._check("backup_as_planned", 2.0)

    def _restore_backup(self, _attempt: Attempt, order: BackupOrder) -> Body:
        yield 30.0
        return Restored(backup=order.backup, database=f"shop_{order.key}"[:60])

    def _look_at_migrations(self, _attempt: Attempt, _question: PreflightCheck) -> Body:
        yield 1.0
        pending = tuple(
            PendingMigration(id=id, effect=Effect.ADDITIVE, digest="0" * 64)
            for id in self.migrations
            if id not in self.applied
        )
        check = CheckResult(name="migrations", verdict=Verdict.PASS, reason=f"{len(pending)} pending")
        return MigrationsFound(check=check, pending=pending, run=bool(pending))

    def _run_migrations(self, _attempt: Attempt, order: MigrationOrder) -> Body:
        yield 1.0
        for migration in order.expected:
            if migration.id not in self.applied:
                self.applied.append(migration.id)
                self.target.looks_on(f"migration {migration.id} is applied", None)
            yield 1.0
        check = yield from self._check("migrated", 0.1)
        return MigrationsDone(check=check, applied=tuple(each.id for each in order.expected))

    # The watch: as `activities.analysis.watch`, with the same judge, looked at whenever something may have changed.

    def _watch(self, attempt: Attempt, order: WatchOrder) -> Body:
        judge, probes = CandidateJudge(order.judge, order.min_requests), 0
        if attempt.activity.call in self.early:
            half = min(order.deadline - self.server.now, timedelta(minutes=1)) / 2
            order = order.model_copy(update={"deadline": self.server.now + half})
        state, by = self._begun(order), Settings(slice=order.slice, warm_up=None)
        ill_since: dict[str, datetime] = {}
        while (now := self.server.now) < order.deadline:
            instances = self._probe(order.candidate)
            probes += bool(instances)
            ill_since = {each.name: ill_since.get(each.name, now) for each in instances if not each.healthy}
            state = state.read(self._read(order), by)
            failed = judge.failed(self._observation(order, instances, ill_since, probes, state))
            if failed is not None:
                return (yield from self._take_away(order, failed))
            try:
                yield self._next_look(order, bool(ill_since))
            except AttemptCancelled:
                self._seen_well(order.candidate)  # it was probed a moment ago
                raise
        instances = self._probe(order.candidate)
        for _ in range(order.judge.failed_probes):  # as the watch does, for whoever does not answer well at last
            ill_since |= {
                each.name: self.server.now for each in instances if not each.healthy and each.name not in ill_since
            }
            observation = self._observation(order, instances, ill_since, probes, state)
            if all(each.healthy for each in instances) or judge.failed(observation) is not None:
                break
            yield order.judge.probe_every.total_seconds()
            instances = self._probe(order.candidate)
        ill_since = {each.name: ill_since.get(each.name, self.server.now) for each in instances if not each.healthy}
        state = state.read(self._read(order), by).end(by)
        judged = judge.judge(self._observation(order, instances, ill_since, probes + bool(instances), state))
        if judged.verdict is Verdict.FAIL:
            return (yield from self._take_away(order, judged))
        if attempt.activity.call in self.blind:
            judged = Judgement(verdict=Verdict.ERROR, reason="the router's counters are unknown")
        elif judged.verdict is Verdict.PASS and order.weight not in (None, self._weight(order.candidate.id)):
            said = f"the router gives it {self._weight(order.candidate.id)} %, and {order.weight} % were asked for"
            judged = Judgement(verdict=Verdict.INCONCLUSIVE, reason=said)
        self._seen_well(order.candidate)
        return WatchReport(verdict=judged.verdict, reason=judged.reason, verdict_at=self.server.now, state=state)

    def _begun(self, order: WatchOrder) -> JudgeState:
        began = self._reading(order, order.began)
        return (order.state or JudgeState()).step(began)

    def _read(self, order: WatchOrder) -> Reading:
        return self._reading(order, self.target.split().counters)

    def _reading(self, order: WatchOrder, counters: Mapping[str, Counters]) -> Reading:
        return Reading(
            at=self.server.now,
            candidate=counters.get(order.candidate.id, Counters()),
            stable=counters.get(order.stable.id, Counters()) if order.stable else Counters(),
        )

    def _seen_well(self, revision: Revision) -> None:
        instances = self._probe(revision)
        if instances and all(each.healthy for each in instances):
            self.target.revisions[revision.id].verified = self.server.now

    def _weight(self, id: str) -> int:
        return self.target.weights.get(id, 0)

    def _probe(self, revision: Revision) -> tuple[InstanceReport, ...]:
        kept = self.target.revisions.get(revision.id)
        return self.target.report(kept) if kept else ()

    def _observation(
        self,
        order: WatchOrder,
        instances: tuple[InstanceReport, ...],
        ill_since: dict[str, Any],
        probes: int,
        state: JudgeState,
    ) -> Observation:
        every, split = order.judge.probe_every, self.target.split()
        failed = {name: 1 + int((self.server.now - since) / every) for name, since in ill_since.items()}
        begun = tuple(
            each.model_copy(update={"restarts": max(0, each.restarts - order.restarts.get(each.name, 0))})
            for each in instances
        )
        return Observation(
            candidate=_since(split, order, order.candidate),
            stable=_since(split, order, order.stable) if order.stable else Counters(),
            failed_probes=failed,
            instances=begun,
            probes=probes,
            state=state,
            alone=order.stable is None or order.weight == 100,
            before=self._before(order, state),
        )

    def _before(self, order: WatchOrder, state: JudgeState) -> Arm:
        if order.stable is None or state.seen.stable.answers:
            return state.seen.stable
        known = order.began.get(order.stable.id, Counters())
        return Arm(answers=known.requests, events=known.errors)

    def _next_look(self, order: WatchOrder, soon: bool) -> Until:
        now, kept = self.server.now, self.target.revisions.get(order.candidate.id)
        then = order.deadline
        ill = self.target.ill_from(kept) if kept else None
        if soon or (ill is not None and ill <= now < ill + timedelta(seconds=20)):
            then = min(then, now + timedelta(seconds=1))
        elif ill is not None and ill > now:
            then = min(then, ill + timedelta(milliseconds=100))
        elif ill is not None:
            then = min(then, now + timedelta(seconds=10))
        return Until(max(then, now + timedelta(milliseconds=1)))

    def _take_away(self, order: WatchOrder, judged: Judgement) -> Body:
        """A failing verdict gives all traffic back to stable before it is reported."""
        at = self.server.now

        def report(note: str, split: Split | None = None, probed: bool | None = None) -> WatchReport:
            return WatchReport(
                verdict=Verdict.FAIL,
                reason="; ".join(part for part in (judged.reason, note) if part),
                verdict_at=at,
                stable_at=split.seen if split else None,
                split=split,
                stable_probed=probed,
            )

        if order.stable is None:
            return report("nothing else can serve: no traffic was moved")
        fields = {name: getattr(order, name) for name in Order.model_fields}
        shift = ShiftOrder(**fields, candidate=order.candidate.id, stable=order.stable.id, weight=0)
        for number in range(5):
            try:
                split = yield from self.target.shift(shift)
            except FencedOutError as error:
                return report(f"a newer deployment controls traffic: {error}", probed=True)
            except UnsafeChangeError as error:
                return report(f"{order.stable.id} is not healthy: no traffic was moved to it ({error})", probed=False)
            except UnavailableError as error:
                if number == 4:
                    return report(f"the traffic could not be moved at once: {error}", probed=True)
                yield 0.1
            except DeploymentSpecialistError as error:
                return report(f"the traffic could not be moved at once: {error}", probed=True)
            else:
                return report("", split, probed=True)
        raise AssertionError("unreachable")

    # Turns: as `activities.preflight.lock`.

    def _wait_for_turn(self, _attempt: Attempt, question: TurnQuestion) -> Body:
        asked = ""
        while True:
            yield 0.05
            newest = self.server.newest(question.workflow_id)
            if newest is None:
                return Turn()
            if not newest.running:
                if newest.run_id != question.beyond:
                    return Turn(run_id=newest.run_id, trouble=_trouble(newest, question))
            elif question.update:
                if newest.attributes.get(question.outcome) == Outcome.ROLLBACK_FAILED:
                    return Turn(run_id=newest.run_id, trouble="its rollback has failed and waits for a person")
                if asked != newest.run_id:
                    update = self.server.update(
                        newest, f"supersede-{question.ticket}", question.update, question.rollback
                    )
                    yield 0.1
                    if update.accepted is not None or not newest.running:
                        asked = newest.run_id
            yield Until(self.server.now + timedelta(seconds=POLL if question.update else 5.0), woken=False)

    def _start_deployment(self, attempt: Attempt, order: StartOrder) -> Body:
        yield 0.05
        if attempt.number > 1 and (run_id := self._started_before(order)):
            return Started(run_id=run_id)
        newest = self.server.newest(order.workflow_id)
        if newest is not None and newest.running:
            return Started(run_id=self._started_before(order))
        run = self.server.start(DeploymentWorkflow, order.workflow_id, order.request, {TICKET: order.ticket})
        yield 0.05
        return Started(run_id=run.run_id)

    def _started_before(self, order: StartOrder) -> str:
        runs = [run for run in self.server.runs if run.workflow_id == order.workflow_id]
        return next((run.run_id for run in reversed(runs[-20:]) if run.memo.get(TICKET) == order.ticket), "")


_VERBS = ("snapshot", "stage", "shift", "promote", "retire", "restore", "inspect")


def _since(split: Split, order: WatchOrder, revision: Revision) -> Counters:
    now, began = split.counters.get(revision.id, Counters()), order.began.get(revision.id, Counters())
    if now.requests < began.requests:
        return Counters()
    return Counters(requests=now.requests - began.requests, errors=max(0, now.errors - began.errors))


def _trouble(run: Any, question: TurnQuestion) -> str:
    if run.closed is None or run.closed < question.since:
        return ""
    outcome = run.attributes.get(question.outcome, "")
    if outcome == Outcome.ROLLBACK_FAILED:
        return "the deployment before ended as rollback-failed"
    if not outcome and run.attributes.get(wire_names.STAGE_KEY.name, "") not in ("", Stage.PREFLIGHT):
        return f"the deployment before was cut short ({run.status}) before it could finish or undo anything"
    return ""

"""One deployment under way: what the stages share. They say what happens; this holds the mechanics of saying it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from temporalio.exceptions import ActivityError, ApplicationError

from activities.activity_stubs import CHECK_ENDPOINT, Signature
from models.checks import EndpointCheck
from models.gates import failure_type, opens
from models.judges.state import JudgeState
from models.messages import DeploymentRequest, Kind
from models.notifications import EventKind
from models.outcome import Outcome
from models.plan import Plan
from models.preflight.migrations import PendingMigration
from models.release import Inspection, Revision, Snapshot
from models.sentences import say_outcome
from models.verdict import CheckResult, Stage, Verdict
from workflows import options
from workflows.announcing import Announcer
from workflows.checks import ask
from workflows.failures import AbortedError, StageFailedError, describe, evidence_of, fail
from workflows.message_handlers import MessageHandlers
from workflows.options import ActivityOptions
from workflows.platform_client import In, PlatformClient
from workflows.report_builder import ReportBuilder
from workflows.saga import Saga

ENDPOINTS = "endpoints"
ENDINGS = {
    Outcome.DEPLOYED: EventKind.DEPLOYED,
    Outcome.ROLLED_BACK: EventKind.ROLLED_BACK,
    Outcome.ROLLBACK_FAILED: EventKind.ROLLBACK_FAILED,
}


class Transaction:
    """The request, what was found out, what was done, and how to undo it.

    Attributes:
        snapshot: what served before anything changed; what a rollback goes back to.
        candidate: the revision that this deployment brings in.
        moved: whether traffic may have been given to the candidate.
        smoke_tested: whether smoke tests have run: what they changed is not undone.
        backup: the backup that was made in preflight: its id → the sha256 of its dump.
        migrations: those that this deployment runs.
        migrating: whether it has begun to.
        judge_state: what the watches up to now have seen; the next one goes on with it.
        monitoring: what was seen of the watchers before the first user.
        named_in_approval: what an approval before deploy must say beside the version.
    """

    def __init__(self, request: DeploymentRequest, desk: MessageHandlers) -> None:
        self.request = request
        self.spec = request.spec
        self.desk = desk
        self.saga = Saga()
        self.record = ReportBuilder(request, desk, self.saga)
        self.announcer = Announcer(request)
        self.verbs = PlatformClient(request.spec, self.go_on)
        self.moved = False
        self.smoke_tested = False
        self.backup: dict[str, str] = {}
        self.migrations: tuple[PendingMigration, ...] = ()
        self.migrating = False
        self.judge_state: JudgeState | None = None
        self.monitoring: tuple[CheckResult, ...] = ()
        self.named_in_approval = ""
        self._snapshot: Snapshot | None = None
        self._candidate: Revision | None = None
        self._plan: Plan | None = None

    # What preflight found; asked for later only.

    @property
    def snapshot(self) -> Snapshot:
        assert self._snapshot is not None  # noqa: S101  preflight comes first
        return self._snapshot

    @property
    def candidate(self) -> Revision:
        assert self._candidate is not None  # noqa: S101  preflight comes first
        return self._candidate

    @property
    def plan(self) -> Plan:
        assert self._plan is not None  # noqa: S101  preflight comes first
        return self._plan

    @property
    def stable(self) -> Revision | None:
        """The revision that served before; None on a first deployment."""
        return self.snapshot.stable

    @property
    def is_stable_already(self) -> bool:
        """What is brought in serves already; only a rollback meets that."""
        return self.stable is not None and self.stable.id == self.candidate.id

    @property
    def first(self) -> bool:
        """Nothing served before."""
        return self.snapshot.stable is None

    def decided(self, snapshot: Snapshot, candidate: Revision, plan: Plan) -> None:
        """Preflight has found out what will be done."""
        self._snapshot, self._candidate, self._plan = snapshot, candidate, plan
        self.verbs.ensure_newer_than(snapshot.fence)
        self.record.plan, self.record.address = plan, candidate.platform.address
        self.record.previous_version = plan.previous_version

    @property
    def base_url(self) -> str:
        """Where users reach the new version."""
        return url_of(self.candidate)

    @property
    def ready_within(self) -> timedelta:
        """How long a revision may take to become ready."""
        return self.spec.strategy.deadline

    # Whether to go on.

    def go_on(self) -> None:
        """Raises Aborted once somebody asked for the rollback: a cancelled task may have missed its cancellation."""
        if self.desk.rollback is not None:
            raise AbortedError

    def announce(
        self, kind: EventKind, summary: str, *details: str, commands: tuple[str, ...] = (), reminder: int = 0
    ) -> None:
        """Tells the receivers that something happened, as far as they want to know."""
        if self.announcer.wanted:
            name = f"{self.spec.service}/{self.spec.target}"
            self.announcer.announce(
                kind,
                self.record.report(),
                summary,
                details=details,
                commands=tuple(command.replace("NAME/TARGET", name) for command in commands),
                reminder=reminder,
            )

    def announce_end(self, outcome: Outcome) -> None:
        """Tells the receivers how it ended; nothing follows."""
        if self.announcer.wanted:
            report = self.record.report()
            kind, summary = ENDINGS.get(outcome, EventKind.NOT_DEPLOYED), say_outcome(report)
            details = [f"{report.failure.type}: {report.failure.reason}"] if report.failure else []
            details += [f"Not rolled back: {each}" for each in report.not_rolled_back]
            self.announcer.announce(kind, report, summary, details=tuple(details), last=True)

    async def stage(self, stage: Stage, body: Callable[["Transaction"], Awaitable[None]]) -> None:
        """Runs a stage: its body, its verdict.

        Raises:
            StageFailedError: a check did not pass, or an activity failed for good.
        """
        self.record.begin(stage)
        try:
            await body(self)
        except (ActivityError, ApplicationError) as error:
            said = f"{error.activity_type}: {describe(error)}" if isinstance(error, ActivityError) else describe(error)
            self._end_early(said, evidence_of(error))
            self.go_on()
            raise fail(failure_type(stage), stage, said) from error
        except StageFailedError as error:
            self._end_early(error.failure.reason)
            raise
        except (AbortedError, asyncio.CancelledError):  # never BaseException: an evicted workflow's coroutines end too
            self._end_early("stopped before its end")
            raise
        result = self.record.end()
        closed = [check for check in result.checks if not opens(check.verdict)]
        if closed or not opens(result.verdict):
            reason = "; ".join(f"{check.name}: {check.reason}" for check in closed) or "nothing was asked"
            raise fail(failure_type(stage, result.checks), stage, reason)

    def _end_early(self, why: str, evidence: dict[str, Any] | None = None) -> None:
        asked = self.desk.rollback
        if asked is not None:
            # What was under way was cancelled because of it, which says nothing about the candidate.
            why = f"stopped before its end: {asked.by} asked for the rollback"
            self.record.add(CheckResult(name="finished", verdict=Verdict.SKIPPED, reason=why))
            self.record.end(stopped=True)
            return
        if not self.record.has_closed_check():
            self.record.add(CheckResult(name="finished", verdict=Verdict.FAIL, reason=why, evidence=evidence or {}))
        self.record.end()

    def plan_approvals(self) -> tuple[Stage, ...]:
        """The stages that wait for a person; a rollback never waits."""
        return () if self.request.kind is Kind.ROLLBACK or self._plan is None else self.plan.approvals

    # Asking.

    async def ask(
        self, signature: Signature[In, CheckResult], question: In, policy: ActivityOptions, name: str
    ) -> CheckResult:
        """Asks one check. One that cannot be asked has the verdict `error`."""
        return await ask(signature, question, policy, name)

    async def ask_endpoint(self, endpoint: str, revision: Revision, name: str = "") -> CheckResult:
        """Asks one endpoint through the front proxy, as a user would."""
        question = EndpointCheck(
            endpoint=endpoint,
            base_url=url_of(revision),
            path=getattr(revision.endpoints, endpoint),
            version=revision.release.version,
            timeout=self.spec.verify.timeout,
            health=revision.rule_of(endpoint),
        )
        return await self.ask(CHECK_ENDPOINT, question, options.QUICK_CHECK, name or f"endpoint_{endpoint}")


def url_of(revision: Revision) -> str:
    """Where users reach this revision: the address moves with the release."""
    return revision.platform.base_url


def judge_instances(inspection: Inspection, revision: Revision) -> tuple[CheckResult, CheckResult, CheckResult]:
    """Are all instances running, healthy, and of the revision's version? Not one may be missing."""
    instances = inspection.instances
    here = f"{len(instances)} of {inspection.expected} instances"
    evidence = {"instances": [each.name for each in instances], "expected": inspection.expected}

    def verdict(name: str, bad: list[str], good: str) -> CheckResult:
        missing = len(instances) < inspection.expected or not instances
        return CheckResult(
            name=name,
            verdict=Verdict.FAIL if bad or missing else Verdict.PASS,
            reason="; ".join(bad)[:1500] or (f"only {here}" if missing else good),
            evidence=evidence,
        )

    running = verdict("running", [f"{each.name}: {each.detail}" for each in instances if not each.running], here)
    healthy = verdict("healthy", [f"{each.name}: {each.detail}" for each in instances if not each.healthy], here)
    version = revision.release.version
    if revision.endpoints.version is None:
        reason = "the service has no version endpoint (verify.endpoints.version: null)"
        return running, healthy, CheckResult(name="version", verdict=Verdict.SKIPPED, reason=reason)
    wrong = [
        f"{each.name} reports {each.version}" if each.version or not each.healthy else f"{each.name}: {each.detail}"
        for each in instances
        if each.version != version
    ]
    return running, healthy, verdict("version", wrong, f"all of {here} report {version}")


def judge_endpoints(inspection: Inspection) -> tuple[CheckResult, ...]:
    """Says what would be refused later, with users on it: asked of each instance before the first of them.

    Nothing where every endpoint is as it must be: what was asked is asked again when users are there.
    """
    bad = [f"{each.name}: {said}" for each in inspection.instances for said in each.unfit.values()]
    if not bad:
        return ()
    return (CheckResult(name=ENDPOINTS, verdict=Verdict.FAIL, reason="; ".join(bad)[:1500]),)

"""What must be true of every program, whatever happens in it. Each finding names the rule that it breaks.

1. It ends, in one of the endings; nothing hangs.
2. Nobody gets weight who was not verified a moment before; what serves is not taken down.
3. No effect without the approvals that it needs; none counts twice, for another plan, or from who may not give it.
4. No effect before its compensation is registered; they run last first, and at the end each has run or is listed.
5. When it has ended nothing of it runs on; while it runs, no effect begins beside a watcher that was left behind.
6. What is left is what the ending says: all new, or all as it was.
7. Fences strictly rise; a deployment never overtakes itself.
8. A healthy candidate is rolled back only if somebody asked; a bad one is not promoted.
9. Every decision is in the report once, in order, with its author; a refused one that nobody was told of, too.
10. A replay gives the same commands.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from models.messages import Decision, Kind
from models.names import same_person
from models.outcome import FailureType, Outcome
from models.release import Order
from models.report import DeploymentReport, Phase
from models.verdict import Stage, Verdict
from models.watch import WatchOrder, WatchReport
from tests.explore import sdk
from tests.explore.program import MESSAGES, Program
from tests.explore.server import Activity, Attempt, Diverged, Run, Server, Update
from tests.explore.target import Target
from tests.explore.world import EFFECTS, SIGNATURES
from workflows import wire_names
from workflows.deployment import DeploymentWorkflow

ENDINGS = (
    Outcome.DEPLOYED,
    Outcome.ROLLED_BACK,
    Outcome.ROLLBACK_FAILED,
    Outcome.REJECTED,
    Outcome.FROZEN,
    Outcome.PREFLIGHT_FAILED,
)
A_MOMENT = 60.0
PEOPLES = (FailureType.REQUESTED, FailureType.CANCELLED, FailureType.REJECTED, FailureType.FROZEN)
FORWARD = ("stage", "shift", "promote", "retire", "run_migrations")

# How long a decision may take to be acted on: workers that are away, and what has to be ended first.
AT_ONCE = timedelta(minutes=10)


@dataclass(frozen=True)
class Finding:
    """A rule that was broken, when, and how."""

    rule: int
    said: str
    at: datetime

    def __str__(self) -> str:
        return f"rule {self.rule}: {self.said}"


@dataclass
class Message:
    """What was said to a deployment, and what its sender was told."""

    run: Run
    do: str
    by: str
    update: Update | None = None
    plan: str = ""

    @property
    def is_told(self) -> bool:
        """Whether the report has it: all but what was refused to its sender."""
        return self.update is None or self.update.accepted is True


@dataclass
class Watching:
    """What is known of one run of a deployment while it runs.

    Attributes:
        before: how the target was when it was asked for the snapshot.
        promised: until when the watch that ended last was to look.
        waited: when a person's decision was last waited for, until something was done after that.
    """

    run: Run
    fences: list[tuple[int, int]] = field(default_factory=list)
    before: dict[str, Any] | None = None
    last_watch: datetime | None = None
    last_watched_for: float = 0.0
    promised: datetime | None = None
    waited: datetime | None = None
    blind: bool = False


@dataclass
class Invariants:
    """Looks on, and notes what is wrong.

    Attributes:
        hurt: what the world did to instances: none of what follows is the workflow's fault.
    """

    program: Program
    server: Server
    target: Target
    findings: list[Finding] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    hurt: list[str] = field(default_factory=list)
    outage: float = 0.0
    _known: dict[str, Watching] = field(default_factory=dict)

    def found(self, rule: int, said: str) -> None:
        self.findings.append(Finding(rule, said, self.server.now))
        self.server.tell(f"*** rule {rule}: {said}")

    def watching(self, run: Run) -> Watching:
        return self._known.setdefault(run.run_id, Watching(run))

    # While it runs.

    def waits(self, run: Run, *, waits: bool) -> None:
        """A person is waited for, or has been and is no more."""
        self.watching(run).waited = None if waits else self.server.now

    def scheduled(self, activity: Activity, beside: list[Activity]) -> None:
        """An activity has been asked for."""
        if activity.run.defn is not DeploymentWorkflow:
            return
        watching = self.watching(activity.run)
        if watching.waited is not None and self.server.now - watching.waited > AT_ONCE:
            since = (self.server.now - watching.waited).total_seconds()
            self.found(5, f"nothing was done for {since:.0f} s after a person had decided")
        watching.waited = None
        order = sdk.from_payload(activity.payload, SIGNATURES[activity.type].takes)
        if isinstance(order, Order) and (activity.type in EFFECTS or isinstance(order, WatchOrder)):
            self._fence_rises(activity, order)
        if activity.type in EFFECTS:
            emergency = activity.type == "shift" and order.weight == 0
            if beside and not emergency:
                self.found(5, f"{activity} begins while {', '.join(map(str, beside))} still runs")
            self._is_approved(activity, emergency)
            self._has_compensation(activity)
            if not emergency:
                self._is_watched(activity)
            if activity.type == "shift" and order.weight > self.target.weights.get(order.candidate, 0):
                self._is_verified(activity, order.candidate)
        if isinstance(order, WatchOrder):
            watching = self.watching(activity.run)
            watching.last_watched_for = (order.deadline - self.server.now).total_seconds()

    def _fence_rises(self, activity: Activity, order: Order) -> None:
        fences, fence = self.watching(activity.run).fences, (order.fence.epoch, order.fence.sequence)
        if fences and fence <= fences[-1]:
            self.found(7, f"{activity} has the fence {fence}, after {fences[-1]}")
        fences.append(fence)

    def _is_approved(self, activity: Activity, emergency: bool) -> None:
        workflow = _workflow_of(activity.run)
        if workflow.phase is not Phase.FORWARD or emergency or activity.type not in FORWARD:
            return
        stage = Stage(activity.run.attributes.get(wire_names.STAGE_KEY.name, Stage.PREFLIGHT))
        given = [each.what for each in workflow.decisions if each.what.startswith("approve ")]
        order = list(Stage)
        for needed in workflow._t.plan_approvals():
            if order.index(needed) <= order.index(stage) and given.count(f"approve {needed}") != 1:
                times = given.count(f"approve {needed}")
                self.found(3, f"{activity} begins in {stage}; {needed} was approved {times} times")

    def _has_compensation(self, activity: Activity) -> None:
        workflow = _workflow_of(activity.run)
        if workflow._t.is_stable_already:  # it puts right what a termination left: there is nothing to go back to
            return
        registered = [each.what for each in workflow._t.saga.compensations]
        wanted = ["migrations"] if activity.type == "run_migrations" else ["the candidate", "traffic, instances"]
        for what in wanted:
            if not any(what in each for each in registered):
                self.found(4, f"{activity} begins, and nothing is registered that undoes {what}")

    def _is_watched(self, activity: Activity) -> None:
        """What follows a watch that did not fail does not begin before that watch's time is over."""
        workflow, promised = _workflow_of(activity.run), self.watching(activity.run).promised
        if promised is not None and self.server.now < promised and workflow.phase is Phase.FORWARD:
            left = (promised - self.server.now).total_seconds()
            self.found(8, f"{activity} begins {left:.1f} s before the end of the watch before it")

    def _is_verified(self, activity: Activity, candidate: str) -> None:
        kept = self.target.revisions.get(candidate)
        since = None if kept is None or kept.verified is None else self.server.now - kept.verified
        if since is None or since.total_seconds() > A_MOMENT + self.outage:
            said = "never" if since is None else f"{since.total_seconds():.0f} s ago"
            self.found(2, f"{activity} gives {candidate} more weight; it was verified {said}")

    def compensations_in_order(self, run: Run) -> None:
        """Whichever runs: those that were registered after it have been dealt with."""
        if run.defn is not DeploymentWorkflow or run.instance is None:
            return
        workflow = _workflow_of(run)
        if workflow is None or workflow.phase is Phase.FORWARD:
            return
        compensations = workflow._t.saga.compensations
        for number, each in enumerate(compensations):
            later = [other.what for other in compensations[number + 1 :] if other.state == "registered"]
            if each.state in ("running", "done") and later:
                self.found(4, f"the undo of {each.what} runs before that of {later[-1]}")
                return

    def answered(self, attempt: Attempt, order: Any, error: str, result: Any) -> None:
        """An attempt has done what it was asked, or was refused."""
        run = attempt.activity.run
        if run.defn is not DeploymentWorkflow or not attempt.heard or not run.running:
            return
        watching = self.watching(run)
        if attempt.activity.type == "snapshot" and watching.before is None and not error:
            watching.before = self.target.look()
        if error == "OvertakenByItself":
            workflow = self.server.workflow_of(run)
            if workflow.rollback is None and workflow.phase is Phase.FORWARD:
                self.found(7, f"{attempt.activity} was overtaken by a later effect of its own deployment")
        if isinstance(result, WatchReport):
            self._watched(watching, order, result)
        if error == "Refused" and attempt.activity.type == "retire" and not self._others_are_ill(order.revision):
            compensations = self.server.workflow_of(run)._t.saga.compensations
            if not any(each.state == "skipped" for each in compensations):  # a person has said that it stays so
                self.found(2, f"{attempt.activity} asks to take down what serves")

    def _others_are_ill(self, candidate: str) -> list[str]:
        """What the world did: what follows from it is not the workflow's fault."""
        ill = [
            f"{id} is ill"
            for id, kept in self.target.revisions.items()
            if id != candidate and not self.target.quality(kept.revision).healthy
        ]
        return [*self.hurt, *ill]

    def _watched(self, watching: Watching, order: WatchOrder, report: WatchReport) -> None:
        """A watch has come to a verdict."""
        watching.last_watch = self.server.now
        early = report.verdict is not Verdict.FAIL and self.server.now < order.deadline - timedelta(seconds=1)
        watching.blind |= early or report.verdict in (Verdict.INCONCLUSIVE, Verdict.ERROR)
        # A watch beside a person's decision is to last as long as that takes, and no longer.
        decides = self.server.workflow_of(watching.run)._t.record.waiting_for
        watching.promised = None if decides else order.deadline

    # At the end of a run.

    def closed(self, run: Run) -> None:
        """A run has ended, however."""
        if run.status == "terminated" or run.defn is not DeploymentWorkflow:
            return
        if left := self.server.unended(run):
            self.found(5, f"{run.workflow_id} has ended ({run.status}), and this has not: {', '.join(left)}")

    def ended(self, run: Run) -> None:
        """Everything about a run that has ended."""
        if run.status == "terminated":
            return
        report = self.server.query(run, wire_names.STATUS, DeploymentReport)
        try:
            self.server.replay(run).evict()
        except Diverged as error:
            self.found(10, str(error))
        if run.defn is DeploymentWorkflow:
            self._has_ended_well(run, report)

    def _has_ended_well(self, run: Run, report: DeploymentReport) -> None:
        if report.outcome not in ENDINGS or report.phase is not Phase.FINISHED or report.ended is None:
            self.found(1, f"it ended as {report.outcome}, {report.phase}")
        self._status_fits(run, report)
        self._decisions_are_told(run, report)
        self._approvals_were_right(run, report)
        self._compensations_are_settled(report)
        self._is_deserved(run, report)

    def _status_fits(self, run: Run, report: DeploymentReport) -> None:
        wanted = {"completed": (Outcome.DEPLOYED, Outcome.ROLLED_BACK), "cancelled": (Outcome.ROLLED_BACK,)}
        if run.status in wanted and report.outcome not in wanted[run.status]:
            self.found(1, f"it is {run.status}, and its report says {report.outcome}")
        if run.attributes.get(wire_names.OUTCOME_KEY.name) != report.outcome:
            self.found(1, f"it can be found as {run.attributes}, and its report says {report.outcome}")

    def _decisions_are_told(self, run: Run, report: DeploymentReport) -> None:
        """Each message that had an effect, or that nobody could be told of, is a decision; nothing else is."""
        told = [each for each in report.decisions if each.by != "deployment-specialist" and each.what != "break-glass"]
        said = [each for each in self.messages if each.run is run and each.is_told]
        if run.continued_by:  # what rolls back a release that is out is what the next run is for
            rolled = [(_verb(each.what), each.by) for each in told]
            said = [each for each in said if each.do != "rollback" or ("rollback", each.by) in rolled]
        # What comes with a cancellation in one task is heard before it, whatever came first.
        told.sort(key=lambda each: each.by == "cancellation in Temporal")
        said.sort(key=lambda each: each.do == CANCELLATION)
        if len(told) != len(said) or not all(map(_same, told, said)):
            words = [f"{each.by}: {each.do}" for each in said], [f"{each.by}: {each.what}" for each in told]
            self.found(9, f"it was told {words[0]}, and its report has {words[1]}")
            return
        for decision, message in zip(told, said, strict=True):
            wrong = message.plan and (report.plan is None or message.plan != report.plan.id)
            if wrong and "(refused" not in decision.what:
                self.found(3, f"{decision.by}: {decision.what}, for the plan {message.plan}, which is another")

    def _approvals_were_right(self, run: Run, report: DeploymentReport) -> None:
        given = [each for each in report.decisions if each.what.startswith("approve ") and "refused" not in each.what]
        glass = next((each.by for each in report.decisions if each.what == "break-glass"), "")
        for each in given:
            if self.program.approvers and each.by not in self.program.approvers:
                self.found(3, f"{each.by} approved, and may not")
            if glass and same_person(each.by, glass):
                self.found(3, f"{each.by} broke the glass, and approved it too")
            if len([other for other in given if other.what == each.what]) > 1:
                self.found(3, f"{each.what} twice")

    def _compensations_are_settled(self, report: DeploymentReport) -> None:
        if report.outcome is Outcome.DEPLOYED or (report.kind is Kind.ROLLBACK and report.failure is None):
            ran = [each.what for each in report.compensations if each.state != "registered"]
            if ran:
                self.found(4, f"it ended as {report.outcome}, and this was undone: {', '.join(ran)}")
            return
        open_ = [each.what for each in report.compensations if each.state not in ("done", "skipped")]
        if open_ and report.outcome is not Outcome.ROLLBACK_FAILED:
            self.found(4, f"it ended as {report.outcome}, and this was not undone: {', '.join(open_)}")
        for what in open_:
            if not any(what in each for each in report.not_rolled_back):
                self.found(4, f"{what} was not undone, and the report does not list it")

    def _is_deserved(self, run: Run, report: DeploymentReport) -> None:
        watching = self.watching(run)
        if report.outcome is Outcome.DEPLOYED:
            self._is_new(run, report)
            self._was_good(watching, run, report)
        elif report.kind is Kind.ROLLBACK and report.failure is None:
            self._is_new(run, report)
        elif report.outcome is not Outcome.ROLLBACK_FAILED:
            self._is_old(watching, report)
        if report.kind is Kind.DEPLOY and report.outcome is not Outcome.DEPLOYED:
            self._had_a_reason(run, report)

    def _is_new(self, run: Run, report: DeploymentReport) -> None:
        new = next((id for id, kept in self.target.revisions.items() if id == self.target.stable), None)
        kept = self.target.revisions.get(new or "")
        if kept is None or kept.revision.release.version != report.version or self.target.weights != {new: 100}:
            self.found(6, f"{report.version} is out, and the target is {self._told()}")
            return
        if len(kept.living()) != len(kept.serving()) or not kept.living():
            self.found(6, f"{new} is out with {len(kept.serving())} of {len(kept.living())} instances serving")
        if report.kind is Kind.DEPLOY and len(kept.living()) != kept.revision.platform.instances:
            self.found(6, f"{new} is out with {len(kept.living())} instances")
        said = " ".join(check.reason for stage in report.stages for check in stage.checks)
        for id, other in self.target.revisions.items():
            if id != new and other.living() and f"{id} still runs" not in said:
                self.found(6, f"{new} is out, and {id} still runs")

    def _is_old(self, watching: Watching, report: DeploymentReport) -> None:
        before, now = watching.before, self.target.look()
        if before is None or any(each.state == "skipped" for each in report.compensations):
            return
        if not report.compensations:
            if now != before and not self._terminated_before(watching.run):
                self.found(6, f"nothing was done, and the target is {self._told()}")
            return
        wanted = {**before, "weights": {before["stable"]: 100} if before["stable"] else {}}
        known = wanted["revisions"]
        stable = known.get(before["stable"])
        if stable is not None:
            known[before["stable"]] = {
                **stable,
                "living": max(1, stable["living"]),
                "serving": max(1, stable["living"]),
            }
        for key in ("stable", "weights", "history"):
            if now[key] != wanted[key]:
                self.found(6, f"it was rolled back: {key} is {now[key]}, and was {wanted[key]}")
        for id in {*now["revisions"], *known}:
            there, was = now["revisions"].get(id), known.get(id)
            if was is None and there is not None and not self._terminated_before(watching.run):
                self.found(6, f"it was rolled back, and {id} is still there")
            elif was is not None and there != was and id == before["stable"] and not self.hurt:
                self.found(6, f"it was rolled back, and {id} is {_short(there)}, and was {_short(was)}")

    def _terminated_before(self, run: Run) -> bool:
        return any(each.status == "terminated" for each in self.server.runs if each is not run)

    def _told(self) -> str:
        runs = ", ".join(f"{len(kept.living())} × {id}" for id, kept in self.target.revisions.items())
        return f"{self.target.stable} stable, {self.target.weights}, {runs}"

    def _was_good(self, watching: Watching, run: Run, report: DeploymentReport) -> None:
        kept = self.target.revisions.get(self.target.stable or "")
        if kept is None or report.plan is None or watching.blind or not self.program.rate:
            return
        ill, last = self.target.ill_from(kept), watching.last_watch
        if ill is None or last is None or not report.plan.watched():
            return
        seen_for = (last - ill).total_seconds()
        if seen_for > 10 + watching.last_watched_for / 5:
            self.found(8, f"{kept.revision.id} {self.program.quality}, for {seen_for:.0f} s, and was promoted")

    def _had_a_reason(self, run: Run, report: DeploymentReport) -> None:
        failure = report.failure
        if failure is not None and failure.type in PEOPLES:
            asked = self._asked_for(run, report)
            if failure.type in (FailureType.REQUESTED, FailureType.CANCELLED) and not asked:
                self.found(8, f"it was rolled back as {failure.type}, and nobody asked")
            if report.outcome is not Outcome.ROLLBACK_FAILED:
                return
        elif report.outcome is not Outcome.ROLLBACK_FAILED:
            if reason := self._excuse(run, report):
                self.server.tell(f"  (it may end so: {reason})")
                return
            self.found(8, f"it ended as {report.outcome}, and nothing was wrong: {failure and failure.reason}")
            return
        if not self._fatal() and not self._others_are_ill(self._candidate(run)):
            self.found(8, f"its rollback failed, and nothing was wrong: {failure and failure.reason}")

    def _asked_for(self, run: Run, report: DeploymentReport) -> bool:
        return any(_verb(each.what) in ("rollback", "cancel") for each in report.decisions)

    def _candidate(self, run: Run) -> str:
        known = self.server.workflow_of(run)._t._candidate
        return str(known.id) if known is not None else ""

    def _excuse(self, run: Run, report: DeploymentReport) -> str:
        failure = report.failure
        quality = self.target.qualities.get(report.version)
        if quality is not None and not quality.healthy:
            return "the candidate is not healthy"
        if fatal := self._fatal():
            return fatal
        if hurt := self._others_are_ill(self._candidate(run)):
            return hurt[0]
        if self.program.verdicts:
            return f"{self.program.verdicts[0]} does not pass"
        if failure is not None and "nobody decided within" in failure.reason:
            return "nobody came"
        if self.program.inconclusive == "rollback" and (not self.program.rate or self.program.blind):
            return "too little was seen"
        return ""

    def _fatal(self) -> str:
        """A fault that no number of attempts mends."""
        for activity, fault in self.server.struck:
            if fault.how == "fail" and fault.final:
                return f"{activity} raises {fault.error}"
            if fault.how == "slow" and activity.type in ("stage", "restore", "retire", "check_endpoint"):
                return f"{activity} is slow"
        for activity, _ in self.server.struck:
            most = activity.command.retry_policy.maximum_attempts
            if most and len([1 for other, _ in self.server.struck if other is activity]) >= most:
                return f"{activity} fails each time"
        return ""


def _workflow_of(run: Run) -> Any:
    return run.instance.workflow if run.instance is not None else None


def _verb(what: str) -> str:
    """What a decision was about: `approve deploy` is an approval, a refused hold was a hold."""
    first = what.split(" (")[0]
    return first.split(" ")[0] if first.split(" ")[0] in (*MESSAGES, "cancel") else first


WAYS = ("retry", "skip", "take-over")
CANCELLATION = "a cancellation"


def _same(told: Decision, said: Message) -> bool:
    """Whether a decision in the report is about what was said."""
    verb = _verb(told.what)
    if said.do == CANCELLATION:
        return verb in ("rollback", "cancel") and told.by == "cancellation in Temporal"
    return told.by == said.by and (verb == said.do or (verb == "resolve" and said.do in WAYS))


def _short(looked: dict[str, Any] | None) -> str:
    return "gone" if looked is None else f"{looked['living']} instances, {looked['serving']} serving"

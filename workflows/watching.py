"""Watching a candidate: to a deadline that is decided once, and while a deployment is held.

A watch ends early only with a failing verdict, and has then moved the traffic already. One that saw too little is
extended once; after that a person decides, or it is rolled back, as the spec says.
"""

import asyncio
from datetime import timedelta

from temporalio import workflow

from models.messages import Request
from models.outcome import FailureType
from models.plan import PlannedStep
from models.release import Inspection
from models.spec import OnInconclusive
from models.units import format_duration
from models.verdict import CheckResult, Verdict
from models.watch import WatchReport
from workflows.failing import fail
from workflows.transaction import Transaction

OURSELVES = "deployment-specialist"
_GUARD_FOR = timedelta(hours=1)
_SAW_TOO_LITTLE = (Verdict.INCONCLUSIVE, Verdict.ERROR)


async def watch_step(t: Transaction, step: PlannedStep, inspection: Inspection) -> None:
    """Watches one step of the strategy, from the split and the instances as they are now.

    Raises:
        StageFailed: the candidate failed, or too little was seen and the spec says to roll back then.
    """
    name = f"step_{step.weight}"
    if step.watch == timedelta(0):
        reason = "nothing serves beside it" if t.first else "the plan watches this step for 0s"
        evidence = {"weights": t.record.split.weights} if t.record.split else {}
        t.record.add(CheckResult(name=name, verdict=Verdict.SKIPPED, reason=reason, evidence=evidence))
        return
    await watch_to_a_verdict(t, name, step.watch, inspection, t.plan.min_requests)


async def watch_to_a_verdict(
    t: Transaction, name: str, length: timedelta, inspection: Inspection, min_requests: int
) -> None:
    """Watches, once more when it saw too little, and then lets a person decide.

    Raises:
        StageFailed: the candidate failed, or too little was seen and the spec says to roll back then.
    """
    watched = Watched(t, name, inspection)
    report = await watched.until(length, min_requests)
    if report.verdict in _SAW_TOO_LITTLE:
        report = await watched.until(length, min_requests, note=f"{report.verdict}, extended once")
    t.record.add(watched.check(report))
    if report.verdict in _SAW_TOO_LITTLE:
        await _leave_it_to_a_person(t, watched.check(report))


async def _leave_it_to_a_person(t: Transaction, check: CheckResult) -> None:
    if t.spec.strategy.judge.on_inconclusive is OnInconclusive.ROLLBACK:
        raise fail(FailureType.DEPLOYMENT, t.record.stage, f"{check.name} was {check.verdict}: {check.reason}")
    t.desk.hold_now(
        Request(by=OURSELVES, reason=f"{check.name} was {check.verdict}: {check.reason}"), inconclusive=True
    )
    await gate(t)
    by = t.desk.decisions[-1].by
    said = {**check.evidence, "judged": check.verdict, "let_go_on_by": by}
    reason = f"{check.verdict}: {check.reason}; {by} let it go on"
    t.record.replace(check.model_copy(update={"verdict": Verdict.SKIPPED, "reason": reason, "evidence": said}))


class Watched:
    """The candidate since one moment: what is judged is what happened after it, however often the watch is extended."""

    def __init__(self, t: Transaction, name: str, inspection: Inspection) -> None:
        self._t = t
        self._name = name
        self._instances = len(inspection.instances)
        self._restarts = {each.name: each.restarts for each in inspection.instances}
        self._began = t.record.split.counters if t.record.split else {}
        self._length = timedelta(0)

    async def until(self, length: timedelta, min_requests: int, note: str = "") -> WatchReport:
        """Watches for `length` from now.

        Raises:
            StageFailed: the candidate failed. Its traffic was taken away before this is known here.
        """
        t, deadline = self._t, workflow.now() + length
        self._length += length
        if t.desk.holding is None:
            t.record.do(f"{self._name}: watched for {format_duration(length)} {note}".strip(), until=deadline)
        report = await t.verbs.watch(
            t.candidate,
            t.stable,
            self._instances,
            deadline=deadline,
            min_requests=min_requests,
            began=self._began,
            restarts=self._restarts,
            summary=f"watch {self._name} for {format_duration(length)} {note}",
        )
        if report.verdict is Verdict.FAIL:
            if report.split is not None and report.stable_at is not None:
                t.record.moved_back(report.split, (report.stable_at - report.verdict_at).total_seconds())
            t.record.add(self.check(report))
            raise fail(FailureType.DEPLOYMENT, t.record.stage, report.reason)
        if workflow.now() < deadline:
            # A watch has no business to pass early; whatever made it, the time that was promised is kept.
            await workflow.sleep(deadline - workflow.now(), summary=f"the rest of {self._name}")
        return report

    def check(self, report: WatchReport) -> CheckResult:
        """The watch as a check of the running stage."""
        evidence = {
            **report.evidence,
            "watched": format_duration(self._length),
            "verdict_at": report.verdict_at.isoformat(),
            "stable_at": report.stable_at.isoformat() if report.stable_at else None,
            "stable_probed": report.stable_probed,
        }
        kept = {key: value for key, value in evidence.items() if value is not None}
        return CheckResult(name=self._name, verdict=report.verdict, reason=report.reason, evidence=kept)


async def gate(t: Transaction) -> None:
    """Between two moves: goes on at once, or waits as long as somebody holds the deployment, watching meanwhile.

    Raises:
        StageFailed: the candidate failed while it was held, or nobody came to let it go on.
    """
    t.go_on()
    if t.desk.holding is None:
        return
    holder, expires = t.desk.holding, t.spec.strategy.hold.expires
    t.record.waiting_for = f"resume or rollback; held by {holder.by}: {holder.reason or 'no reason given'}"
    t.record.do("held", until=workflow.now() + expires)
    guard = asyncio.create_task(_guard(t)) if t.moved else None
    expired = False
    try:
        await workflow.wait_condition(
            lambda: t.desk.holding is None or (guard is not None and guard.done()),
            timeout=expires,
            timeout_summary="held",
        )
    except TimeoutError:
        expired = True
    finally:
        t.record.waiting_for = ""
        if guard is not None:
            guard.cancel()  # not waited for: whatever comes next has a higher fence
    t.record.do("")
    t.go_on()
    if guard is not None and guard.done() and not guard.cancelled() and (error := guard.exception()) is not None:
        raise error
    if expired:
        reason = f"held by {holder.by}, and nobody decided within {format_duration(expires)}"
        raise fail(FailureType.DEPLOYMENT, t.record.stage, reason)


async def _guard(t: Transaction) -> None:
    """Keeps the fuse awake while nobody moves: what is plainly broken loses its traffic also now."""
    while True:
        inspection = await t.verbs.inspect(t.candidate, t.plan.steps[-1].candidate_instances)
        await Watched(t, "held", inspection).until(_GUARD_FOR, min_requests=0, note="while held")

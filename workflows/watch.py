"""Watching a candidate to a deadline that is decided once.

A watch ends early only with a failing verdict, and has then moved the traffic already.
"""

from datetime import timedelta

from temporalio import workflow

from models.outcome import FailureType
from models.release import Inspection
from models.units import format_duration
from models.verdict import CheckResult, Verdict
from models.watch import WatchReport
from workflows.concurrency import sleep
from workflows.failures import fail
from workflows.transaction import Transaction


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
            StageFailedError: the candidate failed. Its traffic was taken away before this is known here.
        """
        t, deadline = self._t, workflow.now() + length
        self._length += length
        if not t.record.waiting_for:
            t.record.do(f"{self._name}: watched for {format_duration(length)} {note}".strip(), until=deadline)
        report = await t.verbs.watch(
            t.candidate,
            t.stable,
            self._instances,
            deadline=deadline,
            min_requests=min_requests,
            began=self._began,
            restarts=self._restarts,
            weight=_weight(t),
            slice=t.spec.strategy.judge.slice_of(length),
            state=t.judge_state,
            summary=f"watch {self._name} for {format_duration(length)} {note}",
        )
        t.judge_state = report.state or t.judge_state
        if report.verdict is Verdict.FAIL:
            if report.split is not None and report.stable_at is not None:
                t.record.moved_back(report.split, (report.stable_at - report.verdict_at).total_seconds())
            t.record.add(self.check(report))
            raise fail(FailureType.DEPLOYMENT, t.record.stage, report.reason)
        if workflow.now() < deadline:
            # A watch has no business to pass early; whatever made it, the time that was promised is kept.
            await sleep(deadline - workflow.now(), f"the rest of {self._name}")
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


def _weight(t: Transaction) -> int | None:
    """What the candidate has of the traffic, as the last move said; where weights are approximate, it says nothing."""
    split = t.record.split
    return split.weights.get(t.candidate.id, 0) if split is not None and split.exact else None

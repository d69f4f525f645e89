"""What follows a watch: on with it, or, when it saw too little, what the spec says of that step: a person's decision,
the way back, or on all the same.

Too little traffic is no pass, and an outage of whoever counts is no failure of the candidate.
"""

from datetime import timedelta

from models.messages import Request
from models.notifications import EventKind
from models.outcome import FailureType
from models.plan import PlannedStep
from models.release import Inspection
from models.spec import OnInconclusive
from models.units import format_duration
from models.verdict import CheckResult, Verdict
from workflows.approvals import pause_point
from workflows.failures import fail
from workflows.transaction import Transaction
from workflows.watch import Watched

OURSELVES = "deployment-specialist"
SAW_TOO_LITTLE = (Verdict.INCONCLUSIVE, Verdict.ERROR)


async def watch_step(t: Transaction, step: PlannedStep, inspection: Inspection) -> None:
    """Watches one step of the strategy, from the split and the instances as they are now.

    Raises:
        StageFailedError: the candidate failed, or too little was seen and the spec says to roll back then.
    """
    name = f"step_{step.weight}"
    if step.watch == timedelta(0):
        reason = "nothing serves beside it" if t.first or t.plan.alone else "the plan watches this step for 0s"
        evidence = {"weights": t.record.split.weights} if t.record.split else {}
        t.record.add(CheckResult(name=name, verdict=Verdict.SKIPPED, reason=reason, evidence=evidence))
        return
    policy = step.on_inconclusive or t.spec.strategy.judge.strict
    verdict = await watch_to_a_verdict(t, name, step.watch, inspection, t.plan.min_requests, policy)
    if verdict is not Verdict.PASS:
        return
    t.announce(
        EventKind.STEP_PASSED,
        f"{t.spec.service} {t.record.version} on {t.spec.target} passed {step.weight} %.",
        f"Watched for {format_duration(step.watch)}",
    )


async def watch_to_a_verdict(
    t: Transaction,
    name: str,
    length: timedelta,
    inspection: Inspection,
    min_requests: int,
    policy: OnInconclusive,
) -> Verdict:
    """Watches, once more when it saw too little, and then does what the policy says.

    To go on needs no second look, because what was seen counts in the next step; but whoever could not be asked is
    asked once more, and then a person decides. Returns what the watch saw, whoever let it go on.

    Raises:
        StageFailedError: the candidate failed, or too little was seen and the spec says to roll back then.
    """
    watched = Watched(t, name, inspection)
    report = await watched.until(length, min_requests)
    if policy is OnInconclusive.CONTINUE and report.verdict is Verdict.INCONCLUSIVE:
        t.record.add(_went_on(watched.check(report)))
        return report.verdict
    if report.verdict in SAW_TOO_LITTLE:
        report = await watched.until(length, min_requests, note=f"{report.verdict}, extended once")
    t.record.add(watched.check(report))
    if report.verdict in SAW_TOO_LITTLE:
        if policy is OnInconclusive.CONTINUE and report.verdict is Verdict.INCONCLUSIVE:
            t.record.replace(_went_on(watched.check(report)))
        else:
            await leave_to_a_person(t, watched.check(report), policy)
    return report.verdict


def _went_on(check: CheckResult) -> CheckResult:
    said = {**check.evidence, "judged": check.verdict, "let_go_on_by": "on_inconclusive: continue"}
    reason = f"{check.verdict}: {check.reason}; went on, as on_inconclusive says"
    return check.model_copy(update={"verdict": Verdict.SKIPPED, "reason": reason, "evidence": said})


async def leave_to_a_person(t: Transaction, check: CheckResult, policy: OnInconclusive) -> None:
    if policy is OnInconclusive.ROLLBACK:
        raise fail(FailureType.DEPLOYMENT, t.record.stage, f"{check.name} was {check.verdict}: {check.reason}")
    t.desk.hold_now(
        Request(by=OURSELVES, reason=f"{check.name} was {check.verdict}: {check.reason}"), inconclusive=True
    )
    await pause_point(t)
    by = t.desk.decisions[-1].by
    said = {**check.evidence, "judged": check.verdict, "let_go_on_by": by}
    reason = f"{check.verdict}: {check.reason}; {by} let it go on"
    t.record.replace(check.model_copy(update={"verdict": Verdict.SKIPPED, "reason": reason, "evidence": said}))

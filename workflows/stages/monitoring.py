"""Who watches the service is awake before the first user reaches the candidate, and is seen so again at the end.

What is set up is undone after traffic and instances: a way back waits for no Prometheus. And it never fails for one:
what could not be put back is said.
"""

from functools import partial

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities import activity_stubs
from activities.activity_stubs import Signature
from models.checks import MonitoringOrder, MonitoringSeen
from models.gates import opens
from models.messages import Kind
from models.outcome import FailureType
from models.verdict import CheckResult, Stage, Verdict
from workflows import options
from workflows.failures import describe, fail
from workflows.options import ActivityOptions
from workflows.platform_client import execute
from workflows.transaction import Transaction

PROMETHEUS, ALERTMANAGER = "prometheus", "alertmanager"


def register_monitoring(t: Transaction) -> None:
    """Registers what undoes `set_up_monitoring`. Registered before the rest is, it is run after that."""
    if t.request.kind is Kind.DEPLOY and _follows(t):
        t.saga.register("what Prometheus reads about it", partial(_undo, t))


async def set_up_monitoring(t: Transaction) -> None:
    """Tells the watchers of the candidate, which is up and has no users yet, and sees each of them work.

    Raises:
        StageFailedError: one of them does not work.
    """
    if t.request.kind is not Kind.DEPLOY:
        await follow_instances(t)
        return
    if not _wanted(t):
        return
    t.record.do("Prometheus, Alertmanager: set up, and seen working")
    checks = await _ask(t, activity_stubs.SET_UP_MONITORING, "set the watchers up, and see them work")
    t.monitoring = checks
    t.record.add(*checks)
    closed = [check for check in checks if not opens(check.verdict)]
    if closed:
        said = "; ".join(f"{check.name}: {check.reason}" for check in closed)
        raise fail(FailureType.MONITORING, Stage.DEPLOY, said)


async def follow_instances(t: Transaction) -> None:
    """Prometheus is told which instances there are now. It is asked later whether it knows."""
    if not _follows(t):
        return
    try:
        await _execute(t, activity_stubs.FOLLOW_INSTANCES, options.QUICK_CHECK, "announce the instances to Prometheus")
    except ActivityError as error:
        workflow.logger.warning("the instances could not be announced to Prometheus: %s", describe(error))


async def see_monitoring(t: Transaction) -> tuple[CheckResult, ...]:
    """What is seen of the watchers, now that the candidate has all users."""
    observe = t.spec.observe
    seen = [_not_configured(name) for name in (PROMETHEUS, ALERTMANAGER) if getattr(observe, name) is None]
    if _follows(t):
        seen += await _ask(t, activity_stubs.SEE_MONITORING, "see that Prometheus watches what serves now")
    # A second test alert would be noise.
    return (*seen, *(check for check in t.monitoring if check.name == ALERTMANAGER))


def _wanted(t: Transaction) -> bool:
    """Whether there are watchers to set up. A deployment of a former release knows none."""
    observe = t.spec.observe
    return (observe.prometheus is not None or observe.alertmanager is not None) and workflow.patched("monitoring")


def _follows(t: Transaction) -> bool:
    return t.spec.observe.prometheus is not None and workflow.patched("monitoring")


def _not_configured(name: str) -> CheckResult:
    reason = f"no {name.capitalize()} is configured (observe.{name})"
    return CheckResult(name=name, verdict=Verdict.SKIPPED, reason=reason)


async def _ask(
    t: Transaction, signature: Signature[MonitoringOrder, MonitoringSeen], summary: str
) -> tuple[CheckResult, ...]:
    observe = t.spec.observe
    parts = [each.within for each in (observe.prometheus, observe.alertmanager) if each is not None]
    try:
        return (await _execute(t, signature, options.see_watchers(max(parts)), summary)).checks
    except ActivityError as error:
        return (CheckResult(name="monitoring", verdict=Verdict.ERROR, reason=describe(error)),)


async def _execute(
    t: Transaction, signature: Signature[MonitoringOrder, MonitoringSeen], policy: ActivityOptions, summary: str
) -> MonitoringSeen:
    running = [t.candidate] if t.stable is None or t.is_stable_already else [t.stable, t.candidate]
    order = MonitoringOrder(
        order=t.verbs.order_for_watchers(),
        observe=t.spec.observe,
        candidate=t.candidate.outline(),
        running=tuple(each.outline() for each in running),
    )
    return await execute(signature, order, policy, summary)


async def _undo(t: Transaction) -> None:
    try:
        await _execute(t, activity_stubs.UNDO_MONITORING, options.TRAFFIC, "Prometheus reads what it read before")
    except ActivityError as error:
        t.record.not_rolled_back.append(f"what Prometheus reads about it ({describe(error)})")

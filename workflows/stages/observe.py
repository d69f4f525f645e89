"""Is somebody watching? Each thing that watches the service is configured and seen working."""

from activities import activity_stubs
from models.carrying import about_target
from models.checks import RouterCheck, SentryCheck
from models.gates import ERROR_TRACKING
from models.verdict import CheckResult, Verdict
from workflows import options
from workflows.concurrency import Tasks
from workflows.stages.monitoring import see_monitoring
from workflows.transaction import Transaction


async def observe(t: Transaction) -> None:
    """Sees the router's metrics count, a test event arrive at the error tracking, and Prometheus watch what serves."""
    t.record.do("router metrics, error tracking, Prometheus, Alertmanager")
    question = RouterCheck(spec=about_target(t.spec), revision=t.candidate.outline(), base_url=t.base_url)
    async with Tasks() as tasks:
        asked = (
            tasks.start(t.ask(activity_stubs.CHECK_ROUTER_METRICS, question, options.QUICK_CHECK, "router_metrics")),
            tasks.start(_error_tracking(t)),
        )
        watchers = tasks.start(see_monitoring(t))
    t.record.add(*(each.result() for each in asked), *watchers.result())


async def _error_tracking(t: Transaction) -> CheckResult:
    if t.spec.observe.sentry is None:
        reason = "no error tracking is configured (observe.sentry)"
        return CheckResult(name=ERROR_TRACKING, verdict=Verdict.SKIPPED, reason=reason)
    question = SentryCheck(sentry=t.spec.observe.sentry, release=t.candidate.release, target=t.spec.target)
    return await t.ask(activity_stubs.CHECK_ERROR_TRACKING, question, options.QUICK_CHECK, ERROR_TRACKING)

"""Is it really the new version that users reach, whole, healthy, and doing its work?"""

from activities import activity_stubs
from models.checks import SmokeCheck
from models.gates import SMOKE_PREFIX
from models.messages import Kind
from models.verdict import CheckResult, Verdict
from workflows import options
from workflows.concurrency import Tasks
from workflows.transaction import Transaction, judge_instances

HEALTH_ENDPOINTS = ("health", "ready", "live", "metrics")


async def verify(t: Transaction) -> None:
    """Asks every instance, every endpoint through the front proxy, and runs the smoke tests in their order."""
    t.record.do("every instance, every endpoint, smoke tests")
    t.record.add(*await is_new_version(t))
    async with Tasks() as tasks:
        asked = [tasks.start(t.ask_endpoint(each, t.candidate)) for each in HEALTH_ENDPOINTS]
    t.record.add(*(each.result() for each in asked))
    if t.request.kind is Kind.ROLLBACK:
        reason = "the smoke tests belong to the release that is being left"
        t.record.add(CheckResult(name=f"{SMOKE_PREFIX}tests", verdict=Verdict.SKIPPED, reason=reason))
    else:
        t.record.add(*await smoke_tests(t, t.base_url))


async def is_new_version(t: Transaction) -> list[CheckResult]:
    """All candidate instances run, are healthy and report the version; so does what the front proxy leads to."""
    async with Tasks() as tasks:
        inspection = tasks.start(t.verbs.inspect(t.candidate, t.candidate.platform.instances))
        reached = tasks.start(t.ask_endpoint("version", t.candidate, "reachable"))
    return [*judge_instances(inspection.result(), t.candidate), reached.result()]


async def smoke_tests(t: Transaction, base_url: str) -> list[CheckResult]:
    """Runs the spec's smoke tests one after the other: they may build on each other."""
    if not t.spec.verify.smoke:
        reason = "the spec has no smoke tests (verify.smoke)"
        return [CheckResult(name=f"{SMOKE_PREFIX}tests", verdict=Verdict.SKIPPED, reason=reason)]
    t.smoke_tested = True
    answers = []
    for test in t.spec.verify.smoke:
        question = SmokeCheck(
            test=test,
            base_url=base_url,
            directory=t.spec.platform.directory,
            service=t.spec.service,
            target=t.spec.target,
            version=t.record.version,
            host=t.spec.verify.host,
        )
        policy = options.smoke(test.expect.within)
        answers.append(await t.ask(activity_stubs.RUN_SMOKE_TEST, question, policy, f"{SMOKE_PREFIX}{test.name}"))
    return answers

"""Everything that can be known before anything changes. A deployment that fails here has touched nothing."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities import activity_stubs
from models.carrying import about_disks, about_platform, about_release, about_target, about_values
from models.checks import Examination, PreflightCheck
from models.gates import opens
from models.outcome import FailureType
from models.plan import config_hash, make_plan, make_revision, make_way_back, with_break_glass, with_identity
from models.preflight.ci import CiQuestion, CommandCi
from models.preflight.environment import with_parity
from models.release import PLATFORM_DIGEST, Release, Snapshot
from models.spec import DeploymentSpec
from models.verdict import CheckResult, Stage, Verdict
from workflows import options
from workflows.checks import ask
from workflows.concurrency import Tasks
from workflows.failures import describe, fail
from workflows.freezing import ask_freeze
from workflows.platform_client import execute
from workflows.stages import database
from workflows.transaction import Transaction

MOST_CHANGES = 500
LONGEST_CHANGE = 1000
# Each is asked about a part of the spec.
_CHECKS = {
    "artifacts": (activity_stubs.CHECK_ARTIFACTS, about_release),
    "environment": (activity_stubs.CHECK_ENVIRONMENT, about_values),
    "disk": (activity_stubs.CHECK_DISK, about_disks),
    "memory": (activity_stubs.CHECK_MEMORY, about_target),
    "address": (activity_stubs.CHECK_ADDRESS, about_target),
}
_MORE_CHECKS = {
    "load": (activity_stubs.CHECK_LOAD, about_target),
    "descriptors": (activity_stubs.CHECK_DESCRIPTORS, about_target),
}


async def preflight(t: Transaction) -> None:
    """Asks all checks side by side, then works out the plan and pins what was found into it."""
    ci = t.spec.preflight.ci
    # All but CI answer soon; what it waits for may be somebody's test suite.
    t.record.do(
        f"{len(_CHECKS) + len(_MORE_CHECKS) + (ci is not None)} checks", until=workflow.now() + ci.wait if ci else None
    )
    question = PreflightCheck(spec=t.spec)
    async with Tasks() as tasks:
        answers = _ask_all(tasks, question)
        capabilities = tasks.start(t.verbs.capabilities())
        taken = tasks.start(t.verbs.snapshot())
        platform = tasks.start(_examine(question) if workflow.patched("examine-platform") else _nothing())
        looked = tasks.start(database.look(question))
        frozen = tasks.start(ask_freeze(t.request))
    able, snapshot, stored, freeze = capabilities.result(), taken.result(), looked.result(), frozen.result()
    found = stored.added_to(_together([each.result() for each in answers], platform.result()))
    found = compare_environments(found, t.spec, snapshot)
    stable_serves = await _stable_serves(t, snapshot)
    database.note(t, stored)
    t.record.add(*found.checks, freeze, _no_conflict(), _snapshot_taken(snapshot, stable_serves=stable_serves))
    release = make_release(t.spec, found)
    plan = make_plan(
        t.spec,
        release,
        able,
        snapshot,
        stable_serves=stable_serves,
        changes=found.changes,
        approvals=found.approvals,
    )
    if t.request.break_glass:
        plan = with_break_glass(plan, t.request.by, t.request.break_glass)
        t.desk.break_glass(t.request.by, t.request.break_glass)
    candidate = make_revision(t.spec, release, workflow.info().run_id)
    # What was begun without it goes on without it: what runs is not started anew for it.
    t.decided(snapshot, with_identity(candidate, t.spec) if workflow.patched("identity") else candidate, plan)


async def find_out(question: PreflightCheck) -> Examination:
    """Everything that is only read: each check, and what the platform finds out about itself, all side by side."""
    async with Tasks() as tasks:
        answers = _ask_all(tasks, question)
        platform = tasks.start(_examine(question))
        stored = tasks.start(database.look(question))
    return stored.result().added_to(_together([each.result() for each in answers], platform.result()))


def _ask_all(tasks: Tasks, question: PreflightCheck) -> "list[asyncio.Task[CheckResult]]":
    """Begins the checks, side by side. One that a spec can leave out is asked by a coroutine of its own, after the
    others: a deployment of a former release cannot have asked for it, and meets the same commands in the same order.
    """
    policy = options.PLANNED_CHECK if question.planning else options.QUICK_CHECK
    checks = {**_CHECKS, **(_MORE_CHECKS if workflow.patched("load-and-descriptors") else {})}
    asked = [tasks.start(ask(each, question.about(part), policy, name)) for name, (each, part) in checks.items()]
    return [*asked, tasks.start(_ask_ci(question))]


async def _ask_ci(question: PreflightCheck) -> CheckResult:
    spec = question.spec
    ci, revision = spec.preflight.ci, spec.release.revision
    if ci is None or revision is None:
        reason = "the spec does not say where the tests of its revision run (preflight.ci)"
        return CheckResult(name="ci", verdict=Verdict.SKIPPED, reason=reason)
    asked = CiQuestion(
        ci=ci,
        revision=revision,
        service=spec.service,
        target=spec.target,
        version=spec.release.version,
        directory=spec.platform.directory,
        deadline=None if question.planning else workflow.now() + ci.wait,
    )
    last_look = ci.within if isinstance(ci, CommandCi) else timedelta(0)
    policy = options.PLANNED_CHECK if question.planning else options.waiting_check(ci.wait + last_look)
    return await ask(activity_stubs.CHECK_CI, asked, policy, "ci")


def _together(answers: Sequence[CheckResult], platform: Examination) -> Examination:
    digests = next((answer.evidence.get("digests") for answer in answers if answer.name == "artifacts"), None)
    return Examination(
        checks=(*answers, *platform.checks),
        digests={**(digests if isinstance(digests, dict) else {}), **platform.digests},
        changes=_bounded(platform.changes),
    )


def _bounded(changes: tuple[str, ...]) -> tuple[str, ...]:
    """As many lines as the plan has room for: it travels whole."""
    if len(changes) <= MOST_CHANGES and all(len(line) <= LONGEST_CHANGE for line in changes):
        return changes
    more = (f"and {len(changes) - MOST_CHANGES:,} more",) if len(changes) > MOST_CHANGES else ()
    return (*(line[:LONGEST_CHANGE] for line in changes[:MOST_CHANGES]), *more)


def compare_environments(found: Examination, spec: DeploymentSpec, snapshot: Snapshot) -> Examination:
    """The check `environment` with what the revision that serves is given and the candidate is not. Names are all that
    it takes, and these are known here: nobody needs to be asked.
    """
    stable = snapshot.stable.platform.environment if snapshot.stable else {}
    checks = tuple(
        with_parity(check, spec.preflight.parity, stable, spec.platform.environment)
        if check.name == "environment"
        else check
        for check in found.checks
    )
    return found.model_copy(update={"checks": checks})


async def _examine(question: PreflightCheck) -> Examination:
    try:
        about = question.about(about_platform)
        return await execute(activity_stubs.EXAMINE, about, options.QUICK_CHECK, "the platform itself")
    except ActivityError as error:
        return Examination(checks=(CheckResult(name="platform", verdict=Verdict.ERROR, reason=describe(error)),))


async def _nothing() -> Examination:
    return Examination()


def make_release(spec: DeploymentSpec, found: Examination) -> Release:
    """The release, with what it was measured to be made of."""
    return Release(
        service=spec.service,
        version=spec.release.version,
        digests=found.digests,
        config_hash=config_hash(spec),
        git_revision=spec.release.revision,
    )


async def still_as_planned(t: Transaction) -> None:
    """After a person took their time to approve: the artifacts are the ones that the plan was made for.

    Raises:
        StageFailedError: something changed since; nothing has been done yet.
    """
    if Stage.DEPLOY not in t.plan_approvals():
        return
    there = {name for name in t.plan.digests if name.startswith(PLATFORM_DIGEST)}
    ours = {name: digest for name, digest in t.plan.digests.items() if name not in there}
    question = PreflightCheck(spec=t.spec, expected=ours).about(about_release)
    answers = [await t.ask(activity_stubs.CHECK_ARTIFACTS, question, options.QUICK_CHECK, "artifacts_as_planned")]
    if there and workflow.patched("examine-again"):
        again = await _examine(PreflightCheck(spec=t.spec, expected={name: t.plan.digests[name] for name in there}))
        answers += (each.model_copy(update={"name": f"{each.name}_as_planned"}) for each in again.checks)
    t.record.add(*answers)
    closed = [answer for answer in answers if not opens(answer.verdict)]
    if closed:
        raise fail(FailureType.PREFLIGHT, Stage.DEPLOY, "; ".join(answer.reason for answer in closed))


async def find_way_back(t: Transaction) -> None:
    """For a rollback after the end: back to stable when a terminated deployment left traffic elsewhere, else to the
    release before stable. Nothing else is asked: an emergency waits for no check that it does not need.
    """
    async with Tasks() as tasks:
        capabilities = tasks.start(t.verbs.capabilities())
        taken = tasks.start(t.verbs.snapshot())
    able, snapshot = capabilities.result(), taken.result()
    astray = [each for each in snapshot.leftovers if snapshot.weights.get(each)]
    wanted = snapshot.stable if astray else snapshot.previous
    t.record.add(_no_conflict(), _snapshot_taken(snapshot))
    if wanted is None:
        reason = "there is no earlier release on this target to go back to"
        t.record.add(CheckResult(name="way_back", verdict=Verdict.FAIL, reason=reason))
        return
    t.record.add(CheckResult(name="way_back", verdict=Verdict.PASS, reason=f"to {wanted.id}"))
    t.record.change_version(wanted.release.version)
    plan = make_way_back(t.spec, wanted, able, snapshot)
    t.decided(snapshot, wanted, plan)


def _no_conflict() -> CheckResult:
    return CheckResult(
        name="no_conflicting_deployment",
        verdict=Verdict.PASS,
        reason="this deployment holds the target: its workflow id is the lock",
        evidence={"workflow_id": workflow.info().workflow_id},
    )


async def _stable_serves(t: Transaction, snapshot: Snapshot) -> bool:
    """Whether any instance of stable is healthy; when it cannot be asked, it is treated as if."""
    if snapshot.stable is None:
        return False
    try:
        inspection = await t.verbs.inspect(snapshot.stable, snapshot.instances)
    except ActivityError:
        return True
    return any(instance.healthy for instance in inspection.instances)


def _snapshot_taken(snapshot: Snapshot, *, stable_serves: bool = True) -> CheckResult:
    stable = snapshot.stable
    reason = f"{stable.release.version} serves ({stable.id})" if stable else "nothing serves yet: the first deployment"
    if stable and not stable_serves:
        reason += "; none of its instances is healthy: all traffic goes to the new version at once, without a rehearsal"
    if snapshot.leftovers:
        reason += f"; left by a deployment that was terminated, removed at the end: {', '.join(snapshot.leftovers)}"
    return CheckResult(
        name="snapshot",
        verdict=Verdict.PASS,
        reason=reason,
        evidence={"weights": snapshot.weights, "instances": snapshot.instances, "generation": snapshot.generation},
    )

"""What a deploy would do, for people to read before it does it."""

import asyncio
import shlex
import uuid
from datetime import timedelta
from typing import Any

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.service import RPCError

from cli.client.connection import ANSWER_WITHIN, rpc_sentence
from cli.exits import CommandError
from cli.invocation import program
from cli.render.check_lines import check_lines, summary, terminal_width
from cli.render.terminal import clean, show
from cli.spec.copied import copied_lines
from cli.spec.freezing import look_at_freezes
from models.judges.outlook import Outlook
from models.messages import DeploymentRequest
from models.plan import Plan, config_hash, make_plan, make_revision
from models.platforms import LocalPlatformSpec
from models.release import Capabilities, Release, Snapshot
from models.spec import DeploymentSpec, OnInconclusive, SmokeTest, StrategyKind
from models.units import format_duration, format_share
from workflows.wire_names import PLAN_WORKFLOW, TASK_QUEUE

# Longer than the checks may take; what they cannot find out within their time is then part of the answer.
_ANSWER_WITHIN = timedelta(seconds=60)
_TAKEN_UP_WITHIN = 10.0
_EVENTS_OF_A_BEGIN = 3


async def ask_plan(client: Client, spec: DeploymentSpec, by: str) -> Plan:
    """Asks the worker, which looks at what really serves now.

    Raises:
        CommandError: it could not be asked.
    """
    try:
        handle: WorkflowHandle[Any, Plan] = await client.start_workflow(
            PLAN_WORKFLOW,
            DeploymentRequest(spec=spec, by=by),
            id=f"plan/{spec.service}/{spec.target}/{uuid.uuid4().hex[:8]}",
            task_queue=TASK_QUEUE,
            result_type=Plan,
            execution_timeout=_ANSWER_WITHIN,
            static_summary=f"what would happen: {spec.service} {spec.release.version} → {spec.target}",
            rpc_timeout=ANSWER_WITHIN,
        )
        plan = await _answer(handle)
    except WorkflowFailureError as error:
        cause: BaseException | None = error.cause
        while isinstance(cause, ActivityError) and cause.cause is not None:
            cause = cause.cause
        said = cause.message if isinstance(cause, ApplicationError) else "the worker did not answer in time"
        raise CommandError(clean(said)) from None
    except RPCError as error:
        raise CommandError(rpc_sentence(error)) from None
    return plan


async def _answer(handle: WorkflowHandle[Any, Plan]) -> Plan:
    """Waits for the plan; not for long when nobody has even taken the question up.

    Raises:
        CommandError: there is no worker.
    """
    answer = asyncio.ensure_future(handle.result())
    try:
        done, _ = await asyncio.wait([answer], timeout=_TAKEN_UP_WITHIN)
        if not done:
            seen = (await handle.describe(rpc_timeout=ANSWER_WITHIN)).raw_description.workflow_execution_info
            if seen.history_length <= _EVENTS_OF_A_BEGIN:
                await handle.terminate("nobody waits for the answer any more", rpc_timeout=ANSWER_WITHIN)
                raise CommandError("no worker has taken the question up")
        return await answer
    finally:
        answer.cancel()


def plan_offline(spec: DeploymentSpec) -> Plan:
    """Works the plan out without asking anybody: as if a release of the same size served now.

    Its id is empty, because an approval is bound to what really serves.
    """
    release = Release(service=spec.service, version=spec.release.version, config_hash=config_hash(spec))
    able = Capabilities(exact_weights=True, preview=True, in_place_roll=True)
    stable = make_revision(spec, release, "unknown")
    plan = make_plan(spec, release, able, Snapshot(stable=stable, instances=spec.platform.instances))
    return plan.model_copy(update={"id": "", "previous_version": None, "checks": look_at_freezes(spec)})


def print_plan(
    plan: Plan, spec: DeploymentSpec, *, why_unknown: str, missing: list[str], seen: tuple[Outlook, ...] = ()
) -> None:
    """Prints the plan; `why_unknown` says why nobody could be asked what serves now, `seen` what its steps can see."""
    known = not why_unknown
    before = plan.previous_version or ("nothing" if plan.first and known else "unknown")
    show(f"{plan.service} -> {plan.target}: {clean(before)} to {plan.version}, {plan.strategy}")
    if known:
        show(f"plan {plan.id}")
    else:
        show(f"what serves now is not known: {why_unknown}; planned as if a release with as many instances served")
    show(f"\nsteps ({'first deployment: nothing to compare with' if plan.first else 'each watched against stable'}):")
    for number, step in enumerate(plan.steps, start=1):
        watch = f"watched {format_duration(step.watch)}" if step.watch else "not watched"
        kept = f"{step.candidate_instances} new, {step.stable_instances} old instances"
        show(f"  {number}. {step.weight:3d} %  {watch:16s} {kept}")
    show(f"     bake   {format_duration(plan.bake):16s} the old revision stays warm")
    show(f"  together {format_duration(plan.watched())} of watching, when nothing is extended")
    if seen:
        show("\nerrors of the new version that are found four times in five, with this traffic:")
        for line in outlook_lines(seen):
            show(f"  {line}")
    show("\ngates:")
    for line in gate_lines(plan, spec):
        show(f"  {line}")
    if isinstance(spec.platform, LocalPlatformSpec):
        show("\ncopied for the new revision:")
        for line in copied_lines(spec.platform):
            show(f"  {line}")
    show("\nverified through the front proxy, before the gates open:")
    for line in verification_lines(spec):
        show(f"  {line}")
    for title, sentences in (("exact", plan.exact), ("approximate", plan.approximate)):
        if known and sentences:
            show(f"\n{title}:")
            for sentence in sentences:
                show(f"  {clean(sentence)}")
    if plan.against:
        show("\nagainst what serves:")
        for line in plan.against:
            show(f"  {clean(line[:2])} {clean(line[2:])}" if line[:1] in "+-" else f"  {clean(line)}")
    if plan.changes:
        show("\nchanges:")
        for line in plan.changes:
            show(f"  {clean(line)}")
    if plan.checks:
        show(f"\npreflight, as of now: {summary(plan.checks)}")
        width = terminal_width()
        for line in check_lines(plan.checks, width - 2 if width else None):
            show(f"  {line}")
    if missing:
        show("\nmissing; deploy will refuse:")
        for sentence in missing:
            show(f"  {sentence}")


def outlook_lines(seen: tuple[Outlook, ...]) -> list[str]:
    """What each step can see, and what would be needed where that is too little."""
    lines = []
    for each in seen:
        name = "all steps" if each.weight is None else f"step {each.weight} %"
        found = "none, however many" if each.visible is None else f"from {each.visible:.1%} of its answers"
        needed = [f"weight {each.weight_needed}"] if each.weight_needed else []
        needed += [f"watch {format_duration(each.watch_needed)}"] if each.watch_needed else []
        lines.append(f"{name:10s} {found}" + (f"; enough: {' or '.join(needed)}" if needed else ""))
    return lines


def verification_lines(spec: DeploymentSpec) -> list[str]:
    """What is asked of the new version: its endpoints, those that it does not have, and the smoke tests."""
    endpoints = spec.verify.endpoints.model_dump()
    asked = ", ".join(f"{name} {path}" for name, path in endpoints.items() if path is not None)
    left_out = ", ".join(name for name, path in endpoints.items() if path is None)
    lines = [f"endpoints: {clean(asked) or 'none'}"]
    if left_out:
        lines.append(f"not asked, null in verify.endpoints: {left_out}")
    lines += [f"smoke test {test.name}: {clean(_smoke(test), 120)}" for test in spec.verify.smoke]
    return lines if spec.verify.smoke else [*lines, "no smoke test (verify.smoke)"]


def _smoke(test: SmokeTest) -> str:
    within = format_duration(test.expect.within)
    if test.request is None:
        return f"{shlex.join(test.command or ())} ends with exit code 0 within {within}"
    wanted = [f"answers {test.expect.status}"]
    wanted += ["with the text expected"] if test.expect.body is not None else []
    wanted += [f"with {', '.join(test.expect.json_fields)}"] if test.expect.json_fields else []
    return f"{test.request.method} {test.request.path} {' '.join(wanted)} within {within}"


def gate_lines(plan: Plan, spec: DeploymentSpec) -> list[str]:
    """What lets it go on and what stops it, and who approves."""
    judge = spec.strategy.judge
    needs = f"a watch needs {plan.min_requests} requests to the candidate"
    after = "is rolled back" if judge.strict is OnInconclusive.ROLLBACK else "is held for a person"
    lines = [
        f"a candidate fails at {judge.failed_probes} failed probes of an instance in a row, more than "
        f"{judge.max_restarts} restarts, when most of its answers are errors,",
        "  or by evidence that it has more errors"
        + (" or slower answers" if judge.latency.enabled else "")
        + f" than stable (wrong about {format_share(judge.alpha)} of healthy releases at most)",
    ]
    if plan.min_requests and plan.strategy is not StrategyKind.ROLLING and not plan.first:
        lines.append(f"{needs}; with fewer it is extended once, then the deployment {after}")
    lines.append("rollback is rehearsed under traffic before it counts as done" if plan.rehearse else "no rehearsal")
    if plan.approvals:
        who = ", ".join(clean(name) for name in plan.approvers) or "anybody who reaches Temporal"
        stages = ", ".join(plan.approvals)
        lines.append(f"approval before {stages} by {who}, within {format_duration(spec.approvals.expires)}:")
        lines.append(f"  {program()} approve {plan.service}/{plan.target} --as NAME")
    else:
        lines.append("no approval")
    return lines

"""What a deploy would do, for people to read before it does it."""

import uuid
from datetime import timedelta

from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.service import RPCError

from cli.connection import rpc_sentence
from cli.exits import Stop
from cli.freezing import look_at_freezes
from cli.terminal import clean, program, show
from models.messages import DeploymentRequest
from models.plan import Plan, config_hash, make_plan, make_revision
from models.release import Capabilities, Release, Snapshot
from models.spec import DeploymentSpec, OnInconclusive, StrategyKind
from models.units import format_duration, format_share
from workflows.contract import PLAN_WORKFLOW, TASK_QUEUE

_ANSWER_WITHIN = timedelta(seconds=20)


async def ask_plan(client: Client, spec: DeploymentSpec, by: str) -> Plan:
    """Asks the worker, which looks at what really serves now.

    Raises:
        Stop: it could not be asked.
    """
    try:
        plan: Plan = await client.execute_workflow(
            PLAN_WORKFLOW,
            DeploymentRequest(spec=spec, by=by),
            id=f"plan/{spec.service}/{spec.target}/{uuid.uuid4().hex[:8]}",
            task_queue=TASK_QUEUE,
            result_type=Plan,
            execution_timeout=_ANSWER_WITHIN,
            static_summary=f"what would happen: {spec.service} {spec.release.version} → {spec.target}",
            rpc_timeout=_ANSWER_WITHIN,
        )
    except WorkflowFailureError as error:
        cause: BaseException | None = error.cause
        while isinstance(cause, ActivityError) and cause.cause is not None:
            cause = cause.cause
        said = cause.message if isinstance(cause, ApplicationError) else "the worker did not answer in time"
        raise Stop(clean(said)) from None
    except RPCError as error:
        raise Stop(rpc_sentence(error)) from None
    return plan


def plan_offline(spec: DeploymentSpec) -> Plan:
    """Works the plan out without asking anybody: as if a release of the same size served now.

    Its id is empty, because an approval is bound to what really serves.
    """
    release = Release(service=spec.service, version=spec.release.version, config_hash=config_hash(spec))
    able = Capabilities(exact_weights=True, preview=True, in_place_roll=True)
    stable = make_revision(spec, release, "unknown")
    plan = make_plan(spec, release, able, Snapshot(stable=stable, instances=spec.platform.instances))
    return plan.model_copy(update={"id": "", "previous_version": None, "checks": look_at_freezes(spec)})


def print_plan(plan: Plan, spec: DeploymentSpec, *, why_unknown: str, missing: list[str]) -> None:
    """Prints the plan; `why_unknown` says why nobody could be asked what serves now."""
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
    show("\ngates:")
    for line in _gates(plan, spec):
        show(f"  {line}")
    for title, sentences in (("exact", plan.exact), ("approximate", plan.approximate)):
        if known and sentences:
            show(f"\n{title}:")
            for sentence in sentences:
                show(f"  {clean(sentence)}")
    if plan.changes:
        show("\nchanges:")
        for line in plan.changes:
            show(f"  {clean(line)}")
    if plan.checks:
        show("\npreflight, as of now:")
        for check in plan.checks:
            show(f"  {check.verdict:12s} {check.name}: {clean(check.reason)}")
    if missing:
        show("\nmissing; deploy will refuse:")
        for sentence in missing:
            show(f"  {sentence}")


def _gates(plan: Plan, spec: DeploymentSpec) -> list[str]:
    judge = spec.strategy.judge
    needs = f"a watch needs {plan.min_requests} requests to the candidate"
    after = "is held for a person" if judge.on_inconclusive is OnInconclusive.HOLD else "is rolled back"
    lines = [
        f"a candidate fails at {judge.failed_probes} failed probes of an instance in a row, more than "
        f"{judge.max_restarts} restarts, or {format_share(judge.max_error_share)} more errors than stable"
    ]
    if plan.min_requests and plan.strategy is not StrategyKind.ROLLING and not plan.first:
        lines.append(f"{needs}; with fewer it is extended once, then the deployment {after}")
    lines.append("rollback is rehearsed under traffic before it counts as done" if plan.rehearse else "no rehearsal")
    if plan.approvals:
        who = ", ".join(clean(name) for name in plan.approvers) or "anybody who reaches Temporal"
        stages = ", ".join(plan.approvals)
        command = f"{program()} approve {plan.service}/{plan.target} --as NAME"
        lines.append(f"approval before {stages} by {who}, within {format_duration(spec.approvals.expires)}: {command}")
    else:
        lines.append("no approval")
    return lines

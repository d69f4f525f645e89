"""What a deploy would do, asked of the real target, without doing it."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import activity_stubs
    from models.checks import PreflightCheck
    from models.messages import DeploymentRequest
    from models.names import queue_id, workflow_id
    from models.plan import Plan, make_plan
    from models.plan_diff import compare_with_stable
    from models.preflight.queueing import ConflictQuestion
    from models.spec import DeploymentSpec
    from models.verdict import CheckResult
    from workflows import options, wire_names
    from workflows.checks import ask
    from workflows.concurrency import Tasks
    from workflows.freezing import ask_freeze
    from workflows.platform_client import PlatformClient
    from workflows.stages.preflight import compare_environments, find_out, make_release


@workflow.defn(name=wire_names.PLAN_WORKFLOW)
class PlanWorkflow:
    """Reads what serves now, asks what preflight would find, and works out the plan."""

    @workflow.run
    async def run(self, request: DeploymentRequest) -> Plan:
        """Changes nothing."""
        spec = request.spec
        verbs = PlatformClient(spec, lambda: None)
        async with Tasks() as tasks:
            able = tasks.start(verbs.capabilities())
            taken = tasks.start(verbs.snapshot())
            looked = tasks.start(find_out(PreflightCheck(spec=spec, planning=True)))
            freeze = tasks.start(ask_freeze(request, planning=True))
            conflict = tasks.start(_ask_conflict(spec))
        snapshot = taken.result()
        found = compare_environments(looked.result(), spec, snapshot)
        plan = make_plan(
            spec, make_release(spec, found), able.result(), snapshot, changes=found.changes, approvals=found.approvals
        )
        checks = (*found.checks, freeze.result(), conflict.result())
        return plan.model_copy(update={"checks": checks, "against": compare_with_stable(spec, snapshot.stable)})


async def _ask_conflict(spec: DeploymentSpec) -> CheckResult:
    """A deployment holds its target by its workflow id; a plan has to ask who does."""
    question = ConflictQuestion(
        workflow_id=workflow_id(spec.service, spec.target),
        queue_id=queue_id(spec.service, spec.target),
        status=wire_names.STATUS,
        waiting=wire_names.WAITING,
        policy=spec.conflict,
    )
    return await ask(activity_stubs.CHECK_CONFLICT, question, options.PLANNED_CHECK, "no_conflicting_deployment")

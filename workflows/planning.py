"""What a deploy would do, asked of the real target, without doing it."""

import asyncio

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures
    from models.checks import PreflightCheck
    from models.messages import DeploymentRequest
    from models.names import queue_id, workflow_id
    from models.plan import Plan, make_plan
    from models.preflight.queueing import ConflictQuestion
    from models.spec import DeploymentSpec
    from models.verdict import CheckResult
    from workflows import contract, options
    from workflows.asking import ask
    from workflows.freezing import ask_freeze
    from workflows.stages.preflight import find_out, make_release
    from workflows.verbs import Verbs


@workflow.defn(name=contract.PLAN_WORKFLOW)
class PlanWorkflow:
    """Reads what serves now, asks what preflight would find, and works out the plan."""

    @workflow.run
    async def run(self, request: DeploymentRequest) -> Plan:
        """Changes nothing."""
        spec = request.spec
        verbs = Verbs(spec, lambda: None)
        able, snapshot, found, freeze, conflict = await asyncio.gather(
            verbs.capabilities(),
            verbs.snapshot(),
            find_out(PreflightCheck(spec=spec, planning=True)),
            ask_freeze(request, planning=True),
            _ask_conflict(spec),
        )
        plan = make_plan(spec, make_release(spec, found), able, snapshot, changes=found.changes)
        return plan.model_copy(update={"checks": (*found.checks, freeze, conflict)})


async def _ask_conflict(spec: DeploymentSpec) -> CheckResult:
    """A deployment holds its target by its workflow id; a plan has to ask who does."""
    question = ConflictQuestion(
        workflow_id=workflow_id(spec.service, spec.target),
        queue_id=queue_id(spec.service, spec.target),
        status=contract.STATUS,
        waiting=contract.WAITING,
        policy=spec.conflict,
    )
    return await ask(signatures.CHECK_CONFLICT, question, options.QUICK_CHECK, "no_conflicting_deployment")

"""What a deploy would do, asked of the real target, without doing it."""

import asyncio

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from models.checks import PreflightCheck
    from models.messages import DeploymentRequest
    from models.plan import Plan, make_plan
    from workflows import contract
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
        able, snapshot, found, freeze = await asyncio.gather(
            verbs.capabilities(),
            verbs.snapshot(),
            find_out(PreflightCheck(spec=spec, planning=True)),
            ask_freeze(request, planning=True),
        )
        plan = make_plan(spec, make_release(spec, found), able, snapshot, changes=found.changes)
        return plan.model_copy(update={"checks": (*found.checks, freeze)})

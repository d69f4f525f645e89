"""What a deploy would do, asked of the real target, without doing it."""

import asyncio

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from models.messages import DeploymentRequest
    from models.plan import Plan, config_hash, make_plan
    from models.release import Release
    from workflows import contract
    from workflows.verbs import Verbs


@workflow.defn(name=contract.PLAN_WORKFLOW)
class PlanWorkflow:
    """Reads what serves now and works out the plan; digests are measured by the deployment itself."""

    @workflow.run
    async def run(self, request: DeploymentRequest) -> Plan:
        """Changes nothing."""
        spec = request.spec
        verbs = Verbs(spec, lambda: None)
        able, snapshot = await asyncio.gather(verbs.capabilities(), verbs.snapshot())
        release = Release(
            service=spec.service,
            version=spec.release.version,
            config_hash=config_hash(spec),
            git_revision=spec.release.revision,
        )
        return make_plan(spec, release, able, snapshot)

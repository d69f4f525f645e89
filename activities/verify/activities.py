"""The checks of the verify stage, as Temporal runs them."""

from temporalio import activity

from activities import activity_stubs
from activities.heartbeat import attempt
from activities.verify.endpoints import check_endpoint
from activities.verify.smoke import run_smoke_test
from models.checks import EndpointCheck, SmokeCheck
from models.verdict import CheckResult


class VerifyActivities:
    """Asks the service through its front proxy, as its users do."""

    @activity.defn(name=activity_stubs.CHECK_ENDPOINT.name)
    async def check_endpoint(self, check: EndpointCheck) -> CheckResult:
        """Asks one of the service's own endpoints."""
        async with attempt():
            return await check_endpoint(check)

    @activity.defn(name=activity_stubs.RUN_SMOKE_TEST.name)
    async def run_smoke_test(self, check: SmokeCheck) -> CheckResult:
        """Runs one smoke test; cancelling it ends its command."""
        async with attempt():
            return await run_smoke_test(check)

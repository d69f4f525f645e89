"""The checks of the preflight stage, as Temporal runs them. They read and change nothing."""

import asyncio
from datetime import UTC, datetime

from temporalio import activity

from activities import activity_stubs
from activities.heartbeat import attempt
from activities.preflight.address import check_address
from activities.preflight.artifacts import check_artifacts
from activities.preflight.ci import check_ci
from activities.preflight.environment import check_environment
from activities.preflight.freezing import check_freeze
from activities.preflight.memory import check_memory
from activities.preflight.resources import check_descriptors, check_disk, check_load
from home.paths import Home
from models.checks import PreflightCheck
from models.preflight.ci import CiQuestion
from models.preflight.freezing import FreezeCheck
from models.verdict import CheckResult


class PreflightActivities:
    """Asks whether everything that the deployment needs is there.

    Args:
        home: whose disk is looked at, and whose front proxies count as ours.
    """

    def __init__(self, home: Home) -> None:
        self._home = home

    @activity.defn(name=activity_stubs.CHECK_ARTIFACTS.name)
    async def check_artifacts(self, check: PreflightCheck) -> CheckResult:
        """Measures what is deployed; compares it with what was expected."""
        async with attempt():
            return await check_artifacts(check)

    @activity.defn(name=activity_stubs.CHECK_ENVIRONMENT.name)
    async def check_environment(self, check: PreflightCheck) -> CheckResult:
        """Sees that required variables have values and that references to secrets lead to one."""
        async with attempt():
            return await asyncio.to_thread(check_environment, check.spec)

    @activity.defn(name=activity_stubs.CHECK_CI.name)
    async def check_ci(self, question: CiQuestion) -> CheckResult:
        """Waits until the tests of the revision have passed, or have not."""
        async with attempt():
            return await check_ci(question)

    @activity.defn(name=activity_stubs.CHECK_DISK.name)
    async def check_disk(self, check: PreflightCheck) -> CheckResult:
        """Compares the free disk space with what the spec wants."""
        async with attempt():
            return await asyncio.to_thread(check_disk, check.spec, self._home)

    @activity.defn(name=activity_stubs.CHECK_MEMORY.name)
    async def check_memory(self, check: PreflightCheck) -> CheckResult:
        """Compares the available memory with what the spec wants."""
        async with attempt():
            return await asyncio.to_thread(check_memory, check.spec)

    @activity.defn(name=activity_stubs.CHECK_LOAD.name)
    async def check_load(self, check: PreflightCheck) -> CheckResult:
        """Compares the load with the number of cores."""
        async with attempt():
            return await asyncio.to_thread(check_load, check.spec)

    @activity.defn(name=activity_stubs.CHECK_DESCRIPTORS.name)
    async def check_descriptors(self, check: PreflightCheck) -> CheckResult:
        """Compares how many files can still be opened with what the spec wants."""
        async with attempt():
            return await asyncio.to_thread(check_descriptors, check.spec)

    @activity.defn(name=activity_stubs.CHECK_ADDRESS.name)
    async def check_address(self, check: PreflightCheck) -> CheckResult:
        """Sees that nobody else has the address where users will come."""
        async with attempt():
            return await asyncio.to_thread(check_address, check.spec, self._home)

    @activity.defn(name=activity_stubs.CHECK_FREEZE.name)
    async def check_freeze(self, check: FreezeCheck) -> CheckResult:
        """Sees whether a freeze is in force."""
        async with attempt():
            # It may have waited for a worker since it was asked.
            now = max(check.at, datetime.now(UTC))
            return await asyncio.to_thread(check_freeze, check.model_copy(update={"at": now}))

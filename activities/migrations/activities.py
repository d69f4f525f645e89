"""The migrations, as Temporal asks for them. What parses SQL and speaks to PostgreSQL is loaded when first needed."""

import asyncio
import importlib

from temporalio import activity

from activities import activity_stubs
from activities.activity_stubs import MigrationOrder
from activities.check_result import Finding
from activities.heartbeat import attempt
from models.checks import PreflightCheck
from models.preflight.migrations import MigrationsDone, MigrationsFound


class MigrationActivities:
    """Looks at what is pending, and runs it."""

    @activity.defn(name=activity_stubs.LOOK_AT_MIGRATIONS.name)
    async def look_at_migrations(self, check: PreflightCheck) -> MigrationsFound:
        """Asks the tool what is pending; changes nothing."""
        async with attempt():
            spec = check.spec.preflight.migrations
            if spec is None:
                said = "the spec names no migrations (preflight.migrations)"
                return MigrationsFound(check=Finding("migrations").skipped(said))
            await _load()
            from activities.migrations.plan import look

            return await look(check, spec)

    @activity.defn(name=activity_stubs.RUN_MIGRATIONS.name)
    async def run_migrations(self, order: MigrationOrder) -> MigrationsDone:
        """Runs what was planned; a retry asks first what is applied."""
        async with attempt():
            spec = order.spec.preflight.migrations
            if spec is None:
                return MigrationsDone(check=Finding("migrated").skipped("the spec names no migrations"))
            await _load()
            from activities.migrations.plan import run

            return await run(order.spec, spec, order.expected)


async def _load() -> None:
    await asyncio.to_thread(importlib.import_module, "activities.migrations.plan")

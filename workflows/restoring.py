"""Backups of a service's database: which there are, and bringing one back.

A restore takes as long as it takes, and whoever asked for it may lose the connection, the laptop or the worker
meanwhile. So it is a workflow of its own, one at a time per target, and it is where the files and the secrets are: on
the worker.
"""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import activity_stubs
    from models.preflight.backup import BackupList, BackupOrder, BackupsQuestion, Restored, RestoreRequest
    from workflows import options, wire_names
    from workflows.platform_client import execute


@workflow.defn(name=wire_names.BACKUPS_WORKFLOW)
class BackupsWorkflow:
    """Lists the backups of a target."""

    @workflow.run
    async def run(self, question: BackupsQuestion) -> BackupList:
        """Changes nothing."""
        return await execute(activity_stubs.LIST_BACKUPS, question, options.QUICK_CHECK, "the backups that there are")


@workflow.defn(name=wire_names.RESTORE_WORKFLOW)
class RestoreWorkflow:
    """Brings a backup back, into a new database; the old one is kept, whatever was asked for."""

    @workflow.run
    async def run(self, request: RestoreRequest) -> Restored:
        """Restores, compares, and changes the names where that was asked for.

        Raises:
            ActivityError: it did not work; what was there is as it was.
        """
        said = f"restores {request.backup}, asked for by {request.by}: {request.reason}"
        workflow.set_current_details(said)
        key = f"{request.backup[:15].lower()}_{workflow.info().run_id[-6:]}".replace("-", "_")
        order = BackupOrder(**dict(request), key=key)
        return await execute(activity_stubs.RESTORE_BACKUP, order, options.backup(request.spec.timeout), said)

"""What workflows ask of databases, as Temporal runs it. PostgreSQL's client library is loaded when first needed."""

import asyncio
import importlib
from datetime import UTC, datetime
from typing import Any

from temporalio import activity

from activities import activity_stubs
from activities.check_result import Finding
from activities.heartbeat import attempt
from home.paths import Home
from models.checks import PreflightCheck
from models.errors import DatabaseRefusedError, DeploymentSpecialistError, PreconditionError, SecretUnresolvedError
from models.preflight.backup import BackupList, BackupMade, BackupManifest, BackupOrder, BackupsQuestion, Restored
from models.preflight.migrations import Tried
from models.spec import DeploymentSpec
from models.units import format_duration
from models.verdict import CheckResult


async def load(name: str) -> Any:
    """A module of this package, read in a thread: the client library takes a moment."""
    return await asyncio.to_thread(importlib.import_module, f"activities.database.{name}")


class DatabaseActivities:
    """Backups, and what becomes of them.

    Args:
        home: below which backups are kept where a spec does not say where.
    """

    def __init__(self, home: Home) -> None:
        self._home = home

    @activity.defn(name=activity_stubs.MAKE_BACKUP.name)
    async def make_backup(self, check: PreflightCheck) -> BackupMade:
        """Makes a backup and proves it, or takes one that is young enough; tries the migrations on it."""
        async with attempt():
            return await check_backup(check, self._home)

    @activity.defn(name=activity_stubs.SEE_BACKUP.name)
    async def see_backup(self, check: PreflightCheck) -> CheckResult:
        """Sees that the backup of the plan is still there, whole, and young enough."""
        async with attempt():
            return await see_backup(check, self._home)

    @activity.defn(name=activity_stubs.LIST_BACKUPS.name)
    async def list_backups(self, question: BackupsQuestion) -> BackupList:
        """Lists the backups of a target."""
        async with attempt():
            await load("restore")
            from activities.database.restore import list_backups

            return await asyncio.to_thread(list_backups, question.spec, self._home, question.service, question.target)

    @activity.defn(name=activity_stubs.RESTORE_BACKUP.name)
    async def restore_backup(self, order: BackupOrder) -> Restored:
        """Brings a backup back, beside what is there."""
        async with attempt():
            await load("restore")
            from activities.database.restore import restore

            return await restore(order, self._home)


async def check_backup(check: PreflightCheck, home: Home) -> BackupMade:
    """The check `backup`; its evidence has the artifact's id. Where the spec has migrations, they are tried on what was
    restored.

    Raises:
        UnavailableError: the server does not answer; worth another try, from the beginning.
    """
    finding, backup = Finding("backup"), check.spec.preflight.backup
    if backup is None:
        return _made(finding.skipped("the spec asks for no backup (preflight.backup)"))
    if check.planning:
        said = "a deploy makes a backup, restores it into a scratch database and compares both"
        return _made(finding.skipped(said))
    await load("backup")
    from activities.database.backup import make_backup, use_backup
    from activities.database.backup_store import BackupStore

    backups = BackupStore.of(backup, home, check.spec.service, check.spec.target)
    trial = await _Trial.of(check.spec)
    try:
        async with asyncio.timeout(backup.timeout.total_seconds()) as limit:
            trial.limit = limit
            if backup.reuse is not None and (young := await asyncio.to_thread(_youngest, backups, backup.reuse)):
                if trial.wanted:
                    try:
                        await use_backup(check.spec, backup, backups, young, trial)
                    except (PreconditionError, DatabaseRefusedError) as error:
                        trial.tried = Tried(undecided=str(error))
                said = f"the backup {young.id} of {format_duration_of(young)} ago is still whole"
                return _made(finding.passed(said, **evidence(young, backups)), trial.tried)
            made = await make_backup(check.spec, backup, home, trial)
    except TimeoutError:
        said = f"no proven backup within {format_duration(backup.timeout)} (preflight.backup.timeout)"
        return _made(finding.failed(f"{said}; nothing of it was kept"))
    except (SecretUnresolvedError, PreconditionError) as error:
        return _made(finding.not_asked(str(error)))
    except DatabaseRefusedError as error:
        return _made(finding.failed(str(error), kind=error.wire_name))
    said = f"{made.id}: {made.rows} rows in {len(made.counts)} tables of {made.source}, restored and compared"
    return _made(finding.passed(said, **evidence(made, backups)), trial.tried)


def _made(check: CheckResult, tried: Tried | None = None) -> BackupMade:
    return BackupMade(**check.model_dump(), tried=tried)


class _Trial:
    """Tries the migrations on a database that was just restored; its time is not the backup's."""

    def __init__(self, deployment: DeploymentSpec) -> None:
        self._deployment = deployment
        self.wanted = (spec := deployment.preflight.migrations) is not None and spec.try_
        self.limit: asyncio.Timeout | None = None
        self.tried: Tried | None = None

    @classmethod
    async def of(cls, deployment: DeploymentSpec) -> "_Trial":
        """Loads what parses SQL before a database is kept waiting for it."""
        trial = cls(deployment)
        if trial.wanted:
            await asyncio.to_thread(importlib.import_module, "activities.migrations.trial")
        return trial

    async def __call__(self, scratch: Any) -> None:
        spec = self._deployment.preflight.migrations
        if spec is None or not self.wanted:
            return
        from activities.migrations.trial import try_on

        assert self.limit is not None  # noqa: S101  it is set before anything is made
        clock, ends = asyncio.get_running_loop(), self.limit.when()
        began = clock.time()
        self.limit.reschedule(None)
        try:
            self.tried = await try_on(scratch, self._deployment, spec)
        finally:
            self.limit.reschedule(None if ends is None else ends + clock.time() - began)


async def see_backup(check: PreflightCheck, home: Home) -> CheckResult:
    """The check `backup_as_planned`: `check.expected` has the backup's id and the sha256 of its dump."""
    finding, backup = Finding("backup"), check.spec.preflight.backup
    if backup is None:
        return finding.skipped("the spec asks for no backup (preflight.backup)")
    from activities.database.backup_store import BackupStore

    backups = BackupStore.of(backup, home, check.spec.service, check.spec.target)
    (name, sha256), *_ = check.expected.items()
    try:
        manifest = backups.manifest(name)
        if manifest.dump.sha256 != sha256:
            return finding.failed(f"the backup {name} is not the one that was made for this plan")
        await asyncio.to_thread(backups.verify, manifest)
    except DeploymentSpecialistError as error:
        return finding.failed(str(error))
    age = datetime.now(UTC) - manifest.made
    if age > backup.max_age:
        limit = format_duration(backup.max_age)
        return finding.failed(f"the backup {name} is stale: older than {limit} (preflight.backup.max_age)")
    return finding.passed(f"the backup {name} of {format_duration_of(manifest)} ago is still whole", id=name)


def _youngest(backups: Any, reuse: Any) -> BackupManifest | None:
    """A backup that may be used again; one that is damaged is no reason to stop: another one is made."""
    for name in backups.ids()[:1]:
        try:
            manifest: BackupManifest = backups.manifest(name)
            if datetime.now(UTC) - manifest.made > reuse:
                return None
            backups.verify(manifest)
        except DeploymentSpecialistError:
            return None
        return manifest
    return None


def evidence(manifest: BackupManifest, backups: Any) -> dict[str, Any]:
    """What proves a backup, small enough for a report."""
    found: dict[str, Any] = {
        "id": manifest.id,
        "folder": str(backups.path / manifest.id),
        "sha256": manifest.dump.sha256,
        "bytes": manifest.dump.bytes,
        "made": manifest.made.isoformat(timespec="seconds"),
        "made_and_proven_in": f"{manifest.seconds:.1f} s",
        "tables": len(manifest.counts),
        "rows": manifest.rows,
        "schema_sha256": manifest.shape,
        "proven_in": manifest.proof,
        "encrypted": manifest.encrypted or "no",
    }
    if manifest.configuration is not None:
        found["configuration"] = {
            "entries": manifest.configuration_entries,
            "bytes": manifest.configuration.bytes,
            "sha256": manifest.configuration.sha256,
        }
    return found


def format_duration_of(manifest: BackupManifest) -> str:
    """How old a backup is, in whole minutes."""
    minutes = int((datetime.now(UTC) - manifest.made).total_seconds() // 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"

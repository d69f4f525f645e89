"""What happens to the service's database: looked at and backed up in preflight, migrated before the candidate comes.

Nothing here is undone by itself. Data that was written meanwhile would be lost with it: what a rollback leaves is said,
with the command that a person may decide for.
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities import activity_stubs
from activities.activity_stubs import MigrationOrder
from models.carrying import about_backup, about_migrations
from models.checks import Examination, PreflightCheck
from models.gates import opens
from models.messages import Kind
from models.outcome import FailureType
from models.preflight.backup import BackupMade
from models.preflight.migrations import Effect, MigrationsFound, Tried, WayBackKind
from models.verdict import CheckResult, Stage, Verdict
from workflows import options
from workflows.approvals import pause_point
from workflows.concurrency import Tasks
from workflows.failures import describe, fail
from workflows.platform_client import execute
from workflows.transaction import Transaction

BACKUP = "backup"
# Of a trial, beside the run: the questions, and the reading of every row before and after.
TRIAL = timedelta(minutes=12)


@dataclass(frozen=True)
class DatabaseFindings:
    """What preflight found out about the database; nothing where the spec names none."""

    backup: CheckResult | None = None
    migrations: MigrationsFound | None = None

    def added_to(self, found: Examination) -> Examination:
        """The same, with the checks, the plan's lines and the approvals of the database."""
        checks = [check for check in (self.backup, self.migrations and self.migrations.check) if check is not None]
        approves = self.migrations is not None and self.migrations.approve
        return found.model_copy(
            update={
                "checks": (*found.checks, *checks),
                "changes": (*found.changes, *(self.migrations.changes if self.migrations else ())),
                "approvals": (*found.approvals, Stage.DEPLOY) if approves else found.approvals,
            }
        )


async def look(question: PreflightCheck) -> DatabaseFindings:
    """Backs up, tries the migrations on what the backup restored, and judges them by it. Where nothing is tried, both
    are asked side by side; schedules nothing where the spec asks for neither.
    """
    backup, migrations = question.spec.preflight.backup, question.spec.preflight.migrations
    if backup is None and migrations is None:
        return DatabaseFindings()
    tries = backup and migrations and migrations.try_ and not question.planning
    if backup and migrations and tries and workflow.patched("try-migrations"):
        longest = backup.timeout + migrations.timeout + TRIAL
        checked, tried = await _back_up(question, longest)
        return DatabaseFindings(checked, await _pending(question.model_copy(update={"tried": tried})))
    async with Tasks() as tasks:
        made = backup and tasks.start(_back_up(question, backup.timeout))
        found = migrations and tasks.start(_pending(question))
    return DatabaseFindings(made.result()[0] if made else None, found.result() if found else None)


async def _back_up(question: PreflightCheck, longest: timedelta) -> tuple[CheckResult, Tried | None]:
    """The check, and what came of trying the migrations. A backup that cannot be asked for has the verdict `error`."""
    began = workflow.now()
    try:
        made = await execute(activity_stubs.MAKE_BACKUP, question.about(about_backup), options.backup(longest), BACKUP)
    except ActivityError as error:
        made = BackupMade(name=BACKUP, verdict=Verdict.ERROR, reason=describe(error))
    seconds = made.seconds or (workflow.now() - began).total_seconds()
    check = CheckResult(**made.model_dump(exclude={"tried", "name", "seconds"}), name=BACKUP, seconds=round(seconds, 3))
    return check, made.tried


async def _pending(question: PreflightCheck) -> MigrationsFound:
    try:
        about = question.about(about_migrations)
        return await execute(activity_stubs.LOOK_AT_MIGRATIONS, about, options.MIGRATIONS, "migrations")
    except ActivityError as error:
        return MigrationsFound(check=CheckResult(name="migrations", verdict=Verdict.ERROR, reason=describe(error)))


def note(t: Transaction, found: DatabaseFindings) -> None:
    """Remembers what belongs to this deployment, and what its approval must name."""
    if found.backup is not None and found.backup.verdict is Verdict.PASS:
        t.backup = {str(found.backup.evidence["id"]): str(found.backup.evidence["sha256"])}
    if found.migrations is not None and found.migrations.run:
        t.migrations = found.migrations.pending
        named = [f"{each.id} ({each.effect})" for each in t.migrations]
        spec = t.spec.preflight.migrations
        t.named_in_approval = f"; it migrates the database: {', '.join(named[:20])}"
        if len(named) > 20:
            t.named_in_approval += f" and {len(named) - 20} more, see the plan"
        if spec is not None and any(each.effect is not Effect.ADDITIVE for each in t.migrations):
            t.named_in_approval += f"; the way back is {spec.way_back.kind}: {spec.way_back.how}"


async def backup_still_good(t: Transaction) -> None:
    """After a person took their time: the backup is there, whole, and not stale.

    Raises:
        StageFailedError: it is not; nothing has been done yet.
    """
    backup = t.spec.preflight.backup
    if backup is None or not t.backup or Stage.DEPLOY not in t.plan_approvals():
        return
    question = PreflightCheck(spec=about_backup(t.spec), expected=t.backup)
    answer = await t.ask(activity_stubs.SEE_BACKUP, question, options.backup(backup.timeout), "backup_as_planned")
    t.record.add(answer)
    if not opens(answer.verdict):
        raise fail(FailureType.PREFLIGHT, Stage.DEPLOY, answer.reason)


def register_migrations(t: Transaction) -> None:
    """Registers what is said of the database when the deployment is undone: before its first effect."""
    if t.request.kind is Kind.ROLLBACK:
        if t.spec.preflight.migrations is not None:
            said = "database NOT rolled back: migrations that a newer release ran stay as they are"
            t.record.not_rolled_back.append(said)
        return
    if t.migrations:
        t.saga.register(f"nothing of {len(t.migrations)} migrations of the database", partial(_say_what_stays, t))


async def migrate(t: Transaction) -> None:
    """Runs the migrations of the plan, before the candidate comes.

    Raises:
        StageFailedError: not all of them could be applied.
    """
    spec = t.spec.preflight.migrations
    if spec is None or not t.migrations:
        return
    await pause_point(t)
    t.record.do(f"{len(t.migrations)} migrations of the database")
    t.migrating = True
    order = MigrationOrder(spec=about_migrations(t.spec), expected=t.migrations)
    done = await execute(activity_stubs.RUN_MIGRATIONS, order, options.migrate(spec.timeout), "migrate the database")
    t.record.add(done.check)
    if not opens(done.check.verdict):
        raise fail(FailureType.DEPLOYMENT, Stage.DEPLOY, f"{done.check.name}: {done.check.reason}")


async def _say_what_stays(t: Transaction) -> None:
    """The undo of migrations: none. What they did stays, and is said, with the way back that was stated."""
    if not t.migrating:
        return
    found = await _pending(PreflightCheck(spec=t.spec))
    if found.check.verdict is Verdict.ERROR:
        planned = ", ".join(each.id for each in t.migrations)
        said = f"database NOT rolled back: which of {planned} are applied could not be asked: {found.check.reason}"
        t.record.not_rolled_back.append(said)
        return
    left = {each.id for each in found.pending}
    stays = [each for each in t.migrations if each.id not in left]
    if not stays:
        return
    named = ", ".join(f"{each.id} ({each.effect})" for each in stays)
    said = f"database NOT rolled back: {len(stays)} of {len(t.migrations)} migrations stay: {named}"
    if any(each.effect is not Effect.ADDITIVE for each in stays):
        said += f". {_way_back(t)}"
    t.record.not_rolled_back.append(said)


def _way_back(t: Transaction) -> str:
    spec = t.spec.preflight.migrations
    if spec is None:
        return ""
    said = f"The way back is {spec.way_back.kind}: {spec.way_back.how}"
    if spec.way_back.kind is not WayBackKind.RESTORE or not t.backup:
        return said
    (backup,) = t.backup
    command = f"restore {t.spec.service}/{t.spec.target} --backup {backup} --replace --as NAME --reason TEXT"
    return f"{said}. A person decides: `{command}` loses what was written since {_moment(backup)}"


def _moment(backup: str) -> str:
    """When it was made, from its id."""
    day, time = backup[:8], backup[9:15]
    return f"{day[:4]}-{day[4:6]}-{day[6:]} {time[:2]}:{time[2:4]}:{time[4:]} UTC"

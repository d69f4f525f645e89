"""What happens to the service's database: looked at and backed up in preflight, migrated before the candidate comes.

Nothing here is undone by itself. Data that was written meanwhile would be lost with it: what a rollback leaves is said,
with the command that a person may decide for.
"""

from collections.abc import Awaitable

from activities import signatures
from models.checks import PreflightCheck
from models.gates import opens
from models.outcome import FailureType
from models.verdict import CheckResult, Stage, Verdict
from workflows import options
from workflows.asking import ask
from workflows.failing import fail
from workflows.transaction import Transaction

BACKUP = "backup"


def questions(question: PreflightCheck) -> list[Awaitable[CheckResult]]:
    """The checks of the database that the spec asks for; none where it asks for none, so that nothing is scheduled."""
    asked: list[Awaitable[CheckResult]] = []
    if question.spec.preflight.backup is not None:
        policy = options.backup(question.spec.preflight.backup.timeout)
        asked.append(ask(signatures.MAKE_BACKUP, question, policy, BACKUP))
    return asked


def note_backup(t: Transaction, checks: tuple[CheckResult, ...]) -> None:
    """Remembers which backup belongs to this deployment."""
    made = next((check for check in checks if check.name == BACKUP and check.verdict is Verdict.PASS), None)
    if made is not None:
        t.backup = {str(made.evidence["id"]): str(made.evidence["sha256"])}


async def backup_still_good(t: Transaction) -> None:
    """After a person took their time: the backup is there, whole, and not stale.

    Raises:
        StageFailed: it is not; nothing has been done yet.
    """
    backup = t.spec.preflight.backup
    if backup is None or not t.backup or Stage.DEPLOY not in t.plan_approvals():
        return
    question = PreflightCheck(spec=t.spec, expected=t.backup)
    answer = await t.ask(signatures.SEE_BACKUP, question, options.backup(backup.timeout), "backup_as_planned")
    t.record.add(answer)
    if not opens(answer.verdict):
        raise fail(FailureType.PREFLIGHT, Stage.DEPLOY, answer.reason)

"""What can be wrong with breaking a glass is found before anything starts; a plan made offline knows freezes, too."""

from datetime import UTC, datetime

import click

from activities.preflight.freezing import check_freeze
from cli.exits import CommandError
from models.names import same_person
from models.preflight.freezing import FreezeCheck
from models.spec import DeploymentSpec
from models.verdict import CheckResult


def check_glass(spec: DeploymentSpec, by: str, reason: str) -> None:
    """Sees that there is a glass to break, a reason, and somebody else who may approve it.

    Raises:
        UsageError: no reason is given, or the spec has no freeze.
        CommandError: nobody but the one who asks may approve it.
    """
    if not reason:
        raise click.UsageError("to break the glass needs a reason: --break-glass REASON")
    if not spec.freeze:
        raise click.UsageError("there is no glass to break: the spec has no freeze windows (freeze)")
    allowed = spec.approvals.by
    if allowed and all(same_person(each, by) for each in allowed):
        raise CommandError(
            f"--break-glass needs a second person, and approvals.by allows {by} alone; nothing was started"
        )


def look_at_freezes(spec: DeploymentSpec) -> tuple[CheckResult, ...]:
    """What the clock of this machine says of the spec's freezes; nothing where it has none."""
    if not spec.freeze:
        return ()
    return (check_freeze(FreezeCheck(windows=spec.freeze, at=datetime.now(UTC), planning=True)),)

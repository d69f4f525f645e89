"""What is pending, of which kind, and what the policy makes of it; and running it, so that it ends in a known state."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from sqlglot.errors import SqlglotError

from activities.finding import Finding, quote
from activities.migrations.classify import Judged, Known, classify
from activities.migrations.tools import MOST, Script, adapter_of
from activities.migrations.workbench import Workbench
from models.checks import PreflightCheck
from models.errors import DatabaseRefused, Impossible, SecretUnresolved
from models.preflight.migrations import (
    Effect,
    MigrationsDone,
    MigrationsFound,
    MigrationsSpec,
    PendingMigration,
    WayBackKind,
    WhenAdditive,
    WhenOther,
)
from models.spec import DeploymentSpec
from models.verdict import CheckResult

MOST_REASONS = 3
LONGEST_REASON = 150
SHOWN = 20
MOST_LINES = 100


async def look(check: PreflightCheck, spec: MigrationsSpec) -> MigrationsFound:
    """Finds what is pending; the check `migrations` says whether the policy allows it. Changes nothing.

    Raises:
        Unavailable: the database does not answer; worth another try.
    """
    finding = Finding("migrations")
    try:
        pending = await pending_of(Workbench(check.spec, spec))
    except (SecretUnresolved, Impossible, DatabaseRefused) as error:
        return MigrationsFound(check=finding.not_asked(str(error)))
    evidence = {
        "tool": str(spec.tool),
        "pending": [_shown(each) for each in pending[:SHOWN]],
        "hazards": [hazard for each in pending for hazard in each.hazards][:SHOWN],
    }
    if not pending:
        return MigrationsFound(check=finding.passed("none is pending", **evidence))
    refused = _refused(check.spec, spec, pending)
    if refused:
        return MigrationsFound(check=finding.failed(refused, **evidence), pending=tuple(pending))
    others = [each for each in pending if each.effect is not Effect.ADDITIVE]
    asks = bool(others) or spec.policy.additive is WhenAdditive.APPROVAL
    runs = bool(others) or spec.policy.additive is not WhenAdditive.IGNORE
    said = f"{len(pending)} pending: {describe(pending)}"
    said += "" if runs else "; the policy leaves additive ones to somebody else"
    return MigrationsFound(
        check=finding.passed(said, **evidence),
        pending=tuple(pending),
        run=runs,
        approve=asks,
        changes=tuple(_lines(spec, pending, runs=runs, others=bool(others))),
    )


async def pending_of(bench: Workbench) -> list[PendingMigration]:
    """What is pending, in the order in which it would be run, each judged.

    Raises:
        DatabaseRefused: the tool or the server refused, or they disagree.
    """
    adapter = adapter_of(bench)
    scripts = await adapter.pending(bench)
    if len(scripts) > MOST:
        raise DatabaseRefused(f"{len(scripts)} migrations are pending; more than {MOST} are not read")
    known = Known(bench.spec.table or adapter.bookkeeping)
    return [_judged(script, known) for script in scripts]


def _judged(script: Script, known: Known) -> PendingMigration:
    try:
        found = classify(script.sql, known) if script.sql is not None else Judged(Effect.UNKNOWN)
    except SqlglotError:
        found = Judged(Effect.UNKNOWN, ("it cannot be read as SQL",))
    effect, why = found.effect, list(found.why)
    if script.opaque:
        why.insert(0, script.opaque)
        effect = effect if effect is Effect.DESTRUCTIVE else Effect.UNKNOWN
    return PendingMigration(
        id=quote(script.id),
        effect=effect,
        digest=script.digest,
        why=tuple(quote(reason, LONGEST_REASON) for reason in why[:MOST_REASONS]),
        hazards=tuple(quote(hazard, LONGEST_REASON) for hazard in found.hazards[:MOST_REASONS]),
    )


def _refused(deployment: DeploymentSpec, spec: MigrationsSpec, pending: Sequence[PendingMigration]) -> str:
    """Why the policy does not allow this, in a sentence; empty when it does."""
    rules = {Effect.DESTRUCTIVE: spec.policy.destructive, Effect.UNKNOWN: spec.policy.unknown}
    refused = [each for each in pending if rules.get(each.effect) is WhenOther.REFUSE]
    if refused:
        return f"the policy refuses {describe(refused)}"
    others = [each for each in pending if each.effect is not Effect.ADDITIVE]
    if others and spec.way_back.kind is WayBackKind.REFUSE:
        return f"{describe(others)}: not additive, and preflight.migrations.way_back states no way back"
    if others and spec.way_back.kind is WayBackKind.RESTORE and deployment.preflight.backup is None:
        return f"{describe(others)}: the way back is to restore, and preflight.backup makes no backup"
    return ""


def describe(pending: Sequence[PendingMigration]) -> str:
    """The migrations by name, each with its kind and why."""
    named = [f"{each.id} ({each.effect}{': ' + each.why[0] if each.why else ''})" for each in pending[:SHOWN]]
    more = f", and {len(pending) - SHOWN} more" if len(pending) > SHOWN else ""
    return ", ".join(named) + more


def _shown(each: PendingMigration) -> dict[str, object]:
    return {"id": each.id, "effect": str(each.effect), "why": list(each.why), "sha256": each.digest[:16]}


def _lines(spec: MigrationsSpec, pending: Sequence[PendingMigration], *, runs: bool, others: bool) -> list[str]:
    """The plan's lines. All of them are in it, with their digests: an approval is bound to exactly these."""
    verb = "run before the candidate comes" if runs else "not run"
    lines = [
        f"database: {each.id} is {each.effect}, {verb}; sha256 {each.digest[:16]}"
        + (f"; {'; '.join(each.why)}" if each.why else "")
        + (f"; may lock: {'; '.join(each.hazards)}" if each.hazards else "")
        for each in pending[:MOST_LINES]
    ]
    if len(pending) > MOST_LINES:
        rest = hashlib.sha256("".join(each.digest for each in pending[MOST_LINES:]).encode()).hexdigest()
        counted = Counter(str(each.effect) for each in pending[MOST_LINES:])
        kinds = ", ".join(f"{count} {effect}" for effect, count in sorted(counted.items()))
        lines.append(f"database: {len(pending) - MOST_LINES} more, {kinds}, {verb}; sha256 {rest[:16]}")
    if others:
        lines.append(f"database: the way back is {spec.way_back.kind}: {quote(spec.way_back.how, 500)}")
    return lines


async def run(deployment: DeploymentSpec, spec: MigrationsSpec, expected: Sequence[PendingMigration]) -> MigrationsDone:
    """Runs what was planned, and nothing else; says what is applied afterwards, however that went.

    An earlier attempt may have died half way: what it left on the server is waited for, and what it applied is not run
    again.

    Raises:
        Unavailable: the database does not answer; worth another try, which asks first what is applied.
    """
    finding = Finding("migrated")
    try:
        bench = Workbench(deployment, spec)
        await bench.nobody_left(kill_at_once=False)
        before = await pending_of(bench)
    except (SecretUnresolved, Impossible, DatabaseRefused) as error:
        return MigrationsDone(check=finding.not_asked(str(error)), left=tuple(each.id for each in expected))
    planned = {each.id: each.digest for each in expected}
    strange = [each.id for each in before if planned.get(each.id) != each.digest]
    if strange:
        said = f"{', '.join(strange)}: not what was planned; nothing was run"
        return _done(finding.failed(said), expected, before)
    if not before:
        return _done(finding.passed("an earlier attempt applied all of them"), expected, before)
    said = ""
    try:
        answer = await bench.change(adapter_of(bench).run(bench))
        if answer.code != 0:
            said = f"{spec.tool} ended with exit code {answer.code}{answer.last}"
    except (Impossible, DatabaseRefused) as error:
        said = str(error)
    try:
        after = await pending_of(bench)
    except (Impossible, DatabaseRefused) as error:
        said = f"{said or 'it ran'}; what is applied could not be asked: {error}"
        return MigrationsDone(check=finding.failed(said), left=tuple(each.id for each in before))
    if not said and after:
        said = f"{spec.tool} ended well, and {describe(after)} is still pending"
    if said:
        return _done(finding.failed(f"{said}; {_tally(expected, after)}"), expected, after)
    return _done(finding.passed(_tally(expected, after)), expected, after)


def _tally(expected: Sequence[PendingMigration], after: Sequence[PendingMigration]) -> str:
    left = {each.id for each in after}
    applied = [each.id for each in expected if each.id not in left]
    return f"{len(applied)} of {len(expected)} applied{': ' + ', '.join(applied[:SHOWN]) if applied else ''}"


def _done(
    check: CheckResult, expected: Sequence[PendingMigration], after: Sequence[PendingMigration]
) -> MigrationsDone:
    left = {each.id for each in after}
    return MigrationsDone(
        check=check,
        applied=tuple(each.id for each in expected if each.id not in left),
        left=tuple(each.id for each in after),
    )

"""What is pending, of which kind, and what the policy makes of it; and running it, so that it ends in a known state."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from sqlglot.errors import SqlglotError

from activities.check_result import Finding, quote
from activities.migrations.classify import JudgedStatement, Known, classify
from activities.migrations.facts import read_facts
from activities.migrations.runner import MigrationRunner
from activities.migrations.tools import MOST, Script, adapter_of
from models.checks import PreflightCheck
from models.errors import DatabaseRefusedError, PreconditionError, SecretUnresolvedError
from models.preflight.migrations import (
    Effect,
    MigrationsDone,
    MigrationsFound,
    MigrationsSpec,
    PendingMigration,
    Tried,
    WayBackKind,
    WhenAdditive,
    WhenOther,
)
from models.spec import DeploymentSpec
from models.units import format_duration
from models.verdict import CheckResult

MOST_REASONS = 3
LONGEST_REASON = 150
SHOWN = 20
MOST_LINES = 100


async def look(check: PreflightCheck, spec: MigrationsSpec) -> MigrationsFound:
    """Finds what is pending; the check `migrations` says whether the policy allows it. Changes nothing.

    Raises:
        UnavailableError: the database does not answer; worth another try.
    """
    finding = Finding("migrations")
    try:
        pending = await pending_of(MigrationRunner(check.spec, spec))
    except (SecretUnresolvedError, PreconditionError, DatabaseRefusedError) as error:
        return MigrationsFound(check=finding.not_asked(str(error)))
    trial = _TrialRun(check.tried, pending)
    pending = trial.judged()
    evidence: dict[str, object] = {
        "tool": str(spec.tool),
        "pending": [_shown(each) for each in pending[:SHOWN]],
        "hazards": [hazard for each in pending for hazard in each.hazards][:SHOWN],
        "locks": [lock for each in pending for lock in each.locks][:SHOWN],
        **trial.evidence(),
    }
    if not pending:
        return MigrationsFound(check=finding.passed("none is pending", **evidence))
    if trial.failed:
        return MigrationsFound(check=finding.not_asked(trial.failed, **evidence), pending=tuple(pending))
    refused = _refused(check.spec, spec, pending)
    if refused:
        return MigrationsFound(check=finding.failed(refused, **evidence), pending=tuple(pending))
    others = [each for each in pending if each.effect is not Effect.ADDITIVE]
    asks = bool(others) or spec.policy.additive is WhenAdditive.APPROVAL
    runs = bool(others) or spec.policy.additive is not WhenAdditive.IGNORE
    said = f"{len(pending)} pending: {describe(pending)}{trial.sentence()}"
    said += "" if runs else "; the policy leaves additive ones to somebody else"
    return MigrationsFound(
        check=finding.passed(said, **evidence),
        pending=tuple(pending),
        run=runs,
        approve=asks,
        changes=(*_lines(spec, pending, runs=runs, others=bool(others)), *trial.lines(), *_planned(check, spec)),
    )


def _planned(check: PreflightCheck, spec: MigrationsSpec) -> list[str]:
    """What a deployment does before it, where somebody only plans."""
    if not check.planning or not spec.try_ or check.spec.preflight.backup is None:
        return []
    within = format_duration(spec.timeout)
    return [
        f"database: a deploy first tries them on the restored backup, each run within {within}, and judges them by it"
    ]


class _TrialRun:
    """What a trial run on a copy says about what is pending on the database itself."""

    def __init__(self, tried: Tried | None, pending: list[PendingMigration]) -> None:
        self._tried = tried
        self._pending = pending
        same = tried is not None and tried.digests == {each.id: each.digest for each in pending}
        self._other = tried is not None and not tried.undecided and not same
        self._counts = tried is not None and not tried.undecided and same and bool(pending)
        # What a copy does not have is left to the SQL, where all of it is known.
        self._rights = any(each.opaque for each in pending)

    @property
    def failed(self) -> str:
        """Why nobody is asked about them: they cannot run."""
        if not self._counts or self._tried is None or not self._tried.failed:
            return ""
        said = f"they cannot run, as they were tried on the restored backup: {self._tried.failed}"
        return f"{said} (preflight.migrations.try: false leaves that out)"

    def judged(self) -> list[PendingMigration]:
        """The pending ones, as the trial knows them."""
        if not self._counts or self._tried is None or self._tried.failed:
            return self._pending
        found = self._tried.judge(rights=self._rights)
        unsure = [each for each in self._pending if each.effect is Effect.UNKNOWN and not each.rights]
        if found is Effect.ADDITIVE:
            return [
                each.model_copy(update={"effect": found, "why": (), "opaque": False}) if each in unsure else each
                for each in self._pending
            ]
        worst = [each.text for each in self._tried.differences if each.effect is found][:MOST_REASONS]
        if any(each.effect is Effect.DESTRUCTIVE for each in self._pending):
            return self._pending
        if found is Effect.UNKNOWN and any(each.effect is Effect.UNKNOWN for each in self._pending):
            return [
                each.model_copy(update={"why": _both(worst, each.why)}) if each in unsure else each
                for each in self._pending
            ]
        whose = unsure or self._pending
        return [
            each.model_copy(update={"effect": found, "why": _both(worst, each.why)}) if each in whose else each
            for each in self._pending
        ]

    def evidence(self) -> dict[str, object]:
        """For the report."""
        if self._tried is None or not self._pending:
            return {}
        found: dict[str, object] = {
            "differences": [f"{each.effect}: {each.text}" for each in self._tried.differences[:SHOWN]],
            "locks": list(self._tried.locks[:SHOWN]),
            "seconds": self._tried.seconds,
        }
        return {"tried": {**found, **({"undecided": self._why_not} if self._why_not else {})}}

    @property
    def _why_not(self) -> str:
        if self._tried is None:
            return ""
        return self._tried.undecided or ("what was tried is not what is pending now" if self._other else "")

    def sentence(self) -> str:
        """How it is known, after the names of the migrations."""
        if self._tried is None:
            return ""
        if self._why_not:
            return f"; not tried on the restored backup: {self._why_not}"
        return f"; tried on the restored backup in {self._tried.seconds:.1f} s"

    def lines(self) -> list[str]:
        """The plan's lines: what they did to the copy, and how long that took."""
        if self._tried is None or not self._pending:
            return []
        if self._why_not:
            return [f"database: not tried on the restored backup: {self._why_not}"]
        found = [each.text for each in self._tried.differences]
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        said = "; ".join(found[:SHOWN]) + more or "nothing is different"
        lines = [f"database: tried on the restored backup in {self._tried.seconds:.1f} s: {said}"]
        if self._tried.locks:
            lines.append(f"database: meanwhile it {'; '.join(self._tried.locks[:SHOWN])}")
        return lines


def _both(first: Sequence[str], then: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(quote(each, LONGEST_REASON) for each in (*first, *then)))[:MOST_REASONS]


async def pending_of(bench: MigrationRunner) -> list[PendingMigration]:
    """What is pending, in the order in which it would be run, each judged.

    Raises:
        DatabaseRefusedError: the tool or the server refused, or they disagree.
    """
    adapter = adapter_of(bench)
    scripts = await adapter.pending(bench)
    if len(scripts) > MOST:
        raise DatabaseRefusedError(f"{len(scripts)} migrations are pending; more than {MOST} are not read")
    known = Known(bench.spec.table or adapter.bookkeeping, await read_facts(bench.database) if scripts else None)
    return [_judged(script, known) for script in scripts]


def _judged(script: Script, known: Known) -> PendingMigration:
    try:
        found = classify(script.sql, known) if script.sql is not None else JudgedStatement(Effect.UNKNOWN)
    except SqlglotError:
        found = JudgedStatement(Effect.UNKNOWN, ("it cannot be read as SQL",))
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
        locks=tuple(quote(lock, LONGEST_REASON) for lock in found.locks[:MOST_REASONS]),
        opaque=bool(script.opaque) or script.sql is None,
        rights=found.rights,
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
        + (f"; takes {'; '.join(each.locks)}" if each.locks else "")
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
        UnavailableError: the database does not answer; worth another try, which asks first what is applied.
    """
    finding = Finding("migrated")
    try:
        bench = MigrationRunner(deployment, spec)
        await bench.nobody_left(kill_at_once=False)
        before = await pending_of(bench)
    except (SecretUnresolvedError, PreconditionError, DatabaseRefusedError) as error:
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
    except (PreconditionError, DatabaseRefusedError) as error:
        said = str(error)
    try:
        after = await pending_of(bench)
    except (PreconditionError, DatabaseRefusedError) as error:
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

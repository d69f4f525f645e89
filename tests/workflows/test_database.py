"""What a deployment does with the service's database, and when."""

from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError

from models.messages import Approval, Kind
from models.outcome import FailureType, Outcome
from models.plan import make_plan
from models.preflight.migrations import Effect, MigrationsFound, PendingMigration, Tried
from models.release import Capabilities, Release, Snapshot
from models.verdict import CheckResult, Verdict
from tests.workflows.conftest import Bench, assert_fully_new, assert_fully_old, ended, make_spec, old_revision, status
from workflows import wire_names

BACKUP = {"backup": {"database": {"secret": "env:SHOP_DB"}}}


async def test_without_a_database_nothing_is_asked_of_one(bench: Bench) -> None:
    report = await bench.run(make_spec())

    assert report.outcome is Outcome.DEPLOYED
    assert "backup" not in bench.target.calls


async def test_a_backup_is_made_before_anything_changes(bench: Bench) -> None:
    report = await bench.run(make_spec(preflight=BACKUP))

    assert report.outcome is Outcome.DEPLOYED
    assert bench.target.calls.index("backup") < bench.target.calls.index("stage")
    made = next(check for check in report.stages[0].checks if check.name == "backup")
    assert made.evidence["id"] == "20261124T223000Z-0a1b2c"
    assert_fully_new(bench.target)


async def test_a_backup_that_cannot_be_proven_stops_the_deployment(bench: Bench) -> None:
    bench.target.verdicts["backup"] = Verdict.FAIL

    report = await bench.run(make_spec(preflight=BACKUP))

    assert report.outcome is Outcome.PREFLIGHT_FAILED
    assert "stage" not in bench.target.calls
    assert_fully_old(bench.target)


async def test_a_server_that_never_answers_stops_it_too(bench: Bench) -> None:
    bench.target.breaking["backup"] = -1

    report = await bench.run(make_spec(preflight=BACKUP))

    assert report.outcome is Outcome.PREFLIGHT_FAILED
    assert bench.target.calls.count("backup") == 3


async def test_a_backup_that_went_stale_while_a_person_decided_stops_it(bench: Bench) -> None:
    bench.target.verdicts["backup_as_planned"] = Verdict.FAIL
    handle = await bench.start(make_spec(preflight=BACKUP, approvals={"before": ["deploy"]}))
    await bench.until(Outcome.AWAITING_APPROVAL, handle)
    await handle.execute_update(wire_names.APPROVE, Approval(by="ann"))

    report = await ended(handle)

    assert report.outcome is Outcome.PREFLIGHT_FAILED
    assert report.failure is not None and report.failure.type is FailureType.PREFLIGHT
    assert "stage" not in bench.target.calls


def found(*migrations: tuple[str, Effect], approve: bool = False) -> MigrationsFound:
    """What is pending, as the activity tells it."""
    pending = tuple(PendingMigration(id=name, effect=effect, digest="0" * 64) for name, effect in migrations)
    check = CheckResult(name="migrations", verdict=Verdict.PASS, reason=f"{len(pending)} pending")
    changes = tuple(f"database: {each.id} is {each.effect}" for each in pending)
    return MigrationsFound(check=check, pending=pending, run=bool(pending), approve=approve, changes=changes)


def migrating(kind: str = "restore") -> dict[str, Any]:
    way_back = {"kind": kind, "how": "as the runbook says"}
    return {
        **BACKUP,
        "migrations": {"tool": "dbmate", "database": {"secret": "env:SHOP_DB"}, "way_back": way_back},
    }


NOTHING = found()


async def test_additive_migrations_run_before_the_candidate_comes(bench: Bench) -> None:
    bench.target.migrations = [found(("001_adds", Effect.ADDITIVE))]

    report = await bench.run(make_spec(preflight=migrating()))

    assert report.outcome is Outcome.DEPLOYED
    calls = bench.target.calls
    assert calls.index("snapshot") < calls.index("migrated") < calls.index("stage")
    assert report.plan is not None and report.plan.changes == ("database: 001_adds is additive",)
    assert report.plan.approvals == ()
    assert report.not_rolled_back == ()
    assert_fully_new(bench.target)


async def test_migrations_are_judged_by_what_they_did_to_the_restored_backup(bench: Bench) -> None:
    bench.target.tried = Tried(digests={"001_adds": "0" * 64}, seconds=2.5)
    bench.target.migrations = [found(("001_adds", Effect.ADDITIVE))]

    report = await bench.run(make_spec(preflight=migrating()))

    assert report.outcome is Outcome.DEPLOYED
    assert bench.target.calls.index("backup") < bench.target.calls.index("look_at_migrations")
    assert bench.target.judged_by == [bench.target.tried]
    made = next(check for check in report.stages[0].checks if check.name == "backup")
    assert "tried" not in made.model_dump()


async def test_where_nothing_is_tried_they_are_judged_by_their_sql(bench: Bench) -> None:
    bench.target.migrations = [found(("001_adds", Effect.ADDITIVE))]
    preflight = migrating()
    preflight["migrations"]["try"] = False

    report = await bench.run(make_spec(preflight=preflight))

    assert report.outcome is Outcome.DEPLOYED
    assert bench.target.judged_by == [None]


async def test_migrations_are_looked_at_although_the_backup_failed(bench: Bench) -> None:
    bench.target.breaking["backup"] = -1
    bench.target.migrations = [found(("001_adds", Effect.ADDITIVE))]

    report = await bench.run(make_spec(preflight=migrating()))

    assert report.outcome is Outcome.PREFLIGHT_FAILED
    assert {check.name for check in report.stages[0].checks} >= {"backup", "migrations"}


async def test_a_failed_migration_brings_nothing_up_and_says_what_stays(bench: Bench) -> None:
    both = found(("001_adds", Effect.ADDITIVE), ("002_adds", Effect.ADDITIVE))
    bench.target.migrations = [both, found(("002_adds", Effect.ADDITIVE))]
    bench.target.verdicts["migrated"] = Verdict.FAIL

    report = await bench.run(make_spec(preflight=migrating()))

    assert report.outcome is Outcome.ROLLED_BACK
    assert "stage" not in bench.target.calls
    assert report.not_rolled_back == ("database NOT rolled back: 1 of 2 migrations stay: 001_adds (additive)",)
    assert_fully_old(bench.target)


async def test_a_rollback_of_the_code_leaves_the_database_and_says_so(bench: Bench) -> None:
    bench.target.migrations = [found(("001_adds", Effect.ADDITIVE)), NOTHING]
    bench.target.watches = [Verdict.FAIL]

    report = await bench.run(make_spec(preflight=migrating()))

    assert report.outcome is Outcome.ROLLED_BACK
    assert report.not_rolled_back == ("database NOT rolled back: 1 of 1 migrations stay: 001_adds (additive)",)
    assert report.compensations[0].what == "nothing of 1 migrations of the database"
    assert_fully_old(bench.target)


async def test_what_is_destructive_waits_for_an_approval_that_names_it(bench: Bench) -> None:
    bench.target.migrations = [found(("002_drops", Effect.DESTRUCTIVE), approve=True), NOTHING]
    bench.target.watches = [Verdict.FAIL]
    handle = await bench.start(make_spec(preflight=migrating()))
    await bench.until(Outcome.AWAITING_APPROVAL, handle)
    waiting = await status(handle)
    assert waiting.plan is not None
    assert "002_drops (destructive)" in waiting.waiting_for
    assert "the way back is restore: as the runbook says" in waiting.waiting_for
    assert waiting.plan.id in waiting.waiting_for
    assert "migrated" not in bench.target.calls

    await handle.execute_update(wire_names.APPROVE, Approval(by="ann", plan=waiting.plan.id))
    report = await ended(handle)

    assert report.outcome is Outcome.ROLLED_BACK
    (said,) = report.not_rolled_back
    assert said.startswith("database NOT rolled back: 1 of 1 migrations stay: 002_drops (destructive). The way back is")
    command = "restore shop/staging --backup 20261124T223000Z-0a1b2c --replace --as NAME --reason TEXT"
    assert command in said
    assert "loses what was written since 2026-11-24 22:30:00 UTC" in said


async def test_an_approval_of_another_plan_does_not_count(bench: Bench) -> None:
    bench.target.migrations = [found(("002_drops", Effect.DESTRUCTIVE), approve=True)]
    handle = await bench.start(make_spec(preflight=migrating("forward-fix")))
    await bench.until(Outcome.AWAITING_APPROVAL, handle)

    with pytest.raises(WorkflowUpdateFailedError):
        await handle.execute_update(wire_names.APPROVE, Approval(by="ann", plan="0" * 16))
    await handle.execute_update(wire_names.REJECT, Approval(by="ann"))
    report = await ended(handle)

    assert report.outcome is Outcome.REJECTED
    assert "migrated" not in bench.target.calls
    assert report.not_rolled_back == ()


async def test_what_cannot_be_asked_stops_nothing_of_the_way_back(bench: Bench) -> None:
    unknown = MigrationsFound(check=CheckResult(name="migrations", verdict=Verdict.ERROR, reason="no answer"))
    bench.target.migrations = [found(("001_adds", Effect.ADDITIVE)), unknown]
    bench.target.watches = [Verdict.FAIL]

    report = await bench.run(make_spec(preflight=migrating()))

    assert report.outcome is Outcome.ROLLED_BACK
    assert "could not be asked: no answer" in report.not_rolled_back[0]


async def test_the_way_back_to_an_earlier_release_migrates_nothing(bench: Bench) -> None:
    bench.target.migrations = [found(("001_adds", Effect.ADDITIVE))]
    bench.target.previous = old_revision("0.9.0")

    report = await bench.run(make_spec(preflight=migrating()), Kind.ROLLBACK)

    assert report.outcome is Outcome.ROLLED_BACK
    assert "migrated" not in bench.target.calls
    assert "look_at_migrations" not in bench.target.calls
    assert "database NOT rolled back" in report.not_rolled_back[0]


@pytest.mark.parametrize("changed", [("002_adds", Effect.ADDITIVE), ("001_adds", Effect.DESTRUCTIVE)])
def test_the_plan_is_another_one_with_other_migrations(changed: tuple[str, Effect]) -> None:
    def plan(migration: tuple[str, Effect]) -> str:
        spec, able = make_spec(), Capabilities(exact_weights=True, preview=True, in_place_roll=True)
        release = Release(service="shop", version="1.1.0")
        return make_plan(spec, release, able, Snapshot(), changes=found(migration).changes).id

    assert plan(("001_adds", Effect.ADDITIVE)) != plan(changed)

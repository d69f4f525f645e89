"""What a deployment does with the service's database, and when."""

from models.messages import Approval
from models.outcome import FailureType, Outcome
from models.verdict import Verdict
from tests.workflows.conftest import Bench, assert_fully_new, assert_fully_old, ended, make_spec
from workflows import contract

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
    await handle.execute_update(contract.APPROVE, Approval(by="ann"))

    report = await ended(handle)

    assert report.outcome is Outcome.PREFLIGHT_FAILED
    assert report.failure is not None and report.failure.type is FailureType.PREFLIGHT
    assert "stage" not in bench.target.calls

"""Whatever makes a spec large: what a workflow task carries of it stays below what Temporal takes."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import to_json

from activities.activity_stubs import CapabilitiesQuestion, MigrationOrder
from activities.platforms.traefik.interfaces import whole
from cli.spec.sizes import too_large
from models.carrying import LARGEST_SPEC, about_backup, about_migrations, about_platform
from models.checks import PreflightCheck
from models.errors import PreconditionError
from models.messages import DeploymentRequest
from models.plan import make_plan, make_revision
from models.release import Capabilities, Fence, Order, Release, RestoreOrder, Snapshot, StageOrder
from models.report import LARGEST_REPORT, DeploymentReport
from models.spec import DeploymentSpec, StrategyKind
from models.verdict import CheckResult, Stage, StageResult, Verdict
from tests.support.specs_of_size import SHAPES, just_fits, travels
from workflows.platform_client import LARGEST_PAYLOAD, LONGEST_SUMMARY, _cut
from workflows.stages.preflight import _CHECKS, _MORE_CHECKS, _bounded

MESSAGE = 4 << 20
# Names, types, time limits, ids: what stands around a command's payload.
AROUND = 1 << 10
AT = datetime(2030, 1, 1, tzinfo=UTC)


def size(*what: BaseModel) -> int:
    return sum(len(to_json(each)) + AROUND for each in what)


@pytest.fixture(params=SHAPES, scope="module")
def spec(request: pytest.FixtureRequest) -> DeploymentSpec:
    return DeploymentSpec.model_validate(just_fits(SHAPES[request.param]))


def order(spec: DeploymentSpec) -> Order:
    fence = Fence(epoch=1, sequence=1)
    platform = spec.platform.outline()
    return Order(service=spec.service, target=spec.target, platform=platform, fence=fence)


def test_what_preflight_asks_at_once_fits_into_one_message(spec: DeploymentSpec) -> None:
    question = PreflightCheck(spec=spec)
    asked: list[BaseModel] = [question.about(part) for _, part in (*_CHECKS.values(), *_MORE_CHECKS.values())]
    asked += [question.about(part) for part in (about_platform, about_backup, about_migrations)]
    asked += [order(spec), CapabilitiesQuestion(platform=spec.platform.outline())]
    asked += [MigrationOrder(spec=about_migrations(spec), expected=())]

    assert max(map(size, asked)) < LARGEST_PAYLOAD
    assert size(*asked) < MESSAGE - (256 << 10)


def test_a_revision_is_whole_where_it_is_made_and_nowhere_else(spec: DeploymentSpec) -> None:
    release = Release(service=spec.service, version="1", digests={"directory": "0" * 64, "platform:image": "1" * 64})
    revision = make_revision(spec, release, uuid.uuid4().hex)
    snapshot = Snapshot(stable=revision, previous=revision).abridge()
    base = dict(order(spec))

    assert size(StageOrder(**base, revision=revision, instances=1, deadline=AT)) < LARGEST_PAYLOAD
    assert size(RestoreOrder(**base, snapshot=snapshot, deadline=AT)) < LARGEST_REPORT
    assert size(revision.outline()) < 256 << 10
    assert snapshot.stable is not None
    assert snapshot.stable.platform.environment.keys() == spec.platform.environment.keys()
    assert snapshot.stable.release.digests == {"platform:image": "1" * 64}
    assert whole(revision) == revision
    with pytest.raises(PreconditionError, match="not on this target any more"):
        whole(snapshot.stable)


def test_what_travels_can_be_read_again(spec: DeploymentSpec) -> None:
    for part in (part for _, part in (*_CHECKS.values(), *_MORE_CHECKS.values())):
        question = PreflightCheck(spec=spec).about(part)
        assert PreflightCheck.model_validate_json(to_json(question)) == question


def test_the_limit_is_the_limit(spec: DeploymentSpec) -> None:
    assert 0.8 * LARGEST_SPEC < travels(spec.model_dump(mode="json")) <= LARGEST_SPEC
    assert too_large(spec) == ""
    assert len(to_json(DeploymentRequest(spec=spec, by="ann", reason="漢" * 1000))) < LARGEST_PAYLOAD


def test_one_byte_more_is_refused_with_its_largest_part() -> None:
    document = just_fits(SHAPES["environment"])
    left = LARGEST_SPEC - travels(document)
    document["platform"]["environment"]["LAST"] = ""
    document["platform"]["environment"]["LAST"] = "x" * (LARGEST_SPEC - travels(document)) if left > 9 else ""
    one_more = DeploymentSpec.model_validate(document)
    while not too_large(one_more):
        document["platform"]["environment"]["LAST"] += "x"
        one_more = DeploymentSpec.model_validate(document)

    assert travels(document) == LARGEST_SPEC + 1 or left <= 9
    assert "at most 1,048,576 can: platform.environment alone has 1,04" in too_large(one_more)


def report(checks: int, evidence: int, changes: int = 0) -> DeploymentReport:
    spec = DeploymentSpec.model_validate(SHAPES["environment"](10))
    plan = make_plan(
        spec,
        Release(service="big", version="1"),
        Capabilities(exact_weights=True, preview=True, in_place_roll=True),
        Snapshot(),
        changes=tuple(f"line {number} {'x' * 400}" for number in range(changes)),
    )
    made = [
        CheckResult(name=f"c{n}", verdict=Verdict.PASS, reason="r" * 2000, evidence={"n": "x" * (evidence + n)})
        for n in range(checks)
    ]
    stage = StageResult(stage=Stage.VERIFY, verdict=Verdict.PASS, started=AT, seconds=1, checks=tuple(made))
    about: dict[str, Any] = {"service": "big", "target": "staging", "version": "1", "strategy": StrategyKind.ROLLING}
    return DeploymentReport(workflow_id="w", run_id="r", started=AT, plan=plan, stages=(stage,), **about)


def test_a_report_that_fits_is_left_alone() -> None:
    assert report(10, 1000).bounded() == report(10, 1000)


@pytest.mark.parametrize(("checks", "evidence", "changes"), [(3, 800_000, 0), (200, 20_000, 0), (5, 10, 20_000)])
def test_a_report_that_is_too_large_loses_its_largest_evidence_and_no_verdict(
    checks: int, evidence: int, changes: int
) -> None:
    whole_report = report(checks, evidence, changes)

    bounded = whole_report.bounded()

    assert len(to_json(whole_report)) > LARGEST_REPORT >= len(to_json(bounded))
    assert [(check.verdict, check.reason) for check in bounded.stages[0].checks] == [
        (check.verdict, check.reason) for check in whole_report.stages[0].checks
    ]
    assert "bytes: the report would be too large" in str(bounded) or "more" in str(bounded.plan)


@pytest.mark.parametrize("letter", ["x", "é", "漢", "🚀"])
def test_a_summary_is_cut_by_bytes_too(letter: str) -> None:
    cut = _cut(letter * 500)
    assert len(cut.encode()) <= LONGEST_SUMMARY and len(cut) <= 120
    assert set(cut) == {letter}


def test_a_time_limit_of_a_question_is_not_lost() -> None:
    spec = DeploymentSpec.model_validate(SHAPES["environment"](10) | {"verify": {"timeout": "3s"}})
    assert PreflightCheck(spec=spec).about(about_platform).spec.verify.timeout == timedelta(seconds=3)


def test_a_plans_lines_are_bounded_and_say_so() -> None:
    few = ("a line", "another one")
    assert _bounded(few) == few
    many = _bounded(("x" * 5000,) * 700)
    assert many[-1] == "and 200 more" and len(many) == 501 and len(to_json(many)) < LARGEST_REPORT

"""The router's counters are seen rising, and the address check knows a real front proxy, on the real local platform."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.observe import ObserveActivities, router_metrics
from activities.preflight import PreflightActivities
from home.paths import Home
from models.checks import PreflightCheck, RouterCheck
from models.release import Revision
from models.spec import DeploymentSpec
from models.verdict import CheckResult, Verdict
from tests.harness.local import LocalHarness
from tests.harness.target import Target
from tests.support.serving import SHOP, running_shop, serving, silent


@pytest.fixture(scope="module")
async def ground() -> AsyncIterator[LocalHarness]:
    found = LocalHarness()
    try:
        yield found
    finally:
        await found.aclose()


@pytest.fixture(scope="module")
async def live(
    ground: LocalHarness, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Target, Revision]]:
    """The example shop, serving behind its router."""
    folder = tmp_path_factory.mktemp("router")
    (folder / "shop").mkdir()
    shutil.copy(SHOP, folder / "shop" / "app.py")
    target = Target(ground, folder)
    yield target, await target.live("1.1.0", directory=folder / "shop")
    await target.clean()


def make_spec(target: Target, revision: Revision, **changes: Any) -> DeploymentSpec:
    platform = revision.platform.model_dump() | changes
    return DeploymentSpec.model_validate(
        {"service": target.service, "target": "staging", "release": {"version": "1.1.0"}, "platform": platform}
    )


async def ask(live: tuple[Target, Revision], base_url: str) -> CheckResult:
    target, revision = live
    check = RouterCheck(spec=make_spec(target, revision), revision=revision, base_url=base_url)
    return await ActivityEnvironment().run(ObserveActivities({"local": target.platform}).check_router_metrics, check)


async def test_the_routers_counters_rise_with_the_requests(live: tuple[Target, Revision]) -> None:
    found = await ask(live, live[0].url("").rstrip("/"))

    assert found.verdict is Verdict.PASS, found.reason
    assert found.evidence["after"] >= found.evidence["before"] + 5
    assert found.evidence["weights"] == {live[1].id: 100}


async def test_counters_that_stand_still_fail(live: tuple[Target, Revision], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_metrics, "COUNTED_WITHIN", 0.3)

    with running_shop() as (past_the_router, _):
        found = await ask(live, past_the_router)

    assert found.verdict is Verdict.FAIL
    assert "the router counted 0 of 5 requests" in found.reason


async def test_a_front_door_that_does_not_answer_fails(live: tuple[Target, Revision]) -> None:
    async with serving(silent) as base_url:
        pass

    found = await ask(live, base_url)

    assert (found.verdict, "connection refused" in found.reason) == (Verdict.FAIL, True)


async def test_a_platform_that_the_worker_does_not_know_is_final(live: tuple[Target, Revision]) -> None:
    target, revision = live
    check = RouterCheck(spec=make_spec(target, revision), revision=revision, base_url=target.url(""))

    with pytest.raises(ApplicationError) as found:
        await ActivityEnvironment().run(ObserveActivities({}).check_router_metrics, check)

    assert found.value.non_retryable


async def test_the_address_of_our_own_running_door_passes(ground: LocalHarness, live: tuple[Target, Revision]) -> None:
    check = PreflightCheck(spec=make_spec(*live))

    found = await ActivityEnvironment().run(PreflightActivities(ground.home).check_address, check)

    assert found.verdict is Verdict.PASS, found.reason
    assert "this target's own front proxy" in found.reason


async def test_another_homes_door_is_a_strangers(tmp_path: Path, live: tuple[Target, Revision]) -> None:
    check = PreflightCheck(spec=make_spec(*live))

    found = await ActivityEnvironment().run(PreflightActivities(Home(tmp_path / "home")).check_address, check)

    assert found.verdict is Verdict.FAIL
    assert "listens there" in found.reason

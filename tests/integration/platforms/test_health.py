"""What verify would refuse is refused before the first user; what is healthy for one who asks is so for all."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.platforms.activities import PlatformActivities
from models.errors import NotReadyError
from models.health import HealthRule, HealthSpec
from models.release import Order, Staged, StageOrder
from models.spec import Endpoints
from tests.harness.target import Target, soon, until

LONG = HealthSpec(within=timedelta(seconds=8)).rule(None)


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"APP_HEALTH_STATUS": "204"}, r"/health answered 204, expected 200; if that is healthy.*status: 204"),
        ({"APP_HEALTH_STATUS": "302"}, r"/health answered 302, expected 200; it redirects nowhere"),
        ({"APP_HEALTH_STATUS": "401"}, r"/health answered 401, expected 200"),
        ({"APP_HEALTH_BODY": '{"status": "down"}'}, r"/health answered 200, but says status down"),
        ({"APP_HOSTS": "shop.example.com"}, r"/health answered 400, expected 200; .*verify: {host: shop.example.com}"),
    ],
    ids=["204", "redirect", "401", "body", "host"],
)
async def test_what_verify_would_refuse_gets_no_user(target: Target, environment: dict[str, str], reason: str) -> None:
    old = await target.live("1.0.0")
    new = target.revision("1.1.0", environment=environment)
    with pytest.raises(NotReadyError, match=reason):
        await target.stage(new, within=target.patience(8))
    assert (await target.split()).weights == {old.id: 100}


@pytest.mark.parametrize(
    ("environment", "health"),
    [
        ({"APP_HEALTH_STATUS": "204"}, HealthSpec(status=204).rule(None)),
        ({"APP_HEALTH_STATUS": "302"}, HealthSpec(status="any").rule(None)),
        ({"APP_HEALTH_STATUS": "401"}, HealthSpec(status=401).rule(None)),
        ({"APP_HOSTS": "shop.example.com"}, HealthSpec().rule("shop.example.com")),
        ({"APP_HEALTH_SLOW_S": "2"}, LONG),
    ],
    ids=["204", "redirect", "401", "host", "slow"],
)
async def test_what_the_spec_calls_healthy_gets_all_users(
    target: Target, environment: dict[str, str], health: HealthRule
) -> None:
    old = await target.live("1.0.0")
    new = target.revision("1.1.0", environment=environment, health=health)
    staged = await target.stage(new)
    assert [(each.healthy, each.version, each.unfit) for each in staged.inspection.instances] == [(True, "1.1.0", {})]
    await target.shift(new, old, 100)
    await target.promote(new)
    began = (await target.split()).counters.get(old.id)
    # Long enough for a router that asks otherwise to hold it for ill, and to lead users to the old one.
    until_then = time.monotonic() + 5
    while time.monotonic() < until_then:
        assert all(each.healthy for each in await target.platform.probe(target.order(Order), new))
        await target.sees({"1.1.0": 100}, requests=20)
    assert (await target.split()).counters.get(old.id) == began


async def test_what_would_be_refused_later_is_known_before_the_first_user(target: Target) -> None:
    new = target.revision("1.0.0", environment={"APP_LACKS": "/metrics,/healthz"})
    staged = await target.stage(new, instances=2)
    assert len(staged.inspection.instances) == 2
    for each in staged.inspection.instances:
        assert each.healthy
        assert each.unfit.keys() == {"live", "metrics"}
        assert "/metrics answered 404, expected 200; if the service has no such endpoint" in each.unfit["metrics"]
        assert "verify: {endpoints: {live: null}}" in each.unfit["live"]


async def test_who_looks_sees_at_once_what_an_instance_answers_that_is_not_ready(target: Target) -> None:
    """And the line of the spec for what it does not have; the waiting goes on meanwhile."""
    new = target.revision("1.0.0", environment={"APP_LACKS": "/health,/version"})
    beats: list[Any] = []
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, scheduled_time=datetime.now(UTC))
    environment.on_heartbeat = lambda *details: beats.extend(details)
    stage = PlatformActivities({target.ground.kind: target.platform}).stage
    order = target.order(StageOrder, revision=new, instances=1, deadline=soon(target.patience(10)))
    with pytest.raises(Exception, match="is not ready in time: /health answered 404"):
        await environment.run(stage, order)
    assert beats
    said = " ".join(beats[-1]["not_ready"].values())
    assert "/health, /version answered 404" in said
    assert "verify: {endpoints: {health: null, version: null}}" in said


async def test_a_service_that_answers_nothing_for_itself_is_up_when_it_listens(target: Target) -> None:
    none = Endpoints(health=None, ready=None, live=None, metrics=None, version=None)
    lacks = "/health,/ready,/healthz,/metrics,/version"
    new = target.revision("1.0.0", environment={"APP_LACKS": lacks, "APP_SLOW_START_S": "1"}, endpoints=none)
    staged: Staged = await target.stage(new)
    assert [(each.healthy, each.version, each.unfit) for each in staged.inspection.instances] == [(True, None, {})]
    await target.shift(new, None, 100)
    await until(lambda: _answers(target))


async def _answers(target: Target) -> bool:
    return (await target.ask()).status_code == 200

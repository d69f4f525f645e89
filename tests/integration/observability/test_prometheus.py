"""A real Prometheus scrapes a real service, and everything that keeps an alert from firing is found before it must."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.exceptions import ApplicationError

from models.verdict import Verdict
from tests.servers import cache
from tests.servers.prometheus import RunningPrometheus, installed, running_prometheus
from tests.support.serving import running_shop
from tests.support.watched_service import WatchedService, bad

pytestmark = [pytest.mark.platform, pytest.mark.timeout(300)]
ALERTS: dict[str, Any] = {
    "error_rate": {"above": "5%", "window": "10s", "for": "5s"},
    "latency": {"above": "500ms", "window": "10s"},
}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPrometheus]:
    try:
        installed()
    except cache.NotInstalledError as error:
        cache.unavailable(error)
    with running_prometheus(tmp_path_factory.mktemp("prometheus")) as server:
        yield server


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    """The example shop, which somebody has used."""
    with running_shop() as (url, _):
        for _ in range(5):
            assert httpx.get(f"{url}/products", trust_env=False).status_code == 200
        yield url


def watched_by(
    server: RunningPrometheus, alerts: dict[str, Any], within: str = "20s", **changes: Any
) -> WatchedService:
    prometheus = {
        "url": server.url,
        "targets": str(server.targets),
        "rules": str(server.rules),
        "within": within,
        "alerts": alerts,
        **changes,
    }
    return WatchedService(f"s{uuid.uuid4().hex[:8]}", {"prometheus": prometheus})


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "prometheus" in request.fixturenames:
        server: RunningPrometheus = request.getfixturevalue("prometheus")
        for folder in (server.targets, server.rules):
            shutil.rmtree(folder)
            folder.mkdir()


async def test_instances_are_scraped_rules_are_evaluated_and_every_selector_leads_to_something(
    prometheus: RunningPrometheus, shop: str
) -> None:
    service = watched_by(prometheus, ALERTS)
    service.serve(shop)

    checks = await service.set_up()

    assert bad(checks) == {}
    assert {name: check.verdict for name, check in checks.items()} == {
        "alert_rules_tested": Verdict.PASS,
        "prometheus_targets": Verdict.PASS,
        "prometheus_rules": Verdict.PASS,
        "prometheus_series": Verdict.PASS,
    }
    assert checks["alert_rules_tested"].evidence["cases"] == 6
    # The shop has had no error yet: that is told, and no failure.
    assert 'status=~"5.."' in checks["prometheus_series"].reason
    up = prometheus.query(f'up{{service_name="{service.spec.service}"}}')[0]["metric"]
    assert up["service_version"] == "1.1.0"
    assert up["deployment_environment_name"] == "staging"
    assert up["deployment_id"] == service.revision().id


async def test_an_alert_fires_with_the_labels_of_its_deployment(prometheus: RunningPrometheus, shop: str) -> None:
    own = {"alert": "Used", "expr": "sum by (service_version, deployment_id) (http_requests_total) > 0"}
    service = watched_by(prometheus, {"own": [own]})
    service.serve(shop)

    assert bad(await service.set_up()) == {}

    alert = next(each for each in prometheus.get("alerts")["alerts"] if each["labels"]["alertname"] == "Used")
    assert alert["state"] == "firing"
    assert alert["labels"]["service_name"] == service.spec.service
    assert alert["labels"]["deployment_id"] == service.revision().id


async def test_a_rule_with_a_typo_is_found_before_anybody_reads_it(prometheus: RunningPrometheus, shop: str) -> None:
    service = watched_by(prometheus, {"own": [{"alert": "Broken", "expr": "sum(rate(http_requests_total[1m])"}]})
    service.serve(shop)

    checks = await service.set_up()

    assert list(bad(checks)) == ["alert_rules_tested"]
    assert "could not parse expression" in checks["alert_rules_tested"].reason
    assert list(prometheus.rules.glob("*.yml")) == []


@pytest.mark.parametrize(
    ("expr", "said"),
    [
        ("rate(http_requets_total[10s]) > 1", "Broken: there is no metric http_requets_total"),
        ('http_requests_total{code=~"5.."} > 1', "Broken: no series of http_requests_total has a label code"),
    ],
    ids=["a misspelt metric", "a misspelt label"],
)
async def test_what_is_misspelt_in_a_rule_is_found(
    expr: str, said: str, prometheus: RunningPrometheus, shop: str
) -> None:
    service = watched_by(prometheus, {"own": [{"alert": "Broken", "expr": expr}]}, within="8s")
    service.serve(shop)

    checks = await service.set_up()

    assert list(bad(checks)) == ["prometheus_series"]
    assert said in checks["prometheus_series"].reason


async def test_an_instance_that_does_not_answer_is_found(prometheus: RunningPrometheus, shop: str) -> None:
    with running_shop() as (gone, _):
        pass
    service = watched_by(prometheus, {}, within="12s")
    service.serve(shop, gone)

    checks = await service.set_up()

    assert list(bad(checks)) == ["prometheus_targets"]
    assert f"{service.revision().id}.2 is down" in checks["prometheus_targets"].reason
    assert "connection refused" in checks["prometheus_targets"].reason


async def test_a_folder_that_prometheus_does_not_read_is_found(
    prometheus: RunningPrometheus, shop: str, tmp_path: Path
) -> None:
    service = watched_by(prometheus, {}, within="5s", targets=str(tmp_path), rules=str(tmp_path))
    service.serve(shop)

    checks = await service.set_up()

    assert f"its file_sd_configs must read {tmp_path}/*.yml" in checks["prometheus_targets"].reason
    assert f"its rule_files must read {tmp_path}/*.yml" in checks["prometheus_rules"].reason


async def test_a_broken_reload_is_told_with_its_reason_and_the_rules_go_again(
    prometheus: RunningPrometheus, shop: str
) -> None:
    (prometheus.rules / "somebody.yml").write_text("groups: [{name: broken, rules: [{alert: X, expr: 'sum('}]}]\n")
    service = watched_by(prometheus, ALERTS)
    service.serve(shop)

    checks = await service.set_up()

    assert list(bad(checks)) == ["prometheus_rules"]
    assert "Prometheus does not take the rules" in checks["prometheus_rules"].reason
    (prometheus.rules / "somebody.yml").unlink()
    await service.do("undo_monitoring", 2)
    assert list(prometheus.rules.glob("*.yml")) == []


async def test_a_prometheus_that_cannot_be_told_to_reload_says_what_to_do(shop: str, tmp_path: Path) -> None:
    with running_prometheus(tmp_path / "other", lifecycle=False) as server:
        service = watched_by(server, ALERTS)
        service.serve(shop)

        checks = await service.set_up()

    assert "start it with --web.enable-lifecycle" in checks["prometheus_rules"].reason


async def test_rates_over_less_than_two_scrapes_are_refused(shop: str, tmp_path: Path) -> None:
    with running_prometheus(tmp_path / "slow", scraped_every="3s") as server:
        service = watched_by(server, {"error_rate": {"above": "5%", "window": "5s"}}, within="15s")
        service.serve(shop)

        checks = await service.set_up()

    assert (
        "ErrorRateTooHigh takes rates over 5s, and the service is scraped every 3 s"
        in bad(checks)["prometheus_targets"]
    )


async def test_the_way_back_gives_prometheus_the_former_rules_and_instances(
    prometheus: RunningPrometheus, shop: str
) -> None:
    service = watched_by(prometheus, {})
    service.serve(shop, version="1.0.0")
    assert bad(await service.set_up()) == {}
    before = next(prometheus.rules.glob("*.yml")).read_text()
    # A newer deployment with another rule.
    newer = watched_by(prometheus, {"own": [{"alert": "Used", "expr": "http_requests_total > 0"}]})
    newer.spec, newer.platform = newer.spec.model_copy(update={"service": service.spec.service}), service.platform
    newer.epoch = 2_000
    newer.serve(shop)
    assert bad(await newer.set_up()) == {}
    assert "Used" in next(prometheus.rules.glob("*.yml")).read_text()

    del newer.platform.addresses[newer.revision().id]
    await newer.do("undo_monitoring", 2)

    assert next(prometheus.rules.glob("*.yml")).read_text() == before
    assert [rule["name"] for group in prometheus.get("rules")["groups"] for rule in group["rules"]] == ["InstanceDown"]
    assert "1.1.0" not in next(prometheus.targets.glob("*.yml")).read_text()


async def test_an_undo_that_comes_twice_or_for_nothing_changes_nothing(
    prometheus: RunningPrometheus, shop: str
) -> None:
    service = watched_by(prometheus, ALERTS)
    service.serve(shop)

    await service.do("undo_monitoring")
    assert bad(await service.set_up()) == {}
    await service.do("undo_monitoring", 2)
    await service.do("undo_monitoring", 2)

    assert list(prometheus.rules.glob("*.yml")) == []


async def test_a_late_write_of_an_older_deployment_is_refused(prometheus: RunningPrometheus, shop: str) -> None:
    service = watched_by(prometheus, {})
    service.serve(shop)
    service.epoch = 2_000
    await service.do("follow_instances")

    service.epoch = 1_000
    with pytest.raises(ApplicationError) as refused:
        await service.do("follow_instances")

    assert refused.value.type == "Stale"


async def test_a_file_of_somebody_else_is_left_alone(prometheus: RunningPrometheus, shop: str) -> None:
    service = watched_by(prometheus, {})
    service.serve(shop)
    theirs = prometheus.rules / f"deployment-specialist.{service.spec.service}.staging.yml"
    theirs.write_text("groups: []\n")

    checks = await service.set_up()

    assert "was not written by deployment-specialist: it is left alone" in checks["prometheus_rules"].reason
    assert theirs.read_text() == "groups: []\n"


async def test_no_prometheus_there_is_worth_another_try_and_no_verdict(tmp_path: Path, shop: str) -> None:
    prometheus = {"url": "http://127.0.0.1:9", "within": "5s", "targets": str(tmp_path)}
    service = WatchedService("gone", {"prometheus": prometheus})
    service.serve(shop)

    with pytest.raises(ApplicationError) as error:
        await service.set_up()

    assert error.value.type == "WatcherUnavailableError"
    assert not error.value.non_retryable
    assert "Prometheus at http://127.0.0.1:9 did not answer: connection refused" in str(error.value)

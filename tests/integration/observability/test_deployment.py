"""A whole deployment with a real Prometheus and Alertmanager beside it: who watches is awake before the first user."""

from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.integration.observability.test_alertmanager import receiving, routed_to
from tests.servers import cache
from tests.servers.prometheus import RunningPrometheus, installed, running_alertmanager, running_prometheus
from tests.support.product_env import NEW, OLD, ROLLING, ProductEnv, Service, ended, found

pytestmark = [pytest.mark.platform, pytest.mark.timeout(300)]
OWN = {"alert": "NobodyComes", "expr": "rate(app_requests_total[10s]) == 0", "for": "10m"}


@pytest.fixture(scope="module")
def watchers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningPrometheus, str, list[dict[str, Any]]]]:
    try:
        installed()
    except cache.NotInstalledError as error:
        cache.unavailable(error)
    folder = tmp_path_factory.mktemp("watchers")
    with (
        receiving() as (receiver, told),
        running_alertmanager(folder / "alertmanager", routed_to(receiver)) as alertmanager,
        running_prometheus(folder / "prometheus", alertmanager=alertmanager) as prometheus,
    ):
        yield prometheus, alertmanager, told


def observed_by(prometheus: RunningPrometheus, alertmanager: str, **own: Any) -> dict[str, Any]:
    alerts = {"own": [{**OWN, **own}]}
    folders = {"targets": str(prometheus.targets), "rules": str(prometheus.rules)}
    return {
        "prometheus": {"url": prometheus.url, "within": "30s", "alerts": alerts, **folders},
        "alertmanager": {"url": alertmanager},
    }


def announced(prometheus: RunningPrometheus, service: Service) -> str:
    return (prometheus.targets / f"deployment-specialist.{service.name}.staging.yml").read_text()


def environments(service: Service, version: str) -> list[dict[str, str]]:
    return [psutil.Process(pid).environ() for pid in service.instances(version).values()]


async def test_watchers_follow_a_deployment_and_its_way_back(
    living: ProductEnv, watchers: tuple[RunningPrometheus, str, list[dict[str, Any]]]
) -> None:
    prometheus, alertmanager, told = watchers
    smoke = [{"name": "good", "command": ["sh", "-c", 'test "$VERSION" != 1.2.0']}]
    shop = living.service(ROLLING, observe=observed_by(prometheus, alertmanager), verify={"smoke": smoke})
    await shop.serving()

    document = ended(await shop.deploy(NEW), "deployed", 0)

    for name in ("alert_rules_tested", "prometheus_targets", "prometheus_rules", "prometheus_series", "alertmanager"):
        assert found(document, "deploy", name)["verdict"] == "pass"
    for name in ("prometheus_targets", "prometheus_rules", "prometheus_series", "alertmanager"):
        assert found(document, "observe", name)["verdict"] == "pass"
    assert found(document, "close", "gate_monitoring_configured")["verdict"] == "pass"
    assert any(alert["labels"]["service_version"] == NEW for each in told for alert in each["alerts"])
    # The old instances are gone, and nobody goes on asking them.
    assert f"service_version: {NEW}" in announced(prometheus, shop)
    assert OLD not in announced(prometheus, shop)
    about = environments(shop, NEW)
    assert {each["SENTRY_RELEASE"] for each in about} == {f"{shop.name}@{NEW}"}
    assert len({each["OTEL_RESOURCE_ATTRIBUTES"] for each in about}) == len(about) == 2
    rules = (prometheus.rules / f"deployment-specialist.{shop.name}.staging.yml").read_text()

    document = ended(await shop.deploy("1.2.0"), "rolled-back", 10)

    assert document["failure"]["type"] == "smoke_tests_failed"
    await shop.is_old(NEW)
    assert "1.2.0" not in announced(prometheus, shop)
    assert all(port in announced(prometheus, shop) for port in shop.instances(NEW))
    assert (prometheus.rules / f"deployment-specialist.{shop.name}.staging.yml").read_text() == rules


async def test_a_misspelt_metric_ends_a_deployment_before_its_first_user(
    living: ProductEnv, watchers: tuple[RunningPrometheus, str, list[dict[str, Any]]]
) -> None:
    prometheus, alertmanager, _ = watchers
    observe = observed_by(prometheus, alertmanager, expr="rate(app_requets_total[10s]) == 0")
    observe["prometheus"]["within"] = "12s"
    shop = living.service(ROLLING, observe=observe)

    document = ended(await shop.deploy(OLD), "rolled-back", 10)

    assert document["failure"]["type"] == "monitoring_not_configured"
    assert "there is no metric app_requets_total" in document["failure"]["reason"]
    assert list(prometheus.rules.glob(f"*{shop.name}*.yml")) == []

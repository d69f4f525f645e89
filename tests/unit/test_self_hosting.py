"""The stack's files are read by programs that are not here when `make test` runs: they are looked through here."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from workflows.wire_names import SEARCH_ATTRIBUTES

ROOT = Path(__file__).parents[2]
STACK = ROOT / "deploy" / "compose"
COMPOSE = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
PAGE = (ROOT / "docs" / "self-hosting.md").read_text()
DASHBOARD: dict[str, Any] = json.loads((STACK / "grafana" / "dashboards" / "deployments.json").read_text())


def variables(text: str) -> dict[str, str]:
    """Variables of a Compose file, with their defaults."""
    return dict(re.findall(r"\$\{([A-Z_]+):?-?([^}]*)\}", text))


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_image_is_pinned_and_can_be_another(name: str) -> None:
    found = re.fullmatch(r"\$\{[A-Z_]+_IMAGE:-[a-z0-9/-]+:v?(\d+(\.\d+)+)\}", SERVICES[name]["image"])

    assert found, SERVICES[name]["image"]


def test_every_base_of_the_workers_image_is_pinned_and_can_be_another() -> None:
    text = (ROOT / "Dockerfile").read_text()

    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    defaults = dict(re.findall(r'^ARG ([A-Z_]+)=(?:")?([^"\n]*)', text, re.MULTILINE))
    assert {base.strip("${}") for base in bases} <= set(defaults)
    for base in bases:
        assert re.search(r":\d+\.\d+\.\d+", defaults[base.strip("${}")])
    given = SERVICES["worker"]["build"]["args"]
    assert given.keys() == defaults.keys()
    assert {name: variables(value)[name] for name, value in given.items()} == defaults


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_has_a_limit_and_a_way_to_come_back(name: str) -> None:
    assert SERVICES[name]["mem_limit"]
    assert SERVICES[name]["restart"] in ("unless-stopped", "on-failure:10")
    assert name.startswith("temporal-") or name == "worker" or SERVICES[name]["healthcheck"]


def test_ports_are_published_on_the_loopback_alone() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]

    assert len(published) == 3
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_no_password_is_in_a_variable() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|_PWD|_KEY", variable):
                assert str(value).startswith("/run/secrets/"), (name, variable)


def test_the_stack_registers_the_search_attributes_that_deployments_have() -> None:
    text = (STACK / "temporal" / "namespace.sh").read_text()

    names = re.search(r"^for name in (.*); do$", text, re.MULTILINE)
    assert names and names[1].split() == [key.name for key in SEARCH_ATTRIBUTES]


def test_the_page_explains_every_variable_with_its_default() -> None:
    settings = PAGE.split("\n## Settings\n")[1].split("\n## ")[0]
    both = variables(COMPOSE + (STACK / "tls.yml").read_text())

    assert [name for name in both if f"`{name}`" not in settings] == []
    for name, default in both.items():
        if name.endswith(("_PORT", "_MEMORY", "_RETENTION", "_SHARDS", "_NAMESPACE")) or name == "DEPLOYMENTS":
            row = next(line for line in settings.splitlines() if f"`{name}`" in line)
            assert default in row, name


def test_panels_have_names_of_their_own_and_do_not_lie_over_each_other() -> None:
    panels = DASHBOARD["panels"]
    places = [panel["gridPos"] for panel in panels]

    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)


def test_every_panel_asks_the_prometheus_that_is_provisioned() -> None:
    sources = yaml.safe_load((STACK / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text())
    uid = {"type": "prometheus", "uid": sources["datasources"][0]["uid"]}

    asked = [query for panel in DASHBOARD["panels"] for query in panel.get("targets", ())]
    assert len(asked) > 12
    assert all(query["datasource"] == uid and query["expr"] and query["refId"] for query in asked)
    assert all(variable["datasource"] == uid for variable in DASHBOARD["templating"]["list"])
    assert DASHBOARD["annotations"]["list"][0]["datasource"] == uid


def test_grafana_finds_the_dashboard_where_it_is_mounted() -> None:
    providers = yaml.safe_load((STACK / "grafana" / "provisioning" / "dashboards" / "dashboards.yml").read_text())
    folder = providers["providers"][0]["options"]["path"]

    mounts = [mount.split(":") for mount in SERVICES["grafana"]["volumes"]]
    assert ["./deploy/compose/grafana/dashboards", folder, "ro"] in mounts
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{folder}/deployments.json"

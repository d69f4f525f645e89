"""What the router is told: everything that a request depends on is in two small files."""

import json
from pathlib import Path

from activities.platforms.traefik.config import Backend, counted_for, dynamic_configuration, static_configuration

OLD = Backend("1.0.0-abc123", ("http://127.0.0.1:20001", "http://127.0.0.1:20002"), 95, "/health")
NEW = Backend("1.1.0_x-def456", ("http://127.0.0.1:20003",), 5, "/health")


def test_weights_are_divided_between_the_revisions() -> None:
    services = json.loads(dynamic_configuration(7, [OLD, NEW]))["http"]["services"]
    assert services["split"]["weighted"]["services"] == [
        {"name": "1.0.0-abc123", "weight": 95},
        {"name": "1.1.0_x-def456", "weight": 5},
    ]
    servers = services["1.0.0-abc123"]["loadBalancer"]["servers"]
    assert servers == [{"url": "http://127.0.0.1:20001"}, {"url": "http://127.0.0.1:20002"}]


def test_the_generation_is_where_the_router_shows_it() -> None:
    http = json.loads(dynamic_configuration(7, [OLD]))["http"]
    assert http["routers"]["users"]["middlewares"] == ["generation-7"]
    assert http["middlewares"]["generation-7"]["retry"]["attempts"] > 1


def test_a_revision_without_traffic_is_known_and_watched_before_its_first_request() -> None:
    idle = Backend("1.1.0-def456", ("http://127.0.0.1:20003",), 0, "/health")
    services = json.loads(dynamic_configuration(1, [OLD, idle]))["http"]["services"]
    assert services["1.1.0-def456"]["loadBalancer"]["healthCheck"]["path"] == "/health"
    assert {"name": "1.1.0-def456", "weight": 0} in services["split"]["weighted"]["services"]


def test_a_revision_without_instances_is_not_named() -> None:
    gone = Backend("1.1.0-def456", (), 0, "/health")
    assert "1.1.0-def456" not in dynamic_configuration(1, [OLD, gone])


def test_with_no_traffic_for_anybody_users_are_told_that_nobody_serves() -> None:
    http = json.loads(dynamic_configuration(1, [Backend("1.0.0-abc123", ("http://127.0.0.1:1",), 0, "/health")]))[
        "http"
    ]
    assert http["routers"]["users"]["service"] == "nobody"
    assert http["services"]["nobody"] == {"loadBalancer": {"servers": []}}


def test_health_of_the_split_needs_health_of_each() -> None:
    silent = Backend("1.1.0-def456", ("http://127.0.0.1:20003",), 5, None)
    assert "healthCheck" in json.loads(dynamic_configuration(1, [OLD]))["http"]["services"]["split"]["weighted"]
    services = json.loads(dynamic_configuration(1, [OLD, silent]))["http"]["services"]
    assert "healthCheck" not in services["split"]["weighted"]
    assert "healthCheck" not in services["1.1.0-def456"]["loadBalancer"]


def test_a_warm_revision_is_asked_when_those_with_traffic_are_ill() -> None:
    warm = Backend("1.0.0-abc123", ("http://127.0.0.1:20001",), 0, "/health", warm=True)
    services = json.loads(dynamic_configuration(1, [warm, NEW]))["http"]["services"]
    assert services["anybody"]["failover"]["service"] == "rescue"
    assert services["rescue"]["failover"] == {"service": "split", "fallback": "1.0.0-abc123", "healthCheck": {}}
    assert services["split"]["weighted"]["services"] == [{"name": "1.1.0_x-def456", "weight": 5}]


def test_when_nobody_seems_well_instances_are_asked_all_the_same() -> None:
    http = json.loads(dynamic_configuration(1, [OLD, NEW]))["http"]
    assert http["routers"]["users"]["service"] == "anybody"
    assert http["services"]["anybody"]["failover"] == {"service": "split", "fallback": "loaded"}
    shares = http["services"]["loaded"]["weighted"]["services"]
    assert shares == [{"name": "1.0.0-abc123!", "weight": 95}, {"name": "1.1.0_x-def456!", "weight": 5}]
    unwatched = http["services"]["1.0.0-abc123!"]["loadBalancer"]
    assert "healthCheck" not in unwatched
    assert unwatched["servers"] == http["services"]["1.0.0-abc123"]["loadBalancer"]["servers"]


def test_beside_one_without_health_checks_each_answers_for_itself() -> None:
    silent = Backend("1.1.0-def456", ("http://127.0.0.1:20003",), 60, None)
    http = json.loads(dynamic_configuration(1, [OLD, silent]))["http"]
    assert http["routers"]["users"]["service"] == "split"
    shares = http["services"]["split"]["weighted"]["services"]
    assert shares == [{"name": "1.0.0-abc123?", "weight": 95}, {"name": "1.1.0-def456", "weight": 60}]
    assert http["services"]["1.0.0-abc123?"]["failover"] == {"service": "1.0.0-abc123", "fallback": "1.0.0-abc123!"}


def test_whatever_it_is_asked_by_a_revision_is_counted_as_itself() -> None:
    assert {counted_for(name) for name in ("1.0.0-a@file", "1.0.0-a!@file", "1.0.0-a?", "1.0.0-a")} == {"1.0.0-a"}


def test_without_health_checks_nobody_is_known_to_be_ill() -> None:
    warm = Backend("1.0.0-abc123", ("http://127.0.0.1:20001",), 0, "/health", warm=True)
    silent = Backend("1.1.0-def456", ("http://127.0.0.1:20003",), 100, None)
    assert json.loads(dynamic_configuration(1, [warm, silent]))["http"]["routers"]["users"]["service"] == "split"


def test_only_users_come_in_from_outside(tmp_path: Path) -> None:
    static = json.loads(static_configuration("0.0.0.0:8080", "127.0.0.1:20009", tmp_path / "routes.yml"))
    addresses = {name: point["address"] for name, point in static["entryPoints"].items()}
    assert addresses == {"users": "0.0.0.0:8080", "traefik": "127.0.0.1:20009"}
    assert static["providers"]["file"] == {"filename": str(tmp_path / "routes.yml"), "watch": True}


def test_nobody_is_believed_who_is_not_named(tmp_path: Path) -> None:
    def trusted(*given: str) -> object:
        static = json.loads(static_configuration("127.0.0.1:8080", "127.0.0.1:20009", tmp_path / "routes.yml", given))
        return static["entryPoints"]["users"]["forwardedHeaders"]["trustedIPs"]

    assert trusted() == []
    assert trusted("10.0.0.0/8", "::1") == ["10.0.0.0/8", "::1"]


def test_every_request_goes_the_same_way(tmp_path: Path) -> None:
    http = json.loads(dynamic_configuration(7, [OLD, NEW]))["http"]
    assert {(router["service"], *router["entryPoints"]) for router in http["routers"].values()} == {
        ("anybody", "users")
    }
    assert all(router["rule"].startswith("PathPrefix(`/`)") for router in http["routers"].values())
    priorities = [router["priority"] for router in http["routers"].values()]
    assert len(set(priorities)) == len(priorities)


def test_a_request_that_waits_for_a_word_of_the_service_is_asked_once() -> None:
    routers = json.loads(dynamic_configuration(7, [OLD]))["http"]["routers"]
    retried = {name for name, router in routers.items() if "generation-7" in router.get("middlewares", ())}
    assert retried == {name for name, router in routers.items() if "Expect" not in router["rule"]}


def test_the_router_calls_nobody(tmp_path: Path) -> None:
    static = json.loads(static_configuration("127.0.0.1:8080", "127.0.0.1:20009", tmp_path / "routes.yml"))
    assert static["global"] == {"checkNewVersion": False, "sendAnonymousUsage": False}


def test_a_long_upload_is_not_cut(tmp_path: Path) -> None:
    static = json.loads(static_configuration("127.0.0.1:8080", "127.0.0.1:20009", tmp_path / "routes.yml"))
    timeouts = static["entryPoints"]["users"]["transport"]["respondingTimeouts"]
    assert (timeouts["readTimeout"], timeouts["writeTimeout"]) == ("0s", "0s")

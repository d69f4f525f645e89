"""The rule of health says what is wrong and which key would change it, and travels unchanged."""

import math
from datetime import timedelta

import pytest
from pydantic import ValidationError

from activities.platforms.probes import PROBE_SECONDS
from activities.platforms.traefik.config import Backend, dynamic_configuration
from models.health import WITHIN, HealthRule, HealthSpec
from models.plan import config_hash
from models.release import Revision
from models.spec import DeploymentSpec, Endpoints, VerifySpec

RULE = HealthSpec().rule(None)


def spec(**verify: object) -> DeploymentSpec:
    return DeploymentSpec.model_validate(
        {
            "service": "shop",
            "target": "staging",
            "release": {"version": "1.0.0"},
            "platform": {"kind": "local", "run": ["app"], "listen": "127.0.0.1:8080"},
            "verify": verify,
        }
    )


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (204, "if that is healthy, say so: verify: {health: {status: 204}}"),
        (301, "it redirects to /login, which is not followed"),
        (400, "verify: {host: shop.example.com}"),
        (404, "set verify.endpoints.health to null: verify: {endpoints: {health: null}}"),
        (503, "/health answered 503, expected 200: out of order"),
    ],
)
def test_what_is_wrong_is_said_with_the_key_that_may_help(status: int, hint: str) -> None:
    assert hint in RULE.wrong("health", "/health", status, b"out of order", "/login")


def test_a_known_host_is_not_asked_for_again() -> None:
    assert "verify: {host" not in HealthSpec().rule("shop.example.com").wrong("health", "/health", 400)


def test_a_long_body_is_told_in_a_line() -> None:
    said = RULE.wrong("health", "/health", 503, b"line\n\x1b[31mred " + b"a" * 10_000)
    assert len(said) < 300
    assert said.isprintable()


def test_a_revision_from_before_the_rule_is_healthy_by_what_was_the_rule_then() -> None:
    old = {"id": "1.0.0-abc123", "release": {"service": "shop", "version": "1.0.0"}, "platform": spec().platform}
    rule = Revision.model_validate(old).health
    assert [status for status in (200, 204, 302, 399, 400, 503) if rule.accepts(status)] == [200, 204, 302, 399]
    assert not rule.wrong("health", "/health", 200, b'{"status": "down"}')


def test_the_rule_travels() -> None:
    rule = VerifySpec(host="shop.example.com:8443", health=HealthSpec(status=204, body=("fine",))).rule
    assert HealthRule.model_validate_json(rule.model_dump_json()) == rule


def test_an_approved_plan_stays_the_same_where_the_rule_is_the_usual_one() -> None:
    assert config_hash(spec()) == config_hash(spec(health={}))
    assert len({config_hash(spec(**v)) for v in ({}, {"host": "a.example"}, {"health": {"status": 204}})}) == 3


@pytest.mark.parametrize(
    ("verify", "sentence"),
    [
        ({"health": {"status": 99}}, "status"),
        ({"health": {"status": "2xx"}}, "status"),
        ({"health": {"body": []}}, "body"),
        ({"health": {"within": "0s"}}, "within is between 100ms and 10s"),
        ({"health": {"within": "11s"}}, "within is between 100ms and 10s"),
        ({"host": "http://shop.example.com"}, "host"),
        ({"host": "shop example"}, "host"),
        ({"host": "shop\r\nX-Other: 1"}, "host"),
        ({"endpoints": {"health": "//elsewhere/health"}}, "endpoints.health has no // at its beginning"),
        ({"endpoints": {"ready": "/a#b"}}, "endpoints.ready has no"),
        ({"endpoints": {"live": "/100%"}}, "endpoints.live has no"),
    ],
)
def test_what_nobody_could_ask_alike_is_refused(verify: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        spec(**verify)


@pytest.mark.parametrize("host", ["shop.example.com", "shop.example.com:8443", "[::1]:80", "10.0.0.1", "a_b"])
def test_hosts(host: str) -> None:
    assert spec(host=host).verify.rule.headers == {"Host": host}


def test_the_router_is_told_the_rule() -> None:
    def told(rule: HealthRule) -> str:
        return dynamic_configuration(1, [Backend("1.0.0-abc123", ("http://127.0.0.1:1",), 100, "/health", rule=rule)])

    usual = told(RULE)
    assert '"timeout": "1500ms"' in usual
    assert '"status": 200' in usual
    assert '"followRedirects": false' in usual
    assert "hostname" not in usual
    own = told(HealthSpec(status="any", within=timedelta(milliseconds=700)).rule("shop.example.com"))
    assert '"timeout": "700ms"' in own
    assert '"status"' not in own
    assert '"hostname": "shop.example.com"' in own


def test_everybody_waits_as_long_as_the_rule_says() -> None:
    assert math.isclose(PROBE_SECONDS, WITHIN.total_seconds())
    assert RULE.seconds == PROBE_SECONDS


def test_beside_the_routers_endpoint_200_is_healthy_too() -> None:
    revision = Revision.model_validate(
        {
            "id": "1.0.0-abc123",
            "release": {"service": "shop", "version": "1.0.0"},
            "platform": spec().platform,
            "health": HealthSpec(status=204).rule(None),
        }
    )
    without = revision.model_copy(update={"endpoints": Endpoints(health=None)})
    none = revision.model_copy(update={"endpoints": Endpoints(health=None, ready=None)})

    def accepted(of: Revision, endpoint: str) -> list[int]:
        return [status for status in (200, 204, 302, 500) if of.rule_of(endpoint).accepts(status)]

    assert (revision.routers_endpoint, without.routers_endpoint, none.routers_endpoint) == ("health", "ready", None)
    assert (accepted(revision, "health"), accepted(revision, "ready")) == ([204], [200, 204])
    assert (accepted(without, "ready"), accepted(without, "live")) == ([204], [200, 204])

"""Who is believed to be a proxy is an address or a network, as it is written, and nothing else."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import ValidationError

from activities.platforms.compose import ingress
from activities.platforms.compose.engine import LABEL
from activities.platforms.local.platform import LocalPlatform as Local
from activities.platforms.traefik.config import announced
from home.paths import Home
from models.checks import PreflightCheck
from models.platforms import ComposePlatformSpec, LocalPlatformSpec
from models.platforms.base import PlatformSpec
from models.spec import DeploymentSpec

PLATFORMS: tuple[dict[str, Any], ...] = (
    {"kind": "local", "run": ["true"], "listen": "127.0.0.1:8080"},
    {"kind": "compose", "service": "web", "listen": "127.0.0.1:8080"},
)


def platform(given: dict[str, Any], trusted: Any) -> PlatformSpec:
    model = LocalPlatformSpec if given["kind"] == "local" else ComposePlatformSpec
    return model.model_validate({**given, "trusted_proxies": trusted})


@pytest.mark.parametrize("given", PLATFORMS, ids=lambda each: each["kind"])
@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7/32", "192.0.2.7/32"),
        ("2001:DB8:0::/32", "2001:db8::/32"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ],
)
def test_addresses_and_networks_are_taken(given: dict[str, Any], written: str, meant: str) -> None:
    assert platform(given, [written]).trusts == (meant,)


@pytest.mark.parametrize("given", PLATFORMS, ids=lambda each: each["kind"])
@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("10.0.0.7/8", "name the network, 10.0.0.0/8"),
        ("10.0.0.0/33", "is not an address or a network"),
        ("balancer.internal", "is not an address or a network"),
        ("10.0", "is not an address or a network"),
        ("", "is not an address or a network"),
        ("*", "is not an address or a network"),
        ("fe80::1%eth0", "is not an address or a network"),
        ("10.0.0.7:8080", "is not an address or a network"),
        (10, "valid string"),
    ],
)
def test_everything_else_is_named(given: dict[str, Any], written: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        platform(given, [written])


def test_nobody_is_believed_unless_the_spec_says_so() -> None:
    for given in PLATFORMS:
        assert platform(given, []).trusts == ()
    assert announced("127.0.0.1:8080", ()) == []


def test_a_plan_says_who_is_believed() -> None:
    assert announced("0.0.0.0:80", ("10.0.0.0/8", "::1")) == [
        "X-Forwarded headers are believed at 0.0.0.0:80 when they come from 10.0.0.0/8, ::1"
    ]


async def test_the_local_platform_says_so_before_anything_changes(tmp_path: Path) -> None:
    spec = DeploymentSpec.model_validate(
        {
            "service": "shop",
            "target": "staging",
            "release": {"version": "1.0.0"},
            "platform": {**PLATFORMS[0], "trusted_proxies": ["10.0.3.7"]},
        }
    )
    local = Local(Home(tmp_path / "home"))
    try:
        found = await local.examine(PreflightCheck(spec=spec, planning=True))
    finally:
        await local.aclose()
    assert found.changes == ("X-Forwarded headers are believed at 127.0.0.1:8080 when they come from 10.0.3.7",)


def test_a_router_made_with_other_settings_is_made_anew() -> None:
    def made(trusted: list[str]) -> Any:
        labels = {f"{LABEL}.settings": ingress._settings(compose(trusted))}
        return SimpleNamespace(labels=labels)

    def compose(trusted: list[str]) -> ComposePlatformSpec:
        return ComposePlatformSpec.model_validate({**PLATFORMS[1], "trusted_proxies": trusted})

    assert not ingress.is_outdated(made([]), compose([]))
    assert not ingress.is_outdated(made(["10.0.0.0/8"]), compose(["10.0.0.0/8"]))
    assert ingress.is_outdated(made([]), compose(["10.0.0.0/8"]))
    assert ingress.is_outdated(made(["10.0.0.0/8"]), compose([]))
    # By a version of this program that noted nothing.
    assert ingress.is_outdated(cast(Any, SimpleNamespace(labels={})), compose([]))

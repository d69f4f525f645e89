"""What a spec may say of the Compose platform, and what a revision takes from a Compose file."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from activities.platforms.compose.ingress import _peers
from activities.platforms.compose.project import Project, _see_yaml
from models.errors import PreconditionError
from models.platforms import ComposePlatformSpec, LocalPlatformSpec, of_kind
from models.spec import DeploymentSpec


def platform(**changes: Any) -> ComposePlatformSpec:
    given = {"kind": "compose", "service": "web", "listen": "127.0.0.1:8080", **changes}
    return ComposePlatformSpec.model_validate(given)


def project(released: dict[str, Any], changes: dict[str, Any] | None = None, **settings: Any) -> Project:
    model = {"name": "shop", "services": {"web": released, "db": {}}, **(changes or {})}
    return Project(platform(**settings), "shop", model)


def test_a_few_lines_are_enough() -> None:
    spec = DeploymentSpec.model_validate(
        {
            "service": "shop",
            "target": "staging",
            "release": {"version": "1.1.0"},
            "platform": {"kind": "compose", "service": "web", "listen": "127.0.0.1:8080"},
        }
    )
    assert of_kind(spec.platform, ComposePlatformSpec).files == ("docker-compose.yml",)
    assert DeploymentSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(PreconditionError, match="this is no LocalPlatform"):
        of_kind(spec.platform, LocalPlatformSpec)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image": "shop:{tag}"}, "no other braces"),
        ({"host": "ssh://a", "context": "b"}, "not by both"),
        ({"host": "ssh://a", "certificates": "certs"}, "begins with tcp://"),
        ({"shared": ["web"]}, "it cannot be shared"),
        ({"listen": "8080"}, "an address and a port"),
        ({"environment": {"PORT": "1"}}, "set by the platform itself"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        platform(**changes)


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "http://127.0.0.1:8080"),
        ({"listen": "0.0.0.0:80"}, "http://127.0.0.1:80"),
        ({"listen": "10.0.0.5:80"}, "http://10.0.0.5:80"),
        ({"listen": "0.0.0.0:80", "url": "https://shop.example.com"}, "https://shop.example.com"),
    ],
)
def test_users_are_reached_where_they_come_in(settings: dict[str, Any], url: str) -> None:
    assert platform(**settings).base_url == url


def test_its_paths_become_absolute() -> None:
    there = platform(files=["a.yml", "b.yml"], host="tcp://a:1", certificates="certs").located(
        lambda path: f"/base/{path}"
    )
    assert (there.files, there.certificates) == (("/base/a.yml", "/base/b.yml"), "/base/certs")


@pytest.mark.parametrize(
    ("released", "settings", "port"),
    [
        ({"ports": [{"target": 80, "published": "9000"}, {"target": 81, "published": "8080"}]}, {}, 81),
        ({"ports": [{"target": 53, "protocol": "udp"}], "expose": ["9090/tcp"]}, {}, 9090),
        ({"expose": ["9090"]}, {"port": 7000}, 7000),
    ],
)
def test_the_port_is_the_one_that_users_come_to(released: dict[str, Any], settings: dict[str, Any], port: int) -> None:
    assert project(released, **settings).port == port


def test_a_service_without_a_port_is_asked_for_one() -> None:
    with pytest.raises(PreconditionError, match=r"platform\.port"):
        _ = project({}).port


def test_an_instance_has_nothing_that_can_be_there_only_once() -> None:
    released = {
        "build": {"context": "."},
        "container_name": "shop",
        "ports": [{"target": 80, "published": "8080"}],
        "depends_on": {"db": {}},
        "environment": {"A": "1"},
        "restart": "no",
        "deploy": {"replicas": 3, "resources": {"limits": {"memory": "1"}}},
        "volumes": [{"type": "volume", "source": "data", "target": "/data"}, {"type": "bind", "source": "/a"}],
        "networks": {"inside": {"aliases": ["shop"]}, "default": None},
        "user": "1000",
    }
    about = {"networks": {"inside": {"internal": True}, "default": {"name": "shop_default"}}}
    found = project(released, about)
    template = found.template("sha256:1", 2.4)

    assert template.service == {
        "deploy": {"resources": {"limits": {"memory": "1"}}},
        "restart": "always",
        "stop_grace_period": "2s",
        "volumes": released["volumes"],
        "user": "1000",
    }
    assert template.networks == ["shop_default", "shop_inside"]
    assert template.volumes == {"data": "shop_data"}
    assert template.names == ["web", "shop"]
    assert found.shared == ["db"]
    assert project(released, about, shared=[]).shared == []


def test_values_are_what_the_file_means() -> None:
    assert project({"environment": {"A": "a$$b", "B": None}}).environment == {"A": "a$b"}


def test_a_digest_changes_with_what_the_file_says_of_the_service() -> None:
    assert project({"user": "1"}).digest() == project({"user": "1"}, {"x": 1}).digest()
    assert project({"user": "1"}).digest() != project({"user": "2"}).digest()


def test_what_is_no_yaml_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "docker-compose.yml"
    file.write_text("services:\n  web:\n    image: [a\n  db: 1\n")
    with pytest.raises(PreconditionError, match=rf"{file}:4: "):
        _see_yaml((str(file),))
    with pytest.raises(PreconditionError, match="cannot be read: No such file"):
        _see_yaml((str(tmp_path / "none.yml"),))


def test_connections_are_read_from_the_kernels_table() -> None:
    table = (
        b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        b"   0: 0A02A40A:23DC 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1\n"
        b"   1: 0202A40A:C001 0A02A40A:1F90 01 00000000:00000000 00:00000000 00000000     0        0 2\n"
        b"   2: 0202A40A:C002 0B02A40A:1F90 06 00000000:00000000 00:00000000 00000000     0        0 3\n"
    )
    assert list(_peers(table)) == [("10.164.2.10", 8080)]

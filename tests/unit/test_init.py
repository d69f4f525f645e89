"""A first spec file is made from what is there, is a spec, and writes over nothing."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cli import main
from cli.spec.reader import read_spec
from models.spec import DeploymentSpec

COMPOSE = """
services:
  web:
    image: registry.example.com:5000/acme/shop:1.4.2
    ports: ["127.0.0.1:8080:80/tcp"]
    healthcheck: {test: ["CMD-SHELL", "curl -f http://localhost:80/healthz || exit 1"]}
  db: {image: "postgres:16"}
"""
MANIFESTS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, namespace: shops}
spec:
  replicas: 3
  template:
    metadata: {labels: {app: shop, tier: web}}
    spec:
      containers:
        - {name: shop, image: "acme/shop:2.0.1", readinessProbe: {httpGet: {path: /ready, port: 80}}}
        - {name: sidecar, image: "acme/sidecar:1"}
---
apiVersion: v1
kind: Service
metadata: {name: shop-web, namespace: shops}
spec: {selector: {app: shop}, ports: [{port: 8000}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop-route, namespace: shops}
spec: {hostnames: [shop.example.com], rules: [{backendRefs: [{name: shop-web, port: 8000}]}]}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    here = tmp_path / "My Shop"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


def made(*arguments: str) -> DeploymentSpec:
    assert main.run(["init", *arguments]) == 0
    return read_spec("deployment.yaml", on_this_machine=False)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main.run(["init", *arguments]) == 2
    assert not Path("deployment.yaml").exists()
    return capsys.readouterr().err


def test_a_command_is_run_on_the_port_that_it_names(folder: Path) -> None:
    platform: Any = made("--", "python3", "-m", "http.server", "--port", "9000").platform

    assert platform.run == ("python3", "-m", "http.server", "--port", "$PORT")
    assert platform.listen == "127.0.0.1:9000"
    assert platform.directory == str(folder)


def test_a_command_without_a_port_is_told_how_it_hears_of_one() -> None:
    assert made("--", "node", "app.js").service == "my-shop"
    assert "name $PORT in platform.run" in Path("deployment.yaml").read_text()


def test_a_compose_file_gives_service_image_version_address_and_health() -> None:
    Path("compose.yaml").write_text(COMPOSE)
    spec = made()
    platform: Any = spec.platform

    assert (spec.service, spec.release.version) == ("web", "1.4.2")
    assert platform.image == "registry.example.com:5000/acme/shop:{version}"
    assert platform.listen == "127.0.0.1:8080"
    assert spec.verify.endpoints.health == "/healthz"


def test_which_of_several_services_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    Path("compose.yaml").write_text(COMPOSE.replace('"postgres:16"', '"postgres:16", ports: ["5432:5432"]'))

    assert "--service takes one of web, db" in refused(capsys)
    assert "has no service api; it has web, db" in refused(capsys, "compose.yaml", "--service", "api")


def test_manifests_give_deployment_service_route_and_probe() -> None:
    Path("manifests").mkdir()
    Path("manifests/shop.yaml").write_text(MANIFESTS)
    spec = made("manifests")
    platform: Any = spec.platform

    assert (platform.deployment, platform.service, platform.route) == ("shop", "shop-web", "shop-route")
    assert (platform.container, platform.image, platform.instances) == ("shop", "acme/shop:{version}", 3)
    assert (platform.url, platform.namespace) == ("http://shop.example.com", "shops")
    assert platform.manifests == str(Path("manifests").resolve())
    assert (spec.release.version, spec.verify.endpoints.health) == ("2.0.1", "/ready")


def test_the_schema_lies_where_the_first_line_says() -> None:
    made("--", "node", "app.js")
    first = Path("deployment.yaml").read_text().splitlines()[0]

    assert first == "# yaml-language-server: $schema=deployment.schema.json"
    assert "platform" in yaml.safe_load(Path("deployment.schema.json").read_text())["properties"]


def test_nothing_is_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    Path("deployment.yaml").write_text("mine")

    assert main.run(["init", "--", "node", "app.js"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert Path("deployment.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "there is no Compose file here"),
        (["app.py"], "a command is given with its program"),
        (["broken.yaml"], "cannot be read"),
        (["deployment/shop", "--context", "none"], "the cluster cannot be asked"),
    ],
)
def test_what_nothing_can_be_made_of_is_said(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(Path("none").resolve()))
    Path("app.py").write_text("print()")
    Path("broken.yaml").write_text("a: [")

    assert words in refused(capsys, *arguments)

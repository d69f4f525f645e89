"""What a revision is made of, worked out from what the user wrote; no cluster is asked."""

import re
from typing import Any

import pytest

from activities.platforms.kubernetes.config_copies import references
from activities.platforms.kubernetes.manifests import read_manifests
from activities.platforms.kubernetes.names import (
    HASH,
    ON,
    REVISION,
    TRAFFIC,
    copy_name,
    label_value,
    revision_name,
    slug,
)
from activities.platforms.kubernetes.objects import (
    IMAGE_DIGEST,
    choose_container,
    choose_port,
    image_of,
    make_deployment,
    make_service,
    traffic_selector,
)
from activities.platforms.kubernetes.state import KubernetesRevisionRecord
from models.errors import PreconditionError
from models.health import HealthSpec
from models.platforms import KubernetesPlatformSpec
from models.release import Fence, Order, Release, Revision
from models.secrets import Secret
from models.spec import Endpoints

DNS_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
IDS = ["1.1.0-abc123", "1.1.0_build.7-abc123", "v" * 63 + "-abc123", "2-1-0-abc123", "0-a"]


def platform(**settings: Any) -> KubernetesPlatformSpec:
    given = {"deployment": "shop", "image": "shop:{version}", "url": "http://127.0.0.1:8000", **settings}
    return KubernetesPlatformSpec.model_validate({"kind": "kubernetes", **given})


def revision(version: str = "1.1.0", digests: dict[str, str] | None = None, **settings: Any) -> Revision:
    release = Release(service="shop", version=version, digests=digests or {})
    return Revision(id=f"{version}-abc123", release=release, platform=platform(**settings))


def source() -> dict[str, Any]:
    container = {
        "name": "app",
        "image": "shop:1.0.0",
        "env": [{"name": "VERSION", "value": "1.0.0"}, {"name": "A", "value": "$(B)"}],
    }
    template = {"metadata": {"labels": {"app": "shop", HASH: "77"}}, "spec": {"containers": [container]}}
    return {
        "metadata": {
            "name": "shop",
            "labels": {"team": "a"},
            "annotations": {"deployment.kubernetes.io/revision": "4"},
        },
        "spec": {"replicas": 3, "paused": True, "selector": {"matchLabels": {"app": "shop"}}, "template": template},
    }


def made(of: Revision) -> dict[str, Any]:
    there = source()
    kept = KubernetesRevisionRecord(
        revision=of, deployment="shop-1", service="shop-1", selector=traffic_selector(of), container="app", port=8080
    )
    order = Order(service="shop", target="staging", platform=of.platform, fence=Fence(epoch=1, sequence=2))
    return make_deployment(there, there["spec"]["template"], kept, order, {"t": "shop.staging"})


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    return found


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("base", ["shop", "a.b", "x" * 63, "9lives"])
def test_each_revision_has_names_that_a_cluster_takes(base: str, id: str) -> None:
    name = revision_name(base, id)
    assert DNS_LABEL.fullmatch(name)
    # A pod's name is its Deployment's and 17 characters more.
    assert len(name) <= 46
    assert len(label_value(id)) <= 63


def test_no_two_revisions_share_a_name() -> None:
    ids = [*IDS, "1.1.0-build.7-abc123", "V" * 63 + "-abc123", "v" * 62 + "-abc123"]
    for names in (
        {revision_name("shop", id) for id in ids},
        {copy_name("c", id) for id in ids},
        {slug(id) for id in ids},
    ):
        assert len(names) == len(ids)
    assert revision_name("x" * 60, "1") != revision_name("x" * 61, "1")


def test_a_revision_keeps_the_users_labels_and_has_a_selector_of_its_own() -> None:
    deployment = made(revision())
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels == {"app": "shop", REVISION: "1.1.0-abc123", TRAFFIC: ON}
    assert deployment["spec"]["selector"]["matchLabels"] == {"app": "shop", REVISION: "1.1.0-abc123"}
    assert deployment["metadata"]["labels"]["team"] == "a"
    assert "deployment.kubernetes.io/revision" not in deployment["metadata"]["annotations"]
    assert (deployment["spec"]["replicas"], deployment["spec"].get("paused")) == (0, None)


def test_a_pinned_image_is_deployed_by_its_digest() -> None:
    pinned = revision(digests={IMAGE_DIGEST: "a" * 64})
    assert image_of(pinned, platform()) == f"shop:1.1.0@sha256:{'a' * 64}"
    assert container(made(pinned))["image"] == f"shop:1.1.0@sha256:{'a' * 64}"
    assert image_of(revision("1.0+7"), platform()) == "shop:1.0_7"


def test_the_environment_is_the_users_with_the_release_in_it() -> None:
    told = {"MODE": "fast", "PRICE": "$(A)", "KEY": Secret(secret="env:KEY")}
    env = container(made(revision(environment=told)))["env"]
    names = [each["name"] for each in env]
    assert len(set(names)) == len(names)
    assert {each["name"]: each.get("value") for each in env} == {
        "VERSION": "1.1.0",
        "REVISION": "1.1.0-abc123",
        "SERVICE": "shop",
        "TARGET": "staging",
        "MODE": "fast",
        # What the spec says is a text, and no reference to another variable.
        "PRICE": "$$(A)",
        "KEY": None,
        "A": "$(B)",
    }
    reference = next(each for each in env if each["name"] == "KEY")["valueFrom"]["secretKeyRef"]
    assert reference == {"name": "shop-env-1-1-0-abc123", "key": "KEY"}


def test_a_container_without_a_readiness_probe_gets_one() -> None:
    assert container(made(revision()))["readinessProbe"]["httpGet"] == {"path": "/ready", "port": 8080}
    silent = revision().model_copy(update={"endpoints": Endpoints(health=None, ready=None)})
    assert container(made(silent))["readinessProbe"]["tcpSocket"] == {"port": 8080}


@pytest.mark.parametrize(
    ("health", "endpoints", "asked"),
    [
        ({}, {}, {"httpGet": {"path": "/ready", "port": 8080}, "timeoutSeconds": 2}),
        ({"within": "3s"}, {}, {"httpGet": {"path": "/ready", "port": 8080}, "timeoutSeconds": 3}),
        ({"within": "300ms"}, {}, {"httpGet": {"path": "/ready", "port": 8080}, "timeoutSeconds": 1}),
        ({"status": 204}, {"ready": None}, {"httpGet": {"path": "/health", "port": 8080}, "timeoutSeconds": 2}),
        # A kubelet takes 200 to 399, and nothing else.
        ({"status": 401}, {"ready": None}, {"tcpSocket": {"port": 8080}, "timeoutSeconds": 2}),
    ],
)
def test_a_kubelet_asks_by_the_rule_where_it_can(
    health: dict[str, Any], endpoints: dict[str, Any], asked: dict[str, Any]
) -> None:
    of = revision().model_copy(
        update={"endpoints": Endpoints(**endpoints), "health": HealthSpec.model_validate(health).rule(None)}
    )
    probe = container(made(of))["readinessProbe"]
    assert {name: value for name, value in probe.items() if name not in ("periodSeconds", "failureThreshold")} == asked


def test_a_kubelet_sends_the_host_that_the_spec_names() -> None:
    of = revision().model_copy(update={"health": HealthSpec().rule("shop.example.com")})
    headers = container(made(of))["readinessProbe"]["httpGet"]["httpHeaders"]
    assert headers == [{"name": "Host", "value": "shop.example.com"}]


def test_the_revisions_service_has_the_users_ports_and_nothing_else_of_it() -> None:
    ports = [{"name": "web", "port": 80, "targetPort": "http", "nodePort": 30000}]
    users = {"spec": {"type": "LoadBalancer", "selector": {"app": "shop"}, "ports": ports}}
    of = revision()
    kept = KubernetesRevisionRecord(revision=of, deployment="d", service="s", selector=traffic_selector(of))
    service = make_service(kept, users, {"t": "x"}, Fence(epoch=1, sequence=1))
    assert service["spec"] == {
        "type": "ClusterIP",
        "selector": {REVISION: "1.1.0-abc123", TRAFFIC: ON},
        "ports": [{"name": "web", "port": 80, "targetPort": "http"}],
    }
    assert choose_port(platform(), users) == "http"
    assert choose_port(platform(port=8081), users) == 8081


def test_which_container_is_the_service_must_be_clear() -> None:
    two = {"spec": {"containers": [{"name": "app"}, {"name": "proxy"}]}}
    assert choose_container(two, platform(container="proxy")) == "proxy"
    with pytest.raises(PreconditionError, match=r"app, proxy: platform\.container must say"):
        choose_container(two, platform())
    with pytest.raises(PreconditionError, match="is not one of them"):
        choose_container(two, platform(container="db"))


def test_every_place_that_names_configuration_is_found() -> None:
    env = [
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c1", "key": "a"}}},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s1", "key": "b"}}},
        {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    sources = [{"configMapRef": {"name": "c2"}}, {"secretRef": {"name": "s2"}}]
    volumes = [
        {"name": "v1", "configMap": {"name": "c3"}},
        {"name": "v2", "secret": {"secretName": "s3"}},
        {"name": "v3", "projected": {"sources": [{"configMap": {"name": "c4"}}, {"secret": {"name": "s4"}}]}},
        {"name": "v4", "emptyDir": {}},
    ]
    template = {
        "spec": {
            "initContainers": [{"name": "init", "envFrom": [{"configMapRef": {"name": "c5"}}]}],
            "containers": [{"name": "app", "env": env, "envFrom": sources}],
            "volumes": volumes,
        }
    }
    for _, holder, key in references(template):
        holder[key] += "-copied"
    found = {(kind, holder[key]) for kind, holder, key in references(template)}
    assert found == {("ConfigMap", f"c{n}-copied") for n in range(1, 6)} | {
        ("Secret", f"s{n}-copied") for n in range(1, 5)
    }


def test_manifests_are_sorted_by_what_becomes_of_them(tmp_path: Any) -> None:
    (tmp_path / "all.yaml").write_text(
        """
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
---
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Service, metadata: {name: shop, namespace: here}}
  - {apiVersion: v1, kind: ConfigMap, metadata: {name: settings}}
  - {apiVersion: apps/v1, kind: Deployment, metadata: {name: worker}}
"""
    )
    (tmp_path / "route.json").write_text('{"apiVersion": "g/v1", "kind": "HTTPRoute", "metadata": {"name": "web"}}')
    (tmp_path / "notes.txt").write_text("no manifest")
    found = read_manifests(platform(manifests=str(tmp_path), route="web"), "here")
    assert found.deployment is not None and found.service is not None and found.route is not None
    assert list(found.configuration) == [("ConfigMap", "settings")]
    assert [each["metadata"]["name"] for each in found.others] == ["worker"]
    before = found.digest
    assert len(before) == 64 and read_manifests(platform(manifests=str(tmp_path), route="web"), "here").digest == before
    (tmp_path / "notes.txt").write_text("still no manifest")
    assert read_manifests(platform(manifests=str(tmp_path)), "here").digest == before
    (tmp_path / "route.json").write_text('{"apiVersion": "g/v2", "kind": "HTTPRoute", "metadata": {"name": "web"}}')
    assert read_manifests(platform(manifests=str(tmp_path)), "here").digest != before
    with pytest.raises(PreconditionError, match="for the namespace here, not there"):
        read_manifests(platform(manifests=str(tmp_path)), "there")


@pytest.mark.parametrize("text", ["- 1\n", "a: [", "kind: Service\n", "apiVersion: v1\nkind: X\nmetadata: text\n"])
def test_what_is_no_manifest_is_refused(tmp_path: Any, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(PreconditionError, match="manifests"):
        read_manifests(platform(manifests=str(tmp_path)), "here")
    with pytest.raises(PreconditionError, match="cannot be read"):
        read_manifests(platform(manifests=str(tmp_path / "missing")), "here")

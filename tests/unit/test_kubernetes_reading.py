"""What is read from a cluster, a registry and a gateway, and what is made of it; none of them is asked."""

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from activities.platforms.kubernetes.capacity import _over_quota
from activities.platforms.kubernetes.gateway_metrics import _TRAEFIK
from activities.platforms.kubernetes.guarded_write import (
    OwnedField,
    check_fence,
    digest,
    has_drifted,
    other_field_managers,
)
from activities.platforms.kubernetes.names import FENCE, WRITTEN
from activities.platforms.kubernetes.traffic import _owned, _unaccepted, percent
from activities.platforms.traefik.api import CounterReading, parse_metrics
from activities.preflight.registry import Registry
from models.errors import FencedOutError
from models.platforms import KubernetesPlatformSpec
from models.preflight.artifacts import ImageName
from models.release import Counters, Fence
from models.spec import DeploymentSpec


@pytest.mark.parametrize(
    ("reference", "registry", "repository", "tag"),
    [
        ("nginx", "registry-1.docker.io", "library/nginx", "latest"),
        ("acme/shop:1.0", "registry-1.docker.io", "acme/shop", "1.0"),
        ("docker.io/acme/shop:1.0", "registry-1.docker.io", "acme/shop", "1.0"),
        ("127.0.0.1:5000/shop", "127.0.0.1:5000", "shop", "latest"),
        ("registry.example/a/b/shop:2", "registry.example", "a/b/shop", "2"),
        ("localhost/shop:2@sha256:" + "a" * 64, "localhost", "shop", "2"),
    ],
)
def test_an_image_is_taken_apart(reference: str, registry: str, repository: str, tag: str) -> None:
    image = ImageName.of_runtime(reference)
    assert (image.host, image.repository, image.tag) == (registry, repository, tag)
    assert image.digest == ("sha256:" + "a" * 64 if "@" in reference else None)


@pytest.mark.parametrize(
    ("name", "scheme"), [("127.0.0.1:5000/x", "http"), ("localhost/x", "http"), ("a.b/x", "https")]
)
def test_only_loopback_is_asked_without_encryption(name: str, scheme: str) -> None:
    assert Registry(ImageName.of_runtime(name)).plain is (scheme == "http")


def test_percent_is_a_hundred_in_all() -> None:
    assert percent({"a": 1, "b": 2}) == {"a": 33, "b": 67}
    assert percent({"a": 1, "b": 1, "c": 1}) == {"a": 34, "b": 33, "c": 33}
    assert percent({"a": 0, "b": 5}) == {"b": 100}
    assert percent({}) == {}


def condition(kind: str, generation: int, status: str = "True") -> dict[str, Any]:
    return {"type": kind, "status": status, "observedGeneration": generation, "reason": "R", "message": "M"}


def test_a_route_counts_when_every_parent_has_accepted_its_newest_generation() -> None:
    def route(*conditions: dict[str, Any]) -> dict[str, Any]:
        return {"status": {"parents": [{"parentRef": {"name": "gw"}, "conditions": list(conditions)}]}}

    assert _unaccepted({}, 2) == "no gateway has said anything about it"
    assert "has not seen" in _unaccepted(route(condition("Accepted", 1), condition("ResolvedRefs", 2)), 2)
    assert "ResolvedRefs is False: R: M" in _unaccepted(
        route(condition("Accepted", 2), condition("ResolvedRefs", 2, "False")), 2
    )
    assert _unaccepted(route(condition("Accepted", 2), condition("ResolvedRefs", 2)), 2) == ""


def test_what_was_changed_by_somebody_else_is_seen_and_named() -> None:
    part = OwnedField("the route", lambda route: _owned(route, {"shop"}), "spec", "rules")
    rules: list[dict[str, Any]] = [
        {"backendRefs": [{"name": "shop", "weight": 100}]},
        {"backendRefs": [{"name": "other"}]},
    ]
    route: dict[str, Any] = {"spec": {"rules": rules}, "metadata": {}}
    assert not has_drifted(route, part)
    route["metadata"]["annotations"] = {WRITTEN: digest(part.owned(route))}
    rules[1]["backendRefs"] = []
    assert not has_drifted(route, part)
    rules[0]["backendRefs"] = [{"name": "shop", "weight": 50}, {"name": "other", "weight": 50}]
    assert has_drifted(route, part)
    route["metadata"]["managedFields"] = [
        {"manager": "kubectl-edit", "time": "2026-01-02T00:00:00Z", "fieldsV1": {"f:spec": {"f:rules": {}}}},
        {"manager": "kubectl-label", "time": "2026-01-03T00:00:00Z", "fieldsV1": {"f:metadata": {}}},
        {"manager": "deployment-specialist", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:rules": {}}}},
    ]
    assert other_field_managers(route, *part.fields) == ["kubectl-edit at 2026-01-02T00:00:00Z"]


def test_an_object_that_a_newer_effect_has_written_is_left_alone() -> None:
    newest = Fence(epoch=2, sequence=5)
    thing = {"metadata": {"annotations": {FENCE: newest.model_dump_json()}}}
    check_fence(thing, newest, "it")
    for late in (Fence(epoch=2, sequence=4), Fence(epoch=1, sequence=9)):
        with pytest.raises(FencedOutError, match="newer effect"):
            check_fence(thing, late, "it")


def test_a_quota_is_compared_with_what_is_needed_for_all_pods() -> None:
    status = {
        "hard": {"pods": "5", "requests.cpu": "1", "limits.memory": "1Gi"},
        "used": {"pods": "3", "requests.cpu": "600m"},
    }
    quotas = [{"metadata": {"name": "q"}, "spec": {}, "status": status}]
    requests, limits = {"cpu": Decimal("0.2")}, {"memory": Decimal(100 << 20)}
    assert _over_quota(quotas, requests, limits, 2) == []
    assert _over_quota(quotas, requests, limits, 3) == [
        "the quota q has 0.4 of requests.cpu left, and 0.6 are needed",
        "the quota q has 2 of pods left, and 3 are needed",
    ]
    assert _over_quota([{**quotas[0], "spec": {"scopes": ["BestEffort"]}}], requests, limits, 9) == []


def test_a_gateways_counters_are_added_up_over_its_names_and_lives() -> None:
    def metrics(started: float, **counted: int) -> tuple[str, dict[str, Counters]]:
        lines = [f"process_start_time_seconds {started}"]
        for label, number in counted.items():
            name = f"httproute-ns-app-gw-0-abc-svc-ns-{label.replace('_', '-')}@kubernetesgateway"
            lines.append(f'traefik_service_requests_total{{code="200",service="{name}"}} {number}')
        return parse_metrics("\n".join(lines), lambda service: service)

    book = CounterReading()
    for answer in (metrics(1, app_1_0=7), metrics(1, app_1_0=9, app_1_1=1), metrics(2, app_1_1=4)):
        book.enter("gw", *answer)
    found: dict[str, int] = {}
    for name, counters in book.totals().items():
        match = _TRAEFIK.search(name)
        assert match is not None
        found[match[1]] = found.get(match[1], 0) + counters.requests
    assert found == {"ns-app-1": 14}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("url", "http://shop/path", "without a path"),
        ("url", "ftp://shop", "without a path"),
        ("url", "http://shop:99999", "without a path"),
        ("image", "shop {version}", "an image is a reference"),
        ("port", 0, "between 1 and 65535"),
        ("port", "Not A Port", "at most 15 small letters"),
        ("service", "a.b", "small letters"),
        ("deployment", "a.b", "service must be given"),
        ("drift", "ignore", "one of stop, take-back"),
        ("counters", {"urls": []}, "at least 1"),
    ],
)
def test_a_spec_that_no_cluster_would_understand_is_refused(key: str, value: Any, said: str) -> None:
    given = {"kind": "kubernetes", "deployment": "shop", "image": "shop:{version}", "url": "http://127.0.0.1:8000"}
    with pytest.raises(ValidationError, match=said):
        KubernetesPlatformSpec.model_validate({**given, key: value})


def test_a_spec_survives_its_way_through_a_workflow_and_its_paths_become_absolute() -> None:
    platform = {
        "kind": "kubernetes",
        "deployment": "shop",
        "image": "shop:{version}",
        "url": "http://127.0.0.1:8000/",
        "manifests": "k8s",
        "counters": {"urls": ["http://127.0.0.1:9100/metrics"]},
        "reach": "pods",
        "drift": "take-back",
    }
    told = {"service": "shop", "target": "staging", "release": {"version": "1.1.0"}, "platform": platform}
    spec = DeploymentSpec.model_validate(told)
    assert DeploymentSpec.model_validate_json(spec.model_dump_json()) == spec
    located = spec.platform.located(lambda path: f"/specs/{path}")
    assert isinstance(located, KubernetesPlatformSpec)
    assert (located.manifests, located.kubeconfig, located.base_url) == ("/specs/k8s", None, "http://127.0.0.1:8000")

"""A folder of manifests that kustomize puts together: a release's template, and what is applied beside it as ours."""

from typing import Any

import pytest
import yaml

from tests.integration.kubernetes.product_env import APP, QUICK, RATE, ClusterEnv, OnCluster
from tests.support.kubernetes_manifests import budget
from tests.support.kubernetes_world import least_privilege
from tests.support.product_env import NEW, NEWER, OLD, ended
from tests.support.scenarios import side_by_side

pytestmark = [pytest.mark.platform("kubernetes"), pytest.mark.timeout(900)]


@side_by_side
async def test_a_kustomization_is_released_and_nothing_of_somebody_else_is_overwritten(living: ClusterEnv) -> None:
    service = living.service(QUICK, platform={"manifests": "manifests"})
    service.world.grant(service.namespace, with_budgets())
    kustomization(service, available=1)
    ended(await service.deploy(OLD, "rehearse.enabled=false"), "deployed", 0)
    assert {pod["metadata"]["labels"]["team"] for pod in service.pods(OLD)} == {"shop"}
    assert (available(service), managers(service)) == (1, {"deployment-specialist"})

    async with service.users(rate=RATE):
        kustomization(service, available=2)
        plan = await living.run("plan", str(service.spec), "--version", NEW)
        assert plan.code == 0, plan.err
        assert "PodDisruptionBudget app" in plan.out
        assert available(service) == 1
        ended(await service.deploy(NEW), "deployed", 0)
        await service.is_new(NEW)
        assert available(service) == 2

        body = {"spec": {"minAvailable": 0}}
        service.world.patch("PodDisruptionBudget", APP, service.namespace, body)
        document = ended(await service.deploy(NEWER), "preflight-failed", 14)
        assert "kubectl-edit" in document["failure"]["reason"], document["failure"]
        assert available(service) == 0
        ended(await service.deploy(NEWER, "platform.drift=take-back"), "deployed", 0)
        await service.is_new(NEWER)
        assert (available(service), managers(service)) == (2, {"deployment-specialist"})


def kustomization(service: OnCluster, available: int) -> None:
    """Writes what lies beside the spec file; the labels are kustomize's."""
    guard = budget(APP)
    guard["spec"]["minAvailable"] = available
    folder = service.write_manifests(guard)
    built = {
        "resources": sorted(path.name for path in folder.glob("*.yaml") if path.stem != "kustomization"),
        "labels": [{"pairs": {"team": "shop"}, "includeTemplates": True}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(built))


def with_budgets() -> dict[str, Any]:
    """The worker's Role, and what this kustomization needs beyond it."""
    role = least_privilege()
    role["rules"].append(
        {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": ["get", "patch", "create", "delete"]}
    )
    return role


def available(service: OnCluster) -> int:
    found = service.world.get("PodDisruptionBudget", APP, service.namespace)
    assert found is not None
    return int(found["spec"]["minAvailable"])


def managers(service: OnCluster) -> set[str]:
    """Who has written what the budget is to be."""
    found = service.world.get("PodDisruptionBudget", APP, service.namespace)
    assert found is not None
    return {each["manager"] for each in found["metadata"]["managedFields"] if each.get("subresource") != "status"}

"""Users' own objects: adopted without a restart, moved with a promotion, back with a rollback, never overwritten."""

from typing import Any

import httpx
import pytest

from models.report import Phase
from tests.integration.kubernetes.product_env import APP, QUICK, RATE, ClusterEnv, OnCluster
from tests.support.kubernetes_manifests import autoscaler, budget, config_map, secret
from tests.support.product_env import JUDGE, NEW, NEWER, OLD, ended, found
from tests.support.scenarios import side_by_side

pytestmark = [pytest.mark.platform("kubernetes"), pytest.mark.timeout(900)]

HALF: dict[str, Any] = {**QUICK, "steps": [{"weight": 50, "watch": "4s"}, {"weight": 100, "watch": "1s"}]}

# The users' own Service, which calls inside of the cluster go through, must not be led to the new version.
NOT_TO_THE_CANDIDATE = (
    "object.metadata.name != 'app' || !('deployment-specialist.io/revision' in object.spec.selector)"
    " || !object.spec.selector['deployment-specialist.io/revision'].startsWith('1.1.0')"
)


@side_by_side
async def test_a_deployment_that_was_never_ours_is_adopted_without_a_restart(living: ClusterEnv) -> None:
    service = living.service({**QUICK, "bake": "1m"})
    await service.applied()
    before = service.uids()
    plan = await living.run("plan", str(service.spec), "--version", NEW)
    assert plan.code == 0, plan.err
    assert service.uids() == before
    assert service.known() == {}
    async with service.users(rate=RATE):
        command = await service.deploying(NEW)
        await service.doing("bake: watched", seconds=90)
        assert service.uids(OLD) == before
        ended(await service.rollback(), "rolled-back", 10)
        ended(await command.done(), "rolled-back", 10)
        await service.is_old()
    assert service.uids() == before
    assert {pod["status"]["containerStatuses"][0]["restartCount"] for pod in service.pods()} == {0}


@side_by_side
async def test_a_promotion_restarts_nothing_that_serves(living: ClusterEnv) -> None:
    service = living.service({**QUICK, "bake": "5s"})
    await service.applied()
    async with service.users(rate=RATE):
        command = await service.deploying(NEW)
        await service.doing("step_50: watched", seconds=90)
        before = service.uids(NEW)
        ended(await command.done(), "deployed", 0)
        await service.is_new(NEW)
        assert service.uids() == before


@side_by_side
async def test_autoscaler_and_budget_go_on_working_and_move_with_the_promotion(living: ClusterEnv) -> None:
    service = living.service(QUICK)
    await service.applied()
    for document in (autoscaler(APP, least=2), budget(APP)):
        service.world.apply(document, service.namespace)
    await service.eventually(lambda: guarded(service) == 2)
    async with service.users(rate=RATE):
        ended(await service.deploy(NEW), "deployed", 0)
        await service.is_new(NEW)
        assert version_scaled(service) == NEW
        await service.eventually(lambda: guarded(service) == 2)
        ended(await service.rollback(), "rolled-back", 10)
        await service.is_old()
        assert version_scaled(service) == OLD
        await service.eventually(lambda: guarded(service) == 2)


@side_by_side
async def test_configuration_comes_back_with_a_rollback(living: ClusterEnv) -> None:
    service = living.service(QUICK)
    told = {"name": "APP_TOLD", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "told"}}}
    printed = {"name": "APP_PRINT", "valueFrom": {"secretKeyRef": {"name": "printed", "key": "text"}}}
    configure(service, "one")
    await service.applied(more_env=[told, printed])
    async with service.users(rate=RATE):
        configure(service, "two")
        ended(await service.deploy(NEW), "deployed", 0)
        assert await tell(service) == "two"
        configure(service, "three")
        ended(await service.deploy(NEWER), "deployed", 0)
        assert await tell(service) == "three"
        ended(await service.rollback(), "rolled-back", 10)
        await service.is_new(NEW)
        # Its pods were gone and came up again, with the ConfigMap of their own release.
        assert await tell(service) == "two"
        names = {reference(pod) for pod in service.pods()}
        assert all("settings" in name and name != "settings" for name in names), names


@pytest.mark.parametrize("policy", ["stop", "take-back"])
@side_by_side
async def test_a_route_that_somebody_edits_at_half_the_users_is_not_overwritten_blindly(
    living: ClusterEnv, policy: str
) -> None:
    # The watch would be the first to see it, and hold: the split is not the one that was asked for.
    strategy = {**HALF, "judge": {**JUDGE, "max_split_error": "100%"}}
    service = living.service(strategy, platform={"drift": policy})
    await service.applied()
    async with service.users(rate=RATE):
        command = await service.deploying(NEW)
        await service.doing("step_50: watched", seconds=90)
        edit(service, {NEW: 10, OLD: 90})
        if policy == "take-back":
            ended(await command.done(), "deployed", 0)
            await service.is_new(NEW)
            return
        # It stops, and stays as the person left it, until somebody decides.
        document = ended(await command.done(), "rollback-failed", 11)
        assert "changed by kubectl-edit" in document["failure"]["reason"]
        assert service.weights() == {OLD: 90, NEW: 10}
        edit(service, {NEW: 50, OLD: 50})
        decided = await living.run("resolve", service.subject, "retry", "--as", "ann")
        assert decided.code in (0, 10), decided.err
        await service.until(lambda report: report.phase is Phase.FINISHED, seconds=90, also_finished=True)
        await service.is_old()


@side_by_side
async def test_a_promotion_of_which_one_half_is_refused_leaves_users_with_the_old_version(
    living: ClusterEnv,
) -> None:
    service = living.service(QUICK)
    await service.applied()
    async with service.users(rate=RATE):
        with service.refusing("services", NOT_TO_THE_CANDIDATE):
            document = ended(await service.deploy(NEW), "rolled-back", 10)
            await service.is_old()
        ended(await service.deploy(NEWER), "deployed", 0)
        await service.is_new(NEWER)
    assert "refused by the tests" in document["failure"]["reason"]


@side_by_side
async def test_an_address_that_the_worker_does_not_reach_changes_nothing(living: ClusterEnv) -> None:
    service = living.service(QUICK)
    await service.applied()
    before = service.uids()
    async with service.users(rate=RATE):
        document = ended(await service.deploy(NEW, "platform.url=http://127.0.0.1:1"), "preflight-failed", 14)
        await service.is_old()
    assert "http://127.0.0.1:1 does not answer the worker" in document["failure"]["reason"]
    assert service.uids() == before


@side_by_side
async def test_permissions_that_are_missing_are_named_before_anything_changes(living: ClusterEnv) -> None:
    service = living.service(QUICK)
    await service.applied()
    service.may_not("httproutes", "update", "patch")
    async with service.users(rate=RATE):
        document = ended(await service.deploy(NEW), "preflight-failed", 14)
        await service.is_old()
    assert "httproutes" in document["failure"]["reason"]
    assert found(document, "preflight", "permissions")["verdict"] == "fail"


def configure(service: OnCluster, text: str) -> None:
    """What the user applies before a release."""
    service.world.apply(config_map("settings", told=text), service.namespace)
    service.world.apply(secret("printed", text=f"printing {text}"), service.namespace)


async def tell(service: OnCluster) -> str:
    """What the pods were told by their configuration; all the same."""
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        told = {(await client.get(service.url)).json()["told"] for _ in range(10)}
    assert len(told) == 1, told
    return str(told.pop())


def reference(pod: dict[str, Any]) -> str:
    """The ConfigMap that a pod was told by."""
    env = {each["name"]: each for each in pod["spec"]["containers"][0]["env"]}
    return str(env["APP_TOLD"]["valueFrom"]["configMapKeyRef"]["name"])


def guarded(service: OnCluster) -> int:
    """How many healthy pods the PodDisruptionBudget counts."""
    status = (service.world.get("PodDisruptionBudget", APP, service.namespace) or {}).get("status") or {}
    return int(status.get("currentHealthy") or 0)


def version_scaled(service: OnCluster) -> str:
    """The version whose Deployment the autoscaler scales."""
    scaler = service.world.get("HorizontalPodAutoscaler", APP, service.namespace)
    assert scaler is not None
    name = scaler["spec"]["scaleTargetRef"]["name"]
    deployment = service.world.get("Deployment", name, service.namespace)
    assert deployment is not None
    env = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    return str(next(each["value"] for each in env if each["name"] == "VERSION"))


def edit(service: OnCluster, weights: dict[str, int]) -> None:
    """Somebody with `kubectl edit`."""
    there = service.world.get("HTTPRoute", APP, service.namespace)
    assert there is not None
    rules = there["spec"]["rules"]
    for ref in rules[0]["backendRefs"]:
        ref["weight"] = weights[service.version_behind(ref["name"])]
    service.world.patch("HTTPRoute", APP, service.namespace, {"spec": {"rules": rules}})

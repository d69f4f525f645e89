"""The API server answers badly, or the worker dies between doing and writing down: it converges all the same."""

import asyncio

import pytest

from tests.integration.kubernetes.product_env import APP, QUICK, RATE, ClusterEnv, OnCluster
from tests.integration.kubernetes.troubled_api import Trouble, troubled
from tests.support.extent import chosen
from tests.support.product_env import NEW, ended, kill
from tests.support.scenarios import side_by_side

pytestmark = [pytest.mark.platform("kubernetes"), pytest.mark.timeout(900)]

KILLED = 9
TROUBLES = {
    "it asks for patience": Trouble(share=0.15, status=429, retry_after=1),
    "it breaks": Trouble(share=0.15, status=500),
    "it is being restarted": Trouble(share=0.15, status=503),
    "it executes and does not answer": Trouble(share=0.08, status=0),
    "somebody else always writes first": Trouble(share=0.3, status=409, changes_only=True),
}


@pytest.mark.parametrize(
    "what", chosen([*TROUBLES], "it executes and does not answer", "somebody else always writes first")
)
@side_by_side
async def test_a_deployment_converges_although_the_api_server_misbehaves(living: ClusterEnv, what: str) -> None:
    service = living.service(QUICK)
    await service.applied()
    async with troubled(living.world, TROUBLES[what]) as api, service.users(rate=RATE):
        service.reached_by(api.kubeconfig(service.folder / "troubled.kubeconfig"))
        ended(await service.deploy(NEW), "deployed", 0)
        await service.is_new(NEW)
        ended(await service.rollback(), "rolled-back", 10)
        await service.is_old()
    assert api.troubled > 5, f"only {api.troubled} of {api.asked} requests were troubled"
    assert api.fastest_burst() <= 200, "more requests in one second than any server grants"


@pytest.mark.parametrize("moment", ["its Deployment", "its Service", "the HTTPRoute"])
async def test_a_worker_killed_between_created_and_recorded_leaves_nothing_twice(
    living: ClusterEnv, moment: str
) -> None:
    service = living.service(QUICK)
    await service.applied()
    try:
        pid = await living.pid("worker")
        async with service.users(rate=RATE):
            command = await service.deploying(NEW)
            await service.eventually(lambda: _is_there(service, moment), seconds=60, every=0.005)
            await kill(pid, KILLED)
            ended(await command.done(), "deployed", 0)
            await service.is_new(NEW)
        assert await living.pid("worker") != pid
        deployments = [found["metadata"]["name"] for found in service.world.list("Deployment", service.namespace)]
        assert len([name for name in deployments if name != APP]) == 1, deployments
    finally:
        await asyncio.to_thread(service.remove)


def _is_there(service: OnCluster, moment: str) -> bool:
    if moment == "its Deployment":
        return len(service.world.list("Deployment", service.namespace)) == 2
    if moment == "its Service":
        return any(NEW.replace(".", "-") in name for name in _names(service, "Service"))
    route = service.world.get("HTTPRoute", APP, service.namespace)
    assert route is not None
    return len(route["spec"]["rules"][0]["backendRefs"]) == 2


def _names(service: OnCluster, kind: str) -> list[str]:
    return [str(found["metadata"]["name"]) for found in service.world.list(kind, service.namespace)]

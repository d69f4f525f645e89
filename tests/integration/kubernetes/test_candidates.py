"""What a candidate, or its cluster, can do wrong: told with its reason, and users meet none of it but a bad answer."""

import asyncio
from typing import Any

import pytest
import yaml

from tests.integration.kubernetes.product_env import QUICK, RATE, ClusterEnv
from tests.support.product_env import NEW, NEWER, OLD, ended, found
from tests.support.scenarios import side_by_side

pytestmark = [pytest.mark.platform("kubernetes"), pytest.mark.timeout(900)]

LONG: dict[str, Any] = {
    "kind": "canary",
    "steps": [{"weight": 25, "watch": "1m"}, {"weight": 100, "watch": "1s"}],
    "bake": "1s",
}


@side_by_side
async def test_a_candidate_that_crash_loops_after_it_was_ready_is_rolled_back(living: ClusterEnv) -> None:
    service = living.service(LONG)
    await service.applied()
    before = service.uids()
    async with service.users(bad=NEW, rate=RATE, forgiven=lambda record: record.status in (502, 503)):
        document = ended(await service.deploy(NEW, "platform.environment.APP_CRASH_AFTER_S=4"), "rolled-back", 10)
        await service.is_old()
    assert document["failure"]["type"] == "deployment_failed"
    assert found(document, "deploy", "step_25")["verdict"] == "fail"
    assert service.uids() == before


@side_by_side
async def test_a_candidate_that_crashes_at_once_is_not_waited_for(living: ClusterEnv) -> None:
    service = living.service(QUICK)
    await service.applied()
    service.crash.touch()
    async with service.users(rate=RATE):
        crashing = (f"platform.environment.APP_CRASH_IF={service.crash}", "strategy.deadline=5m")
        document = ended(await service.deploy(NEW, *crashing), "rolled-back", 10)
        await service.is_old()
    assert document["failure"]["type"] == "deployment_failed"
    assert "I was told to crash" in found(document, "deploy", "finished")["evidence"]["last_lines"]


@pytest.mark.parametrize("reason", ["Unschedulable", "CreateContainerConfigError"])
@side_by_side
async def test_a_pod_that_can_never_start_is_not_waited_for(living: ClusterEnv, reason: str) -> None:
    service = living.service(QUICK, platform={"manifests": "manifests"})
    await service.applied()
    folder = service.write_manifests()
    template = yaml.safe_load((folder / "deployment.yaml").read_text())
    pod = template["spec"]["template"]["spec"]
    if reason == "Unschedulable":
        pod["nodeSelector"] = {"nobody": "has-this-label"}
    else:
        # The image does not say who runs in it, which is root.
        pod["containers"][0]["securityContext"] = {"runAsNonRoot": True}
    (folder / "deployment.yaml").write_text(yaml.safe_dump(template))
    before = service.uids()
    async with service.users(rate=RATE):
        document = ended(await service.deploy(NEW, "strategy.deadline=5m"), "rolled-back", 10)
        await service.is_old()
    assert reason in document["failure"]["reason"]
    assert "not ready in time" not in document["failure"]["reason"]
    assert service.uids() == before


@side_by_side
async def test_an_image_that_cannot_be_pulled_changes_nothing(living: ClusterEnv) -> None:
    service = living.service(QUICK)
    await service.applied()
    before = service.uids()
    async with service.users(rate=RATE):
        document = ended(await service.deploy("9.9.9"), "preflight-failed", 14)
        await service.is_old()
    assert "9.9.9" in document["failure"]["reason"]
    assert service.uids() == before
    assert [each["metadata"]["name"] for each in service.world.list("Deployment", service.namespace)] == ["app"]


@side_by_side
async def test_an_image_that_vanishes_after_it_was_looked_at_ends_early_with_the_reason(living: ClusterEnv) -> None:
    # A registry that the worker cannot ask: what it holds is only known when a node pulls.
    nowhere = "127.0.0.1:1/nowhere:{version}"
    service = living.service(QUICK, platform={"image": nowhere})
    await service.applied()
    async with service.users(rate=RATE):
        done = await service.deploy(NEW, "strategy.deadline=5m")
        await service.is_old()
    # Whether preflight could tell or the node did: it never took five minutes, and the image is named.
    assert done.code in (10, 14), done.err
    assert "nowhere" in done.document["failure"]["reason"]


@side_by_side
async def test_a_quota_that_is_too_small_is_seen_before_anything_changes(living: ClusterEnv) -> None:
    service = living.service(QUICK)
    await service.applied()
    before = service.uids()
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"pods": "3"}},
    }
    service.world.apply(quota, service.namespace)
    await service.eventually(
        lambda: (service.world.get("ResourceQuota", "small", service.namespace) or {}).get("status", {}).get("used")
    )
    async with service.users(rate=RATE):
        document = ended(await service.deploy(NEW), "preflight-failed", 14)
        await service.is_old()
    assert "quota" in document["failure"]["reason"].lower()
    assert service.uids() == before
    assert [each["metadata"]["name"] for each in service.world.list("Deployment", service.namespace)] == ["app"]


@side_by_side
async def test_stable_pods_that_die_in_the_middle_of_a_canary_leave_a_whole_version(living: ClusterEnv) -> None:
    service = living.service({**LONG, "steps": [{"weight": 25, "watch": "8s"}, {"weight": 100, "watch": "1s"}]})
    await service.applied()
    killed = asyncio.Event()
    # While stable has no pod at all, its share of the users has nobody to answer.
    async with service.users(rate=RATE, forgiven=lambda record: killed.is_set() and record.version != NEW):
        command = await service.deploying(NEW)
        await service.doing("step_25: watched", seconds=90)
        killed.set()
        for pod in service.pods(OLD):
            service.world.delete("Pod", pod["metadata"]["name"], service.namespace, grace=0)
        done = await command.done()
        assert done.code in (0, 10), done.err
        await service.answering()
        await (service.is_new() if done.code == 0 else service.is_old())


@side_by_side
async def test_abort_retry_and_then_a_fix_over_the_aborted_release(living: ClusterEnv) -> None:
    service = living.service(LONG)
    await service.applied()
    async with service.users(rate=RATE):
        for _ in range(2):
            command = await service.deploying(NEW)
            await service.doing("step_25: watched", seconds=90)
            ended(await service.rollback(), "rolled-back", 10)
            ended(await command.done(), "rolled-back", 10)
            await service.is_old()
        ended(await service.deploy(NEWER, "strategy.steps.0.watch=1s"), "deployed", 0)
        await service.is_new(NEWER)


@side_by_side
async def test_a_new_release_while_another_has_a_quarter_of_the_users_is_refused_and_says_whose(
    living: ClusterEnv,
) -> None:
    service = living.service(LONG)
    await service.applied()
    other = service.beside(target="production")
    async with service.users(rate=RATE):
        command = await service.deploying(NEW)
        await service.doing("step_25: watched", seconds=90)
        same = await service.deploy(NEWER)
        assert same.code == 2, same.err
        assert service.subject in same.err
        # Somebody whose spec says that the same Deployment is another target.
        document = ended(await other.deploy(NEWER, "approvals.before=[]"), "preflight-failed", 14)
        assert service.subject in document["failure"]["reason"]
        assert service.weights() == {OLD: 75, NEW: 25}
        ended(await service.rollback(), "rolled-back", 10)
        ended(await command.done(), "rolled-back", 10)
        await service.is_old()

"""Users are led first, and what was done is noted after it: gateways hold back what is written next.

A worker that dies in between leaves a route that nobody has noted; what had users until then has its time all the same.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from activities.platforms.kubernetes.names import REVISION, label_value
from models.errors import UnavailableError
from models.platforms import KubernetesPlatformSpec
from models.release import Order, RestoreOrder, ShiftOrder
from tests.harness.kubernetes import KubernetesHarness
from tests.harness.target import Target, soon
from tests.integration.kubernetes.troubled_api import Trouble, TroubledApi, troubled
from tests.support.kubernetes_world import World

pytestmark = [pytest.mark.platform("kubernetes"), pytest.mark.timeout(300)]

AnyOrder = TypeVar("AnyOrder", bound=Order)
NOTHING = Trouble(share=0, status=500)
# The target's state is in a ConfigMap.
NOTES_ARE_LOST = Trouble(share=1, status=500, changes_only=True, only="/configmaps/")


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[Target]:
    """A target on a ground of its own."""
    ground = KubernetesHarness()
    found = Target(ground, tmp_path)
    try:
        yield found
    finally:
        await found.wipe()
        await ground.aclose()


async def test_the_route_is_the_first_thing_that_is_written(target: Target, tmp_path: Path) -> None:
    old, new = await target.live("1.0.0"), target.revision("1.1.0")
    await target.stage(new)
    for weight in (50, 100, 0):
        async with troubled(world_of(target), NOTHING) as api:
            order = target.order(ShiftOrder, candidate=new.id, stable=old.id, weight=weight)
            await target.platform.shift(through(api, order, tmp_path))
        first, *rest = (path.split("/")[-2] for path in api.changed)
        assert (first, set(rest)) == ("httproutes", {"services", "configmaps"}), api.changed


async def test_what_had_users_that_nobody_noted_has_its_time_all_the_same(target: Target, tmp_path: Path) -> None:
    old = await target.live("1.0.0", instances=1)
    before = await target.snapshot()
    new = target.revision("1.1.0", drain=timedelta(seconds=6))
    await target.stage(new)
    async with troubled(world_of(target), NOTES_ARE_LOST) as api:
        there = target.order(ShiftOrder, candidate=new.id, stable=old.id, weight=100)
        back = target.order(RestoreOrder, snapshot=before, deadline=soon(30))
        with pytest.raises(UnavailableError):
            await target.platform.shift(through(api, there, tmp_path))
        assert await target.shares(20) == {"1.1.0": 100}
        slow = asyncio.create_task(target.ask("/slow?seconds=5"))
        await asyncio.sleep(0.3)
        with pytest.raises(UnavailableError):
            await target.platform.restore(through(api, back, tmp_path))
    assert await target.shares(20) == {"1.0.0": 100}

    began = time.monotonic()
    await target.retire(new, forget=True)

    assert time.monotonic() - began >= 5
    answer = await slow
    assert (answer.status_code, answer.json()["version"]) == (200, "1.1.0")


async def test_where_users_were_led_to_and_nobody_noted_is_where_the_next_deployment_begins(
    target: Target, tmp_path: Path
) -> None:
    old, new = await target.live("1.0.0", instances=1), target.revision("1.1.0")
    await target.stage(new)
    async with troubled(world_of(target), NOTES_ARE_LOST) as api:
        order = target.order(ShiftOrder, candidate=new.id, stable=old.id, weight=100)
        with pytest.raises(UnavailableError):
            await target.platform.shift(through(api, order, tmp_path))

    await target.stage(target.revision("1.2.0"))

    # Calls inside of the cluster go where the route leads.
    assert isinstance(new.platform, KubernetesPlatformSpec)
    users = world_of(target).get("Service", new.platform.service_name, new.platform.namespace or "")
    assert users is not None
    assert users["spec"]["selector"][REVISION] == label_value(new.id)
    assert (await target.snapshot()).weights == {new.id: 100}


def world_of(target: Target) -> World:
    """The cluster of the target's ground."""
    assert isinstance(target.ground, KubernetesHarness)
    return target.ground.world


def through(api: TroubledApi, order: AnyOrder, folder: Path) -> AnyOrder:
    """The order, for a worker that reaches the API server by the proxy."""
    kubeconfig = api.kubeconfig(folder / f"{api.port}.kubeconfig")
    return order.model_copy(update={"platform": order.platform.model_copy(update={"kubeconfig": kubeconfig})})

"""An autoscaler follows the workload that serves: it stays on stable while a candidate is tried, and moves with it."""

from collections.abc import Collection
from typing import Any

from activities.platforms.kubernetes.api import Json
from activities.platforms.kubernetes.cluster import Cluster
from activities.platforms.kubernetes.guarded_write import OwnedField, write
from models.platforms.kubernetes import Drift
from models.release import Fence


async def scalers_of(cluster: Cluster, deployments: Collection[str]) -> list[Json]:
    """The HorizontalPodAutoscalers that scale one of these Deployments."""
    return [one for one in await cluster.api.list(cluster.scalers()) if _scales(one, deployments)]


async def move_scalers(cluster: Cluster, deployments: Collection[str], to: str, fence: Fence, drift: Drift) -> None:
    """Let what scales one of these Deployments scale that one; its limits and metrics stay as they are."""
    for one in await scalers_of(cluster, [name for name in deployments if name != to]):
        name = one["metadata"]["name"]

        def change(scaler: Json) -> None:
            if _scales(scaler, deployments):
                scaler["spec"]["scaleTargetRef"]["name"] = to

        part = OwnedField(f"the target of the HorizontalPodAutoscaler {name}", _target, "spec", "scaleTargetRef")
        await write(cluster, cluster.scalers(name), part, change, fence, drift)


def _target(scaler: Json) -> Any:
    return scaler["spec"]["scaleTargetRef"]["name"]


def _scales(scaler: Json, deployments: Collection[str]) -> bool:
    reference = scaler["spec"]["scaleTargetRef"]
    return reference.get("kind") == "Deployment" and reference.get("name") in deployments

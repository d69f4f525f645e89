"""Two targets that move the same Deployment, Service or route would undo each other: the first one has it.

Each target's state is in its namespace, for everybody of ours to read.
"""

from pydantic import ValidationError

from activities.platforms.kubernetes.cluster import Cluster
from activities.platforms.kubernetes.names import MANAGED_BY, OURSELVES, state_configmap_name
from activities.platforms.kubernetes.state import KubernetesTargetState
from models.errors import PreconditionError
from models.platforms import KubernetesPlatformSpec
from models.release import Order


async def other_holder(cluster: Cluster, platform: KubernetesPlatformSpec, service: str, target: str) -> str:
    """Whose the Deployment, the Service or the route is, as `service/target`, with its split; empty when nobody's."""
    ours = state_configmap_name(service, target)
    for found in await cluster.api.list(cluster.core("configmaps"), {MANAGED_BY: OURSELVES}):
        name, text = found["metadata"]["name"], (found.get("data") or {}).get("state")
        if name == ours or not text or not name.startswith(f"{OURSELVES}."):
            continue
        try:
            state = KubernetesTargetState.model_validate_json(text)
        except ValidationError:
            continue
        if any(_meet(platform, kept.revision.platform) for kept in state.revisions.values()):
            split = ", ".join(f"{id} has {weight} %" for id, weight in state.weights.items())
            return f"{name.removeprefix(f'{OURSELVES}.').replace('.', '/', 1)}{f' ({split})' if split else ''}"
    return ""


async def claim(cluster: Cluster, platform: KubernetesPlatformSpec, order: Order) -> None:
    """See that nobody else has what the spec names.

    Raises:
        PreconditionError: somebody has.
    """
    holder = await other_holder(cluster, platform, order.service, order.target)
    if holder:
        raise PreconditionError(f"the Deployment {platform.deployment}, its Service or its route belongs to {holder}")


def _meet(ours: KubernetesPlatformSpec, theirs: object) -> bool:
    if not isinstance(theirs, KubernetesPlatformSpec):
        return False
    same_route = ours.route is not None and ours.route == theirs.route
    return same_route or ours.deployment == theirs.deployment or ours.service_name == theirs.service_name

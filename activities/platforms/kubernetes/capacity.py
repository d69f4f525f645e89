"""For a while both revisions run: there must be room for both, in the namespace's quota and on the nodes."""

import asyncio
from collections.abc import Iterable
from decimal import Decimal

from kubernetes.utils.quantity import parse_quantity

from activities.platforms.kubernetes.api import Json
from activities.platforms.kubernetes.cluster import Cluster
from models.errors import PreconditionError
from models.spec import DeploymentSpec, StrategyKind

_COUNTED = ("cpu", "memory", "ephemeral-storage")


def surge(spec: DeploymentSpec, *, all_stay: bool) -> int:
    """How many pods there are at most beside those that serve now.

    Args:
        spec: of the deployment.
        all_stay: those that serve now do not end one by one.
    """
    one_by_one = spec.strategy.kind is StrategyKind.ROLLING and not all_stay
    return 1 if one_by_one else spec.platform.instances


async def lacking(cluster: Cluster, template: Json, pods: int) -> tuple[list[str], str]:
    """What is missing for so many pods more, in sentences; and what could not be looked at."""
    requests, limits = _sum(template, "requests"), _sum(template, "limits")
    quotas, (short, unseen) = await asyncio.gather(
        cluster.api.list(cluster.core("resourcequotas")), _on_nodes(cluster, requests, pods)
    )
    return [*_over_quota(quotas, requests, limits, pods), *short], unseen


def _over_quota(quotas: list[Json], requests: dict[str, Decimal], limits: dict[str, Decimal], pods: int) -> list[str]:
    wanted = {"pods": Decimal(pods), "count/pods": Decimal(pods)}
    wanted |= {f"requests.{name}": amount * pods for name, amount in requests.items()}
    wanted |= {name: amount * pods for name, amount in requests.items()}
    wanted |= {f"limits.{name}": amount * pods for name, amount in limits.items()}
    wanted |= {"count/deployments.apps": Decimal(1), "services": Decimal(1), "count/services": Decimal(1)}
    found = []
    for quota in quotas:
        if quota["spec"].get("scopes") or quota["spec"].get("scopeSelector"):
            continue  # for some pods only: the cluster itself will say
        hard, used = quota.get("status", {}).get("hard") or {}, quota.get("status", {}).get("used") or {}
        for name in hard.keys() & wanted.keys():
            left = parse_quantity(hard[name]) - parse_quantity(used.get(name, "0"))
            if wanted[name] > left:
                said = f"the quota {quota['metadata']['name']} has {left.normalize():f} of {name} left"
                found.append(f"{said}, and {wanted[name].normalize():f} are needed")
    return sorted(found)


async def _on_nodes(cluster: Cluster, requests: dict[str, Decimal], pods: int) -> tuple[list[str], str]:
    try:
        nodes, running = await asyncio.gather(cluster.api.list("/api/v1/nodes"), cluster.api.list("/api/v1/pods"))
    except PreconditionError:
        return [], "the nodes could not be looked at: this account may not list nodes and all pods"
    fits = sum(_room(node, running, requests) for node in nodes if _takes_pods(node))
    if fits >= pods:
        return [], ""
    return [f"the nodes have room for {fits} more pods with these requests, and {pods} are needed"], ""


def _room(node: Json, running: Iterable[Json], requests: dict[str, Decimal]) -> int:
    allocatable = node.get("status", {}).get("allocatable") or {}
    here = [
        pod
        for pod in running
        if pod["spec"].get("nodeName") == node["metadata"]["name"]
        and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
    ]
    room = [Decimal(parse_quantity(allocatable.get("pods", "110"))) - len(here)]
    for name, amount in requests.items():
        if amount and name in allocatable:
            taken = sum((_sum(pod, "requests").get(name, Decimal(0)) for pod in here), Decimal(0))
            room.append((parse_quantity(allocatable[name]) - taken) // amount)
    return max(0, int(min(room)))


def _takes_pods(node: Json) -> bool:
    ready = any(
        one.get("type") == "Ready" and one.get("status") == "True"
        for one in node.get("status", {}).get("conditions") or ()
    )
    return ready and not node["spec"].get("unschedulable")


def _sum(pod: Json, kind: str) -> dict[str, Decimal]:
    """What all containers of a pod ask for together."""
    found: dict[str, Decimal] = {}
    for container in pod["spec"].get("containers") or ():
        asked = (container.get("resources") or {}).get(kind) or {}
        for name in asked.keys() & set(_COUNTED):
            found[name] = found.get(name, Decimal(0)) + parse_quantity(asked[name])
    return found

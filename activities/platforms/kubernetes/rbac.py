"""A verb that the account may not do is found out half way, or here.

The list is exactly what the platform's files ask of the API server; `deploy/kubernetes/` grants the same, and what is
good to have.
"""

import asyncio

from activities.platforms.kubernetes.cluster import Cluster
from models.platforms import KubernetesPlatformSpec

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
# API group, resource → verbs. A subresource follows a slash.
Verbs = dict[tuple[str, str], tuple[str, ...]]
NEEDED: Verbs = {
    ("", "configmaps"): ("get", "list", "create", "update", "delete"),
    ("", "secrets"): ("get", "create", "delete"),
    ("", "services"): ("get", "list", "create", "update", "delete"),
    ("", "pods"): ("get", "list", "patch", "delete"),
    ("", "pods/log"): ("get",),
    ("", "resourcequotas"): ("list",),
    ("apps", "deployments"): ("get", "list", "create", "patch", "delete"),
    ("apps", "replicasets"): ("list",),
    ("discovery.k8s.io", "endpointslices"): ("list",),
    ("autoscaling", "horizontalpodautoscalers"): ("get", "list", "update"),
    ("policy", "poddisruptionbudgets"): ("list",),
}
THROUGH_THE_API: Verbs = {("", "pods/proxy"): ("get",)}
WITH_A_ROUTE: Verbs = {("gateway.networking.k8s.io", "httproutes"): ("get", "update")}
WITH_ITS_OWN_ROUTE: Verbs = {("gateway.networking.k8s.io", "httproutes"): ("get", "create", "update", "delete")}
# Saves requests where it is granted, and is not asked for: a namespace whose Role is older goes on without.
READ_TOGETHER: Verbs = {("gateway.networking.k8s.io", "httproutes"): ("list",)}


def needed(
    platform: KubernetesPlatformSpec, *, through_api: bool, makes_route: bool
) -> dict[tuple[str, str], tuple[str, ...]]:
    """What the account must be permitted to do in the namespace."""
    route = (WITH_ITS_OWN_ROUTE if makes_route else WITH_A_ROUTE) if platform.route else {}
    return {**NEEDED, **(THROUGH_THE_API if through_api else {}), **route}


async def missing(cluster: Cluster, wanted: Verbs) -> list[str]:
    """What of it the account may not do, like `patch deployments.apps`."""
    asked = [(group, resource, verb) for (group, resource), verbs in wanted.items() for verb in verbs]
    allowed = await asyncio.gather(*(_may(cluster, *each) for each in asked))
    denied = (each for each, may in zip(asked, allowed, strict=True) if not may)
    return [f"{verb} {resource}{f'.{group}' if group else ''}" for group, resource, verb in denied]


async def _may(cluster: Cluster, group: str, resource: str, verb: str) -> bool:
    name, _, subresource = resource.partition("/")
    attributes = {
        "namespace": cluster.namespace,
        "group": group,
        "resource": name,
        "verb": verb,
        **({"subresource": subresource} if subresource else {}),
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return bool((await cluster.api.create(REVIEWS, body)).get("status", {}).get("allowed"))

"""A Deployment that was never ours serves users: it becomes the stable revision as it is, without a restart.

Its pods are told apart by the hash that its own ReplicaSet gives them, so nothing about its template changes. What it
is, it is asked for: which version it reports, and which endpoints it has.
"""

import hashlib

from activities.platforms.kubernetes.api import Json
from activities.platforms.kubernetes.cluster import Cluster
from activities.platforms.kubernetes.names import HASH, REVISION, revision_name
from activities.platforms.kubernetes.objects import choose_container, choose_port
from activities.platforms.kubernetes.pods import Pods, is_ready
from activities.platforms.kubernetes.state import KubernetesRevisionRecord, KubernetesTargetState
from models.platforms import KubernetesPlatformSpec
from models.release import Order, Release, Revision

_MOST_INSTANCES = 32


async def find_running(
    cluster: Cluster, pods: Pods, order: Order, platform: KubernetesPlatformSpec, service: Json | None
) -> KubernetesRevisionRecord | None:
    """The revision that the spec's Deployment is; None when there is none, or it has no pods.

    Changes nothing.
    """
    deployment = await cluster.api.get(cluster.apps("deployments", platform.deployment))
    if deployment is None or service is None or not int(deployment["spec"].get("replicas") or 0):
        return None
    labels = dict(deployment["spec"]["selector"].get("matchLabels") or {})
    if REVISION in labels:
        return None  # one of ours, of another target
    selector = {**labels, HASH: await current_hash(cluster, deployment)}
    container = choose_container(deployment["spec"]["template"], platform)
    image = next(e["image"] for e in deployment["spec"]["template"]["spec"]["containers"] if e["name"] == container)
    uid = f"{deployment['metadata']['uid']} {selector[HASH]}"
    id = f"{_tag(image)}-{hashlib.sha256(uid.encode()).hexdigest()[:6]}".lower().replace("+", "_")
    kept = KubernetesRevisionRecord(
        revision=Revision(
            id=id,
            release=Release(service=order.service, version=_tag(image)),
            platform=platform.model_copy(
                update={
                    "image": image,
                    "instances": min(_MOST_INSTANCES, int(deployment["spec"]["replicas"])),
                    "environment": {},
                    "manifests": None,
                }
            ),
        ),
        deployment=platform.deployment,
        service=revision_name(platform.service_name, id),
        selector=selector,
        adopted=True,
        container=container,
        port=choose_port(platform, service),
    )
    return await _asked(pods, kept, order)


async def current_hash(cluster: Cluster, deployment: Json) -> str:
    """What the pods of the Deployment's newest ReplicaSet are told apart by; empty while it has none."""
    selector = deployment["spec"]["selector"].get("matchLabels") or {}
    found = await cluster.api.list(cluster.apps("replicasets"), selector)
    uid = deployment["metadata"]["uid"]
    owned = [one for one in found if any(o.get("uid") == uid for o in one["metadata"].get("ownerReferences") or ())]
    newest = max(owned, key=lambda one: int(_revision(one)), default=None)
    return str(newest["metadata"]["labels"].get(HASH, "")) if newest else ""


def resume(state: KubernetesTargetState, running: KubernetesRevisionRecord | None) -> None:
    """Take what runs for stable where nothing is known of it, or where its owner has rolled it on since."""
    if running is None or running.revision.id in state.revisions:
        return
    stable = state.revisions.get(state.stable or "")
    if stable is not None and not stable.adopted:
        return
    if stable is not None:
        del state.revisions[stable.revision.id]
    id = running.revision.id
    state.revisions = {id: running, **state.revisions}
    state.stable, state.bound = id, id
    state.weights = {id: 100}


async def _asked(pods: Pods, kept: KubernetesRevisionRecord, order: Order) -> KubernetesRevisionRecord:
    ready = [pod for pod in await pods.of(kept) if is_ready(pod)]
    if not ready:
        return kept
    # What nobody has written a rule for: whatever it answers now serves users.
    rule = order.health.without_verdict()
    kept = kept.model_copy(update={"revision": kept.revision.model_copy(update={"health": rule})})
    endpoints, version = await pods.found(kept, ready[0], order.endpoints)
    release = kept.revision.release.model_copy(update={"version": version or kept.revision.release.version})
    revision = kept.revision.model_copy(update={"endpoints": endpoints, "release": release})
    return kept.model_copy(update={"revision": revision})


def _tag(image: str) -> str:
    name, _, tag = image.partition("@")[0].rpartition(":")
    # What follows the last colon may also be a registry's port.
    return tag if name and "/" not in tag else "adopted"


def _revision(replica_set: Json) -> str:
    return str((replica_set["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision") or "0")

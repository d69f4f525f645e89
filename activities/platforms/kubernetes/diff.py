"""Who approves a deployment wants to see what it changes in the cluster, before it does: line by line, as a diff.

What is going to be made or applied is tried with a dry run on the server, with all its defaults, webhooks and quotas.
What is going to be written in the middle of the deployment is foretold.
"""

import asyncio
import copy
from collections.abc import Iterator
from typing import Any

from activities.platforms.kubernetes.api import Json
from activities.platforms.kubernetes.autoscalers import scalers_of
from activities.platforms.kubernetes.cluster import Cluster
from activities.platforms.kubernetes.config_copies import references
from activities.platforms.kubernetes.context import Target
from activities.platforms.kubernetes.manifests import Manifests, apply_others
from activities.platforms.kubernetes.names import NOBODY, REVISION, target_label
from activities.platforms.kubernetes.objects import image_of, make_deployment, make_service
from activities.platforms.kubernetes.prepare import bound
from activities.platforms.kubernetes.state import KubernetesRevisionRecord, KubernetesTargetState
from models.errors import PreconditionError, WriteConflictError
from models.release import Release, Revision
from models.spec import DeploymentSpec

MOST_LINES = 20
LONGEST_VALUE = 120
_OWN_TO_THE_SERVER = frozenset({"metadata", "status"})


async def foresee(target: Target, spec: DeploymentSpec) -> list[str]:
    """What is going to change, line by line.

    Raises:
        PreconditionError, DriftError: the cluster would not take it.
    """
    manifests = await target.preparing.manifests()
    source, users, state = await asyncio.gather(
        target.preparing.source(manifests), target.preparing.users_service(manifests), target.known()
    )
    kept = target.preparing.plan(_revision(spec), source, users)
    lines = [*await _made(target, kept, source, users, manifests), *await _traffic(target, state, manifests)]
    lines += await _others(target, manifests)
    return [*lines, *await _followers(target.cluster, target.platform.deployment, state, source)]


def _revision(spec: DeploymentSpec) -> Revision:
    """The revision as it is going to be; only its id will end otherwise."""
    release = Release(service=spec.service, version=spec.release.version)
    return Revision(
        id=f"{spec.release.version}-000000".lower().replace("+", "_"),
        release=release,
        platform=spec.platform,
        endpoints=spec.verify.endpoints,
        health=spec.verify.rule,
    )


async def _made(
    target: Target, kept: KubernetesRevisionRecord, source: Json, users: Json, manifests: Manifests
) -> list[str]:
    cluster, store = target.cluster, target.store
    template = copy.deepcopy(source["spec"]["template"])
    deployment = make_deployment(source, template, kept, target.order, store.label)
    service = make_service(kept, users, store.label, store.fence)
    await asyncio.gather(
        _try(cluster, cluster.apps("deployments"), deployment), _try(cluster, cluster.core("services"), service)
    )
    name, own = f"{target.platform.deployment}-…", f"{target.platform.service_name}-…"
    version = kept.revision.release.version
    lines = [
        f"+ Deployment {name} for {version}: image {image_of(kept.revision, target.platform)}",
        f"+ Service {own} for the pods of {version}",
    ]
    there = next(each for each in source["spec"]["template"]["spec"]["containers"] if each["name"] == kept.container)
    if not there.get("readinessProbe"):
        lines.append(f"  {name}: the container {kept.container} has no readinessProbe and gets one")
    named = sorted({(kind, str(holder[key])) for kind, holder, key in references(template)})
    where = {True: "from the manifests", False: "as it is in the cluster"}
    return [
        *lines,
        *(f"+ {kind} {each}-…, a copy {where[(kind, each) in manifests.configuration]}" for kind, each in named),
    ]


async def _try(cluster: Cluster, collection: str, thing: Json) -> None:
    try:
        await cluster.api.create(collection, thing, dry_run=True)
    except WriteConflictError as error:
        raise PreconditionError(f"{thing['kind']} {thing['metadata']['name']} is there already") from error


async def _traffic(target: Target, state: KubernetesTargetState, manifests: Manifests) -> list[str]:
    cluster, platform = target.cluster, target.platform
    service, route = await asyncio.gather(target.traffic.users_service(), target.traffic.users_route())
    label, lines = target_label(target.store.service, target.store.target), []
    if service is None and manifests.service is not None:
        await _try(cluster, cluster.core("services"), bound(manifests.service, {REVISION: NOBODY}, label))
        lines.append(f"+ Service {platform.service_name}, made from the manifests")
    else:
        lines.append(f"~ Service {platform.service_name}: its selector is bound to one revision at a time")
    if platform.route is None:
        return lines
    if route is None and manifests.route is None:
        raise PreconditionError(f"there is no HTTPRoute {platform.route} in the namespace {cluster.namespace}")
    if route is None and manifests.route is not None:
        await _try(cluster, cluster.route("x").rpartition("/")[0], bound(manifests.route, None, label))
        lines.append(f"+ HTTPRoute {platform.route}, made from the manifests")
    elif route is not None:
        now = ", ".join(f"{id} {weight} %" for id, weight in (await target.traffic.weights(state)).items())
        lines.append(f"~ HTTPRoute {platform.route}: the weights of its backendRefs{f', now {now}' if now else ''}")
    return lines


async def _others(target: Target, manifests: Manifests) -> list[str]:
    label = target_label(target.store.service, target.store.target)
    lines: list[str] = []
    for path, before, now in await apply_others(target.cluster, target.platform, manifests, label, dry_run=True):
        named = f"{now.get('kind')} {path.rpartition('/')[2]}"
        if before is None:
            lines.append(f"+ {named}, from the manifests")
            continue
        # A Secret's value is shown to nobody.
        found = ["its data"] if now.get("kind") == "Secret" and _bare(before) != _bare(now) else []
        found = found or list(_differences(_bare(before), _bare(now), ""))
        lines += [f"~ {named}: {each}" for each in found[:MOST_LINES]]
        if len(found) > MOST_LINES:
            lines.append(f"~ {named}: and {len(found) - MOST_LINES} more")
    return lines


async def _followers(cluster: Cluster, deployment: str, state: KubernetesTargetState, source: Json) -> list[str]:
    """What points at the workload, and whether it goes on doing so."""
    stable = state.revisions.get(state.stable or "")
    names = {deployment, *([stable.deployment] if stable else [])}
    scalers, budgets = await asyncio.gather(scalers_of(cluster, names), cluster.api.list(cluster.budgets()))
    lines = [f"~ HorizontalPodAutoscaler {one['metadata']['name']}: follows when promoted" for one in scalers]
    labels = source["spec"]["template"].get("metadata", {}).get("labels") or {}
    for one in budgets:
        wanted = (one["spec"].get("selector") or {}).get("matchLabels") or {}
        if wanted and wanted.items() <= labels.items():
            lines.append(f"  PodDisruptionBudget {one['metadata']['name']}: covers old and new pods alike")
    if stable is not None and stable.adopted:
        stays = "its pods all stay until the new release has everything"
        lines.append(f"  Deployment {stable.deployment}: goes on as it is, with its own configuration; {stays}")
    return lines


def _bare(thing: Json) -> Json:
    return {key: value for key, value in thing.items() if key not in _OWN_TO_THE_SERVER}


def _differences(before: Any, now: Any, where: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from _differences(before.get(key), now.get(key), f"{where}.{key}" if where else str(key))
    elif before != now:
        yield f"{where}: {_short(before)} → {_short(now)}"


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"

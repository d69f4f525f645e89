"""A rollback must bring back the configuration, not only the code: each revision has ConfigMaps and Secrets of its own.

What a pod template refers to is copied when the revision is staged, immutable, and the template is led to the copies.
A Secret's value goes from one object into the other and nowhere else.
"""

import base64
from collections.abc import Iterator

from activities.platforms.kubernetes.api import Json
from activities.platforms.kubernetes.cluster import Cluster
from activities.platforms.kubernetes.manifests import Manifests
from activities.platforms.kubernetes.names import copy_name
from activities.secrets.resolver import resolve
from models.errors import PreconditionError, WriteConflictError
from models.release import Revision
from models.secrets import Secret

_KINDS = {"ConfigMap": "configmaps", "Secret": "secrets"}
# The cluster's own: they follow the cluster, not the release.
_OF_THE_CLUSTER = frozenset({"kube-root-ca.crt", "openshift-service-ca.crt"})
_OF_AN_ACCOUNT = "kubernetes.io/service-account-token"
ENVIRONMENT = "env"


def references(template: Json) -> Iterator[tuple[str, Json, str]]:
    """Each place in a pod template that names a ConfigMap or a Secret: its kind, and where the name stands."""
    spec = template["spec"]
    for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
        for variable in container.get("env") or ():
            source = variable.get("valueFrom") or {}
            yield from _at(source, "configMapKeyRef", "secretKeyRef")
        for source in container.get("envFrom") or ():
            yield from _at(source, "configMapRef", "secretRef")
    for volume in spec.get("volumes") or ():
        if volume.get("configMap"):
            yield "ConfigMap", volume["configMap"], "name"
        if volume.get("secret"):
            yield "Secret", volume["secret"], "secretName"
        for source in (volume.get("projected") or {}).get("sources") or ():
            yield from _at(source, "configMap", "secret")


def _at(source: Json, config_map: str, secret: str) -> Iterator[tuple[str, Json, str]]:
    if source.get(config_map):
        yield "ConfigMap", source[config_map], "name"
    if source.get(secret):
        yield "Secret", source[secret], "name"


async def rewrite_references(
    cluster: Cluster, template: Json, manifests: Manifests, revision: Revision, labels: dict[str, str]
) -> list[tuple[str, Json]]:
    """Change the template so that it refers to copies; returns these, as (collection's path, object), to be created.

    Raises:
        PreconditionError: something that it refers to, and cannot do without, is not there.
    """
    copies: dict[tuple[str, str], Json | None] = {}
    for kind, holder, key in references(template):
        name = str(holder[key])
        if name in _OF_THE_CLUSTER:
            continue
        if (kind, name) not in copies:
            source = await _source(cluster, kind, name, manifests)
            copies[kind, name] = _copy(kind, name, source, revision, labels) if source else None
        copy = copies[kind, name]
        if copy is not None:
            holder[key] = copy["metadata"]["name"]
        elif not holder.get("optional") and await cluster.api.get(cluster.core(_KINDS[kind], name)) is None:
            raise PreconditionError(
                f"the {kind} {name}, which the pods refer to, is not in the namespace {cluster.namespace}"
            )
    return [(cluster.core(_KINDS[kind]), copy) for (kind, _), copy in copies.items() if copy is not None]


async def _source(cluster: Cluster, kind: str, name: str, manifests: Manifests) -> Json | None:
    given = manifests.configuration.get((kind, name))
    source = given or await cluster.api.get(cluster.core(_KINDS[kind], name))
    return None if source is None or source.get("type") == _OF_AN_ACCOUNT else source


def _copy(kind: str, name: str, source: Json, revision: Revision, labels: dict[str, str]) -> Json:
    parts = {key: source[key] for key in ("data", "binaryData", "stringData", "type") if source.get(key)}
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": copy_name(name, revision.id), "labels": labels},
        "immutable": True,
        **parts,
    }


def environment_secret(revision: Revision, base: str, labels: dict[str, str]) -> Json | None:
    """The Secret with the values that the spec refers to; None when it refers to none.

    Raises:
        SecretUnresolvedError: one of them cannot be read.
    """
    values = {
        name: base64.b64encode(resolve(value.secret).encode()).decode()
        for name, value in revision.platform.environment.items()
        if isinstance(value, Secret)
    }
    if not values:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": environment_name(base, revision), "labels": labels},
        "immutable": True,
        "type": "Opaque",
        "data": values,
    }


def environment_name(base: str, revision: Revision) -> str:
    """The name of the Secret with the values that the spec refers to."""
    return copy_name(f"{base}-{ENVIRONMENT}", revision.id)


async def create_once(cluster: Cluster, collection: str, thing: Json) -> None:
    """Create an object of a revision; one that is there already is the same one, from an earlier attempt.

    Raises:
        PreconditionError: there is one of that name that is not ours.
    """
    try:
        await cluster.api.create(collection, thing)
    except WriteConflictError:
        name, labels = thing["metadata"]["name"], thing["metadata"]["labels"]
        there = await cluster.api.get(f"{collection}/{name}")
        theirs = (there or {}).get("metadata", {}).get("labels") or {}
        if there is not None and any(theirs.get(key) != value for key, value in labels.items()):
            raise PreconditionError(f"{thing['kind']} {name} is there already, and is not ours") from None

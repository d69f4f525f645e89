"""Manifests describe more than one release: what they say of pods is a template, what they say of traffic is ours.

Of a folder, the Deployment that the spec names becomes the template of the revision, ConfigMaps and Secrets that it
refers to travel with the revision as copies, and its Service and HTTPRoute are made when they are not there yet.
Everything else is applied on the server's side, as our own field manager.
"""

import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which

import yaml

from activities.platforms.kubernetes.api import Json, KubernetesApi
from activities.platforms.kubernetes.cluster import Cluster
from activities.platforms.kubernetes.names import MADE
from models.errors import DriftError, PreconditionError, WriteConflictError
from models.platforms.kubernetes import Drift, KubernetesPlatformSpec

MANIFESTS_DIGEST = "platform:manifests"
CHANGED = (
    "the manifests in {manifests} have changed since they were checked: sha256 was {was:.12}…, and is {now:.12}… now"
)
LARGEST = 8 << 20
MOST_FILES = 500
KUSTOMIZES_WITHIN = 60
_KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_ENDINGS = (".yaml", ".yml", ".json")
# Never removed again with a target: they hold what cannot be made anew.
_LASTING = frozenset({"PersistentVolumeClaim"})


@dataclass
class Manifests:
    """What a folder says, sorted by what becomes of it.

    Attributes:
        digest: sha256 over everything that it says, as it was built; empty where there are none.
    """

    deployment: Json | None = None
    service: Json | None = None
    route: Json | None = None
    configuration: dict[tuple[str, str], Json] = field(default_factory=dict)
    others: list[Json] = field(default_factory=list)
    digest: str = ""


def read_manifests(platform: KubernetesPlatformSpec, namespace: str) -> Manifests:
    """Read the spec's manifests; none where it names none.

    Raises:
        PreconditionError: they cannot be read, or describe another namespace.
    """
    found = Manifests()
    if platform.manifests is None:
        return found
    text = _text(Path(platform.manifests))
    found.digest = hashlib.sha256(text.encode()).hexdigest()
    for thing in _objects(text, platform.manifests):
        kind, metadata = thing.get("kind"), thing["metadata"]
        name, there = str(metadata.get("name")), metadata.pop("namespace", None)
        if there not in (None, namespace):
            raise PreconditionError(
                f"{kind} {name} in {platform.manifests} is for the namespace {there}, not {namespace}"
            )
        match kind:
            case "Deployment" if name == platform.deployment:
                found.deployment = thing
            case "Service" if name == platform.service_name:
                found.service = thing
            case "HTTPRoute" if name == platform.route:
                found.route = thing
            case "ConfigMap" | "Secret":
                found.configuration[kind, name] = thing
            case _:
                found.others.append(thing)
    return found


def _text(path: Path) -> str:
    if path.is_dir() and any((path / name).is_file() for name in _KUSTOMIZATIONS):
        return _kustomize(path)
    try:
        files = [path] if path.is_file() else sorted(each for each in path.iterdir() if each.suffix in _ENDINGS)
        if not files or len(files) > MOST_FILES:
            raise PreconditionError(f"{path} has {len(files)} manifests; between 1 and {MOST_FILES} are read")
        if sum(each.stat().st_size for each in files) > LARGEST:
            raise PreconditionError(f"the manifests in {path} are larger than {LARGEST >> 20} MiB")
        return "\n---\n".join(each.read_text() for each in files)
    except (OSError, UnicodeDecodeError) as error:
        raise PreconditionError(f"the manifests in {path} cannot be read: {error}") from error


def _kustomize(path: Path) -> str:
    program = which("kubectl")
    if program is None:
        raise PreconditionError(f"{path} is a kustomization: kubectl, which builds it, is not on the PATH")
    try:
        built = subprocess.run(
            [program, "kustomize", str(path)], capture_output=True, timeout=KUSTOMIZES_WITHIN, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PreconditionError(f"the kustomization in {path} cannot be built: {error}") from error
    if built.returncode != 0:
        said = built.stderr[-600:].decode(errors="replace").strip()
        raise PreconditionError(f"the kustomization in {path} cannot be built: {said}")
    return built.stdout.decode()


def _objects(text: str, where: str) -> Iterator[Json]:
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise PreconditionError(f"the manifests in {where} are no YAML: {error}") from error
    while documents:
        thing = documents.pop(0)
        if thing is None:
            continue
        if isinstance(thing, dict) and isinstance(thing.get("items"), list) and str(thing.get("kind")).endswith("List"):
            documents = [*thing["items"], *documents]
        elif isinstance(thing, dict) and thing.get("apiVersion") and isinstance(thing.get("metadata"), dict):
            yield thing
        else:
            raise PreconditionError(f"the manifests in {where} hold something that is no object of Kubernetes")


async def apply_others(
    cluster: Cluster, platform: KubernetesPlatformSpec, manifests: Manifests, target: str, *, dry_run: bool = False
) -> list[tuple[str, Json | None, Json]]:
    """Apply what is no part of a revision; returns for each its path, what was there before, and what is there now.

    Raises:
        DriftError: a field belongs to somebody else by now, and the spec does not say to take it back.
        PreconditionError: an object is not of the namespace, or of a kind that the cluster does not know.
    """
    applied: list[tuple[str, Json | None, Json]] = []
    for thing in manifests.others:
        path = await path_of(cluster, thing)
        before = await cluster.api.get(path)
        body = thing
        # Also when its first making was interrupted: what carries the label was made by us.
        if before is None or (before["metadata"].get("labels") or {}).get(MADE) == target:
            body = {**thing, "metadata": {**thing["metadata"], "labels": {**_labels(thing), MADE: target}}}
        try:
            force = platform.drift is Drift.TAKE_BACK
            applied.append((path, before, await cluster.api.apply(path, body, force=force, dry_run=dry_run)))
        except WriteConflictError as error:
            said = f"{thing['kind']} {thing['metadata']['name']} is not overwritten: {error}"
            raise DriftError(f"{said}. platform.drift: take-back takes it back") from error
    return applied


def may_go(thing: Json, target: str) -> bool:
    """Whether an object was made for this target, and holds nothing that cannot be made anew."""
    return _labels(thing).get(MADE) == target and thing.get("kind") not in _LASTING


async def path_of(cluster: Cluster, thing: Json) -> str:
    """The path of an object of any kind that the cluster knows.

    Raises:
        PreconditionError: it knows none, or it is of no namespace.
    """
    group = str(thing["apiVersion"])
    prefix = f"/apis/{group}" if "/" in group else f"/api/{group}"
    for each in await _kinds(cluster.api, prefix):
        if each.get("kind") == thing["kind"] and "/" not in each["name"]:
            if not each.get("namespaced"):
                raise PreconditionError(
                    f"{thing['kind']} {thing['metadata']['name']} is of no namespace: apply it yourself"
                )
            return f"{prefix}/namespaces/{cluster.namespace}/{each['name']}/{thing['metadata']['name']}"
    raise PreconditionError(f"the cluster knows no {thing['kind']} in {group}")


async def _kinds(api: KubernetesApi, prefix: str) -> list[Json]:
    known = await api.get(prefix)
    return list((known or {}).get("resources") or [])


def _labels(thing: Json) -> dict[str, str]:
    return dict(thing["metadata"].get("labels") or {})

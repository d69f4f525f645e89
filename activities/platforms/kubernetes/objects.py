"""A revision is a Deployment beside the others: the user's own template, with another image and another name.

What the user wrote stays as it is: NetworkPolicies, PodDisruptionBudgets and monitors go on matching, as the user's
labels stay. What is ours is added: a label that tells the revision, and one by which a pod leaves the traffic before
it ends.
"""

import copy
import math
from collections.abc import Mapping
from typing import Any

from activities.platforms.kubernetes.api import Json
from activities.platforms.kubernetes.config_copies import environment_name
from activities.platforms.kubernetes.names import (
    FENCE,
    HASH,
    ID,
    MANAGED_BY,
    ON,
    OURSELVES,
    REVISION,
    TRAFFIC,
    label_value,
)
from activities.platforms.kubernetes.state import KubernetesRevisionRecord
from models.errors import PreconditionError
from models.health import ANY
from models.platforms import KubernetesPlatformSpec, of_kind
from models.release import Fence, Order, Revision
from models.secrets import Secret

# Which of a container's variables an earlier deployment has told it about itself.
_IDENTITY = "DEPLOYMENT_SPECIALIST_IDENTITY"
IMAGE_DIGEST = "platform:image"
# Written by tools of the cluster about one object; on another one they would be wrong.
_NOT_OURS_TO_COPY = (
    "kubectl.kubernetes.io/last-applied-configuration",
    "deployment.kubernetes.io/revision",
    "meta.helm.sh/release-name",
    "meta.helm.sh/release-namespace",
)
PROGRESS_DEADLINE = 600


def labels_of(revision: Revision, target: dict[str, str]) -> dict[str, str]:
    """What everything of a revision carries."""
    return {**target, REVISION: label_value(revision.id), MANAGED_BY: OURSELVES}


def traffic_selector(revision: Revision) -> dict[str, str]:
    """The labels of a revision's pods that take traffic."""
    return {REVISION: label_value(revision.id), TRAFFIC: ON}


def choose_container(template: Json, platform: KubernetesPlatformSpec) -> str:
    """The name of the container that is the service.

    Raises:
        PreconditionError: the spec names one that is not there, or none where there are several.
    """
    names = [str(each["name"]) for each in template["spec"]["containers"]]
    if platform.container in names:
        return platform.container
    if platform.container is None and len(names) == 1:
        return names[0]
    wanted = "is not one of them" if platform.container else "must say which one is the service"
    raise PreconditionError(
        f"the pods of {platform.deployment} have the containers {', '.join(names)}: platform.container {wanted}"
    )


def choose_port(platform: KubernetesPlatformSpec, service: Json) -> int | str:
    """The container's port, by number or by name, where an instance answers for itself."""
    if platform.port is not None:
        return platform.port
    first = (service["spec"].get("ports") or [{}])[0]
    port: int | str = first.get("targetPort") or first.get("port") or 80
    return port


def image_of(revision: Revision, platform: KubernetesPlatformSpec) -> str:
    """The image of the revision: with its digest, where that was pinned."""
    wanted = platform.image_of(revision.release.version)
    digest = revision.release.digests.get(IMAGE_DIGEST)
    return f"{wanted.partition('@')[0]}@sha256:{digest}" if digest else wanted


def make_deployment(
    source: Json, template: Json, kept: KubernetesRevisionRecord, order: Order, target: dict[str, str]
) -> Json:
    """The Deployment of a revision, without a pod yet.

    Args:
        source: the Deployment that the template was taken from.
        template: its pod template, led to the revision's own configuration.
        kept: what is going to be made.
        order: names the target, and the effect.
        target: the labels of the target.
    """
    revision, metadata = kept.revision, source["metadata"]
    labels = labels_of(revision, target)
    spec = {key: value for key, value in source["spec"].items() if key not in ("paused", "template", "replicas")}
    selector = copy.deepcopy(spec.get("selector") or {})
    # A selector of its own: no Deployment ever counts another one's pods.
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), REVISION: label_value(revision.id)}
    annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k not in _NOT_OURS_TO_COPY}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": kept.deployment,
            "labels": {**(metadata.get("labels") or {}), **labels},
            "annotations": {**annotations, ID: revision.id, FENCE: order.fence.model_dump_json()},
        },
        "spec": {
            **spec,
            "replicas": 0,
            "revisionHistoryLimit": 0,
            "progressDeadlineSeconds": max(PROGRESS_DEADLINE, int(spec.get("progressDeadlineSeconds") or 0)),
            "selector": selector,
            "template": _template(template, kept, order.target),
        },
    }


def _template(template: Json, kept: KubernetesRevisionRecord, target: str) -> Json:
    made, revision = copy.deepcopy(template), kept.revision
    platform = of_kind(revision.platform, KubernetesPlatformSpec)
    metadata = made.setdefault("metadata", {})
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH}
    metadata["labels"] = {**labels, **traffic_selector(revision)}
    metadata.pop("creationTimestamp", None)
    container = next(each for each in made["spec"]["containers"] if each["name"] == kept.container)
    container["image"] = image_of(revision, platform)
    identity = {} if container.get("envFrom") else revision.identity  # what a ConfigMap names there is the user's
    container["env"] = _environment(container.get("env") or [], revision, platform, target, identity)
    if not container.get("readinessProbe"):
        container["readinessProbe"] = readiness(kept)
    if not (container.get("lifecycle") or {}).get("preStop"):
        # Drained before: what is left is the time that the service itself needs to end.
        made["spec"]["terminationGracePeriodSeconds"] = max(1, math.ceil(platform.stop.total_seconds()))
    return made


def readiness(kept: KubernetesRevisionRecord) -> Json:
    """For a container that has none: without one, a pod would get requests before it listens."""
    endpoints = kept.revision.endpoints
    path, rule = endpoints.ready or endpoints.health, kept.revision.rule_of("ready" if endpoints.ready else "health")
    # A kubelet takes 200 to 399 for healthy and nothing else: where that is not the rule, only our own probes ask.
    if path and (rule.status is None or rule.status in ANY):
        host = {"httpHeaders": [{"name": "Host", "value": rule.host}]} if rule.host else {}
        asked: Json = {"httpGet": {"path": path, "port": kept.port, **host}}
    else:
        asked = {"tcpSocket": {"port": kept.port}}
    return {**asked, "periodSeconds": 1, "timeoutSeconds": math.ceil(rule.seconds), "failureThreshold": 3}


def _environment(
    there: list[Json], revision: Revision, platform: KubernetesPlatformSpec, target: str, identity: Mapping[str, str]
) -> list[Json]:
    # What an earlier deployment has told them about themselves is nothing that the user has said.
    before = next((str(each.get("value")) for each in there if each["name"] == _IDENTITY), "").split(",")
    there = [each for each in there if each["name"] not in (_IDENTITY, *before)]
    given = {str(each["name"]) for each in there}
    ours: dict[str, Any] = {"VERSION": revision.release.version, "REVISION": revision.id}
    told = {"SERVICE": revision.release.service, "TARGET": target}
    ours |= {name: value for name, value in told.items() if name not in given}
    known = {name: value for name, value in identity.items() if name not in given}
    ours |= {**known, _IDENTITY: ",".join(known)} if known else {}
    ours |= platform.environment
    made = {name: _variable(name, value, revision, platform) for name, value in ours.items()}
    # First, so that the user's own may refer to them.
    return [*(made[name] for name in made if name not in given), *(made.get(str(e["name"]), e) for e in there)]


def _variable(name: str, value: str | Secret, revision: Revision, platform: KubernetesPlatformSpec) -> Json:
    if isinstance(value, Secret):
        reference = {"name": environment_name(platform.deployment, revision), "key": name}
        return {"name": name, "valueFrom": {"secretKeyRef": reference}}
    # A literal value: what looks like a reference to another variable is none.
    return {"name": name, "value": value.replace("$(", "$$(")}


def make_service(kept: KubernetesRevisionRecord, users: Json, target: dict[str, str], fence: Fence) -> Json:
    """The revision's own Service: the users' ports, the revision's pods."""
    parts = ("name", "protocol", "port", "targetPort", "appProtocol")
    ports = [
        {key: port[key] for key in parts if port.get(key) is not None} for port in users["spec"].get("ports") or ()
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": kept.service,
            "labels": labels_of(kept.revision, target),
            "annotations": {ID: kept.revision.id, FENCE: fence.model_dump_json()},
        },
        "spec": {"type": "ClusterIP", "selector": kept.selector, "ports": ports},
    }

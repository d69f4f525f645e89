"""Manifests of the test app, as a user of a cluster would write them."""

from pathlib import Path
from typing import Any

from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.gateway import listener

PORT = 8080
# A machine that is busy with other things answers late: that makes no pod unready.
PATIENT = {"periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 10}
Object = dict[str, Any]


def deployment(name: str, image: str, *, replicas: int = 2, folder: Path | None = None, **changes: Any) -> Object:
    """A Deployment of the test app, as a user of a cluster would write it.

    Args:
        name: of the Deployment; its pods carry the label `app` with it.
        image: of its only container.
        replicas: how many pods.
        folder: seen by the pods at the same path as here.
        changes: of the container.
    """
    container: Object = {
        "name": "app",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "HOST", "value": "0.0.0.0"}, {"name": "PORT", "value": str(PORT)}],  # noqa: S104  in a pod
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, **PATIENT},
    }
    container.update(changes)
    pod: Object = {"containers": [container], "terminationGracePeriodSeconds": 5}
    if folder is not None:
        pod["volumes"] = [{"name": "tests", "hostPath": {"path": str(folder), "type": "Directory"}}]
        container["volumeMounts"] = [{"name": "tests", "mountPath": str(folder)}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        },
    }


def service(name: str) -> Object:
    """The Service of such a Deployment."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    }


def route(name: str, cluster: Cluster, address: str) -> Object:
    """The HTTPRoute that leads users at this address to the Service."""
    namespace, _, gateway = cluster.gateway.partition("/")
    section = listener(int(address.rpartition(":")[2]))
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {
            "parentRefs": [{"name": gateway, "namespace": namespace, "sectionName": section}],
            "rules": [{"backendRefs": [{"name": name, "port": 80}]}],
        },
    }


def autoscaler(name: str, least: int) -> Object:
    """A HorizontalPodAutoscaler of such a Deployment."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {"scaleTargetRef": target, "minReplicas": least, "maxReplicas": least + 2},
    }


def budget(name: str) -> Object:
    """A PodDisruptionBudget of such a Deployment's pods."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": name}}},
    }


def config_map(name: str, **data: str) -> Object:
    """A ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str, **data: str) -> Object:
    """A Secret."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}

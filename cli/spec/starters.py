"""Works out a first spec file from what is there already: a Compose file, a Deployment, a command.

What can be read is taken over, what cannot is a value that works with a comment that says what to look at. Nothing is
asked and nothing is guessed silently.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.errors import SpecError

SCHEMA_FILE = "deployment.schema.json"
_NAME = re.compile(r"[^a-z0-9-]+")
_TAG = re.compile(r":([A-Za-z0-9_][A-Za-z0-9_.-]{0,62})$")
_URL_PATH = re.compile(r"https?://[^/\s\"']+(/[^\s\"'|;]*)")
_PORT_OPTIONS = ("--port", "-p", "--listen-port")
_FIRST_VERSION = "1.0.0"


@dataclass(frozen=True)
class Start:
    """What is known of a service.

    Attributes:
        platform: the lines of the spec's `platform`, each with its comment.
        health: the path at which it says that it is well; empty where that is not known.
        notes: what somebody should look at.
    """

    service: str
    version: str
    platform: tuple[str, ...]
    health: str = ""
    notes: tuple[str, ...] = ()


def spec_text(start: Start, target: str) -> str:
    """The spec file."""
    lines = [
        f"# yaml-language-server: $schema={SCHEMA_FILE}",
        f"service: {name_of(start.service)}",
        f"target: {target}",
        "release:",
        f"  version: {json.dumps(start.version)}",
        "platform:",
        *(f"  {line}" for line in start.platform),
        "verify:",
        "  # Paths at which it answers for itself, like /health and /version; what it does not have is null.",
    ]
    health = json.dumps(start.health) if start.health else "null"
    lines += [f"  endpoints: {{health: {health}, ready: null, live: null, metrics: null, version: null}}"]
    lines += [f"# {note}" for note in start.notes]
    return "\n".join(lines) + "\n"


def name_of(text: str) -> str:
    """A name as specs have them."""
    return _NAME.sub("-", text.lower()).strip("-")[:40].strip("-") or "service"


def from_command(command: Sequence[str], folder: str) -> Start:
    """A program that listens on a port."""
    words, port = list(command), 8080
    for n, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option in _PORT_OPTIONS and equals and value.isdecimal():
            words[n], port = f"{option}=$PORT", int(value)
        elif word.isdecimal() and n and words[n - 1] in _PORT_OPTIONS:
            words[n], port = "$PORT", int(word)
    platform = (
        "kind: local",
        f"run: {json.dumps(words)}  # listens on $HOST:$PORT",
        "directory: .  # copied for each revision",
        f"listen: 127.0.0.1:{port}  # where users reach the service",
    )
    told = ("It is told where to listen by $HOST and $PORT: name $PORT in platform.run where it wants an argument.",)
    return Start(folder, _FIRST_VERSION, platform, "", () if "$PORT" in " ".join(words) else told)


def from_compose(document: Any, file: str, wanted: str | None) -> Start:
    """A service of a Compose file.

    Raises:
        SpecError: it has none, or several and none was chosen.
    """
    services = document.get("services") if isinstance(document, dict) else None
    found = {str(k): v for k, v in services.items() if isinstance(v, dict)} if isinstance(services, dict) else {}
    name = _choose(found, wanted, file)
    service = found[name]
    version, image = _versioned(str(service.get("image") or ""))
    host, port = _published(service.get("ports") or ())
    notes = []
    platform = ["kind: compose", f"files: [{json.dumps(file)}]", f"service: {name}"]
    if image and "build" not in service:
        platform.append(f"image: {json.dumps(image)}")
    if port is None:
        notes.append(f"{file} publishes no port of {name}: platform.listen is where users shall reach it.")
    platform.append(f"listen: {host}:{port or 8080}  # where users reach the service; its port moves to the router")
    test = (service.get("healthcheck") or {}).get("test") if isinstance(service.get("healthcheck"), dict) else None
    return Start(name, version, tuple(platform), _path_in(test), tuple(notes))


def _choose(found: Mapping[str, Mapping[str, Any]], wanted: str | None, file: str) -> str:
    if wanted is not None:
        if wanted not in found:
            raise SpecError(f"{file} has no service {wanted}; it has {', '.join(found) or 'none'}")
        return wanted
    published = [name for name, service in found.items() if service.get("ports")]
    among = published or list(found)
    if len(among) != 1:
        raise SpecError(f"which service of {file}? --service takes one of {', '.join(among) or 'none'}")
    return among[0]


def _published(ports: Sequence[Any]) -> tuple[str, int | None]:
    for each in ports:
        if isinstance(each, dict):
            host, published = str(each.get("host_ip") or "0.0.0.0"), str(each.get("published") or "")  # noqa: S104
        else:
            parts = str(each).partition("/")[0].rsplit(":", 2)
            host = parts[0] if len(parts) == 3 else "0.0.0.0"  # noqa: S104  as Docker does
            published = parts[-2] if len(parts) > 1 else ""
        if published.isdecimal():
            return host, int(published)
    return "0.0.0.0", None  # noqa: S104


def _versioned(image: str) -> tuple[str, str]:
    """The version that an image's tag is, and the reference with `{version}` in its place."""
    tag = _TAG.search(image)
    if not image or "@" in image or "$" in image:
        return _FIRST_VERSION, ""
    if tag is None:
        return _FIRST_VERSION, f"{image}:{{version}}"
    version = tag[1] if tag[1] != "latest" else _FIRST_VERSION
    return version, f"{image[: tag.start()]}:{{version}}"


def _path_in(test: Any) -> str:
    words = " ".join(map(str, test)) if isinstance(test, list) else str(test or "")
    found = _URL_PATH.search(words)
    return found[1] if found else ""


def from_kubernetes(documents: Sequence[Any], source: str | None, wanted: str | None, context: str | None) -> Start:
    """A Deployment, with the Service and the HTTPRoute that lead to it where they are among the documents.

    Args:
        documents: objects of Kubernetes.
        source: the file or folder that they are in; None where they are those of a cluster.
        wanted: the name of the Deployment, where there are several.
        context: of the kubeconfig.

    Raises:
        SpecError: there is none, or several and none was chosen.
    """
    objects = list(_objects(documents))
    deployments = {str(o["metadata"]["name"]): o for o in objects if o.get("kind") == "Deployment"}
    name = wanted or next(iter(deployments), "")
    if name not in deployments or (wanted is None and len(deployments) > 1):
        raise SpecError(f"which Deployment? --service takes one of {', '.join(deployments) or 'none'}")
    deployment = deployments[name]
    pod = deployment["spec"]["template"]
    container = pod["spec"]["containers"][0]
    version, image = _versioned(str(container.get("image") or ""))
    labels = pod.get("metadata", {}).get("labels") or {}
    service = next((o for o in objects if o.get("kind") == "Service" and _selects(o, labels)), None)
    route = next((o for o in objects if o.get("kind") == "HTTPRoute" and service and _leads(o, service)), None)
    namespace = deployment["metadata"].get("namespace")
    platform = ["kind: kubernetes"]
    platform += [f"context: {json.dumps(context)}"] if context else []
    platform += [f"namespace: {namespace}"] if namespace else []
    platform.append(f"deployment: {name}")
    platform += [f"manifests: {json.dumps(source)}"] if source else []
    platform += [f"container: {container['name']}"] if len(pod["spec"]["containers"]) > 1 else []
    platform.append(f"image: {json.dumps(image or f'registry.example/{name}:{{version}}')}")
    service_name = service["metadata"]["name"] if service else name
    platform += [f"service: {service_name}"] if service_name != name else []
    platform += [f"route: {route['metadata']['name']}"] if route else []
    hosts = (route or {}).get("spec", {}).get("hostnames") or ()
    port = ((service or {}).get("spec", {}).get("ports") or [{"port": 80}])[0].get("port", 80)
    url = f"http://{hosts[0]}" if hosts else f"http://{service_name}.{namespace or 'default'}:{port}"
    platform.append(f"url: {url}  # where users reach the service: the worker must reach it too")
    platform.append(f"instances: {min(32, max(1, int(deployment['spec'].get('replicas') or 2)))}")
    notes = [] if route else ["Without an HTTPRoute (platform.route) traffic is divided by the number of pods."]
    notes += [] if image else ["The image has no tag that could be a version: look at platform.image."]
    probe = (container.get("readinessProbe") or container.get("livenessProbe") or {}).get("httpGet") or {}
    return Start(name, version, tuple(platform), str(probe.get("path") or ""), tuple(notes))


def _objects(documents: Sequence[Any]) -> Iterator[dict[str, Any]]:
    for document in documents:
        if isinstance(document, dict) and document.get("kind") == "List":
            yield from _objects(document.get("items") or ())
        elif isinstance(document, dict) and isinstance(document.get("metadata"), dict):
            yield document


def _selects(service: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    selector = service.get("spec", {}).get("selector") or {}
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def _leads(route: Mapping[str, Any], service: Mapping[str, Any]) -> bool:
    backends = (b for rule in route.get("spec", {}).get("rules") or () for b in rule.get("backendRefs") or ())
    return any(backend.get("name") == service["metadata"]["name"] for backend in backends)

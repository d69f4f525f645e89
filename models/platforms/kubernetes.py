"""The Kubernetes platform: a Deployment and a Service for each revision, traffic by the Gateway API or by pod ratio."""

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from models.base import SpecModel
from models.platforms.base import PathText, PlatformSpec, as_tuple
from models.secrets import SecretReference

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
_URL = re.compile(r"https?://(?:[A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:]{2,39}\])(?::(\d{1,5}))?", re.ASCII)
_METRICS = re.compile(r"https?://[\x21-\x7e]{1,2000}", re.ASCII)
_PORT_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,13}[a-z0-9])?", re.ASCII)
_IMAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/:@+-]|\{version\}){0,500}", re.ASCII)


def _matching(pattern: re.Pattern[str], sentence: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if isinstance(value, str) and not pattern.fullmatch(value):
            raise ValueError(sentence)
        return value

    return BeforeValidator(check)


def _one_of(kind: type[StrEnum]) -> BeforeValidator:
    def convert(value: Any) -> Any:
        if isinstance(value, str):
            try:
                return kind(value)
            except ValueError:
                raise ValueError(f"one of {', '.join(kind)}") from None
        return value

    return BeforeValidator(convert)


def _port(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("a port is a number or the name that the container gives it")
    if isinstance(value, int) and not 1 <= value <= 65535:
        raise ValueError("a port's number is between 1 and 65535")
    if isinstance(value, str) and not _PORT_NAME.fullmatch(value):
        raise ValueError("a port's name has at most 15 small letters, digits and inner hyphens")
    return value


LabelName = Annotated[str, _matching(_LABEL, "a name of at most 63 small letters, digits and inner hyphens")]
ObjectName = Annotated[str, _matching(_SUBDOMAIN, "a name of small letters, digits, hyphens and dots")]
MetricsUrl = Annotated[str, _matching(_METRICS, "the address of metrics is a URL, like http://gateway:9100/metrics")]


class Drift(StrEnum):
    """What follows when somebody else has changed what this deployment had written."""

    STOP = "stop"
    TAKE_BACK = "take-back"


class Reach(StrEnum):
    """How an instance is asked for itself."""

    API = "api"
    PODS = "pods"


class GatewayCounters(SpecModel):
    """Where the gateway counts the requests of each revision.

    Attributes:
        kind: how its metrics are to be read.
        urls: one address per replica of the gateway: each counts what it has seen itself.
    """

    kind: Literal["traefik"] = "traefik"
    urls: Annotated[tuple[MetricsUrl, ...], BeforeValidator(as_tuple), Field(min_length=1, max_length=32)]


class RegistryLogin(SpecModel):
    """Who asks a registry."""

    username: SecretReference
    password: SecretReference


class KubernetesPlatformSpec(PlatformSpec):
    """Pods of a Deployment, behind a Service and, for exact weights, an HTTPRoute of the Gateway API.

    Attributes:
        context: of the kubeconfig; default the current one.
        kubeconfig: path; default the usual rules, and the pod's own account inside of a cluster.
        namespace: default that of the context.
        deployment: the Deployment that runs now, or that `manifests` describe.
        manifests: a file or a folder of manifests, or of a kustomization, that travel with the release.
        container: the one that gets the image; default the only one.
        image: reference of the image; `{version}` stands for the release's version.
        registry: with which login the image's digest is asked for; the cluster pulls with what its pods name.
        service: the Service that users' requests go through; default the Deployment's name.
        route: the HTTPRoute that divides the traffic; without one it is divided by the number of pods.
        port: of the container, where an instance answers for itself; default where the Service leads.
        url: where users reach the service.
        counters: the gateway's metrics.
        drift: what follows when somebody else changes what this deployment has written.
        reach: how instances are asked: through the API server, or at their own addresses; default the latter in a pod.
    """

    kind: Literal["kubernetes"]
    context: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    kubeconfig: PathText | None = None
    namespace: LabelName | None = None
    deployment: ObjectName
    manifests: PathText | None = None
    container: LabelName | None = None
    image: Annotated[
        str, _matching(_IMAGE, "an image is a reference like registry.example/shop:{version}, or with @sha256:…")
    ]
    registry: RegistryLogin | None = None
    service: LabelName | None = None
    route: ObjectName | None = None
    port: Annotated[int | str, BeforeValidator(_port)] | None = None
    url: str
    counters: GatewayCounters | None = None
    drift: Annotated[Drift, _one_of(Drift)] = Drift.STOP
    reach: Annotated[Reach, _one_of(Reach)] | None = None

    @property
    def base_url(self) -> str:
        return self.url

    @property
    def counts_requests(self) -> bool:
        return self.counters is not None

    @property
    def service_name(self) -> str:
        """The Service that users' requests go through."""
        return self.service or self.deployment

    def located(self, resolve: Callable[[str], str]) -> Self:
        paths = {name: resolve(path) for name in ("kubeconfig", "manifests") if (path := getattr(self, name))}
        return super().located(resolve).model_copy(update=paths)

    def image_of(self, version: str) -> str:
        """The image of that version, as the spec asks for it."""
        # A tag knows no plus; what builds images replaces it alike.
        return self.image.replace("{version}", version.replace("+", "_"))

    @field_validator("url")
    @classmethod
    def _without_path(cls, value: str) -> str:
        value = value.rstrip("/")
        match = _URL.fullmatch(value)
        if match is None or int(match[1] or 80) not in range(1, 65536):
            raise ValueError("url is where users reach the service, without a path, like http://shop.example:8000")
        return value

    @model_validator(mode="after")
    def _service_is_a_label(self) -> Self:
        if not _LABEL.fullmatch(self.service_name):
            raise ValueError(f"service must be given: {self.deployment} cannot be the name of a Service")
        return self

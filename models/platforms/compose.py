"""The Compose platform: one service of a Compose file on a Docker host, behind a router of its own."""

from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, StrictInt, field_validator, model_validator

from models.base import SpecModel
from models.platforms.base import Listen, PathText, PlatformSpec, TrustedProxies, as_tuple

ServiceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]
ImageName = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@{}-]*$")]
HostText = Annotated[str, Field(pattern=r"^(unix|ssh|tcp|http|https|npipe)://\S{1,400}$")]
Url = Annotated[str, Field(pattern=r"^https?://[^/\s]{1,300}$")]
PROXY_IMAGE = "traefik:v3.7.15"
VERSION = "{version}"


class ProxySpec(SpecModel):
    """The router in front of the service: a container with Traefik on the Docker host.

    Attributes:
        image: any image of Traefik 3.4 or newer with busybox in it, as the published one has.
        name: what its container, volume and network are called.
    """

    image: ImageName = PROXY_IMAGE
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,100}$")] | None = None


class ComposePlatformSpec(PlatformSpec):
    """One service of a Compose file on a Docker host.

    Attributes:
        files: the Compose files, later ones over earlier ones.
        service: the one that is released; the others are left alone.
        image: what is released, with `{version}` in it if you like; without it, the image or build of the file.
        shared: services that must run and are never doubled; by default those that the released one depends on.
        listen: the address on the Docker host where users reach the service; its port moves to the router.
        trusted_proxies: addresses and networks of proxies whose X-Forwarded headers are believed.
        url: how the worker reaches that address, where that is not `http://LISTEN`.
        port: where the service listens inside its container; by default the one that the file publishes or exposes.
        host: the Docker host, like `DOCKER_HOST`; without it, that of the worker's environment or Docker context.
        context: a Docker context instead of `host`.
        certificates: a folder with ca.pem, cert.pem and key.pem for a `tcp://` host.
        project: the Compose project in which the shared services run; by default the one that Compose derives.
        proxy: the router.
    """

    kind: Literal["compose"]
    files: Annotated[tuple[PathText, ...], BeforeValidator(as_tuple), Field(min_length=1, max_length=20)] = (
        "docker-compose.yml",
    )
    service: ServiceName
    image: ImageName | None = None
    shared: Annotated[tuple[ServiceName, ...], BeforeValidator(as_tuple), Field(max_length=50)] | None = None
    listen: Listen
    trusted_proxies: TrustedProxies = ()
    url: Url | None = None
    port: Annotated[StrictInt, Field(ge=1, le=65535)] | None = None
    host: HostText | None = None
    context: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,100}$")] | None = None
    certificates: PathText | None = None
    project: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,100}$")] | None = None
    proxy: ProxySpec = ProxySpec()

    @property
    def base_url(self) -> str:
        if self.url is not None:
            return self.url
        host, _, port = self.listen.rpartition(":")
        # All addresses of the Docker host: without a url, that host is this machine.
        every = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104  translated, not listened at
        return f"http://{every.get(host, host)}:{port}"

    @property
    def trusts(self) -> tuple[str, ...]:
        return self.trusted_proxies

    @property
    def address(self) -> str:
        return self.listen

    def located(self, resolve: Callable[[str], str]) -> Self:
        update = {
            "files": tuple(resolve(file) for file in self.files),
            "certificates": resolve(self.certificates) if self.certificates else None,
        }
        return super().located(resolve).model_copy(update=update)

    @field_validator("image")
    @classmethod
    def _braces(cls, value: str | None) -> str | None:
        if value is not None and {"{", "}"} & set(value.replace(VERSION, "")):
            raise ValueError("image may have {version} in it, and no other braces")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.host is not None and self.context is not None:
            raise ValueError("a Docker host is named by host or by context, not by both")
        if self.certificates is not None and not (self.host or "").startswith(("tcp://", "https://")):
            raise ValueError("certificates belong to a host that begins with tcp://")
        if self.shared is not None and self.service in self.shared:
            raise ValueError(f"{self.service} is what is released: it cannot be shared")
        return self

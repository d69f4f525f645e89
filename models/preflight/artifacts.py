"""What a release is made of: files, sets of files, images in a registry. Each must be there, and stay what it was."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, StrictBool, WithJsonSchema, field_validator, model_validator

from models.base import SpecModel
from models.names import Sha256
from models.platforms.base import PathText
from models.secrets import SecretReference
from models.units import Duration

_HOST = r"(?:localhost|[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)+|" + (
    r"[A-Za-z0-9-]+(?=:\d)|\[[0-9a-fA-F:]{2,39}\])(?::\d{1,5})?"
)
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<host>{_HOST})/(?P<repository>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)
_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
_PLATFORM = re.compile(r"[a-z0-9]{1,20}/[a-z0-9_]{1,20}(?:/[a-z0-9]{1,20})?", re.ASCII)


class ImageName:
    """The parts of `registry/repository:tag@digest`; the tag or the digest is there.

    Raises:
        ValueError: it is no such name.
    """

    def __init__(self, reference: str) -> None:
        match = _REFERENCE.fullmatch(reference) if len(reference) <= 500 else None
        if match is None or not (match["tag"] or match["digest"]):
            raise ValueError("an image is named with its registry and a tag or digest, like ghcr.io/acme/shop:1.1.0")
        self.registry, self.repository = match["host"], match["repository"]
        self.tag, self.digest = match["tag"], match["digest"]

    @classmethod
    def of_runtime(cls, reference: str) -> "ImageName":
        """Reads a reference as container runtimes do: `nginx` is `docker.io/library/nginx:latest`.

        Raises:
            ValueError: it is no such name.
        """
        name, at, digest = reference.partition("@")
        first, slash, rest = name.partition("/")
        if not slash or not ("." in first or ":" in first or first == "localhost"):
            first, rest = "docker.io", name
        if first in _DOCKER_HUB and "/" not in rest:
            rest = f"library/{rest}"
        tag = "" if at or ":" in rest else ":latest"
        return cls(f"{first}/{rest}{tag}{at}{digest}")

    @property
    def host(self) -> str:
        """Where the registry's API is; Docker Hub's has another name than its images."""
        return "registry-1.docker.io" if self.registry in _DOCKER_HUB else self.registry


def _image(value: Any) -> Any:
    if isinstance(value, str):
        ImageName(value)
    return value


def _platform(value: Any) -> Any:
    if isinstance(value, str) and not _PLATFORM.fullmatch(value):
        raise ValueError("a platform is an operating system and an architecture, like linux/amd64 or linux/arm/v7")
    return value


class CosignSpec(SpecModel):
    """Who must have signed an image."""

    key: PathText = Field(description="the public key")
    ignore_log: StrictBool = Field(
        default=False, description="the signature need not be in the public transparency log: signed offline"
    )


class Artifact(SpecModel):
    """A file, the files that a glob names, or an image: there, and what it should be, before anything changes."""

    path: PathText | None = Field(default=None, description="a file; with * or ? every file of that name, at least one")
    sha256: Sha256 | None = None
    checksums: PathText | None = Field(default=None, description="a file as sha256sum writes it, that names each file")
    max_age: Duration | None = Field(default=None, description="since it was written, or the image was made")
    image: Annotated[str, BeforeValidator(_image), WithJsonSchema({"type": "string"})] | None = Field(
        default=None, description="registry/repository:tag; its digest is pinned"
    )
    platform: Annotated[str, BeforeValidator(_platform)] | None = Field(
        default=None, description="of an image for several: the one that is meant, like linux/amd64"
    )
    username: SecretReference | None = None
    password: SecretReference | None = None
    insecure: StrictBool = Field(default=False, description="the registry speaks plain HTTP, also over the network")
    cosign: CosignSpec | None = None

    @property
    def is_glob(self) -> bool:
        """Whether the path stands for every file that it fits."""
        return self.path is not None and ("*" in self.path or "?" in self.path)

    def located(self, resolve: Callable[[str], str]) -> Self:
        """The same with every path in it made absolute by `resolve`."""
        given: dict[str, Any] = {
            name: resolve(path) for name in ("path", "checksums") if (path := getattr(self, name)) is not None
        }
        if self.cosign is not None:
            given["cosign"] = self.cosign.model_copy(update={"key": resolve(self.cosign.key)})
        return self.model_copy(update=given)

    @field_validator("max_age")
    @classmethod
    def _positive(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and value <= timedelta(0):
            raise ValueError("max_age is more than 0s")
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.path is None) == (self.image is None):
            raise ValueError("an artifact has either a path or an image")
        of_images = ("platform", "username", "password", "cosign")
        wrong = [name for name in (of_images if self.path else ("sha256", "checksums")) if getattr(self, name)]
        if self.path and self.insecure:
            wrong.append("insecure")
        if wrong:
            kind = "an image" if self.path else "a file"
            raise ValueError(f"{', '.join(wrong)}: only for {kind}")
        if self.sha256 and (self.checksums or self.is_glob):
            raise ValueError("sha256 is for one file; several have checksums, and only one of the two is given")
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        return self

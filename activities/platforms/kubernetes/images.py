"""A tag may lead to another image tomorrow; what is deployed, and rolled back to, is a digest.

The registry that the image's name leads to is asked for the digest, as anybody may ask it. One that cannot be asked is
no fault of the release: then the tag travels, and the plan says so.
"""

import re
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx

ANSWERS_WITHIN = 4.0
DOCKER_HUB = "registry-1.docker.io"
_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True)
class Image:
    """An image reference, taken apart.

    Attributes:
        digest: without `sha256:`; empty when the reference has none.
    """

    registry: str
    repository: str
    tag: str
    digest: str = ""

    @property
    def base(self) -> str:
        """Where its registry is asked."""
        plain = self.registry.rpartition(":")[0] in _LOOPBACK or self.registry in _LOOPBACK
        return f"{'http' if plain else 'https'}://{self.registry}/v2/{self.repository}"


@dataclass(frozen=True)
class FoundDigest:
    """What the registry says: a digest, that there is no such image, or nothing, and why."""

    digest: str = ""
    missing: bool = False
    silent: str = ""


def parse_image(reference: str) -> Image:
    """Takes a reference apart, by the rules of container runtimes."""
    name, _, digest = reference.partition("@")
    first, slash, rest = name.partition("/")
    is_registry = slash and ("." in first or ":" in first or first == "localhost")
    registry, repository = (first, rest) if is_registry else (DOCKER_HUB, name)
    path, colon, tag = repository.rpartition(":")
    repository, tag = (path, tag) if colon else (repository, "latest")
    if registry in (DOCKER_HUB, "docker.io", "index.docker.io"):
        registry, repository = DOCKER_HUB, repository if "/" in repository else f"library/{repository}"
    return Image(registry, repository, tag, digest.removeprefix("sha256:"))


async def find_digest(image: Image) -> FoundDigest:
    """Ask the registry for the digest that the tag leads to now."""
    url, headers = f"{image.base}/manifests/{image.tag}", {"Accept": _ACCEPT}
    loopback = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    try:
        async with httpx.AsyncClient(timeout=ANSWERS_WITHIN, trust_env=not loopback) as client:
            answer = await client.head(url, headers=headers)
            if answer.status_code == HTTPStatus.UNAUTHORIZED:
                token = await _token(client, answer.headers.get("WWW-Authenticate", ""))
                answer = await client.head(url, headers={**headers, "Authorization": f"Bearer {token}"})
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError) as error:
        return FoundDigest(silent=f"{image.registry} cannot be asked: {error or type(error).__name__}")
    if answer.status_code == HTTPStatus.NOT_FOUND:
        return FoundDigest(missing=True)
    match = _DIGEST.fullmatch(answer.headers.get("Docker-Content-Digest", ""))
    if answer.status_code != HTTPStatus.OK or match is None:
        return FoundDigest(silent=f"{image.registry} answered {answer.status_code}, and told no digest")
    return FoundDigest(digest=match[1])


async def _token(client: httpx.AsyncClient, challenge: str) -> str:
    """The token that everybody gets who asks for it."""
    told = dict(_CHALLENGE.findall(challenge))
    realm = told.pop("realm", "")
    if not challenge.lower().startswith("bearer ") or urlsplit(realm).scheme != "https":
        raise ValueError("it wants to know who asks")
    answer = await client.get(realm, params={key: told[key] for key in ("service", "scope") if key in told})
    said = answer.raise_for_status().json()
    return str(said.get("token") or said["access_token"]) if isinstance(said, dict) else ""

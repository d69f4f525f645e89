"""A tag is a name that may mean another image tomorrow: what it means now is found out, and only that travels on."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from activities.preflight.artifact_files import check_age
from activities.preflight.image_signatures import verify_signature
from activities.preflight.measured import UnreadableError, WrongError
from activities.preflight.registry import INDEXES, Registry
from activities.secrets.resolver import resolve
from models.errors import SecretUnresolvedError
from models.preflight.artifacts import Artifact, ImageName

PREFIX = "oci:"
TOGETHER = 4
# All of a check's questions stay below the time that it has.
WITHIN = 35.0


@dataclass
class Images:
    """What was found of all images.

    Attributes:
        digests: `oci:REFERENCE` → its digest now.
        signatures: reference → what is known of who signed it.
    """

    digests: dict[str, str] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


async def measure_images(artifacts: list[Artifact]) -> Images:
    """Asks for every image side by side."""
    found, turn = Images(), asyncio.Semaphore(TOGETHER)

    async def measure(artifact: Artifact) -> None:
        name = str(artifact.image)
        try:
            async with turn:
                found.digests[PREFIX + name] = await _digest(artifact, found.signatures)
        except WrongError as error:
            found.wrong.append(f"the image {name}: {error}")
        except (UnreadableError, SecretUnresolvedError) as error:
            found.unread.append(f"the image {name}: {error}")

    tasks = [asyncio.create_task(measure(artifact)) for artifact in artifacts]
    try:
        _, late = await asyncio.wait(tasks, timeout=WITHIN) if tasks else ((), ())
        if late:
            found.unread.append(f"{len(late)} images were not answered for within {WITHIN:.0f} s")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled() and (broken := task.exception()) is not None:
            raise broken
    return found


async def _digest(artifact: Artifact, signatures: dict[str, str]) -> str:
    name = ImageName(str(artifact.image))
    registry = Registry(name, await asyncio.to_thread(_login, artifact), artifact.insecure)
    reference = name.digest or str(name.tag)
    needs_body = artifact.platform is not None or artifact.max_age is not None
    tagged, digest = ("", "")
    if needs_body:
        tagged, document = await registry.manifest(reference)
        digest, document = await _of_platform(registry, artifact.platform, tagged, document)
        await _check_config(registry, artifact, document)
    else:
        tagged = digest = await registry.resolve(reference)
    if name.digest is not None and name.digest != tagged:
        raise WrongError(f"the registry has {tagged} under that digest")
    if artifact.cosign is None:
        signatures[str(artifact.image)] = "skipped: nobody asks who signed it (release.artifacts.cosign)"
    else:
        # Signed is what was pushed under the tag: an index with all of its platforms, where there is one.
        signatures[str(artifact.image)] = await verify_signature(artifact.cosign, registry, tagged)
    return digest


def _login(artifact: Artifact) -> tuple[str, str] | None:
    if artifact.username is None or artifact.password is None:
        return None
    return resolve(artifact.username), resolve(artifact.password)


async def _of_platform(
    registry: Registry, platform: str | None, digest: str, document: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The platform's own manifest, where the registry has an index of several."""
    if document.get("mediaType") not in INDEXES and not isinstance(document.get("manifests"), list):
        return digest, document
    there = {_named(entry): entry.get("digest") for entry in _entries(document)}
    if platform is None:
        raise WrongError(f"it is for several platforms, name one (platform): {', '.join(sorted(there))}")
    mine = there.get(platform)
    if not isinstance(mine, str) or not mine.startswith("sha256:"):
        raise WrongError(f"it is not there for {platform}, but for {', '.join(sorted(there)) or 'nothing'}")
    return await registry.manifest(mine)


def _entries(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The images of an index; what is no image for a platform (an attestation) has none."""
    found = document.get("manifests")
    entries = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
    return [entry for entry in entries if _named(entry) not in ("", "unknown/unknown")][:200]


def _named(entry: dict[str, Any]) -> str:
    told = entry.get("platform")
    told = told if isinstance(told, dict) else {}
    # arm64 is v8 where nothing else is said, and is asked for without it.
    variant = told.get("variant") if (told.get("architecture"), told.get("variant")) != ("arm64", "v8") else None
    return "/".join(str(part) for part in (told.get("os"), told.get("architecture"), variant) if part)[:80]


async def _check_config(registry: Registry, artifact: Artifact, manifest: dict[str, Any]) -> None:
    """The image itself says for which platform it is, and when it was made."""
    told = manifest.get("config")
    digest = told.get("digest") if isinstance(told, dict) else None
    if not isinstance(digest, str) or not digest.startswith("sha256:") or not digest[7:].isalnum():
        raise WrongError("its manifest names no configuration")
    config = await registry.config(digest)
    if artifact.platform is not None and _named({"platform": config}) != artifact.platform:
        raise WrongError(f"it is for {_named({'platform': config}) or 'no platform'}, not for {artifact.platform}")
    if artifact.max_age is None:
        return
    try:
        created = datetime.fromisoformat(str(config["created"]))
    except (KeyError, ValueError):
        raise WrongError("it does not say when it was made, so that its age is not known") from None
    created = created if created.tzinfo else created.replace(tzinfo=UTC)
    check_age(str(artifact.image), (datetime.now(UTC) - created).total_seconds(), artifact.max_age)

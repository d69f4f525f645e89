"""What was planned and approved must be what runs: an image has one id, and that is what containers are made from.

An image is known before anything changes by its digest at the registry, or by its id where it is on the Docker host
already; one that is still to be built by the digest of everything it is built from. Each revision's image keeps a tag
of its own, so that no clean-up of the host takes away what a rollback needs.
"""

import json
from dataclasses import dataclass

import docker.errors

from activities.platforms.compose.build_context import context_digest
from activities.platforms.compose.cli import BUILDS_WITHIN, CommandFailedError, compose
from activities.platforms.compose.engine import LABEL, Engine
from activities.platforms.compose.project import Project
from activities.platforms.compose.state import ComposeStore
from models.errors import PreconditionError, UnavailableError
from models.platforms.compose import VERSION
from models.release import Revision

IMAGE = "platform:image"
CONTEXT = "platform:context"
FILE = "platform:compose-file"


@dataclass(frozen=True)
class FoundImage:
    """An image as it was found: `sha256` without its prefix, and in words where."""

    sha256: str
    where: str


def wanted(project: Project, version: str) -> str | None:
    """The name of the image that is released; None for one that is built."""
    given = project.platform.image
    return given.replace(VERSION, version) if given is not None else project.image


def look(engine: Engine, name: str) -> FoundImage:
    """Finds an image at its registry, or on the host when the registry has none or cannot be asked.

    Raises:
        PreconditionError: it is in neither.
    """
    try:
        with engine.asking():
            try:
                found = engine.docker.images.get_registry_data(name)
                return FoundImage(str(found.id).removeprefix("sha256:"), "at its registry")
            except docker.errors.APIError as error:
                here = _here(engine, name)
                if here is not None:
                    return FoundImage(here.removeprefix("sha256:"), "on the Docker host")
                why = error.explanation or str(error)
    except UnavailableError:
        if not engine.answers():
            raise
        # The daemon answers, but its own question to the registry took too long.
        here = _here(engine, name)
        if here is not None:
            return FoundImage(here.removeprefix("sha256:"), "on the Docker host")
        why = "the registry does not answer"
    raise PreconditionError(f"the image {name} is neither on the Docker host nor at its registry: {why}")


def provide(store: ComposeStore, project: Project, revision: Revision) -> str:
    """The id of the revision's image, which is on the host afterwards and has a tag of the revision's own.

    Raises:
        PreconditionError: it is not what was pinned, or cannot be had.
    """
    name = wanted(project, revision.release.version)
    if name is None:
        return _build(store, project, revision)
    pinned = revision.release.digests.get(IMAGE)
    found = _pinned(store.engine, name, pinned) if pinned else _here(store.engine, name)
    if found is None:
        found = _pull(store.engine, name, pinned)
    with store.engine.asking():
        store.engine.docker.images.get(found).tag(*tag(store, revision.id).rsplit(":", 1))
    return found


def tag(store: ComposeStore, revision: str) -> str:
    """What a revision's image is called on the host."""
    slug = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in revision)
    return f"{LABEL}/{store.service}-{store.target}:{slug}"


def forget(store: ComposeStore, revision: str) -> None:
    """Take a revision's own tag off its image; an image that nothing else names goes with it."""
    with store.engine.asking():
        try:
            store.engine.docker.images.remove(tag(store, revision))
        except docker.errors.ImageNotFound:
            return
        except docker.errors.APIError as error:
            # Somebody else's container uses it: the tag is all that it has.
            if error.status_code != 409:
                raise


def _here(engine: Engine, name: str) -> str | None:
    with engine.asking():
        try:
            return str(engine.docker.images.get(name).id)
        except docker.errors.ImageNotFound:
            return None


def _pinned(engine: Engine, name: str, digest: str) -> str | None:
    """The id of a local image that is the pinned one: by its own id, or by its registry's digest."""
    return _here(engine, f"sha256:{digest}") or _here(engine, f"{_repository(name)}@sha256:{digest}")


def _pull(engine: Engine, name: str, digest: str | None) -> str:
    reference = f"{_repository(name)}@sha256:{digest}" if digest else name
    try:
        with engine.asking():
            try:
                for said in engine.docker.api.pull(reference, stream=True, decode=True):
                    if "error" in said:
                        raise PreconditionError(f"the image {reference} cannot be pulled: {said['error']}")
            except docker.errors.NotFound as error:
                raise PreconditionError(
                    f"the image {reference} cannot be pulled: {error.explanation or error}"
                ) from error
    except UnavailableError as error:
        raise UnavailableError(f"the image {reference} was not pulled: {error}") from error
    found = _here(engine, reference)
    if found is None:
        raise PreconditionError(f"the image {reference} was pulled and is not there")
    return found


def _repository(name: str) -> str:
    head, slash, last = name.partition("@")[0].rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def _build(store: ComposeStore, project: Project, revision: Revision) -> str:
    pinned = revision.release.digests.get(CONTEXT)
    if pinned is not None and context_digest(project) != pinned:
        raise PreconditionError(
            f"what {project.platform.service} is built from has changed since it was checked: "
            f"{project.released['build']['context']}"
        )
    name = tag(store, revision.id)
    folder = store.make_folder()
    file = folder / ".build.json"
    service = {"build": project.released["build"], "image": name}
    store.home.write(file, json.dumps({"name": "build", "services": {"revision": service}}))
    try:
        compose(store.engine, "-f", str(file), "build", "--quiet", within=BUILDS_WITHIN, lock=store.command_lock)
    except CommandFailedError as error:
        raise PreconditionError(f"{project.platform.service} cannot be built: {error}") from error
    finally:
        file.unlink(missing_ok=True)
    found = _here(store.engine, name)
    if found is None:
        raise PreconditionError(f"{project.platform.service} was built, and its image {name} is not there")
    return found

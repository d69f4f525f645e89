"""A rollback must not depend on what has changed since: each revision keeps what its containers are made from.

That is a template without any value of the environment, and the environment, which holds secrets, in a file of its
own that only the owner can read. Values reach Compose as variables, never in a file of Compose or on a command line.
"""

import json
import shutil
from pathlib import Path

from activities.platforms.compose import dependencies, images
from activities.platforms.compose.project import FILE_CHANGED, Project, Template, read_project
from activities.platforms.compose.state import ComposeStore
from activities.secrets.resolver import remember, resolve
from models.errors import PreconditionError, SecretUnresolvedError, UnavailableError
from models.platforms import ComposePlatformSpec, of_kind
from models.release import Revision
from models.secrets import Secret

_ENVIRONMENT = "environment.json"
# Variables that each revision is given by us.
GIVEN = ("VERSION", "SERVICE", "TARGET", "REVISION", "HOST", "PORT")


class ComposeFiles:
    """What is kept of the revisions of all targets: see `activities.platforms.traefik.interfaces`."""

    def materialize(self, store: ComposeStore, revision: Revision) -> None:
        folder = store.revision_folder(revision.id)
        if folder.exists():
            return
        store.make_folder()
        with store.copying():
            if folder.exists():
                return
            folder.parent.mkdir(mode=0o700, exist_ok=True)
            incoming = folder.with_name(".incoming")
            _remove(incoming)
            platform = of_kind(revision.platform, ComposePlatformSpec)
            try:
                project = read_project(store.engine, platform, variables(store, revision))
                pinned = revision.release.digests.get(images.FILE)
                if pinned is not None and project.digest() != pinned:
                    raise PreconditionError(FILE_CHANGED.format(files=", ".join(platform.files)))
                image = images.provide(store, project, revision)
                dependencies.bring_up(store, project, variables(store, revision))
                store.keep(incoming, project.template(image, platform.stop.total_seconds()))
                store.home.write(incoming / _ENVIRONMENT, json.dumps(_environment(store, revision, project), indent=1))
                incoming.rename(folder)
            finally:
                _remove(incoming)

    def remove(self, store: ComposeStore, revision: str) -> None:
        folder = store.revision_folder(revision)
        if folder.exists():
            images.forget(store, revision)
        going = folder.with_name(f".going.{revision}")
        _remove(going)
        if folder.exists():
            folder.rename(going)
            _remove(going)

    def remove_orphans(self, store: ComposeStore, known: set[str]) -> None:
        for folder in (store.folder / "revisions").glob("*"):
            if not folder.name.startswith(".") and folder.name not in known:
                self.remove(store, folder.name)


def variables(store: ComposeStore, revision: Revision) -> dict[str, str]:
    """What tells a revision who it is; its Compose file may refer to it as well."""
    return {
        "VERSION": revision.release.version,
        "SERVICE": store.service,
        "TARGET": store.target,
        "REVISION": revision.id,
    }


def environment(store: ComposeStore, revision: Revision, template: Template) -> dict[str, str]:
    """Everything that the revision's containers get as their environment.

    Secrets are read anew. One that cannot be read any more has the value that the revision ran with before.

    Raises:
        SecretUnresolvedError: a secret cannot be read, and never was for this revision.
        PreconditionError: what the Compose file gave it is gone.
    """
    path = store.revision_folder(revision.id) / _ENVIRONMENT
    try:
        before: dict[str, str] = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        before = _of_container(store, revision.id)
    found = before | _given(revision, before) | variables(store, revision)
    if found != before or not path.exists():
        store.home.write(path, json.dumps(found, indent=1))
    return found


def kept_environment(store: ComposeStore, revision: str) -> dict[str, str] | None:
    """What a revision's containers were given; None where another home made them."""
    try:
        found: dict[str, str] = json.loads((store.revision_folder(revision) / _ENVIRONMENT).read_text())
    except (OSError, ValueError):
        return None
    return found


def _environment(store: ComposeStore, revision: Revision, project: Project) -> dict[str, str]:
    # A service that reads where to listen from its environment is told what its router will ask.
    listens = {"HOST": "0.0.0.0", "PORT": str(project.port)}  # noqa: S104  inside its own container
    return listens | revision.identity | project.environment | _given(revision, {}) | variables(store, revision)


def _given(revision: Revision, before: dict[str, str]) -> dict[str, str]:
    found = {}
    for name, value in revision.platform.environment.items():
        if not isinstance(value, Secret):
            found[name] = value
            continue
        try:
            found[name] = resolve(value.secret)
        except SecretUnresolvedError:
            if name not in before:
                raise
            remember(before[name])
            found[name] = before[name]
    return found


def _of_container(store: ComposeStore, revision: str) -> dict[str, str]:
    """The environment that the revision's containers run with, where another home has made them."""
    found = store.containers("instance", revision=revision)
    if not found:
        raise PreconditionError(
            f"the environment of {revision} is known only in the home of the worker that deployed it, and none of its "
            "containers is left"
        )
    given: list[str] = found[0].attrs["Config"].get("Env") or []
    return {name: value for name, _, value in (each.partition("=") for each in given)}


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UnavailableError(f"{error.filename or folder} cannot be removed: {error.strerror}") from error

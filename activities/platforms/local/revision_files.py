"""A rollback must not depend on what has changed since: each revision keeps its own files and its own environment.

The files are copied whole or not at all. The environment holds secrets, so only the owner can read it; it is written
to nothing else but the description that the process is started by.
"""

import json
import shutil
from pathlib import Path

from activities.platforms.traefik.state import TargetStore
from activities.secrets.resolver import remember, resolve
from activities.system.directory_digest import copy_tree, tree_digest
from home.caller import INHERITED, inherited
from models.errors import PreconditionError, SecretUnresolvedError, UnavailableError
from models.platforms import LocalPlatformSpec, of_kind
from models.release import Revision
from models.secrets import Secret

DIRECTORY_DIGEST = "directory"


class LocalFiles:
    """The files of all targets: see `activities.platforms.traefik.interfaces`."""

    def materialize(self, store: TargetStore, revision: Revision) -> None:
        materialize(store, revision)

    def remove(self, store: TargetStore, revision: str) -> None:
        remove(store, revision)

    def remove_orphans(self, store: TargetStore, known: set[str]) -> None:
        remove_orphans(store, known)


def materialize(store: TargetStore, revision: Revision) -> None:
    """Copy the release's directory, unless this revision has its files already.

    Raises:
        PreconditionError: what was copied is not what was pinned, or cannot be copied.
    """
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
        incoming.mkdir(mode=0o700)
        try:
            platform = of_kind(revision.platform, LocalPlatformSpec)
            copy_tree(Path(platform.directory), incoming / "files", platform.exclude)
            _verify(incoming / "files", revision)
            incoming.rename(folder)
        finally:
            _remove(incoming)


def _verify(files: Path, revision: Revision) -> None:
    pinned = revision.release.digests.get(DIRECTORY_DIGEST)
    if pinned is None:
        return
    found = tree_digest(files)
    if found != pinned:
        raise PreconditionError(
            f"the directory {revision.platform.directory} has changed since it was checked: "
            f"its sha256 was {pinned[:12]}…, and is {found[:12]}… now"
        )


def environment(store: TargetStore, revision: Revision) -> dict[str, str]:
    """The revision's environment, without what tells one instance from another.

    Secrets are read anew. One that cannot be read any more has the value that the revision ran with before.

    Raises:
        SecretUnresolvedError: a secret cannot be read, and never was for this revision.
    """
    path = store.revision_folder(revision.id) / "environment.json"
    before = _load(path)
    # What it ran with before comes first: a way back starts it as it was.
    found = inherited(store.service, store.target) | {name: before[name] for name in INHERITED if before.get(name)}
    found |= revision.identity
    for name, value in revision.platform.environment.items():
        found[name] = _read(name, value, before) if isinstance(value, Secret) else value
    found |= {
        "VERSION": revision.release.version,
        "SERVICE": store.service,
        "TARGET": store.target,
        "REVISION": revision.id,
    }
    if found != before:
        store.home.write(path, json.dumps(found, indent=1))
    return found


def files(store: TargetStore, revision: Revision) -> Path:
    """The revision's files; the working directory of its processes.

    Raises:
        PreconditionError: they are gone.
    """
    folder = store.revision_folder(revision.id) / "files"
    if not folder.is_dir():
        raise PreconditionError(f"the files of the revision {revision.id} are gone from {folder}")
    return folder


def remove(store: TargetStore, revision: str) -> None:
    """Remove a revision's files and environment; one that has none is no error.

    Raises:
        UnavailableError: something of it cannot be removed.
    """
    folder = store.revision_folder(revision)
    # Away at once, then piece by piece: half a folder would pass for the revision's files.
    going = folder.with_name(f".going.{revision}")
    _remove(going)
    if folder.exists():
        folder.rename(going)
        _remove(going)


def remove_orphans(store: TargetStore, known: set[str]) -> None:
    """Remove files of revisions that the target does not know: their copying ended when somebody newer took over.

    Raises:
        UnavailableError: something of it cannot be removed.
    """
    for folder in (store.folder / "revisions").glob("*"):
        if not folder.name.startswith(".") and folder.name not in known:
            remove(store, folder.name)


def _read(name: str, secret: Secret, before: dict[str, str]) -> str:
    try:
        return resolve(secret.secret)
    except SecretUnresolvedError:
        if name not in before:
            raise
        remember(before[name])
        return before[name]


def _load(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UnavailableError(f"{error.filename or folder} cannot be removed: {error.strerror}") from error

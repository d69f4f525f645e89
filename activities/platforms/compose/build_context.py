"""What is built is known before it is built, by everything that Docker would be given for it.

That is the folder without what its `.dockerignore` names: what is not sent cannot change the image. Sockets and the
like are left out, as Docker leaves them out.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from docker.utils.build import PatternMatcher

from activities.platforms.compose.project import Project
from activities.system.directory_digest import MOST_BYTES, MOST_FILES, TreeEntry, digest_of
from models.errors import PreconditionError
from models.units import readable

# Its digest would change with every look at the repository.
_LEFT_OUT = (".git",)
_IGNORED = ".dockerignore"
_FROM = re.compile(r"(?im)^\s*FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?")


def context_digest(project: Project) -> str:
    """sha256 over what the image of the released service is built from.

    Raises:
        PreconditionError: it cannot be read, or is not on this machine.
    """
    build = project.released["build"]
    context, file = Path(build["context"]), build.get("dockerfile") or "Dockerfile"
    if "://" in build["context"]:
        raise PreconditionError(
            f"{project.platform.service} is built from {build['context']}: build it first, name its image"
        )
    if not context.is_dir():
        raise PreconditionError(
            f"{context}, from which {project.platform.service} is built, is no directory, seen from the worker: paths "
            "are those of its machine or container"
        )
    # Where it lies does not count; what it says does.
    said = {name: value for name, value in build.items() if name not in ("context", "dockerfile")}
    try:
        said["dockerfile"] = build.get("dockerfile_inline") or (context / file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise PreconditionError(f"{context / file} cannot be read: {error}") from error
    try:
        patterns = _patterns(context, file)
        entries = sorted(_sent(context, patterns), key=lambda entry: os.fsencode(entry.path))
    except (OSError, UnicodeDecodeError) as error:
        raise PreconditionError(f"{context} cannot be read: {error}") from error
    said["files"] = digest_of(context, entries)
    said["additional_contexts"] = {
        name: _of_additional(place) for name, place in (build.get("additional_contexts") or {}).items()
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def taken_from_elsewhere(project: Project) -> list[str]:
    """What the image is built from that is on no disk here: images that it begins with, and contexts by name."""
    build = project.released["build"]
    text = build.get("dockerfile_inline") or (
        Path(build["context"]) / (build.get("dockerfile") or "Dockerfile")
    ).read_text(errors="replace")
    images = [found[1] for found in _FROM.finditer(text)]
    stages = {found[2] for found in _FROM.finditer(text) if found[2]} | {"scratch"}
    others = {place for place in (build.get("additional_contexts") or {}).values() if not Path(place).is_absolute()}
    unpinned = {image for image in images if image not in stages and "@sha256:" not in image}
    return [*(f"the image {image} that it is built on" for image in sorted(unpinned)), *sorted(others)]


def _of_additional(place: str) -> str:
    """What another folder that the image is built from counts by; what is not a folder counts by its name."""
    folder = Path(place)
    if not folder.is_absolute():  # an image, a repository, another service or stage
        return place
    try:
        return digest_of(folder, sorted(_sent(folder, list(_LEFT_OUT)), key=lambda entry: os.fsencode(entry.path)))
    except OSError as error:
        raise PreconditionError(f"{folder}, from which the image is built too, cannot be read: {error}") from error


def _patterns(context: Path, dockerfile: str) -> list[str]:
    """What is not sent; a Dockerfile may have a list of its own."""
    own = context / f"{dockerfile}{_IGNORED}"
    path = own if own.is_file() else context / _IGNORED
    lines = path.read_text().splitlines() if path.is_file() else []
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")] + list(_LEFT_OUT)


def _sent(context: Path, patterns: list[str]) -> Iterator[TreeEntry]:
    matcher = PatternMatcher(patterns)
    files = size = 0
    for path in matcher.walk(str(context)):
        found = (context / path).lstat()
        files, size = files + 1, size + found.st_size
        if files > MOST_FILES or size > MOST_BYTES:
            raise PreconditionError(
                f"{context} holds more than {MOST_FILES:,} files or {readable(MOST_BYTES)}: name what is not needed to "
                f"build the image in {context / _IGNORED}"
            )
        if stat.S_ISDIR(found.st_mode):
            yield TreeEntry(path, "directory")
        elif stat.S_ISLNK(found.st_mode):
            yield TreeEntry(path, "link")
        elif stat.S_ISREG(found.st_mode):
            yield TreeEntry(path, "file", bool(found.st_mode & stat.S_IXUSR), found.st_size)

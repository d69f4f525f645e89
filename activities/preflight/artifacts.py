"""What was planned and approved must be what is run: every byte of it is measured before anything changes.

The digests go into the plan. When they are measured again later, a difference fails: somebody wrote into the release
while the deployment waited.
"""

import hashlib
import os
import shutil
from pathlib import Path

from activities.finding import Finding, quote
from activities.regular import NotRegularError, open_regular
from activities.tree import tree_digest
from models.checks import PreflightCheck
from models.errors import Impossible
from models.platforms import LocalPlatform
from models.spec import Artifact
from models.verdict import CheckResult

DIRECTORY = "directory"


class _WrongError(Exception):
    """Something is not there, or not what it should be."""


class _UnreadableError(Exception):
    """Something cannot be read, so nothing can be said of it."""


def check_artifacts(check: PreflightCheck) -> CheckResult:
    """Measures the directory, each artifact and looks for the program.

    Evidence `digests` has the sha256 of each artifact under its path, and that of the directory under `directory`.
    """
    finding = Finding("artifacts")
    platform = check.spec.platform
    wrong: list[str] = []
    unread: list[str] = []
    digests: dict[str, str] = {}
    if isinstance(platform, LocalPlatform):
        try:
            digests[DIRECTORY] = tree_digest(Path(platform.directory), platform.exclude)
        except Impossible as error:
            wrong.append(str(error))
    for artifact in check.spec.release.artifacts:
        try:
            digests[artifact.path] = _measure(artifact, platform.directory)
        except _WrongError as error:
            wrong.append(str(error))
        except _UnreadableError as error:
            unread.append(str(error))
    if isinstance(platform, LocalPlatform) and not find_program(platform):
        wrong.append(
            f"the program {quote(platform.run[0])} of platform.run is neither on the worker's PATH nor in "
            f"{platform.directory}, or may not be executed"
        )
    wrong += _differences(check.expected, digests)
    if wrong:
        return finding.failed("; ".join(wrong + unread), digests=digests)
    if unread:
        return finding.not_asked("; ".join(unread), digests=digests)
    if not digests and not check.expected:
        return finding.skipped("the spec names no artifacts (release.artifacts)")
    said = f"{len(digests)} digests"
    return finding.passed(
        f"{said} {'are those of the plan' if check.expected else 'go into the plan'}", digests=digests
    )


def find_program(platform: LocalPlatform) -> str | None:
    """Where the service's program is: on the PATH it will be given, or relative to its directory; None when nowhere."""
    program, directory = platform.run[0], Path(platform.directory)
    inside = directory / program
    if inside.is_file() and os.access(inside, os.X_OK):
        return str(inside)
    path = platform.environment.get("PATH")
    return None if "/" in program else shutil.which(program, path=path if isinstance(path, str) else None)


def _measure(artifact: Artifact, directory: str) -> str:
    path = Path(directory) / artifact.path
    try:
        with open_regular(path) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except NotRegularError:
        raise _WrongError(f"the artifact {artifact.path} is no regular file") from None
    except (FileNotFoundError, NotADirectoryError):
        raise _WrongError(f"the artifact {artifact.path} is not there") from None
    except OSError as error:
        raise _UnreadableError(f"the artifact {artifact.path} cannot be read: {error.strerror}") from None
    if artifact.sha256 is not None and found != artifact.sha256:
        raise _WrongError(f"the artifact {artifact.path} has sha256 {found}, expected {artifact.sha256}")
    return found


def _differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    if not expected:
        return []
    changed = sorted(what for what, digest in found.items() if expected.get(what, digest) != digest)
    gone = sorted(expected.keys() - found.keys())
    fresh = sorted(found.keys() - expected.keys())
    return (
        [f"{what} changed since the plan" for what in changed]
        + [f"{what} was measured for the plan and is gone" for what in gone]
        + [f"{what} is not in the plan" for what in fresh]
    )

"""What was planned and approved must be what is run: every byte of it is measured before anything changes.

The digests go into the plan. When they are measured again later, a difference fails: somebody wrote into the release
while the deployment waited.
"""

import asyncio
import os
import shutil
from pathlib import Path

from activities.finding import Finding, quote
from activities.preflight.artifact_files import MOST_FILES, measure_files
from activities.preflight.artifact_images import measure_images
from activities.tree import tree_digest
from embedded.caller import inherited
from models.checks import PreflightCheck
from models.errors import Impossible
from models.platforms import LocalPlatform, Platform
from models.spec import DeploymentSpec
from models.verdict import CheckResult

DIRECTORY = "directory"


async def check_artifacts(check: PreflightCheck) -> CheckResult:
    """Measures the directory, each file and each image, and looks for the program.

    Evidence `digests` has the sha256 of each file under its path, that of the directory under `directory`, and the
    digest of each image under `oci:` and its name; `signatures` what is known of who signed an image.
    """
    finding = Finding("artifacts")
    of_images = [artifact for artifact in check.spec.release.artifacts if artifact.image is not None]
    (digests, wrong, unread), images = await asyncio.gather(
        asyncio.to_thread(_measure_here, check.spec), measure_images(of_images)
    )
    digests |= images.digests
    unread += images.unread
    wrong += images.wrong + _differences(check.expected, digests)
    evidence = {"digests": digests} | ({"signatures": images.signatures} if of_images else {})
    if wrong:
        return finding.failed("; ".join(wrong + unread), **evidence)
    if unread:
        return finding.not_asked("; ".join(unread), **evidence)
    if not digests and not check.expected:
        return finding.skipped("the spec names no artifacts (release.artifacts)")
    said = f"{len(digests)} digests {'are those of the plan' if check.expected else 'go into the plan'}"
    return finding.passed(said, **evidence)


def _measure_here(spec: DeploymentSpec) -> tuple[dict[str, str], list[str], list[str]]:
    """What the worker finds on its own disk: digests, what is wrong, what cannot be read."""
    platform = _with_path(spec)
    digests: dict[str, str] = {}
    wrong: list[str] = []
    unread: list[str] = []
    if isinstance(platform, LocalPlatform):
        try:
            digests[DIRECTORY] = tree_digest(Path(platform.directory), platform.exclude)
        except Impossible as error:
            wrong.append(str(error))
    for artifact in spec.release.artifacts:
        if artifact.path is not None:
            found = measure_files(artifact, platform.directory)
            digests, wrong, unread = digests | found[0], wrong + found[1], unread + found[2]
        if len(digests) > MOST_FILES:
            return {}, [f"the artifacts are more than {MOST_FILES:,} files: name what holds them instead"], []
    if isinstance(platform, LocalPlatform) and not find_program(platform):
        wrong.append(
            f"the program {quote(platform.run[0])} of platform.run is neither on the PATH nor in "
            f"{platform.directory}, or may not be executed"
        )
    return digests, wrong, unread


def _with_path(spec: DeploymentSpec) -> Platform:
    """The platform with the PATH that its programs will be given."""
    own, path = spec.platform.environment, inherited(spec.service, spec.target).get("PATH")
    if "PATH" in own or path is None:
        return spec.platform
    return spec.platform.model_copy(update={"environment": {**own, "PATH": path}})


def find_program(platform: LocalPlatform) -> str | None:
    """Where the service's program is: on the PATH it will be given, or relative to its directory; None when nowhere."""
    program, directory = platform.run[0], Path(platform.directory)
    inside = directory / program
    if inside.is_file() and os.access(inside, os.X_OK):
        return str(inside)
    path = platform.environment.get("PATH")
    return None if "/" in program else shutil.which(program, path=path if isinstance(path, str) else None)


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

"""What was planned and approved must be what is run: every byte of it is measured before anything changes.

The digests go into the plan. When they are measured again later, a difference fails: somebody wrote into the release
while the deployment waited.
"""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

from activities.check_result import Finding, quote
from activities.preflight.artifact_files import MOST_FILES, measure_files
from activities.preflight.artifact_images import measure_images
from activities.preflight.programs import MOST_SAID, PROGRAM, find_programs
from activities.system.directory_digest import TreeEntry, digest_of, list_tree
from home.caller import inherited
from models.checks import PreflightCheck
from models.errors import PreconditionError
from models.platforms import LocalPlatformSpec, Platform
from models.spec import DeploymentSpec
from models.verdict import CheckResult

DIRECTORY = "directory"
# The plan, the report and each revision carry them.
LONGEST_NAMES = 128 << 10
MOST_NOT_COPIED = 50


async def check_artifacts(check: PreflightCheck) -> CheckResult:
    """Measures the directory, each file and each image, and looks for the program.

    Evidence `digests` has the sha256 of each file under its path, that of the directory under `directory`, that of each
    program which is not in it under `program:` and its path, and the digest of each image under `oci:` and its name;
    `not_copied` says what else the service is run by, `signatures` who is known to have signed an image.
    """
    finding = Finding("artifacts")
    of_images = [artifact for artifact in check.spec.release.artifacts if artifact.image is not None]
    (digests, wrong, unread, told), images = await asyncio.gather(
        asyncio.to_thread(_measure_here, check.spec), measure_images(of_images)
    )
    digests |= images.digests
    unread += images.unread
    wrong += images.wrong + _differences(check.expected, digests)
    evidence: dict[str, Any] = {"digests": digests} | ({"signatures": images.signatures} if of_images else {})
    evidence |= {"not_copied": told[:MOST_NOT_COPIED]} if told else {}
    if wrong:
        return finding.failed("; ".join(wrong + unread), **evidence)
    if unread:
        return finding.not_asked("; ".join(unread), **evidence)
    if not digests and not check.expected:
        return finding.skipped("the spec names no artifacts (release.artifacts)")
    said = f"{len(digests)} digests {'are those of the plan' if check.expected else 'go into the plan'}"
    if told:
        more = f"; and {len(told) - MOST_SAID} more" if len(told) > MOST_SAID else ""
        said = f"{said}; run by what is not copied: {'; '.join(told[:MOST_SAID])}{more}"
    return finding.passed(said, **evidence)


def _measure_here(spec: DeploymentSpec) -> tuple[dict[str, str], list[str], list[str], list[str]]:
    """What the worker finds on its own disk: digests, what is wrong, what cannot be read, what else is run."""
    platform = _with_path(spec)
    digests: dict[str, str] = {}
    wrong: list[str] = []
    unread: list[str] = []
    told: list[str] = []
    if isinstance(platform, LocalPlatformSpec):
        found, wrong, told = _measure_release(platform)
        digests |= found
    for artifact in spec.release.artifacts:
        if artifact.path is not None:
            files = measure_files(artifact, platform.directory)
            digests, wrong, unread = digests | files[0], wrong + files[1], unread + files[2]
        if len(digests) > MOST_FILES:
            return {}, [f"the artifacts are more than {MOST_FILES:,} files: name what holds them instead"], [], []
        if sum(len(name.encode(errors="replace")) for name in digests) > LONGEST_NAMES:
            said = f"the paths of the artifacts have more than {LONGEST_NAMES >> 10} KiB together"
            return {}, [f"{said}: name what holds them instead"], [], []
    return digests, wrong, unread, told


def _measure_release(platform: LocalPlatformSpec) -> tuple[dict[str, str], list[str], list[str]]:
    """The directory that is copied, and the programs that it is run by: digests, what is wrong, what is not copied."""
    root, digests, wrong = Path(platform.directory), {}, []
    entries: list[TreeEntry] = []
    try:
        entries = list_tree(root, platform.exclude)
        digests[DIRECTORY] = digest_of(root, entries)
    except PreconditionError as error:
        wrong.append(str(error))
    program = find_program(platform)
    if program is None:
        wrong.append(
            f"the program {quote(platform.run[0])} of platform.run is neither on the PATH nor in "
            f"{platform.directory}, or may not be executed"
        )
        return digests, wrong, []
    programs = find_programs(platform, program, entries)
    return digests | programs.digests, wrong + programs.wrong, programs.told


def _with_path(spec: DeploymentSpec) -> Platform:
    """The platform with the PATH that its programs will be given."""
    own, path = spec.platform.environment, inherited(spec.service, spec.target).get("PATH")
    if "PATH" in own or path is None:
        return spec.platform
    return spec.platform.model_copy(update={"environment": {**own, "PATH": path}})


def find_program(platform: LocalPlatformSpec) -> str | None:
    """Where the service's program is: on the PATH it will be given, or relative to its directory; None when nowhere."""
    program, path = platform.run[0], platform.environment.get("PATH")
    found = None if "/" in program else shutil.which(program, path=path if isinstance(path, str) else None)
    inside = Path(platform.directory) / program
    return found or (str(inside) if inside.is_file() and os.access(inside, os.X_OK) else None)


def _differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    if not expected:
        return []
    if not any(what.startswith(PROGRAM) for what in expected):  # planned by a worker that did not measure them
        found = {what: digest for what, digest in found.items() if not what.startswith(PROGRAM)}
    changed = sorted(what for what, digest in found.items() if expected.get(what, digest) != digest)
    gone = sorted(expected.keys() - found.keys())
    fresh = sorted(found.keys() - expected.keys())
    return (
        [f"{what} changed since the plan" for what in changed]
        + [f"{what} was measured for the plan and is gone" for what in gone]
        + [f"{what} is not in the plan" for what in fresh]
    )

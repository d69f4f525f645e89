"""Makes a release: the version in every place, the changelog's section, the wheel, a commit and a tag.

    python .ci/release.py 0.2.0 --dry-run

A dry run says what would change and changes nothing. Nothing is pushed: the last lines say how.
"""

import argparse
import difflib
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
UNRELEASED = "## [Unreleased]\n"
# Each file, and what stands around the version in it.
PLACES = {
    "pyproject.toml": '\nversion = "{}"\n',
    "docker-compose.yml": "deployment-specialist-worker:{}",
    "deploy/kubernetes/worker/deployment.yaml": "image: deployment-specialist:{}",
    "deploy/kubernetes/overlay/kustomization.yaml": "newTag: {}",
    "docs/kubernetes.md": "registry.example.com/deployment-specialist:{} ",
}


class ReleaseError(Exception):
    """It cannot be released; the message says why."""


def current(root: Path) -> str:
    """The version that pyproject.toml has."""
    match = re.search(r'^version = "([^"]+)"$', (root / "pyproject.toml").read_text(), re.MULTILINE)
    if match is None:
        raise ReleaseError("pyproject.toml has no version")
    return match[1]


def changed(root: Path, version: str, day: str) -> dict[str, str]:
    """File → its text in the release.

    Raises:
        ReleaseError: the version is not a newer one, a place of it is gone, or the changelog says nothing.
    """
    before = current(root)
    if not VERSION.fullmatch(version):
        raise ReleaseError(f"{version} is not a version: MAJOR.MINOR.PATCH")
    if _numbers(version) <= _numbers(before):
        raise ReleaseError(f"{version} is not newer than {before}")
    texts = {}
    for name, around in PLACES.items():
        text = (root / name).read_text()
        if around.format(before) not in text:
            raise ReleaseError(f"{name} does not have {around.format(before).strip()!r}")
        texts[name] = text.replace(around.format(before), around.format(version))
    return texts | {"CHANGELOG.md": _log((root / "CHANGELOG.md").read_text(), version, day)}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _log(text: str, version: str, day: str) -> str:
    head, found, rest = text.partition(UNRELEASED)
    body, _, older = rest.partition("\n## [")
    if not found or not re.search(r"^- ", body, re.MULTILINE):
        raise ReleaseError("CHANGELOG.md says nothing under [Unreleased]")
    older = f"\n## [{older}" if older else ""
    return f"{head}{UNRELEASED}\n## [{version}] - {day}\n{body}{older}"


def _git(root: Path, *arguments: str) -> str:
    ran = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise ReleaseError(f"git {arguments[0]}: {ran.stderr.strip()}")
    return ran.stdout


def release(root: Path, version: str, *, dry_run: bool) -> None:
    """Releases this version.

    Raises:
        ReleaseError: it cannot be released; nothing has been changed.
    """
    texts = changed(root, version, datetime.now(UTC).date().isoformat())
    if dry_run:
        for name, text in texts.items():
            lines = (root / name).read_text().splitlines(keepends=True), text.splitlines(keepends=True)
            sys.stdout.writelines(difflib.unified_diff(*lines, f"a/{name}", f"b/{name}", n=1))
        sys.stdout.write(f"\nwould build the wheel, commit, and tag v{version}; nothing has been changed\n")
        return
    if _git(root, "status", "--porcelain"):
        raise ReleaseError("there are changes that are not committed")
    if _git(root, "tag", "--list", f"v{version}"):
        raise ReleaseError(f"the tag v{version} exists")
    for name, text in texts.items():
        (root / name).write_text(text)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(root / "dist")]
    if subprocess.run(build, cwd=root, stdout=subprocess.DEVNULL, check=False).returncode:
        _git(root, "checkout", "--", *texts)
        raise ReleaseError("the wheel could not be built")
    _git(root, "commit", "--quiet", "--message", f"Release {version}", "--", *texts)
    _git(root, "tag", "--annotate", f"v{version}", "--message", f"Release {version}")
    sys.stdout.write(
        f"{version} is committed and tagged, its wheel is in dist/. To publish it:\n"
        f"  git push --follow-tags\n"
        f"  docker build -t REGISTRY/deployment-specialist:{version} .\n"
        f"  docker push REGISTRY/deployment-specialist:{version}\n"
    )


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Make a release.")
    parser.add_argument("version", help="MAJOR.MINOR.PATCH, newer than the one before")
    parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    given = parser.parse_args()
    try:
        release(Path(__file__).resolve().parents[1], given.version, dry_run=given.dry_run)
    except ReleaseError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

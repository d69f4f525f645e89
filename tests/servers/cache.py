"""What takes minutes to build is built once per machine, outside the checkout, and kept under what it was made of.

A second process that wants the same thing waits for the first one instead of building it again.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

VARIABLE = "DEPLOYMENT_SPECIALIST_TEST_CACHE"


class NotInstalledError(Exception):
    """Something that the tests need is not there and cannot be brought by them; the text says how to get it."""


def folder() -> Path:
    """Where built things are kept."""
    given = os.environ.get(VARIABLE)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    path = Path(given or Path(base) / "deployment-specialist-tests").expanduser()
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One process of this machine at a time."""
    with open(folder() / f".{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def kept(name: str, made_of: Sequence[bytes | str], build: Callable[[Path], None]) -> Path:
    """The thing of that name made of exactly this; built by `build(path)` when it is not there yet.

    Older ones of the same name are removed. `build` makes a file or a folder at the path it is given.
    """
    text = b"\0".join(part.encode() if isinstance(part, str) else part for part in made_of)
    path = folder() / f"{name}-{hashlib.sha256(text).hexdigest()[:16]}"
    with locked(name):
        if not path.exists():
            half = path.with_name(f".{path.name}.half")
            remove(half)
            build(half)
            half.rename(path)
            for older in folder().glob(f"{name}-*"):
                if older != path:
                    remove(older)
    return path


def remove(path: Path) -> None:
    """The file or folder is gone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def go_build(name: str, module: Path, packages: Sequence[str], *flags: str) -> Path:
    """Builds commands that the `go.mod` in `module` names; gives the folder they are in.

    Raises:
        NotInstalledError: there is no Go here.
    """
    if shutil.which("go") is None:
        raise NotInstalledError(f"{name} is built with Go, and there is no `go` on the PATH: install Go 1.24 or newer")
    made_of = [(module / file).read_bytes() for file in ("go.mod", "go.sum")] + [*packages, *flags]

    def build(into: Path) -> None:
        into.mkdir()
        command = ["go", "build", "-mod=mod", "-trimpath", *flags, "-o", f"{into}/", *packages]
        # Two cores, and a linker that wants two gigabytes for each large command.
        run(command, cwd=module, timeout=3000)

    return kept(name, made_of, build)


def debian(*packages: str) -> None:
    """Sees that these Debian packages are installed; installs them as root.

    Raises:
        NotInstalledError: they are not, and this is not root, or not Debian.
    """
    wanted = [package for package in packages if not _installed(package)]
    if not wanted:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NotInstalledError(f"these Debian packages are missing: apt-get install {' '.join(wanted)}")
    with locked("apt"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        options = ["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0", "-qq"]
        run(["apt-get", "update", *options], timeout=300, env=environment)
        run(["apt-get", "install", "-y", "--no-install-recommends", *options, *wanted], timeout=900, env=environment)


def _installed(package: str) -> bool:
    asked = ["dpkg-query", "-W", "-f", "${db:Status-Status}", package]
    if shutil.which("dpkg-query") is None:
        return False
    return subprocess.run(asked, capture_output=True, text=True, timeout=30).stdout == "installed"


def run(command: Sequence[str], *, timeout: float, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Runs a program to its end and gives its output.

    Raises:
        RuntimeError: it failed; told with its last lines.
    """
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:4])} … ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def unavailable(error: NotInstalledError) -> NoReturn:
    """Skips the test that needs it with the reason; in CI it fails instead: there nothing may be left out unnoticed."""
    if os.environ.get("CI"):
        pytest.fail(str(error))
    # On a developer's machine without root or Debian the rest is still worth running; the line says what is missing.
    pytest.skip(str(error))

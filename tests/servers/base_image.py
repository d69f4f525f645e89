"""No image can be pulled where the tests run: a small Debian with Python is made from Debian's packages instead.

It is the base of every image in the tests: a tar of a root file system, for `docker import`, or as the one layer of an
image for containerd.
"""

import shutil
import tempfile
from pathlib import Path

from tests.servers.cache import debian, kept, run

SUITE = "bookworm"
PACKAGES = ("python3-minimal", "libpython3-stdlib", "busybox-static", "ca-certificates")
_NEEDLESS = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale", "var/log")


def root_file_system() -> Path:
    """The tar file; built in a minute when it is not there yet. Needs root."""
    debian("debootstrap")
    return kept("base-image", [SUITE, *PACKAGES, "2"], _build)


def _build(path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="base-image-") as name:
        root = Path(name) / "root"
        include = f"--include={','.join(PACKAGES)}"
        run(["debootstrap", "--variant=minbase", include, SUITE, str(root)], timeout=900)
        for needless in _NEEDLESS:
            shutil.rmtree(root / needless, ignore_errors=True)
            (root / needless).mkdir(parents=True)
        run(["tar", "--numeric-owner", "--exclude=./dev/*", "-C", str(root), "-cf", str(path), "."], timeout=300)

"""The wheels of everything that the worker needs, for images whose builds download nothing."""

import sys
from pathlib import Path

from tests.servers.cache import kept, run

REQUIREMENTS = Path(__file__).parents[2] / "requirements" / "runtime.txt"
# Debian 12's, which the tests' images have, whatever Python runs the tests.
PYTHON = "--python-version=3.11"


def wheels() -> Path:
    """A folder of them; downloaded when they are not there yet."""
    return kept("stack-wheels", [REQUIREMENTS.read_bytes()], _download)


def install(into: Path, *, without: tuple[str, ...] = ()) -> None:
    """Installs the packages into a folder, as `pip install --target` does.

    Args:
        into: the folder.
        without: distributions that are left out.
    """
    chosen = [str(path) for path in sorted(wheels().iterdir()) if path.name.split("-")[0] not in without]
    options = ["-q", "--no-deps", "--no-index", "--only-binary=:all:", PYTHON, "--target", str(into)]
    run([sys.executable, "-m", "pip", "install", *options, *chosen], timeout=600)


def _download(into: Path) -> None:
    options = ["--require-hashes", "--no-deps", "--only-binary=:all:", PYTHON]
    command = [sys.executable, "-m", "pip", "download", "-q", *options, "-r", str(REQUIREMENTS), "-d", str(into)]
    run(command, timeout=900)

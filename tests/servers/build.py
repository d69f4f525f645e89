"""Builds what the tests of the platforms need, so that it is there when they begin; nothing where it is there already.

    python -m tests.servers.build

CI lets this run beside the tests that mostly wait. Whoever needs one of these meanwhile waits for it.
"""

import sys
import tempfile
from pathlib import Path

from tests.servers.base_image import root_file_system
from tests.servers.cache import NotInstalledError
from tests.servers.docker_engine import install_compose
from tests.servers.kubernetes.binaries import programs
from tests.servers.stack.images import temporal_programs, temporal_ui


def main() -> int:
    """Builds everything, one after the other; 1 when something cannot be had here."""
    with tempfile.TemporaryDirectory(prefix="build-") as folder:
        try:
            root_file_system()
            programs()
            install_compose(Path(folder))
            temporal_programs()
            temporal_ui()
        except (NotInstalledError, RuntimeError) as error:
            sys.stderr.write(f"{error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A cluster by hand: `python -m tests.servers.kubernetes up`, `down`, `kubeconfig`, `describe`."""

import argparse
import json
import sys
from dataclasses import asdict

from tests.servers.cache import NotInstalledError
from tests.servers.kubernetes import cluster


def main() -> int:
    """Does what the command line says; 1 with one line of reason when it cannot."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers.kubernetes", description=__doc__)
    parser.add_argument(
        "command",
        choices=("up", "down", "kubeconfig", "describe"),
        help="up: start it, it stays until down; kubeconfig: print the path of the kubeconfig; describe: all of it",
    )
    command = parser.parse_args().command
    try:
        if command == "down":
            cluster.down()
            return 0
        found = cluster.up(keep=True)
    except (NotInstalledError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    said = found.kubeconfig if command == "kubeconfig" else json.dumps(asdict(found), indent=1)
    sys.stdout.write(f"{said}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The worker's part of a backup, alone in a process with nothing loaded but what a worker has at rest.

Reads the check from standard input; prints what it found, and how far the resident memory rose above that at rest.
"""

import asyncio
import json
import sys
import threading
import time
from pathlib import Path

import psutil

import worker  # noqa: F401  loads what a worker has loaded when it waits
from activities.database.activities import check_backup
from activities.registry import make_activities
from home.paths import Home
from models.checks import PreflightCheck


class Peak:
    """The highest resident memory of this process while it is watched."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._stop = threading.Event()
        self.idle = self.peak = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.peak = max(self.peak, self._process.memory_info().rss)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def main() -> None:
    """Makes one backup."""
    check, home = PreflightCheck.model_validate_json(sys.stdin.read()), Home(Path(sys.argv[1]))
    make_activities(home)
    with Peak() as memory:
        began = time.monotonic()
        made = asyncio.run(check_backup(check, home))
        seconds = time.monotonic() - began
    print(json.dumps({"made": made.model_dump(mode="json"), "seconds": seconds, "added": memory.peak - memory.idle}))


if __name__ == "__main__":
    main()

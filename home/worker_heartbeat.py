"""A worker whose process lives may still take no work: cut off from Temporal, refused by it, or stuck.

So the worker writes a pulse whenever Temporal itself says that it polls, and whoever supervises it looks at the pulse's
age: `python -m home.worker_heartbeat` ends with 0 when it is fresh and with 1 when it is not. It is quick, because it
loads nothing but this.
"""

import os
import sys
import time
from pathlib import Path

from home.paths import VARIABLE, Home
from models.errors import StackError

FILE = "worker.pulse"
EVERY = 5.0
# Several beats may be late, and Temporal may take a moment to answer, before anybody should act on it.
LONGEST_AGE = 45.0


def beat(home: Home) -> None:
    """Writes down that this process polls, now.

    Raises:
        StackError: the file cannot be written.
    """
    # The clock that nobody sets: it is the same for all processes of this machine.
    home.write(home.path / FILE, f"{os.getpid()} {time.monotonic():.3f}\n")


def forget(home: Home) -> None:
    """An earlier worker's pulse says nothing about this one."""
    (home.path / FILE).unlink(missing_ok=True)


def complaint(folder: Path) -> str:
    """Says what is wrong with the worker of the home `folder`; empty when nothing is."""
    try:
        pid, beaten = (folder / FILE).read_text(encoding="utf-8").split()
        age = time.monotonic() - float(beaten)
        os.kill(int(pid), 0)
    except (FileNotFoundError, ValueError):
        return "no worker of this home polls"
    except ProcessLookupError:
        return "the worker's process has ended"
    except OSError as error:
        return f"the worker cannot be looked at: {error.strerror}"
    if not 0 <= age <= LONGEST_AGE:
        return f"Temporal has not seen the worker poll for {age:.0f} seconds" if age > 0 else "the pulse is from before"
    return ""


def main() -> None:
    """Says in one line how the worker is; exit code 0 when it polls, 1 when it does not."""
    try:
        given = os.environ.get(VARIABLE)
        wrong = complaint(Path(given).expanduser() if given else Home.from_environment().path)
    except StackError as error:
        wrong = str(error)
    sys.stdout.write(f"{wrong or 'the worker polls'}\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

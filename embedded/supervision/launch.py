"""How every supervised program starts.

Two things must not happen: a secret in a command line or in the supervisor's configuration, where others can read it,
and a program that dies or is started twice because its supervisor was killed. So the supervisor starts this file with
the path of a description that only the owner can read. It becomes the program (exec keeps the pid) or, when the
program of an earlier supervisor still runs, adopts it: waits for its end and passes signals on.

Run as `python -IS launch.py DESCRIPTION.json`; with `--detach` first, it leaves the caller's session and returns.
Standard library only.
"""

import sys

if not __package__:  # run as a file, isolated: only the standard library can be found
    from os.path import abspath, dirname

    sys.path.insert(0, dirname(dirname(dirname(abspath(__file__)))))

import fcntl
import json
import os
import signal
import stat
import time
import zlib
from types import FrameType
from typing import Any, NoReturn

from embedded.supervision.processes import Identity, alive, identify, signal_group, wait_for_end

LARGEST_LOG = 10 * 1024 * 1024
ENDED = 75
_LONGEST_LINE = 64 << 10


def say(sentence: str) -> None:
    """Writes a line into the program's log."""
    os.write(2, f"launch: {sentence}\n".encode(errors="backslashreplace"))


def read(path: str) -> dict[str, Any]:
    """Reads a JSON object; one that is not there, or was cut off by a crash of the machine, is empty."""
    try:
        with open(path, "rb") as file:
            found = json.load(file)
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def identity(record: dict[str, Any]) -> Identity | None:
    """The process that a record is about; None when it names none."""
    pid, started = record.get("pid"), record.get("started")
    return Identity(pid, started) if isinstance(pid, int) and isinstance(started, str) else None


def fingerprint(description: bytes) -> int:
    """Tells one description from another; kept with the process that was started by it."""
    return zlib.crc32(description)


def rotate(log: str, largest: int = LARGEST_LOG) -> None:
    """Empties a log that grew too large and keeps its end, as large at most, as `.1`.

    Whoever writes it keeps the file open and goes on in it, so it is emptied and not renamed. However fast it grew,
    what is kept is bounded.
    """
    try:
        size = os.path.getsize(log)
    except FileNotFoundError:
        return
    if size <= largest:
        return
    kept = os.open(f"{log}.1", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(log, "rb") as source, open(kept, "wb") as target:
        os.fchmod(kept, 0o600)
        source.seek(size - largest)
        left = largest - len(source.readline(_LONGEST_LINE))  # begins with a whole line
        while left > 0 and (part := source.read(min(left, 1 << 20))):
            target.write(part)
            left -= len(part)
    os.truncate(log, 0)


def redirect(log: str) -> None:
    """Lets the program write its log itself: a pipe to the supervisor would break with the supervisor."""
    rotate(log)
    # The program reads nothing, and yet this pipe stays open in it: supervisord may have an old interest in its own
    # end, from another use of the same number, and would spin for as long as that end is broken.
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        fcntl.fcntl(0, fcntl.F_DUPFD, 3)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    os.close(out)
    os.close(null)


def record(path: str, before: dict[str, Any], of: int) -> None:
    """Notes this process as the program, one start more than before."""
    me = identify(os.getpid())
    found = {
        "pid": os.getpid(),
        "started": me.started if me else "",
        "starts": int(before.get("starts", 0)) + 1,
        "at": time.time(),
        "of": of,
        # Where the log of this start begins, and that of the one before: a crash is told from its own start on.
        "log_marks": [*before.get("log_marks", [])[-1:], os.fstat(1).st_size],
    }
    temporary = f"{path}.{os.getpid()}"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(found, file)
    os.replace(temporary, path)


def adopt(process: Identity, stop_seconds: float) -> NoReturn:
    """Stands in for a program that runs already; ends when it does."""
    asked_at: list[float] = []

    def forward(number: int, _: FrameType | None) -> None:
        if not asked_at:
            signal_group(process, signal.Signals(number))
        asked_at.append(time.monotonic())

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, forward)
    say(f"process {process.pid} runs already and was adopted")
    while not wait_for_end(process, 0.25):
        if asked_at and time.monotonic() > asked_at[0] + stop_seconds:
            signal_group(process, signal.SIGKILL)
    # Not 0: the supervisor starts the program anew, unless it was asked to stop it.
    os._exit(0 if asked_at else ENDED)


def become(argv: list[str], directory: str, environment: dict[str, str]) -> NoReturn:
    """Turns this process into the program."""
    # Python ignores these two, and what is ignored stays so in the program.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.chdir(directory)
        os.execvpe(argv[0], argv, environment)  # noqa: S606  the point of this file: an argument list, no shell
    except OSError as error:
        say(f"{argv[0]} cannot be started in {directory}: {error.strerror}")
        os._exit(127)


def launch(path: str) -> NoReturn:
    """Starts or adopts what the description says."""
    os.umask(0o077)
    with open(path, "rb") as file:
        text = file.read()
    wanted = json.loads(text)
    redirect(wanted["log"])
    # Two supervisors may overlap for a moment. Exec closes the file and so drops the lock.
    lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    before = read(wanted["process"])
    running = identity(before)
    if running is not None and running.pid != os.getpid() and alive(running):
        os.close(lock)
        adopt(running, float(wanted["stop_seconds"]))
    record(wanted["process"], before, fingerprint(text))
    become(wanted["argv"], wanted["directory"], wanted["environment"])


def main(arguments: list[str]) -> None:
    if arguments[0] == "--detach":
        arguments = arguments[1:]
        if os.fork():
            return
        os.setsid()
    launch(arguments[0])


if __name__ == "__main__":
    main(sys.argv[1:])

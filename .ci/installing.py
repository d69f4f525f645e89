"""Runs pip and says how far it is: a minute of silence looks like a program that hangs.

Run as `python installing.py REQUIREMENTS -- PIP ARGUMENTS`. Standard library only; the exit code is pip's.
"""

import re
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

PINNED = re.compile(r"^[A-Za-z0-9][^ =]*==", re.MULTILINE)
PACKAGE = re.compile(r"(?:Collecting|Requirement already satisfied:) ([A-Za-z0-9._-]+)")
EVERY_LINES = 20  # where no terminal can be written over


def main(arguments: list[str]) -> int:
    """Runs what follows `--` and tells its progress on stderr."""
    requirements, command = Path(arguments[0]), arguments[2:]
    total = len(PINNED.findall(requirements.read_text()))
    began, seen, last = time.monotonic(), 0, deque[str](maxlen=30)
    terminal = sys.stderr.isatty()
    tell(f"installing up to {total} pinned packages into .venv; a minute or two on a new machine")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    assert process.stdout is not None  # noqa: S101  asked for above
    for line in process.stdout:
        last.append(line)
        if match := PACKAGE.match(line):
            seen += 1
            tell(f"{seen:3d} of {total}: {match[1]}", over=terminal, only=terminal or seen % EVERY_LINES == 0)
        elif line.startswith("Installing collected packages"):
            tell("downloaded; writing them into .venv", over=terminal)
    code = process.wait()
    if code:
        tell(f"pip ended with exit code {code}; it said last:")
        sys.stderr.write("".join(last))
    else:
        tell(f"installed in {time.monotonic() - began:.0f} s")
    return code


def tell(sentence: str, *, over: bool = False, only: bool = True) -> None:
    """Writes a line; on a terminal it takes the place of the one before that was written `over`."""
    if only:
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""
        sys.stderr.write(f"{clear}{sentence[:78] if over else sentence}{'' if over else chr(10)}")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

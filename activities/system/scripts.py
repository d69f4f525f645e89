"""A script is run by another program, which its first line names, often by an absolute path.

A virtual environment's scripts name the Python of the folder that they were installed into. In a copy of that folder
they would go on running the original: the copy's own is put in its place.
"""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from activities.system.safe_open import open_regular

LONGEST_FIRST_LINES = 4096
# How installers write a first line that is longer than the kernel reads.
_LONG_FIRST_LINE = re.compile(rb"#!/bin/sh\n'''exec' \"?([^\"\n]+?)\"? \"\$0\" \"\$@\"\n")


def first_line(path: Path) -> list[str]:
    """The words of a script's first line: its interpreter and at most one argument; none of what is not a script."""
    try:
        with open_regular(path) as file:
            start = file.read(LONGEST_FIRST_LINES)
    except OSError:
        return []
    if long := _LONG_FIRST_LINE.match(start):
        return [os.fsdecode(long[1])]
    if not start.startswith(b"#!"):
        return []
    line = os.fsdecode(start[2:].split(b"\n", 1)[0]).strip()
    head, _, rest = line.partition(" ")
    if PurePosixPath(head).name == "env":
        return [head, *rest.split()]
    return [head, rest.strip()] if rest.strip() else [head] if head else []


def in_copy(run: Sequence[str], original: Path, copy: Path, search: str | None) -> tuple[str, ...]:
    """The argument list for a copy of a folder.

    A program without a slash that is not on the PATH `search` is the copy's, and one whose interpreter is in the
    original is run by that of the copy.
    """
    program, *arguments = run
    if os.path.isabs(program) or ("/" not in program and shutil.which(program, path=search)):
        return tuple(run)
    found = copy / program if "/" not in program and (copy / program).is_file() else program
    words = first_line(copy / program)
    interpreter = PurePosixPath(os.path.normpath(words[0])) if words else PurePosixPath()
    own = copy / interpreter.relative_to(original) if interpreter.is_relative_to(original) else None
    before = (str(own), *words[1:]) if own is not None and own.exists() else ()
    return (*before, str(found), *arguments)

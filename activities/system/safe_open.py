"""A path that somebody wrote down may lead to a directory, a device, or a pipe whose open never returns."""

import os
import stat
from io import BufferedReader
from pathlib import Path


class NotRegularError(OSError):
    """The path leads to something that is no regular file."""


def open_regular(path: Path) -> BufferedReader:
    """Opens a regular file for reading; links are followed, as mounted secrets are links.

    Raises:
        NotRegularError: it is something else.
        OSError: it cannot be opened.
    """
    # Not blocking, or the open of a pipe that nobody writes to would never return.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotRegularError(f"{path} is no regular file")
        return os.fdopen(descriptor, "rb")
    except BaseException:  # whatever it was goes on; only the descriptor must not stay open
        os.close(descriptor)
        raise

"""Starts the command line.

A process that has just spoken to Temporal can crash while Python takes its threads down, which would turn a successful
deployment red in a pipeline. So the way out is the short one: flush, then leave with the command's own exit code.
"""

import io
import logging
import os
import signal
import sys
from typing import NoReturn

from cli.main import run


def main() -> NoReturn:
    """Runs the command that the arguments name and ends the process with its exit code."""
    code = 1
    try:
        # The terminal's encoding may be poor; a sign it lacks must not end a deployment's view.
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    finally:
        _leave(code)


def _leave(code: int) -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (OSError, ValueError):
        pass  # whoever read this has gone; the exit code still says how it ended
    os._exit(code)


if __name__ == "__main__":
    main()

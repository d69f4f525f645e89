"""Says how this program was called, so that every command that it suggests works when it is pasted.

What was typed counts: the interpreter of a checkout's `.venv`, a path, or the installed name. So does the world that
was meant: a suggested command without the caller's home or Temporal address would speak to another one.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

INSTALLED = "deployment-specialist"
# What decides which home and which Temporal a command speaks to; none of them is a secret.
WORLD = (
    "DEPLOYMENT_SPECIALIST_HOME",
    "TEMPORAL_ADDRESS",
    "TEMPORAL_NAMESPACE",
    "TEMPORAL_PROFILE",
    "TEMPORAL_CONFIG_FILE",
)


def called_as(argv: Sequence[str], typed: Sequence[str], executable: str) -> str:
    """Returns the words before the command's own arguments, quoted for a shell.

    Args:
        argv: as in `sys.argv`.
        typed: as in `sys.orig_argv`: the interpreter with its options, the script, the arguments.
        executable: the interpreter, for a caller that is none of these.
    """
    script = argv[0] if argv else ""
    if script in ("", "-c"):
        return INSTALLED
    found = shutil.which(Path(script).name)
    if found and os.path.exists(script) and os.path.samefile(found, script):
        return shlex.quote(Path(script).name)
    if not script.endswith(".py"):
        return shlex.quote(script)
    arguments = list(argv[1:])
    before = list(typed[: len(typed) - len(arguments)])
    whole = len(before) > 1 and list(typed[len(before) :]) == arguments
    return shlex.join(before if whole else [executable, script])


def world(environment: Mapping[str, str]) -> str:
    """Returns the assignments that lead a pasted command to the same home and the same Temporal."""
    found = [(name, environment[name]) for name in WORLD if environment.get(name)]
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in found)


def program() -> str:
    """Says how the reader called this program, for commands to paste."""
    return f"{world(os.environ)} {program_name()}".strip()


def program_name() -> str:
    """The same without what the environment says, for usage and help."""
    return called_as(sys.argv, sys.orig_argv, sys.executable)

"""Fills `$PORT` and its like into an argument list: there is no shell that would, and many programs want a port as an
argument.

Only names that the platform itself sets are filled in. What else stands in the environment may be a secret, and a
command line is no place for one: everybody on the machine can read it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

_REFERENCE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))", re.ASCII)
# A variable that is all of an argument, or all of what follows = or :, was meant to be filled in by somebody.
_MEANT = re.compile(r"(?:.*[=:])?\$(?:\{([A-Z_][A-Z0-9_]*)\}|([A-Z_][A-Z0-9_]*))", re.ASCII)
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "fish", "busybox"})


def fill_in(arguments: Sequence[str], values: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the arguments with `$NAME` and `${NAME}` replaced by the values; every other `$` stays as it is."""

    def value(match: re.Match[str]) -> str:
        return values.get(match[1] or match[2], match[0])

    return tuple(_REFERENCE.sub(value, argument) for argument in arguments)


def not_filled_in(arguments: Sequence[str], names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yields where a variable stands that nobody would fill in, and its name; a shell fills in its own."""
    for number, argument in enumerate(arguments):
        if PurePosixPath(argument).name in _SHELLS:
            return
        match = _MEANT.fullmatch(argument)
        name = (match[1] or match[2]) if match else ""
        if name and name not in names:
            yield number, name

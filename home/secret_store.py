"""Hands secrets from the command line to the worker of the same home.

A spec names a secret as `env:NAME`; the variable is set where the command runs, not where the worker does. The value
goes through a file that only the owner can read: never through a workflow, a command line or a log.
"""

import re
from pathlib import Path

from home.paths import Home
from models.errors import StackError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)


class SecretStore:
    """Values by the names of environment variables."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def put(self, name: str, value: str) -> None:
        """Keeps a value; one of the same name is replaced.

        Raises:
            StackError: the name is no environment variable's, or the file cannot be written.
        """
        self._home.write(self._path(name), value)

    def get(self, name: str) -> str | None:
        """The value; None when there is none of this name.

        Raises:
            StackError: the name is no environment variable's, or the file cannot be read.
        """
        path = self._path(name)
        try:
            return path.read_bytes().decode(errors="surrogateescape")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StackError(f"The secret {name} cannot be read: {error.strerror}.") from error

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise StackError("A secret has the name of an environment variable.")
        return self._home.secrets / name

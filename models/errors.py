"""The errors of this project. Each says in its type whether asking again may help.

DeploymentSpecialistError
├── SpecError            the spec file, or a value on the command line, is wrong
├── StackError           the embedded stack cannot do what was asked
├── SecretUnresolved     a reference to a secret leads to no value
│   └── SecretUnavailable  who keeps it did not answer; worth another try
├── DatabaseRefused      a database, or a program that works on it, said no
└── PlatformError        a platform verb did not do what was asked
    ├── Unavailable      something did not answer; worth another try
    ├── NotReady         a revision did not become ready in time, or never will
    ├── Stale            a newer effect has been there already
    │   └── OvertakenByItself  a later effect of the same deployment has: a defect, unless it is being rolled back
    ├── Refused          doing it would hurt users
    ├── Impossible       what the order needs is not there
    └── Drifted          somebody else has changed what this deployment had written
"""

from typing import Any


class DeploymentSpecialistError(Exception):
    """Base of all errors of this project.

    Attributes:
        retryable: asking again may help.
    """

    retryable = False

    @property
    def sentence(self) -> str:
        """What is wrong, in a sentence."""
        return str(self)

    @property
    def evidence(self) -> dict[str, Any]:
        """What proves it, for the evidence of a check."""
        return {}


class SpecError(DeploymentSpecialistError):
    """The spec file, or a value on the command line, is wrong."""


class StackError(DeploymentSpecialistError):
    """The embedded stack cannot do what was asked."""


class SecretUnresolved(DeploymentSpecialistError):
    """A reference to a secret leads to no value: it is not there, not readable, or empty."""


class SecretUnavailable(SecretUnresolved):
    """Who keeps the secret did not answer; worth another try."""

    retryable = True


class DatabaseRefused(DeploymentSpecialistError):
    """A database, or a program that works on it, said no: a right is missing, or what was asked cannot be done."""


class PlatformError(DeploymentSpecialistError):
    """A platform verb did not do what was asked."""


class Unavailable(PlatformError):
    """Something did not answer; worth another try."""

    retryable = True


class NotReady(PlatformError):
    """A revision did not become ready in time, or never will.

    Attributes:
        last_lines: the end of what the program printed, scrubbed of secrets.
        log: where all of it is; empty where that is nowhere on the worker's machine.
    """

    def __init__(self, sentence: str, last_lines: str = "", log: str = "") -> None:
        told = f"{sentence}. Its last lines:\n{last_lines}" if last_lines else sentence
        super().__init__(told)
        self._sentence = sentence
        self.last_lines = last_lines
        self.log = log

    @property
    def sentence(self) -> str:
        return self._sentence

    @property
    def evidence(self) -> dict[str, Any]:
        """The same for a check's evidence: a line is a line."""
        lines = {"last_lines": self.last_lines.splitlines()} if self.last_lines else {}
        return lines | ({"log": self.log} if self.log else {})


class Stale(PlatformError):
    """A newer effect has been on this target already: this one came too late and changed nothing."""


class OvertakenByItself(Stale):
    """A later effect of the same deployment has been there: a defect of ours, unless it is being rolled back."""


class Refused(PlatformError):
    """Doing it would take traffic away from what serves, or give it to what does not; nothing was changed."""

    retryable = True


class Impossible(PlatformError):
    """What the order needs is not there: a revision that was never staged, an artifact that changed."""


class Drifted(PlatformError):
    """Somebody else has changed what this deployment had written: it is not overwritten blindly."""

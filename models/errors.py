"""The errors of this project. Each says in its type whether asking again may help.

DeploymentSpecialistError
├── SpecError                    the spec file, or a value on the command line, is wrong
├── StackError                   the embedded stack cannot do what was asked
├── SecretUnresolvedError        a reference to a secret leads to no value
│   └── SecretUnavailableError   who keeps it did not answer; worth another try
├── DatabaseRefusedError         a database, or a program that works on it, said no
│   ├── NotProvenError           a backup could not be shown to be whole
│   └── DiskFullError            a backup did not fit
├── TrackerUnavailableError      a tracker's program did not answer; worth another try
├── TrackerRefusedError          a tracker said no, or did not do what it was asked
├── WatcherUnavailableError      Prometheus, Alertmanager or another watcher did not answer; worth another try
├── WatcherRefusedError          a watcher said no, or is not what it is taken for
└── PlatformError                a platform verb did not do what was asked
    ├── UnavailableError         something did not answer; worth another try
    │   └── WriteConflictError   somebody else wrote an object at the same time
    ├── NotReadyError            a revision did not become ready in time, or never will
    ├── FencedOutError           a newer effect has been there already
    │   └── FencedOutByItselfError   a later effect of the same deployment has: a defect, unless it is being rolled back
    ├── UnsafeChangeError        doing it would hurt users
    ├── PreconditionError        what the order needs is not there
    │   └── NotFoundError        an object of the cluster is not there
    └── DriftError               somebody else has changed what this deployment had written

What an error is called in histories and reports (`wire_name`) is older than some of these names, and stays. An
exception that never leaves the activity or the command in which it is raised is defined where it is raised.
"""

from typing import Any, ClassVar


class DeploymentSpecialistError(Exception):
    """Base of all errors of this project.

    Attributes:
        retryable: asking again may help.
        wire_name: what it is called in histories and reports.
    """

    retryable = False
    wire_name: ClassVar[str]

    def __init_subclass__(cls, wire_name: str = "") -> None:
        cls.wire_name = wire_name or cls.__name__

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


class SecretUnresolvedError(DeploymentSpecialistError, wire_name="SecretUnresolved"):
    """A reference to a secret leads to no value: it is not there, not readable, or empty."""


class SecretUnavailableError(SecretUnresolvedError, wire_name="SecretUnavailable"):
    """Who keeps the secret did not answer; worth another try."""

    retryable = True


class DatabaseRefusedError(DeploymentSpecialistError, wire_name="DatabaseRefused"):
    """A database, or a program that works on it, said no: a right is missing, or what was asked cannot be done."""


class NotProvenError(DatabaseRefusedError, wire_name="NotProven"):
    """What was restored from a backup is not what was in the database."""


class DiskFullError(DatabaseRefusedError, wire_name="DiskFull"):
    """There is no room for a backup."""


class TrackerUnavailableError(DeploymentSpecialistError):
    """A tracker's program is not there, took too long, or was ended; worth another try."""

    retryable = True


class TrackerRefusedError(DeploymentSpecialistError):
    """A tracker answered, and the answer is no: there is no such task, or it did not do what it was asked."""


class WatcherUnavailableError(DeploymentSpecialistError):
    """Prometheus, Alertmanager or another watcher did not answer; worth another try."""

    retryable = True


class WatcherRefusedError(DeploymentSpecialistError):
    """A watcher answered, and the answer is no; or it is not what it is taken for."""


class PlatformError(DeploymentSpecialistError):
    """A platform verb did not do what was asked."""


class UnavailableError(PlatformError, wire_name="Unavailable"):
    """Something did not answer; worth another try."""

    retryable = True


class WriteConflictError(UnavailableError, wire_name="Conflict"):
    """An object is not the one any more that the write was made for: it has to be read again."""


class NotReadyError(PlatformError, wire_name="NotReady"):
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


class FencedOutError(PlatformError, wire_name="Stale"):
    """A newer effect has been on this target already: this one came too late and changed nothing."""


class FencedOutByItselfError(FencedOutError, wire_name="OvertakenByItself"):
    """A later effect of the same deployment has been there: a defect of ours, unless it is being rolled back."""


class UnsafeChangeError(PlatformError, wire_name="Refused"):
    """Doing it would take traffic away from what serves, or give it to what does not; nothing was changed."""

    retryable = True


class PreconditionError(PlatformError, wire_name="Impossible"):
    """What the order needs is not there: a revision that was never staged, an artifact that changed."""


class NotFoundError(PreconditionError, wire_name="Missing"):
    """The cluster has no such object."""


class DriftError(PlatformError, wire_name="Drifted"):
    """Somebody else has changed what this deployment had written: it is not overwritten blindly."""

"""A backup that nobody ever restored is a hope. What a spec says about backups, and what is known of one that was made.

A backup counts when it has been restored into a scratch database and compared with what it was taken from.
"""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, StrictInt, WithJsonSchema, field_validator, model_validator

from models.base import SpecModel, WireModel
from models.names import Person
from models.platforms.base import PathText, as_tuple
from models.preflight.migrations import Tried
from models.secrets import Secret, SecretReference
from models.units import Duration
from models.verdict import CheckResult

Paths = Annotated[tuple[PathText, ...], BeforeValidator(as_tuple), Field(max_length=100)]
_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}", re.ASCII)
_FINGERPRINT = re.compile(r"[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64}", re.ASCII)


def _is_id(value: Any) -> Any:
    if isinstance(value, str) and not _ID.fullmatch(value):
        raise ValueError("a backup's id looks like 20261124T223000Z-0a1b2c; `restore` without --backup lists them")
    return value


BackupId = Annotated[
    str, BeforeValidator(_is_id), WithJsonSchema({"type": "string", "pattern": r"^\d{8}T\d{6}Z-[0-9a-f]{6}$"})
]


class EncryptionSpec(SpecModel):
    """To whom backups are encrypted. Plaintext never touches the disk.

    Attributes:
        age: a file with age recipients, one a line.
        gpg: the fingerprint of a key in the worker's keyring.
        identity: the age identity that opens them again, for the proof and for `restore`. Without it a backup is proven
            while it is made, before its encryption. gpg asks the worker's keyring for the secret key.
    """

    age: PathText | None = None
    gpg: str | None = None
    identity: Secret | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.age is None) == (self.gpg is None):
            raise ValueError("backups are encrypted with either age or gpg")
        if self.gpg is not None and self.identity is not None:
            raise ValueError("an identity belongs to age; gpg asks the worker's keyring")
        if self.gpg is not None and not _FINGERPRINT.fullmatch(self.gpg):
            raise ValueError("a gpg key is named by its whole fingerprint: 40 or 64 hexadecimal digits")
        return self


class BackupSpec(SpecModel):
    """The backup that is made and proven before anything changes.

    Attributes:
        directory: where backups are kept; default: in the worker's home. Each service and target has a folder in it.
        scratch: a server for the proof; its database is only connected to. Default: the same server.
        programs: where pg_dump and pg_restore are; default: the worker's PATH, or Debian's folders.
        configuration: files and folders that are archived beside the database; each lies in one of the roots.
        roots: default: platform.directory.
        keep: how many proven backups stay; the oldest go.
        max_age: how old the backup may be when the deployment begins to change things.
        reuse: a proven backup that is younger than this is not made again; none: it always is.
        timeout: for making and proving it together.
    """

    database: Secret
    directory: PathText | None = None
    scratch: Secret | None = None
    programs: PathText | None = None
    configuration: Paths = ()
    roots: Paths = ()
    keep: Annotated[StrictInt, Field(ge=1, le=1000)] = 5
    max_age: Duration = timedelta(hours=24)
    reuse: Duration | None = None
    encrypt: EncryptionSpec | None = None
    timeout: Duration = timedelta(hours=1)

    def located(self, resolve: Callable[[str], str]) -> Self:
        """The same with every path in it made absolute by `resolve`."""
        encrypt = self.encrypt
        if encrypt is not None and encrypt.age is not None:
            encrypt = encrypt.model_copy(update={"age": resolve(encrypt.age)})
        return self.model_copy(
            update={
                "directory": resolve(self.directory) if self.directory is not None else None,
                "programs": resolve(self.programs) if self.programs is not None else None,
                "configuration": tuple(map(resolve, self.configuration)),
                "roots": tuple(map(resolve, self.roots)),
                "encrypt": encrypt,
            }
        )

    @field_validator("timeout")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if not timedelta(seconds=1) <= value <= timedelta(days=2):
            raise ValueError("timeout is between 1s and 2d")
        return value

    @model_validator(mode="after")
    def _young(self) -> Self:
        if self.reuse is not None and self.reuse > self.max_age:
            raise ValueError("reuse is at most max_age: an older backup would stop the deployment")
        return self


class StoredFile(WireModel):
    """One file of a backup, as it lies on the disk."""

    name: str
    bytes: int
    sha256: str


class BackupManifest(WireModel):
    """What is known of a backup; kept beside it, and written when it was proven.

    Attributes:
        source: which database, on which server, without anything secret.
        counts: table → rows, exactly, as of the moment of the dump.
        shape: sha256 over the description of the schema.
        proof: where it was restored for the proof.
        seconds: making and proving it.
    """

    id: BackupId
    service: str
    target: str
    made: datetime
    source: str
    server_version: int
    dump: StoredFile
    encrypted: str = ""
    configuration: StoredFile | None = None
    configuration_entries: int = 0
    counts: dict[str, int] = Field(default_factory=dict)
    shape: str = ""
    proof: str = ""
    seconds: float = 0.0

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(self.counts.values())


class BackupMade(CheckResult):
    """The check `backup`, with what came of trying the migrations on what it restored.

    Attributes:
        tried: None where nothing was to be tried, or no backup was proven.
    """

    tried: Tried | None = None


class BackupLine(WireModel):
    """One backup in a list.

    Attributes:
        wrong: why it cannot be used; empty when its files are there in their sizes. Checksums are read by `restore`.
    """

    id: str
    made: datetime | None = None
    bytes: int = 0
    tables: int = 0
    rows: int = 0
    encrypted: str = ""
    wrong: str = ""


class BackupList(WireModel):
    """What there is, the newest first."""

    directory: str
    backups: tuple[BackupLine, ...] = ()


class BackupsQuestion(WireModel):
    """Which backups are there?"""

    service: str
    target: str
    spec: BackupSpec


class RestoreRequest(BackupsQuestion):
    """Somebody wants a backup back.

    Attributes:
        backup: which one.
        into: reference to the connection string of an empty database, or of one that is to be made; none: a new
            database on the server that was backed up.
        replace: the new database takes the name of the one that was backed up, which is kept under another.
        own: owners and rights inside the database are restored too.
    """

    backup: BackupId
    into: SecretReference | None = None
    replace: bool = False
    own: bool = True
    by: Person
    reason: str


class BackupOrder(RestoreRequest):
    """The same, for the worker.

    Attributes:
        key: what the names of the databases of this restore end with; the same in every attempt.
    """

    key: Annotated[str, Field(pattern=r"^[0-9a-z_]{1,30}$")]


class Restored(WireModel):
    """A backup that is back, and compared.

    Attributes:
        database: where it is now.
        kept: the database that had the name before, under its new name; empty where none was replaced.
        switch: what is left to do, in sentences and commands.
    """

    backup: str
    database: str
    kept: str = ""
    tables: int = 0
    rows: int = 0
    seconds: float = 0.0
    switch: tuple[str, ...] = ()

"""What a deployment may do to a database's schema, and what is known of it before it is done."""

from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, field_validator, model_validator

from models.base import SpecModel, WireModel
from models.names import EnvironmentName
from models.platforms.base import Argument, Environment, PathText, as_tuple
from models.secrets import Secret
from models.units import Duration
from models.verdict import CheckResult

Command = Annotated[tuple[Argument, ...], BeforeValidator(as_tuple), Field(min_length=1, max_length=100)]
ExitCode = Annotated[StrictInt, Field(ge=0, le=255)]


def _word(kind: type[StrEnum]) -> BeforeValidator:
    """YAML and JSON have no enums: the word is enough."""

    def convert(value: Any) -> Any:
        if isinstance(value, str):
            try:
                return kind(value)
            except ValueError:
                raise ValueError(f"one of {', '.join(kind)}") from None
        return value

    return BeforeValidator(convert)


class Tool(StrEnum):
    """What keeps the migrations, and runs them."""

    ALEMBIC = "alembic"
    DJANGO = "django"
    PRISMA = "prisma"
    KNEX = "knex"
    DBMATE = "dbmate"
    COMMAND = "command"


class Effect(StrEnum):
    """What a migration does to the version that serves while it runs."""

    ADDITIVE = "additive"
    DESTRUCTIVE = "destructive"
    UNKNOWN = "unknown"


class WhenAdditive(StrEnum):
    """What becomes of additive migrations."""

    BEFORE_DEPLOY = "before-deploy"
    APPROVAL = "approval"
    IGNORE = "ignore"


class WhenOther(StrEnum):
    """What becomes of migrations that are not known to be additive."""

    APPROVAL = "approval"
    REFUSE = "refuse"


class WayBackKind(StrEnum):
    """How a migration that is not additive could be taken back."""

    FORWARD_FIX = "forward-fix"
    RESTORE = "restore"
    REFUSE = "refuse"


class MigrationPolicy(SpecModel):
    """What may be run, and who is asked."""

    additive: Annotated[WhenAdditive, _word(WhenAdditive)] = WhenAdditive.BEFORE_DEPLOY
    destructive: Annotated[WhenOther, _word(WhenOther)] = WhenOther.APPROVAL
    unknown: Annotated[WhenOther, _word(WhenOther)] = WhenOther.APPROVAL


class WayBack(SpecModel):
    """The way back from a migration that is not additive; whoever approves it reads it."""

    kind: Annotated[WayBackKind, _word(WayBackKind)] = WayBackKind.REFUSE
    how: Annotated[str, Field(max_length=500)] = ""

    @model_validator(mode="after")
    def _said(self) -> Self:
        if self.kind is not WayBackKind.REFUSE and not self.how.strip():
            raise ValueError(f"a way back by {self.kind} says how, in a sentence for whoever has to go it")
        return self


class ExitCodes(SpecModel):
    """What the exit codes of a status command mean; any other one is an error."""

    none: ExitCode = 0
    pending: ExitCode = 1

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.none == self.pending:
            raise ValueError("one exit code cannot mean both")
        return self


class MigrationsSpec(SpecModel):
    """The migrations of a PostgreSQL database.

    Attributes:
        command: what the tool is called by, before its own words; each tool has a default.
        directory: where it is run; default: platform.directory.
        files: where its migrations are, below the directory; dbmate, prisma and knex have a default.
        table: where it keeps what was applied; each tool has a default.
        database: its connection string, handed to the tool as an environment variable.
        variable: the name of that.
        environment: what the tool gets beside it.
        status: of `command`: says by its exit code whether anything is pending.
        plan: of `command`: prints the SQL that `run` would run.
        run: of `command`: runs what is pending.
        try_: where a backup is made, what is pending is run on the restored copy first.
        timeout: for a run; questions have a minute.
    """

    tool: Annotated[Tool, _word(Tool)]
    command: Command | None = None
    directory: PathText | None = None
    files: PathText | None = None
    table: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]{0,120}$")] | None = None
    database: Secret
    variable: EnvironmentName = "DATABASE_URL"
    environment: Environment = Field(default_factory=dict, max_length=100)
    status: Command | None = None
    exit_codes: ExitCodes = ExitCodes()
    plan: Command | None = None
    run: Command | None = None
    policy: MigrationPolicy = MigrationPolicy()
    way_back: WayBack = WayBack()
    try_: StrictBool = Field(default=True, alias="try")
    timeout: Duration = timedelta(minutes=10)

    def located(self, resolve: Callable[[str], str]) -> Self:
        """The same with every path in it made absolute by `resolve`; `files` stays below the directory."""
        if self.directory is None:
            return self
        return self.model_copy(update={"directory": resolve(self.directory)})

    @field_validator("timeout")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if not timedelta(seconds=1) <= value <= timedelta(hours=24):
            raise ValueError("timeout is between 1s and 24h")
        return value

    @model_validator(mode="after")
    def _belongs(self) -> Self:
        own = {"status": self.status, "plan": self.plan, "run": self.run}
        if self.tool is Tool.COMMAND:
            if self.status is None or self.run is None:
                raise ValueError("tool: command needs status and run")
            if self.command is not None:
                raise ValueError("tool: command has status, plan and run, each a whole argument list")
        elif given := [name for name, value in own.items() if value is not None]:
            raise ValueError(f"{', '.join(given)}: only for tool: command")
        return self


class PendingMigration(WireModel):
    """A migration that was not applied yet.

    Attributes:
        digest: sha256 over what it does; the plan is bound to it.
        why: what made it this kind, statement by statement, cut.
        hazards: what may hold locks for long, in sentences.
        locks: which locks of tables that are there writers or everybody else will wait for.
        opaque: not all of what it does is known as SQL.
        rights: it takes rights away or changes owners, which a copy of the database does not show.
    """

    id: str
    effect: Effect
    digest: str
    why: tuple[str, ...] = ()
    hazards: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()
    opaque: bool = False
    rights: bool = False


class Difference(WireModel):
    """What the migrations changed in a copy of the database, in a sentence.

    Attributes:
        rights: about rights or owners, which a copy does not have.
    """

    effect: Effect
    text: str
    rights: bool = False


class Tried(WireModel):
    """What came of running the pending migrations on the backup that was just restored.

    Attributes:
        digests: which ones were run: id → digest.
        differences: what they changed; nothing else is different.
        locks: which locks they held on what was there, for how long, and what they wrote anew.
        failed: why they cannot run, with the tool's own last words; empty when they could.
        undecided: why it could not be tried; empty when it was.
    """

    digests: dict[str, str] = Field(default_factory=dict)
    differences: tuple[Difference, ...] = ()
    locks: tuple[str, ...] = ()
    failed: str = ""
    undecided: str = ""
    seconds: float = 0.0

    def judge(self, *, rights: bool) -> Effect:
        """The worst of the differences; without `rights`, somebody else judges those about rights."""
        found = {each.effect for each in self.differences if rights or not each.rights}
        return next((each for each in (Effect.DESTRUCTIVE, Effect.UNKNOWN) if each in found), Effect.ADDITIVE)


class MigrationsFound(WireModel):
    """What is pending, and what the policy makes of it.

    Attributes:
        run: whether the deployment runs them.
        approve: whether a person must approve them by name.
        changes: the plan's lines about them.
    """

    check: CheckResult
    pending: tuple[PendingMigration, ...] = ()
    run: bool = False
    approve: bool = False
    changes: tuple[str, ...] = ()


class MigrationsDone(WireModel):
    """What became of them.

    Attributes:
        applied: ids of those that the database has now.
        left: ids of those that it has not.
    """

    check: CheckResult
    applied: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

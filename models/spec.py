"""The spec file: what a user asks for. One file per service and target; every key has a careful default.

Paths are relative to the spec file until `cli.spec.reader` has made them absolute; from there on a spec is complete in
itself and travels as it is. It holds references to secrets, never a secret.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, field_validator, model_validator

from models.base import SpecModel
from models.health import HealthRule, HealthSpec
from models.names import Name, Person, Version
from models.notifications import NotifySpec
from models.observability import ObserveSpec
from models.platforms import Platform
from models.preflight.artifacts import Artifact
from models.preflight.backup import BackupSpec
from models.preflight.ci import CiSpec, CommandCi
from models.preflight.conflicts import Conflict
from models.preflight.environment import Parity, RequiredNames
from models.preflight.freezing import FreezeWindow
from models.preflight.migrations import MigrationsSpec
from models.preflight.resources import ResourcesSpec
from models.units import Duration, Share
from models.verdict import Stage

UrlPath = Annotated[str, Field(max_length=2048, pattern=r"^/[\x21-\x7e]*$")]
HostHeader = Annotated[
    str,
    Field(
        max_length=261, pattern=r"^(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})|\[[0-9a-fA-F:.]{2,45}\])(?::[0-9]{1,5})?$"
    ),
]
_NOT_ESCAPED = re.compile(r"%(?![0-9A-Fa-f]{2})", re.ASCII)
A_DAY = timedelta(hours=24)
SHORTEST_SLICE, LONGEST_SLICE = timedelta(milliseconds=500), timedelta(seconds=10)


class StrategyKind(StrEnum):
    """How traffic moves from stable to candidate."""

    ROLLING = "rolling"
    BLUE_GREEN = "blue-green"
    CANARY = "canary"


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _enum(kind: type[StrEnum]) -> BeforeValidator:
    """YAML and JSON have no enums: the word is enough, also where models are strict."""

    def convert(value: Any) -> Any:
        if isinstance(value, str):
            try:
                return kind(value)
            except ValueError:
                raise ValueError(f"one of {', '.join(kind)}") from None
        return value

    return BeforeValidator(convert)


class ReleaseSpec(SpecModel):
    """What is deployed."""

    version: Version
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")] | None = Field(
        default=None, description="the git revision the release was built from"
    )
    artifacts: Annotated[tuple[Artifact, ...], BeforeValidator(_tuple), Field(max_length=100)] = ()


class OnInconclusive(StrEnum):
    """What follows a watch that saw too little."""

    CONTINUE = "continue"
    HOLD = "hold"
    ROLLBACK = "rollback"


class Step(SpecModel):
    """One move of a strategy: a weight in percent, and how long it is watched."""

    weight: Annotated[StrictInt, Field(ge=1, le=100)]
    watch: Duration
    on_inconclusive: Annotated[OnInconclusive, _enum(OnInconclusive)] | None = Field(
        default=None, description="of this step; default that of judge"
    )

    @field_validator("watch")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if value > timedelta(days=7):
            raise ValueError("a step is watched for at most 7d")
        return value


class LatencySpec(SpecModel):
    """How the times of the candidate's answers are judged, beside its errors."""

    enabled: StrictBool = True
    tolerated: Share = Field(default=0.25, description="how many more slow answers than stable the candidate may give")
    warm_up: Duration = Field(
        default=timedelta(seconds=30), description="after the first answer of a new instance; times do not count in it"
    )

    @field_validator("warm_up")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if value > timedelta(hours=1):
            raise ValueError("warm_up is at most 1h")
        return value


class JudgeSpec(SpecModel):
    """When a watch fails the candidate, and what it must have seen to pass it."""

    min_requests: Annotated[StrictInt, Field(ge=0, le=10_000_000)] | None = Field(
        default=None, description="requests the candidate must have answered in a watch; default 10 for canary, else 0"
    )
    slice: Duration | None = Field(
        default=None,
        description="how long one vote on the candidate is collected; default a thirtieth of the watch, at least 500ms "
        "and at most 10s",
    )
    alpha: Share = Field(default=0.01, description="share of healthy deployments that may be rolled back by mistake")
    catch: Share | None = Field(
        default=None,
        description="share of errors, beyond stable's, that a watch must be able to see; else it is inconclusive",
    )
    worth: Share = Field(default=0.001, description="share of errors, beyond stable's, that is worth a rollback")
    latency: LatencySpec = LatencySpec()
    max_error_share: Share | None = Field(
        default=None, description="share of errors, beyond stable's, below which no candidate fails for its errors"
    )
    min_errors: Annotated[StrictInt, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="errors below which no candidate fails for them"
    )
    max_split_error: Share | None = Field(
        default=None,
        description="how far the candidate's share of the answers may be from its weight; default half of the smaller"
        " share, at most 10%, and 5% at 100%. 100%: the split is not judged",
    )
    failed_probes: Annotated[StrictInt, Field(ge=1, le=1000)] = Field(
        default=3, description="consecutive failed health probes of one instance that fail the candidate"
    )
    probe_every: Duration = timedelta(seconds=1)
    max_restarts: Annotated[StrictInt, Field(ge=0, le=1000)] = Field(
        default=1, description="restarts of one instance that are forgiven while it is watched"
    )
    on_inconclusive: Annotated[OnInconclusive, _enum(OnInconclusive)] = Field(
        default=OnInconclusive.HOLD,
        description="what follows a watch that saw too little; the last step does not continue, but holds",
    )

    @field_validator("slice")
    @classmethod
    def _not_endless(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and not timedelta(milliseconds=500) <= value <= timedelta(minutes=10):
            raise ValueError("slice is between 500ms and 10m")
        return value

    @field_validator("alpha")
    @classmethod
    def _an_alpha(cls, value: float) -> float:
        if not 0.0001 <= value <= 0.2:
            raise ValueError("alpha is between 0.01% and 20%")
        return value

    @field_validator("catch")
    @classmethod
    def _something(cls, value: float | None) -> float | None:
        if value == 0:
            raise ValueError("catch is more than 0%; no watch sees everything")
        return value

    @field_validator("probe_every")
    @classmethod
    def _sane(cls, value: timedelta) -> timedelta:
        if not timedelta(milliseconds=100) <= value <= timedelta(minutes=5):
            raise ValueError("probe_every is between 100ms and 5m")
        return value

    @property
    def strict(self) -> OnInconclusive:
        """What follows the last watch that saw too little: nothing comes after it that could see more."""
        last = self.on_inconclusive
        return OnInconclusive.HOLD if last is OnInconclusive.CONTINUE else last

    def slice_of(self, watch: timedelta) -> timedelta:
        """How long one vote is collected in a watch of this length: a short one needs several votes, too."""
        return self.slice or min(LONGEST_SLICE, max(SHORTEST_SLICE, watch / 30))


class HoldSpec(SpecModel):
    """How long a deployment waits for a person who does not come; then it is rolled back."""

    expires: Duration = A_DAY


class Strategy(SpecModel):
    """How traffic moves from stable to candidate, and how it is judged on the way."""

    kind: Annotated[StrategyKind, _enum(StrategyKind)] = StrategyKind.ROLLING
    deadline: Duration = Field(default=timedelta(minutes=5), description="for a revision to become ready")
    steps: Annotated[tuple[Step, ...], BeforeValidator(_tuple), Field(max_length=100)] | None = Field(
        default=None, description="canary only; default 5 % for 10m, then 25, 50, 75, 100 % for 5m each"
    )
    watch: Duration | None = Field(
        default=None, description="rolling: after each instance, default 10s; blue-green: after the switch, default 30s"
    )
    bake: Duration | None = Field(
        default=None, description="how long the old revision stays warm at 100 %; default the last step's watch"
    )
    judge: JudgeSpec = JudgeSpec()
    hold: HoldSpec = HoldSpec()

    @model_validator(mode="after")
    def _steps_rise_to_100(self) -> Self:
        if self.steps is not None and self.kind is not StrategyKind.CANARY:
            raise ValueError(f"steps belong to canary; {self.kind} takes watch")
        if self.watch is not None and self.kind is StrategyKind.CANARY:
            raise ValueError("a canary's steps have a watch each; watch belongs to rolling and blue-green")
        if self.steps is not None:
            weights = [step.weight for step in self.steps]
            if not weights or weights[-1] != 100 or any(a >= b for a, b in pairwise(weights)):
                raise ValueError(f"the weights of the steps must rise and end with 100, not {weights}")
        if not timedelta(seconds=1) <= self.deadline <= timedelta(hours=24):
            raise ValueError("deadline is between 1s and 24h")
        for name, value in (("watch", self.watch), ("bake", self.bake)):
            if value is not None and value > timedelta(days=7):
                raise ValueError(f"{name} is at most 7d")
        return self


class Endpoints(SpecModel):
    """Where a service answers for itself; null where it has none, and the check is then skipped."""

    health: UrlPath | None = "/health"
    ready: UrlPath | None = "/ready"
    live: UrlPath | None = "/healthz"
    metrics: UrlPath | None = "/metrics"
    version: UrlPath | None = "/version"


class SmokeRequest(SpecModel):
    """The HTTP request of a smoke test."""

    method: Annotated[str, Field(pattern=r"^[A-Z]{3,10}$")] = "GET"
    path: UrlPath
    headers: dict[str, str] = Field(default_factory=dict)
    json_body: Any = Field(default=None, alias="json")
    body: str | None = None

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if self.json_body is not None and self.body is not None:
            raise ValueError("a request has json or body, not both")
        return self


class SmokeExpectation(SpecModel):
    """What the answer of a smoke test must look like."""

    status: Annotated[StrictInt, Field(ge=100, le=599)] = 200
    body: str | None = Field(default=None, description="text that the body contains")
    json_fields: dict[str, Any] = Field(
        default_factory=dict, alias="json", description="dotted path in the JSON answer → the value it must have"
    )
    header: dict[str, str] = Field(default_factory=dict, description="header → the value it must have")
    within: Duration = timedelta(seconds=10)

    @field_validator("within")
    @classmethod
    def _positive(cls, value: timedelta) -> timedelta:
        if not timedelta(0) < value <= timedelta(minutes=10):
            raise ValueError("within is more than 0s and at most 10m")
        return value


class SmokeTest(SpecModel):
    """An HTTP request with expectations, or a command whose exit code 0 is a pass."""

    name: Name
    request: SmokeRequest | None = None
    command: Annotated[tuple[str, ...], BeforeValidator(_tuple), Field(min_length=1, max_length=100)] | None = Field(
        default=None, description="argument list, no shell; gets $BASE_URL, $VERSION, $SERVICE and $TARGET"
    )
    expect: SmokeExpectation = SmokeExpectation()

    @model_validator(mode="after")
    def _request_or_command(self) -> Self:
        if (self.request is None) == (self.command is None):
            raise ValueError("a smoke test has either a request or a command")
        return self


class VerifySpec(SpecModel):
    """How the new version is proven before the gates open."""

    endpoints: Endpoints = Endpoints()
    health: HealthSpec = HealthSpec()
    host: HostHeader | None = Field(
        default=None, description="the Host that the service is asked with; default: that of the address"
    )
    smoke: Annotated[tuple[SmokeTest, ...], BeforeValidator(_tuple), Field(max_length=100)] = ()
    timeout: Duration = Field(default=timedelta(seconds=5), description="for each request that is not a smoke test")

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [test.name for test in self.smoke]
        if len(set(names)) != len(names):
            raise ValueError("two smoke tests have the same name")
        if not timedelta(0) < self.timeout <= timedelta(seconds=30):
            raise ValueError("timeout is more than 0s and at most 30s")
        return self

    @model_validator(mode="after")
    def _asked_alike(self) -> Self:
        for name, path in dict(self.endpoints).items():
            # Each program that asks there reads these in its own way; two slashes may even begin another host's name.
            if path is not None and (path.startswith("//") or "#" in path or _NOT_ESCAPED.search(path)):
                raise ValueError(
                    f"endpoints.{name} has no // at its beginning, no # and no % but in an escape like %20"
                )
        return self

    @property
    def rule(self) -> HealthRule:
        """What a healthy answer is, for everybody who asks."""
        return self.health.rule(self.host)


class PreflightSpec(ResourcesSpec):
    """What must be true before anything changes."""

    environment: RequiredNames = Field(
        default=(), description="names that platform.environment must give, with a value that is not empty"
    )
    parity: Annotated[Parity, _enum(Parity)] = Field(
        default=Parity.WARN, description="what follows when what serves now is given a name that the new version is not"
    )
    ci: CiSpec | None = None
    backup: BackupSpec | None = None
    migrations: MigrationsSpec | None = None

    def located(self, resolve: Callable[[str], str]) -> Self:
        """The same with every path in it made absolute by `resolve`."""
        backup = self.backup.located(resolve) if self.backup else None
        migrations = self.migrations.located(resolve) if self.migrations else None
        disk_paths = tuple(map(resolve, self.disk_paths))
        return self.model_copy(update={"backup": backup, "migrations": migrations, "disk_paths": disk_paths})


class RehearseSpec(SpecModel):
    """The rollback that is tried before it is needed."""

    enabled: StrictBool = True


class ApprovalsSpec(SpecModel):
    """Where a person decides. A target named production asks before its first effect unless the spec says otherwise."""

    before: Annotated[tuple[Annotated[Stage, _enum(Stage)], ...], BeforeValidator(_tuple)] | None = None
    by: Annotated[tuple[Person, ...], BeforeValidator(_tuple)] = Field(
        default=(), description="who may approve; empty: whoever reaches Temporal"
    )
    expires: Duration = Field(default=A_DAY, description="after this the approval counts as rejected")

    @field_validator("before")
    @classmethod
    def _after_preflight(cls, value: tuple[Stage, ...] | None) -> tuple[Stage, ...] | None:
        if value and Stage.PREFLIGHT in value:
            raise ValueError("preflight changes nothing and is not approved; deploy is the first stage that can be")
        return value


class DeploymentSpec(SpecModel):
    """A whole spec file."""

    service: Name
    target: Name
    release: ReleaseSpec
    platform: Platform
    strategy: Strategy = Strategy()
    preflight: PreflightSpec = PreflightSpec()
    approvals: ApprovalsSpec = ApprovalsSpec()
    verify: VerifySpec = VerifySpec()
    observe: ObserveSpec = ObserveSpec()
    rehearse: RehearseSpec = RehearseSpec()
    notify: NotifySpec = NotifySpec()
    conflict: Annotated[Conflict, _enum(Conflict)] = Conflict.REJECT
    freeze: Annotated[tuple[FreezeWindow, ...], BeforeValidator(_tuple), Field(max_length=100)] = ()

    @model_validator(mode="after")
    def _revision_for_ci(self) -> Self:
        ci, revision = self.preflight.ci, self.release.revision
        if ci is not None and revision is None:
            raise ValueError("preflight.ci asks about one git revision: name it as release.revision")
        if ci is not None and not isinstance(ci, CommandCi) and len(revision or "") not in (40, 64):
            raise ValueError("preflight.ci asks about one git revision: write release.revision in full, 40 digits")
        return self

    def approval_stages(self) -> tuple[Stage, ...]:
        """The stages that wait for a person."""
        if self.approvals.before is not None:
            return self.approvals.before
        return (Stage.DEPLOY,) if self.target == "production" else ()

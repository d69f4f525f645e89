"""Where it is asked whether the release's git revision has passed its tests: GitHub, GitLab, or a command.

The revision is `release.revision`, in full. Nothing is said of "the latest run": only of runs of exactly this revision.
"""

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, field_validator

from models.base import SpecModel, WireModel
from models.names import EnvironmentName
from models.platforms.base import Argument, as_tuple
from models.secrets import Secret, SecretReference
from models.units import Duration

_URL = re.compile(r"https?://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?(/[A-Za-z0-9._~/-]*)?", re.ASCII)
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}", re.ASCII)
_PROJECT = re.compile(r"\d{1,12}|[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}){1,20}", re.ASCII)
_A_DAY = timedelta(days=1)


def _matching(pattern: re.Pattern[str], sentence: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if isinstance(value, str) and not pattern.fullmatch(value):
            raise ValueError(sentence)
        return value

    return BeforeValidator(check)


ApiUrl = Annotated[str, _matching(_URL, "the base of an API is an address like https://ci.example.org/api, no more")]
RunName = Annotated[str, Field(min_length=1, max_length=200)]
RunNames = Annotated[tuple[RunName, ...], BeforeValidator(as_tuple), Field(max_length=100)]


class _Ci(SpecModel):
    wait: Duration = Field(default=timedelta(minutes=10), description="the longest wait for runs that are under way")

    @field_validator("wait")
    @classmethod
    def _at_most_a_day(cls, value: timedelta) -> timedelta:
        if value > _A_DAY:
            raise ValueError("CI is waited for at most 1d")
        return value


class _Hosted(_Ci):
    token: SecretReference | None = Field(default=None, description="read by the worker; without it, as anybody")
    insecure: StrictBool = Field(default=False, description="plain HTTP may also leave this machine")
    required: RunNames = Field(
        default=(), description="each of these must be there and successful; empty: every one that is there"
    )


class GithubCi(_Hosted):
    """GitHub Actions, and all that reports check runs or commit statuses, on github.com or an Enterprise server."""

    kind: Literal["github"]
    repository: Annotated[str, _matching(_REPOSITORY, "a repository is OWNER/NAME, like acme/shop")]
    url: ApiUrl = Field(default="https://api.github.com", description="Enterprise: https://HOST/api/v3")
    ignore: RunNames = Field(default=(), description="workflows, check runs and commit statuses that do not count")


class GitlabCi(_Hosted):
    """GitLab pipelines, on gitlab.com or a server of one's own."""

    kind: Literal["gitlab"]
    project: Annotated[str, _matching(_PROJECT, "a project is GROUP/NAME, or its number in quotes")]
    url: ApiUrl = Field(default="https://gitlab.com/api/v4", description="own server: https://HOST/api/v4")


class CommandCi(_Ci):
    """A program that knows the answer, for every other CI."""

    kind: Literal["command"]
    run: Annotated[tuple[Argument, ...], BeforeValidator(as_tuple), Field(min_length=1, max_length=200)] = Field(
        description="argument list, no shell; gets $REVISION, $VERSION, $SERVICE and $TARGET; 0 is a pass, 1 a fail"
    )
    pending: Annotated[
        tuple[Annotated[StrictInt, Field(ge=2, le=255)], ...], BeforeValidator(as_tuple), Field(max_length=20)
    ] = Field(default=(75,), description="exit codes that mean: not known yet; it is asked again")
    within: Duration = Field(default=timedelta(seconds=30), description="for one call of the program")
    environment: dict[EnvironmentName, Argument | Secret] = Field(default_factory=dict, max_length=100)

    @field_validator("within")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if not timedelta(0) < value <= timedelta(minutes=10):
            raise ValueError("within is more than 0s and at most 10m")
        return value


CiSpec = Annotated[GithubCi | GitlabCi | CommandCi, Field(discriminator="kind")]


class CiQuestion(WireModel):
    """Ask whether the revision passed its tests.

    Attributes:
        directory: where a command is run.
        deadline: until when pending runs are waited for; None when nothing is waited for.
    """

    ci: CiSpec
    revision: str
    service: str
    target: str
    version: str
    directory: str
    deadline: datetime | None = None

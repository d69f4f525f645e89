"""What runs the target: one model per platform, told apart by `kind`. A new platform is added to `Platform`."""

import re
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StrictInt, field_validator, model_validator

from models.base import SpecModel
from models.names import EnvironmentName
from models.secrets import Secret
from models.units import Duration

_LISTEN = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3}|localhost|\[[0-9a-fA-F:]{2,39}\]):(\d{1,5})", re.ASCII)
_ARGUMENT = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _number_as_text(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, bool | float):
        raise ValueError("put quotes around it: without them YAML changes how it is written")
    return value


class LocalPlatform(SpecModel):
    """Processes on the worker's own machine, kept up by a supervisor, behind a router.

    Attributes:
        run: argument list; the process listens on $HOST:$PORT and also gets $VERSION, $SERVICE, $TARGET, $REVISION.
        directory: what is copied for each revision and is the process's working directory.
        listen: the address where users reach the service.
        drain: the longest wait for requests that are under way before an instance is asked to stop.
        stop: the longest wait between SIGTERM and SIGKILL.
        keep: how many former revisions stay on disk for a rollback.
    """

    kind: Literal["local"]
    run: Annotated[tuple[_ARGUMENT, ...], BeforeValidator(_tuple), Field(min_length=1, max_length=200)]
    directory: Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00\r\n]+$")] = "."
    exclude: Annotated[tuple[str, ...], BeforeValidator(_tuple)] = (".git", "__pycache__", "*.pyc")
    instances: Annotated[StrictInt, Field(ge=1, le=32)] = 2
    listen: str
    environment: dict[EnvironmentName, Annotated[_ARGUMENT, BeforeValidator(_number_as_text)] | Secret] = Field(
        default_factory=dict, max_length=500
    )
    drain: Duration = timedelta(seconds=30)
    stop: Duration = timedelta(seconds=10)
    keep: Annotated[StrictInt, Field(ge=1, le=20)] = 3

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        match = _LISTEN.fullmatch(value)
        if match is None or not 1 <= int(match[2]) <= 65535:
            raise ValueError("listen is an address and a port, like 127.0.0.1:8080")
        if match[1][0].isdigit() and any(int(part) > 255 for part in match[1].split(".")):
            raise ValueError("listen is an address and a port, like 127.0.0.1:8080")
        return value

    @field_validator("run")
    @classmethod
    def _program(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value[0].strip():
            raise ValueError("run begins with the program's name")
        return value

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        reserved = {"HOST", "PORT", "VERSION", "SERVICE", "TARGET", "REVISION"} & set(self.environment)
        if reserved:
            raise ValueError(f"{', '.join(sorted(reserved))}: set by the platform itself")
        for name, value in (("drain", self.drain), ("stop", self.stop)):
            if value > timedelta(hours=1):
                raise ValueError(f"{name} is at most 1h")
        return self


Platform = LocalPlatform

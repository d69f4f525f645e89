"""The local platform: processes on the worker's own machine, kept up by a supervisor, behind a router."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from models.platforms.base import Argument, Listen, PlatformSpec, as_tuple


class LocalPlatform(PlatformSpec):
    """Processes on the worker's own machine, kept up by a supervisor, behind a router.

    Attributes:
        run: argument list; the process listens on $HOST:$PORT and also gets $VERSION, $SERVICE, $TARGET, $REVISION.
        exclude: what of `directory`, which is copied for each revision, is left out.
        listen: the address where users reach the service.
    """

    kind: Literal["local"]
    run: Annotated[tuple[Argument, ...], BeforeValidator(as_tuple), Field(min_length=1, max_length=200)]
    exclude: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = (".git", "__pycache__", "*.pyc")
    listen: Listen

    @property
    def base_url(self) -> str:
        return f"http://{self.listen}"

    @field_validator("run")
    @classmethod
    def _program(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value[0].strip():
            raise ValueError("run begins with the program's name")
        return value

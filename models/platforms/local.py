"""The local platform: processes on the worker's own machine, kept up by a supervisor, behind a router."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator

from models.platforms.base import Argument, Listen, PlatformSpec, TrustedProxies, as_tuple

# What `run` may name as $NAME or ${NAME}; the platform sets them.
FILLED_IN = ("HOST", "PORT", "VERSION", "SERVICE", "TARGET", "REVISION")


# What no service needs to run, and what nobody wants to see served by one that serves its directory.
NOT_COPIED = (
    *(".git", ".hg", ".svn", ".DS_Store"),
    *("__pycache__", "*.pyc", ".pytest_cache", ".mypy_cache", ".ruff_cache"),
    *(".env", ".env.*", "*.key", "id_rsa", "id_ecdsa", "id_ed25519"),
)


class LocalPlatformSpec(PlatformSpec):
    """Processes on the worker's own machine, kept up by a supervisor, behind a router.

    Attributes:
        run: argument list; the process listens on $HOST:$PORT and also gets $VERSION, $SERVICE, $TARGET, $REVISION.
            Where an argument names one of these, its value is filled in.
        exclude: what of `directory`, which is copied for each revision, is left out. Where the spec file does not say
            it, spec files and the files that its secrets are read from are left out as well.
        listen: the address where users reach the service.
        trusted_proxies: addresses and networks of proxies whose X-Forwarded headers are believed.
    """

    kind: Literal["local"]
    run: Annotated[tuple[Argument, ...], BeforeValidator(as_tuple), Field(min_length=1, max_length=200)]
    exclude: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = NOT_COPIED
    listen: Listen
    trusted_proxies: TrustedProxies = ()

    @property
    def base_url(self) -> str:
        return f"http://{self.listen}"

    @property
    def trusts(self) -> tuple[str, ...]:
        return self.trusted_proxies

    def outline(self) -> Self:
        return super().outline().model_copy(update={"run": self.run[:1], "exclude": ()})

    @field_validator("run")
    @classmethod
    def _program(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value[0].strip():
            raise ValueError("run begins with the program's name")
        return value

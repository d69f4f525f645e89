"""What every platform has in common: how many instances, how they end, where users come. The rest is its own."""

import ipaddress
import re
from abc import abstractmethod
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, StrictInt, ValidationInfo, field_validator

from models.base import SpecModel
from models.names import EnvironmentName
from models.secrets import Secret
from models.units import Duration

PathText = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00\r\n]+$")]
Argument = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]
_LISTEN = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3}|localhost|\[[0-9a-fA-F:]{2,39}\]):(\d{1,5})", re.ASCII)
_RESERVED = frozenset({"HOST", "PORT", "VERSION", "SERVICE", "TARGET", "REVISION"})


def as_tuple(value: Any) -> Any:
    """YAML and JSON have lists only."""
    return tuple(value) if isinstance(value, list) else value


def number_as_text(value: Any) -> Any:
    """A whole number may stand for its own text; what YAML would write differently may not."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, bool | float):
        raise ValueError("put quotes around it: without them YAML changes how it is written")
    return value


def listen_address(value: Any) -> Any:
    """Checks `ADDRESS:PORT`.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str):
        return value
    match = _LISTEN.fullmatch(value)
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise ValueError("listen is an address and a port, like 127.0.0.1:8080")
    if match[1][0].isdigit() and any(int(part) > 255 for part in match[1].split(".")):
        raise ValueError("listen is an address and a port, like 127.0.0.1:8080")
    return value


def network(value: Any) -> Any:
    """Checks an address or a network, like `192.0.2.7` or `10.0.0.0/8`, and gives it in its shortest spelling.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(value, str):
        return value
    try:
        if "%" in value:
            raise ValueError("Traefik knows no zones")
        found = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"{value!r} is not an address or a network, like 192.0.2.7 or 10.0.0.0/8") from None
    if "/" not in value:
        return str(found.network_address)
    if found.network_address != ipaddress.ip_interface(value).ip:
        raise ValueError(f"{value} is an address in a network: name the network, {found}, or the address alone")
    return str(found)


Listen = Annotated[str, BeforeValidator(listen_address)]
# Proxies that are believed when they say for whom they ask; part of a platform whose router is ours.
TrustedProxies = Annotated[
    tuple[Annotated[str, BeforeValidator(network)], ...], BeforeValidator(as_tuple), Field(max_length=100)
]
Environment = dict[EnvironmentName, Annotated[Argument, BeforeValidator(number_as_text)] | Secret]


class PlatformSpec(SpecModel):
    """The part that workflows and checks may rely on, whatever the platform.

    Attributes:
        directory: where the release's files and commands are; relative to the spec file.
        instances: how many of them serve users.
        environment: what an instance gets beside what the platform itself sets.
        drain: the longest wait for requests that are under way before an instance is asked to stop.
        stop: the longest wait between SIGTERM and SIGKILL.
        keep: how many former revisions stay for a rollback.
    """

    directory: PathText = "."
    instances: Annotated[StrictInt, Field(ge=1, le=32)] = 2
    environment: Environment = Field(default_factory=dict, max_length=500)
    drain: Duration = timedelta(seconds=30)
    stop: Duration = timedelta(seconds=10)
    keep: Annotated[StrictInt, Field(ge=1, le=20)] = 3

    @property
    @abstractmethod
    def base_url(self) -> str:
        """Where users reach the service, as a URL without a path."""

    @property
    def address(self) -> str:
        """The same, as people like to read it."""
        return self.base_url.partition("://")[2]

    @property
    def trusts(self) -> tuple[str, ...]:
        """The proxies before ours that are believed when they say for whom they ask."""
        return ()

    @property
    def counts_requests(self) -> bool:
        """Whether it will be known how many requests each release has answered."""
        return True

    @property
    def data_roots(self) -> tuple[str, ...]:
        """Paths on the worker's machine, beside `directory`, whose file systems a deployment fills."""
        return ()

    def outline(self) -> Self:
        """The same without what only its instances need: how it is reached, and how large it is."""
        return self.model_copy(update={"environment": {}})

    def as_files(self) -> Self:
        """The same with what is measured before anything changes: all but the values that its instances are given."""
        kept = {name: value for name, value in self.environment.items() if name == "PATH"}
        return self.model_copy(update={"environment": kept})

    def located(self, resolve: Callable[[str], str]) -> Self:
        """The same with every path in it made absolute by `resolve`."""
        return self.model_copy(update={"directory": resolve(self.directory)})

    @field_validator("environment")
    @classmethod
    def _unreserved(cls, value: Environment) -> Environment:
        if reserved := _RESERVED & set(value):
            raise ValueError(f"{', '.join(sorted(reserved))}: set by the platform itself")
        return value

    @field_validator("drain", "stop")
    @classmethod
    def _bounded(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        if value > timedelta(hours=1):
            raise ValueError(f"{info.field_name} is at most 1h")
        return value

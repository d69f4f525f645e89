"""Names that become workflow ids, folders, program names and router keys: each is checked once, here."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)
_VERSION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_+-]|\.(?!\.)){0,62}", re.ASCII)
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PERSON = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,98}[^\s\x00-\x1f\x7f])?")


def _matching(pattern: re.Pattern[str], sentence: str, of: type[str] = str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if isinstance(value, of) and not pattern.fullmatch(value):
            raise ValueError(sentence)
        return value

    return BeforeValidator(check)


Name = Annotated[
    str,
    _matching(_NAME, "a name has 1 to 40 small letters, digits and inner hyphens, like shop or web-eu"),
    WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"}),
]
Version = Annotated[
    str,
    _matching(_VERSION, "a version has 1 to 63 letters, digits, dots (never two in a row), plus, minus and underscore"),
    WithJsonSchema({"type": "string", "pattern": f"^{_VERSION.pattern}$", "examples": ["1.1.0"]}),
]
EnvironmentName = Annotated[
    str,
    _matching(_ENVIRONMENT_NAME, "an environment variable's name has letters, digits and underscores"),
    WithJsonSchema({"type": "string", "pattern": f"^{_ENVIRONMENT_NAME.pattern}$"}),
]
Sha256 = Annotated[
    str,
    _matching(_SHA256, "a sha256 has 64 small hexadecimal digits"),
    WithJsonSchema({"type": "string", "pattern": f"^{_SHA256.pattern}$"}),
]
Person = Annotated[
    str,
    _matching(_PERSON, "a person's name has 1 to 100 printable characters on one line"),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 100}),
]


def workflow_id(service: str, target: str) -> str:
    """The id of the one deployment that a service's target may have: the lock of the target."""
    return f"deploy/{service}/{target}"


def notifications_id(service: str, target: str, run_id: str) -> str:
    """The id of the workflow that tells the receivers of one deployment."""
    return f"notify/{service}/{target}/{run_id}"


def queue_id(service: str, target: str) -> str:
    """The id of the queue of a service's target."""
    return f"queue/{service}/{target}"


def same_person(one: str, other: str) -> bool:
    """Whether two names mean one person, however they are written: `Ann` is no second person beside `ann`."""
    return " ".join(one.split()).casefold() == " ".join(other.split()).casefold()


def restore_id(service: str, target: str) -> str:
    """The id of the one restore of a target's backup that may be under way."""
    return f"restore/{service}/{target}"

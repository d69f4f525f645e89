"""What the service must be given to start as it did before: names, their form, and nothing that is suddenly missing."""

from collections.abc import Collection
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictBool, TypeAdapter, ValidationError
from pydantic_core import SchemaError

from models.base import SpecModel
from models.names import EnvironmentName
from models.platforms.base import as_tuple
from models.verdict import CheckResult, Verdict

MOST_NAMED = 50


def _matcher(pattern: str) -> TypeAdapter[str]:
    # Pydantic's own engine needs linear time whatever the pattern; Python's could stop the whole worker with one.
    return TypeAdapter(Annotated[str, Field(pattern=rf"\A(?:{pattern})\z")])


def fits(pattern: str, value: str) -> bool:
    """Whether the whole value fits the pattern."""
    try:
        _matcher(pattern).validate_python(value)
    except ValidationError:
        return False
    return True


def _pattern(value: Any) -> Any:
    if isinstance(value, str):
        try:
            _matcher(value)
        except SchemaError:
            raise ValueError("this is no regular expression of the kind without look-around and references") from None
    return value


class RequiredName(SpecModel):
    """A name that the platform's environment must give, and how its value must look."""

    name: EnvironmentName
    pattern: Annotated[str, Field(min_length=1, max_length=500), BeforeValidator(_pattern)] | None = Field(
        default=None, description="regular expression that the whole value fits"
    )
    secret: StrictBool = Field(default=False, description="the value must be a reference, not in the spec itself")


class Parity(StrEnum):
    """What follows when the version that serves has a name that the new one lacks."""

    WARN = "warn"
    FAIL = "fail"
    IGNORE = "ignore"


RequiredNames = Annotated[tuple[EnvironmentName | RequiredName, ...], BeforeValidator(as_tuple), Field(max_length=500)]


def as_required(item: str | RequiredName) -> RequiredName:
    """A name alone means: any value that is not empty."""
    return RequiredName(name=item) if isinstance(item, str) else item


def with_parity(found: CheckResult, parity: Parity, stable: Collection[str], candidate: Collection[str]) -> CheckResult:
    """The check's result with what the version that serves is given and the new one is not; names only."""
    lost = sorted(set(stable) - set(candidate))
    if not lost or parity is Parity.IGNORE:
        return found
    named = ", ".join(lost[:MOST_NAMED]) + (f" and {len(lost) - MOST_NAMED} more" if len(lost) > MOST_NAMED else "")
    verdict, reason = found.verdict, found.reason
    if parity is Parity.FAIL and verdict in (Verdict.PASS, Verdict.SKIPPED):
        verdict, reason = Verdict.FAIL, f"what serves now is given {named}, and the new version is not"
    else:
        reason = f"{reason}; warning: what serves now is given {named}, and the new version is not"
    changed = {"verdict": verdict, "reason": reason[:2000], "evidence": {**found.evidence, "lost": lost[:MOST_NAMED]}}
    return found.model_copy(update=changed)

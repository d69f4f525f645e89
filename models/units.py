"""Durations, sizes and shares as people write them: `1h30m`, `512MiB`, `90%`.

Each is read from that text only, so that `5` never silently means seconds here and minutes there, and is written
back in the same form, so that a plan, a report and a workflow history read like the spec file.
"""

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_MICROSECONDS = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000}
_SIZE = re.compile(r"(\d{1,15})(B|KiB|MiB|GiB|TiB)", re.ASCII)
_BYTES = {"TiB": 1 << 40, "GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}
_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)%", re.ASCII)

LONGEST = timedelta(days=30)


def parse_duration(value: Any) -> timedelta:
    """Reads `90s`, `10m`, `1h30m`, `250ms`; at most 30 days.

    Raises:
        ValueError: the text is no duration, is negative, or is longer than 30 days.
    """
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or len(value) > 40 or not _DURATION.fullmatch(value):
        raise ValueError("a duration is written like 90s, 10m, 1h30m or 250ms")
    total = sum(float(n) * _MICROSECONDS[unit] for n, unit in _DURATION_PART.findall(value))
    if total > LONGEST / timedelta(microseconds=1):
        raise ValueError("a duration is at most 30d")
    return timedelta(microseconds=round(total))


def format_duration(value: timedelta) -> str:
    """Writes a duration so that `parse_duration` reads the same one back."""
    left = round(value / timedelta(microseconds=1))
    if left == 0:
        return "0s"
    text = ""
    for unit in ("d", "h", "m"):
        n, left = divmod(left, _MICROSECONDS[unit])
        text += f"{n}{unit}" if n else ""
    return text + (f"{left / 1_000_000:.6f}".rstrip("0").rstrip(".") + "s" if left else "")


def parse_size(value: Any) -> int:
    """Reads `512MiB` into bytes.

    Raises:
        ValueError: the text is no size.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a size is written like 512MiB or 2GiB")
    return int(match[1]) * _BYTES[match[2]]


def format_size(value: int) -> str:
    """Writes bytes in the largest unit that keeps them whole, so that `parse_size` reads the same number back."""
    unit = next(unit for unit, n in _BYTES.items() if value % n == 0 and (value or n == 1))
    return f"{value // _BYTES[unit]}{unit}"


def readable(size: float) -> str:
    """Bytes in the unit that people would choose."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"


def parse_share(value: Any) -> float:
    """Reads `90%` into 0.9.

    Raises:
        ValueError: the text is no share between 0% and 100%.
    """
    if isinstance(value, float):
        return value
    match = _SHARE.fullmatch(value) if isinstance(value, str) else None
    if match is None or float(match[1]) > 100:
        raise ValueError("a share is written like 90%, between 0% and 100%")
    return float(match[1]) / 100


def format_share(value: float) -> str:
    """Writes 0.9 as `90%`."""
    return f"{value * 100:.6f}".rstrip("0").rstrip(".") + "%"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d))+$", "examples": ["90s", "10m", "1h30m"]}),
]
Size = Annotated[
    int,
    Field(ge=0),
    BeforeValidator(parse_size),
    PlainSerializer(format_size, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d{1,15}(B|KiB|MiB|GiB|TiB)$", "examples": ["512MiB"]}),
]
Share = Annotated[
    float,
    Field(ge=0, le=1),
    BeforeValidator(parse_share),
    PlainSerializer(format_share, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d{1,3}(\.\d{1,6})?%$", "examples": ["90%"]}),
]

"""Times in which nothing is deployed: the days before Christmas, each weekend, each night of the bookkeepers.

A window is what the clock on the wall shows in its time zone. Where that clock is turned back, a time that it shows
twice belongs to the window both times; where it is put forward, a time that it never shows counts as if it did.
"""

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, BeforeValidator, Field, WithJsonSchema, model_validator

from models.base import SpecModel, WireModel
from models.units import Duration

FREEZE = "freeze"
_MOMENT = re.compile(r"2[01]\d\d-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d)?)?", re.ASCII)
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,3}", re.ASCII)


def _moment(value: Any) -> Any:
    if isinstance(value, str):
        try:
            if _MOMENT.fullmatch(value):
                datetime.fromisoformat(value)
                return value
        except ValueError:
            pass
        raise ValueError("a moment is written like 2026-12-24 or 2026-12-24 18:00, by the clock of the time zone")
    return value


def _zone(value: Any) -> Any:
    if isinstance(value, str) and (len(value) > 64 or not _ZONE.fullmatch(value)):
        raise ValueError("a time zone is written like Europe/Berlin or UTC")
    return value


def _cron(value: Any) -> Any:
    if isinstance(value, str) and (len(value) > 100 or len(value.split()) != 5):
        raise ValueError('cron has five fields (minute, hour, day, month, weekday), like "0 18 * * FRI"')
    return value


Moment = Annotated[str, BeforeValidator(_moment), WithJsonSchema({"type": "string", "pattern": f"^{_MOMENT.pattern}$"})]
Zone = Annotated[str, BeforeValidator(_zone), WithJsonSchema({"type": "string", "examples": ["Europe/Berlin"]})]
Cron = Annotated[str, BeforeValidator(_cron), WithJsonSchema({"type": "string", "examples": ["0 18 * * FRI"]})]


class FreezeWindow(SpecModel):
    """Either once, `from` and `until`, or again and again, `cron` and `for`.

    Attributes:
        begins: a day alone means from its beginning.
        until: a day alone means until its end.
        cron: when each one begins.
        lasts: how long each one lasts, by the clock on the wall.
    """

    begins: Moment | None = Field(default=None, alias="from")
    until: Moment | None = None
    cron: Cron | None = None
    lasts: Duration | None = Field(default=None, alias="for")
    timezone: Zone = "UTC"
    reason: Annotated[str, Field(min_length=1, max_length=500)]

    @model_validator(mode="after")
    def _once_or_again_and_again(self) -> Self:
        once, again = (self.begins, self.until), (self.cron, self.lasts)
        if not (all(once) and not any(again)) and not (all(again) and not any(once)):
            raise ValueError("a freeze has either from and until, or cron and for")
        if self.begins is not None and self.until is not None and self.wall_begin() >= self.wall_end():
            raise ValueError("until must be later than from")
        if self.lasts is not None and self.lasts < timedelta(minutes=1):
            raise ValueError("for is at least 1m")
        return self

    def wall_begin(self) -> datetime:
        """`from`, as the clock on the wall shows it, without a time zone."""
        return datetime.fromisoformat(self.begins or "0001-01-01")

    def wall_end(self) -> datetime:
        """`until`, as the clock on the wall shows it: of a day alone, the midnight that ends it."""
        text = self.until or "0001-01-01"
        return datetime.fromisoformat(text) + (timedelta(days=1) if len(text) == len("2026-12-24") else timedelta(0))


class FreezeCheck(WireModel):
    """Is a freeze in force?

    Attributes:
        at: the moment that is asked about; the worker's clock counts where it is later.
        broken_by: who sets the freeze aside, for `reason`; empty where nobody does.
        planning: somebody only wants to know what would happen.
    """

    windows: tuple[FreezeWindow, ...]
    at: AwareDatetime
    broken_by: str = ""
    reason: str = ""
    planning: bool = False

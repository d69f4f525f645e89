"""Options that several commands share, and how their values are checked: with a sentence, before anything starts."""

import getpass
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class WaitTime(click.ParamType):  # type: ignore[type-arg]
    """A duration like `45m`."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        from models.units import parse_duration

        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Subject(click.ParamType):  # type: ignore[type-arg]
    """SERVICE/TARGET, both checked as names, since they become a workflow id and part of a query."""

    name = "SERVICE/TARGET"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        from pydantic import TypeAdapter, ValidationError

        from models.names import Name

        if isinstance(value, tuple):
            return value
        parts = str(value).split("/")
        if len(parts) != 2:
            self.fail("this takes SERVICE/TARGET, like shop/staging", param, ctx)
        try:
            service, target = (TypeAdapter(Name).validate_python(part) for part in parts)
        except ValidationError as error:
            self.fail(_first_sentence(error), param, ctx)
        return service, target


class PersonName(click.ParamType):  # type: ignore[type-arg]
    """A person's name on one line."""

    name = "NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from pydantic import TypeAdapter, ValidationError

        from models.names import Person

        try:
            name: str = TypeAdapter(Person).validate_python(value)
            name.encode()
        except ValidationError as error:
            self.fail(_first_sentence(error), param, ctx)
        except UnicodeEncodeError:
            self.fail("a person's name is UTF-8 text", param, ctx)
        return name


class Reason(click.ParamType):  # type: ignore[type-arg]
    """Why: a sentence that a report and a workflow's history keep."""

    name = "TEXT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value) if str(value).strip() else ""
        if not text and param is not None and param.required:
            self.fail("a reason is not empty", param, ctx)
        if len(text) > 1000:
            self.fail("a reason has at most 1,000 characters", param, ctx)
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail("a reason is UTF-8 text", param, ctx)
        return text


def _first_sentence(error: Any) -> str:
    return str(error.errors()[0]["msg"]).removeprefix("Value error, ")


def who_am_i() -> str:
    """The name that is noted when none is given."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError):
        name = f"uid {os.getuid()}"
    return "".join(c for c in name if c.isprintable()).strip()[:100] or f"uid {os.getuid()}"


subject_argument = click.argument("subject", type=Subject(), metavar="SERVICE/TARGET")
optional_subject = click.argument("subject", type=Subject(), metavar="[SERVICE/TARGET]", required=False)
json_option = click.option("--json", "json_wanted", is_flag=True, help="Exactly one JSON document on stdout.")
as_option = click.option("--as", "by", type=PersonName(), default=who_am_i, help="Who asks; default: the user.")
wait_option = click.option("--wait", type=WaitTime(), help="How long to follow it, like 45m; default: to its end.")
no_wait_option = click.option("--no-wait", is_flag=True, help="Start it and leave.")

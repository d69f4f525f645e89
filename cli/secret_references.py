"""The secrets that a spec refers to must be there before anything starts; a reference is named, a value never.

With the embedded stack the worker is started by somebody else at another time, so what the caller's environment holds
is handed over through this home's secret store.
"""

import os
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from models.errors import SecretUnresolved, SpecError
from models.secrets import Secret
from models.spec import DeploymentSpec, SentrySpec


def references(spec: DeploymentSpec) -> dict[str, str]:
    """Finds all references of a spec: reference → the first key that uses it."""
    found: dict[str, str] = {}
    for path, reference in _walk(spec, ()):
        found.setdefault(reference, ".".join(path))
    return found


def _walk(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, Secret):
        yield path, value.secret
    elif isinstance(value, SentrySpec):
        yield (*path, "dsn"), value.dsn
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _walk(getattr(value, name), (*path, name))
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _walk(inner, (*path, str(name)))
    elif isinstance(value, tuple):
        for i, inner in enumerate(value):
            yield from _walk(inner, (*path, str(i)))


def missing_secrets(spec: DeploymentSpec) -> list[str]:
    """Says for each reference that leads nowhere what is wrong with it."""
    return [
        f"{key}: {problem}"
        for reference, key in references(spec).items()
        if (problem := _problem(reference)) is not None
    ]


def _problem(reference: str) -> str | None:
    kind, _, name = reference.partition(":")
    if kind == "env":
        value = os.environ.get(name)
        if value is None:
            return f"the secret {reference} is missing: set the environment variable {name}"
        if not value:
            return f"the secret {reference} is empty: set the environment variable {name}"
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"the secret {reference} is not UTF-8 text"
        return None
    from activities.secrets import resolve

    try:
        resolve(reference)
    except SecretUnresolved as error:
        return f"the secret {error}"
    return None


def check_secrets(spec: DeploymentSpec) -> None:
    """Refuses a spec whose secrets are not there.

    Raises:
        SpecError: one line per reference.
    """
    missing = missing_secrets(spec)
    if missing:
        raise SpecError("\n".join(missing))


def hand_over_secrets(spec: DeploymentSpec) -> None:
    """Puts the values of this environment's secrets where this home's worker finds them."""
    names = [reference.removeprefix("env:") for reference in references(spec) if reference.startswith("env:")]
    if not names:
        return
    from embedded.paths import Home
    from embedded.secret_store import SecretStore

    store = SecretStore(Home.from_environment())
    for name in names:
        store.put(name, os.environ[name])

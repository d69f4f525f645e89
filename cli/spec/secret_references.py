"""The secrets that a spec refers to must be there before anything starts; a reference is named, a value never.

With the embedded stack the worker is started by somebody else at another time, so what the caller's environment holds
is handed over through this home's secret store.
"""

import os

from models.errors import SecretUnresolvedError, SpecError
from models.secrets import references
from models.spec import DeploymentSpec

# How the worker finds Vault, and who it is there.
_OF_VAULT = ("VAULT_ADDR", "VAULT_NAMESPACE", "VAULT_TOKEN", "VAULT_TOKEN_FILE", "VAULT_CACERT")


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
    if kind == "vault":
        # Only the worker can say: Vault may know it, and not whoever runs this command.
        return None
    from activities.secrets.resolver import resolve

    try:
        resolve(reference)
    except SecretUnresolvedError as error:
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


def hand_over_environment(spec: DeploymentSpec) -> None:
    """Puts what programs inherit, like PATH, where this home's worker finds it: as it is here, and not where it was
    started.
    """
    from home.caller import hand_over
    from home.paths import Home

    hand_over(Home.from_environment(), spec.service, spec.target, os.environ)


def hand_over_secrets(spec: DeploymentSpec, *, replace: bool = True) -> None:
    """Puts the values of this environment's secrets where this home's worker finds them.

    Args:
        spec: whose references are meant.
        replace: also those that it has already; without it what runs keeps what it was given.
    """
    found = references(spec)
    names = [reference.removeprefix("env:") for reference in found if reference.startswith("env:")]
    if any(reference.startswith("vault:") for reference in found):
        names += [name for name in _OF_VAULT if os.environ.get(name)]
    if not names:
        return
    from home.paths import Home
    from home.secret_store import SecretStore

    store = SecretStore(Home.from_environment())
    for name in names:
        if not replace and store.get(name) is not None:
            continue
        store.put(name, os.environ[name])

"""A secret must reach the process that needs it and nothing else: no history, no log, no report, no error text.

Specs and workflows hold references (`env:NAME`, `file:/path`, `vault:mount/path#key`). `resolve` reads one on the
worker at the moment it is needed and remembers the value; `scrub` takes every remembered value out of a text again, in
the forms in which such values come back in other programs' messages: as they are, quoted for a URL, escaped, in base64,
line by line.
"""

import base64
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from activities.secrets.vault import Vault
from activities.system.safe_open import NotRegularError, open_regular
from home.paths import Home
from home.secret_store import SecretStore
from models.errors import SecretUnresolvedError, StackError
from models.secrets import FORMS

LARGEST_FILE = 64 << 10
SHORTEST_SCRUBBED = 4
MASK = "***"

_lock = threading.Lock()
_known: set[str] = set()
_pattern: re.Pattern[str] | None = None


def resolve(reference: str) -> str:
    """Reads the secret that `env:NAME`, `file:/absolute/path` or `vault:mount/path#key` refers to.

    `env:NAME` is looked up in this home's secret store first, then in the worker's environment. A file's value is its
    content without the last line break. Vault is found and asked by what its own tools use: VAULT_ADDR, VAULT_TOKEN (or
    VAULT_TOKEN_FILE, or `~/.vault-token`), VAULT_NAMESPACE, VAULT_CACERT, each looked up like `env:NAME`.

    Raises:
        SecretUnavailableError: Vault did not answer.
        SecretUnresolvedError: there is no such secret, or it cannot be read, or it is empty. The text names the
            reference and the cause, never a value.
    """
    kind, _, name = reference.partition(":")
    if kind == "env" and name:
        value = _from_environment(reference, name)
    elif kind == "file" and name.startswith("/"):
        value = _from_file(reference, name)
    elif kind == "vault":
        value = _from_vault(reference, name)
    else:
        # What is no reference may be the secret itself, put in the wrong place: it is not repeated.
        raise SecretUnresolvedError(f"a secret is referred to as {FORMS}; this is none of them")
    if not value:
        raise SecretUnresolvedError(f"{reference}: the secret is empty")
    if "\x00" in value:
        raise SecretUnresolvedError(
            f"{reference}: the secret contains a NUL character and cannot be handed to a program"
        )
    remember(value)
    return value


def remember(value: str) -> None:
    """Makes `scrub` take this value out of texts from now on; shorter ones than 4 characters are let through."""
    global _pattern
    with _lock:
        fresh = {form for form in _forms(value) if len(form) >= SHORTEST_SCRUBBED} - _known
        if fresh:
            _known.update(fresh)
            _pattern = re.compile("|".join(re.escape(form) for form in sorted(_known, key=len, reverse=True)))


def scrub(text: str) -> str:
    """Replaces every secret that this process has resolved with `***`."""
    pattern = _pattern
    return pattern.sub(MASK, text) if pattern else text


def scrub_values(value: Any) -> Any:
    """Scrubs every text in a structure of dicts and lists; what is no text stays as it is."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, dict):
        return {scrub_values(name): scrub_values(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [scrub_values(inner) for inner in value]
    return value


def _look_up(reference: str, name: str) -> str | None:
    try:
        value = SecretStore(Home.from_environment()).get(name)
    except StackError as error:
        raise SecretUnresolvedError(f"{reference}: {error}") from None
    return os.environ.get(name) if value is None else value


def _from_environment(reference: str, name: str) -> str:
    value = _look_up(reference, name)
    if value is None:
        raise SecretUnresolvedError(
            f"{reference}: neither this home's secret store nor the worker's environment has a variable of that name"
        )
    return value


def _from_file(reference: str, name: str) -> str:
    try:
        with open_regular(Path(name)) as file:
            content = file.read(LARGEST_FILE + 1)
    except NotRegularError:
        raise SecretUnresolvedError(f"{reference}: this is no regular file") from None
    except OSError as error:
        raise SecretUnresolvedError(f"{reference}: {error.strerror}") from None
    if len(content) > LARGEST_FILE:
        raise SecretUnresolvedError(f"{reference}: the file is larger than {LARGEST_FILE >> 10} KiB")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise SecretUnresolvedError(f"{reference}: the file is not UTF-8 text") from None
    return text.removesuffix("\n").removesuffix("\r")


def _from_vault(reference: str, name: str) -> str:
    path, _, key = name.partition("#")
    mount, _, path = path.partition("/")
    if not (mount and path and key):
        raise SecretUnresolvedError(f"a secret in Vault is referred to as {FORMS.rpartition(' ')[2]}")
    address = _look_up(reference, "VAULT_ADDR")
    if not address:
        raise SecretUnresolvedError(f"{reference}: the worker does not know where Vault is: set VAULT_ADDR")
    vault = Vault(
        address=address,
        token=_vault_token(reference),
        namespace=_look_up(reference, "VAULT_NAMESPACE") or "",
        certificates=_look_up(reference, "VAULT_CACERT") or "",
    )
    try:
        return vault.read(mount, path, key)
    except SecretUnresolvedError as error:
        raise type(error)(f"{reference}: {error}") from None


def _vault_token(reference: str) -> str:
    token = _look_up(reference, "VAULT_TOKEN")
    if not token:
        given = _look_up(reference, "VAULT_TOKEN_FILE")
        file = Path(given).expanduser() if given else Path("~/.vault-token").expanduser()
        if not given and not file.exists():
            raise SecretUnresolvedError(
                f"{reference}: the worker has no token for Vault: set VAULT_TOKEN, or VAULT_TOKEN_FILE"
            )
        token = _from_file(f"{reference}: {file}", str(file))
    token = token.strip()
    if not token.isascii() or not token.isprintable() or not token:
        raise SecretUnresolvedError(f"{reference}: the token for Vault is empty, or not one line of ASCII")
    remember(token)
    return token


def _forms(value: str) -> Iterator[str]:
    parts = [value, *(line.strip() for line in value.splitlines())]
    for part in parts:
        if len(part) < SHORTEST_SCRUBBED:
            continue
        yield part
        as_bytes = os.fsencode(part)
        yield from (quote(as_bytes), quote(as_bytes, safe=""), quote_plus(as_bytes))
        yield from (json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1], repr(part)[1:-1])
        yield from _base64_forms(as_bytes)


def _base64_forms(value: bytes) -> Iterator[str]:
    """The value's base64, alone and inside a longer text: what it looks like there depends on where it begins."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        alone = encode(value).decode()
        yield from (alone, alone.rstrip("="))
        for before in (1, 2):
            inner = encode(b"\0" * before + value).decode().rstrip("=")
            # The first characters also hold bits of what stands before, the last one may hold bits of what follows.
            yield inner[before + 1 : -1]
        yield alone.rstrip("=")[:-1]

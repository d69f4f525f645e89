"""Secrets that Vault keeps are read where every other reference is, and nowhere else is anything of them seen.

Vault is the stand-in of `tests/servers/vault.py`.
"""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.secrets import resolver, vault
from activities.secrets.resolver import resolve, scrub
from home.paths import Home
from home.secret_store import SecretStore
from models.errors import SecretUnavailableError, SecretUnresolvedError
from tests.servers.vault import TOKEN, StandInVault, running_vault

VALUE = "postgres://shop:hunter2@db/shop"


@pytest.fixture
def server() -> Iterator[StandInVault]:
    kept = StandInVault({("", "secret", "shop/staging"): {"dsn": VALUE, "port": 5432, "list": [1]}})
    with running_vault(kept) as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAULT_ADDR", address)
        yield kept


@pytest.fixture(autouse=True)
def own_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "_known", set())
    monkeypatch.setattr(resolver, "_pattern", None)
    monkeypatch.setattr(vault, "_away", {})
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DEPLOYMENT_SPECIALIST_HOME", str(tmp_path / "home"))
    for name in ("VAULT_ADDR", "VAULT_NAMESPACE", "VAULT_TOKEN_FILE", "VAULT_CACERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VAULT_TOKEN", TOKEN)


def test_a_value_is_read_and_scrubbed_from_then_on(server: StandInVault) -> None:
    assert resolve("vault:secret/shop/staging#dsn") == VALUE
    assert resolve("vault:secret/shop/staging#port") == "5432"
    assert server.asked == ["/v1/secret/data/shop/staging"] * 2
    assert scrub(f"could not connect to {VALUE} with {TOKEN}") == "could not connect to *** with ***"


@pytest.mark.parametrize("where", ["store", "file", "home"])
def test_the_token_may_be_where_vaults_own_tools_look_for_it(
    server: StandInVault, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VAULT_TOKEN")
    if where == "store":
        SecretStore(Home.from_environment()).put("VAULT_TOKEN", TOKEN)
    elif where == "file":
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        monkeypatch.setenv("VAULT_TOKEN_FILE", str(tmp_path / "token"))
    else:
        (tmp_path / ".vault-token").write_text(TOKEN)

    assert resolve("vault:secret/shop/staging#dsn") == VALUE


def test_a_namespace_is_asked_for(server: StandInVault, monkeypatch: pytest.MonkeyPatch) -> None:
    server.secrets[("team/web", "kv", "shop")] = {"dsn": "of the team"}
    monkeypatch.setenv("VAULT_NAMESPACE", "team/web")

    assert resolve("vault:kv/shop#dsn") == "of the team"


@pytest.mark.parametrize(
    ("reference", "cause"),
    [
        ("vault:secret/shop/nothing#dsn", "answered 404: there is no such secret, or no such mount"),
        ("vault:nothing/shop#dsn", "answered 404: there is no such secret, or no such mount"),
        ("vault:secret/gone#dsn", "answered 404: the secret was deleted"),
        ("vault:secret/shop/staging#user", "no key of that name, but 3 others"),
        ("vault:secret/shop/staging#list", "neither text nor a number"),
    ],
)
def test_what_is_not_there_is_said_without_a_value(server: StandInVault, reference: str, cause: str) -> None:
    server.secrets[("", "secret", "gone")] = None

    with pytest.raises(SecretUnresolvedError) as caught:
        resolve(reference)

    assert type(caught.value) is SecretUnresolvedError
    assert str(caught.value).startswith(f"{reference}: Vault at 127.0.0.1:") and cause in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_token_that_may_not_is_told_and_not_repeated(server: StandInVault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "hvs.another-token")

    with pytest.raises(SecretUnresolvedError, match="answered 403: the token may not read it, or is wrong") as caught:
        resolve("vault:secret/shop/staging#dsn")

    assert "another-token" not in str(caught.value)


@pytest.mark.parametrize(("status", "cause"), [(503, "it is sealed"), (500, "its own error"), (473, "standby")])
def test_a_server_that_is_not_ready_is_worth_another_try(server: StandInVault, status: int, cause: str) -> None:
    server.status = status

    with pytest.raises(SecretUnavailableError, match=cause) as caught:
        resolve("vault:secret/shop/staging#dsn")

    assert caught.value.retryable


def test_one_that_does_not_answer_is_not_asked_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        monkeypatch.setenv("VAULT_ADDR", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setattr(vault, "WITHIN", 0.2)
        began = time.monotonic()

        for n in range(20):
            with pytest.raises(SecretUnavailableError, match="did not answer"):
                resolve(f"vault:secret/shop#k{n}")

    assert time.monotonic() - began < 5


@pytest.mark.parametrize("body", [b"<html>", b"[" * 500_000, b"{}", b'{"data": {"data": [1]}}', b" " * (2 << 20)])
def test_an_answer_that_is_none_is_said(server: StandInVault, body: bytes) -> None:
    server.body = body

    with pytest.raises(SecretUnresolvedError, match=r"KV engine of version 2|more than 1 MiB"):
        resolve("vault:secret/shop/staging#dsn")


@pytest.mark.parametrize(
    ("name", "value", "cause"),
    [
        ("VAULT_ADDR", "", "set VAULT_ADDR"),
        ("VAULT_ADDR", "vault.example", "VAULT_ADDR is no address"),
        ("VAULT_ADDR", "http://vault.example:8200", "must be https"),
        ("VAULT_ADDR", "https://u:hunter2@vault.example", "VAULT_ADDR is no address"),
        ("VAULT_TOKEN", "two\nlines", "not one line of ASCII"),
        ("VAULT_TOKEN", "", "set VAULT_TOKEN, or VAULT_TOKEN_FILE"),
        ("VAULT_CACERT", "/no/such/file", "VAULT_CACERT names no file"),
    ],
)
def test_what_is_configured_wrongly_is_named(
    server: StandInVault, name: str, value: str, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SecretUnresolvedError) as caught:
        resolve("vault:secret/shop/staging#dsn")

    assert cause in str(caught.value)
    assert "hunter2" not in str(caught.value) and "two" not in str(caught.value)

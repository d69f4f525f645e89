"""References are told from everything else by their form, found wherever they stand, and handed over to the worker."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from cli.spec.secret_references import hand_over_secrets, missing_secrets
from home.paths import Home
from home.secret_store import SecretStore
from models.secrets import SecretReference, references
from models.spec import DeploymentSpec


def spec_with(reference: str) -> DeploymentSpec:
    return DeploymentSpec.model_validate(
        {
            "service": "shop",
            "target": "staging",
            "release": {
                "version": "1",
                "revision": "a" * 40,
                "artifacts": [{"image": "ghcr.io/a/b:1", "username": "env:U", "password": "env:P"}],
            },
            "platform": {
                "kind": "local",
                "run": ["x"],
                "listen": "127.0.0.1:8080",
                "environment": {"A": {"secret": reference}, "B": "env:NOT_ONE"},
            },
            "preflight": {"ci": {"kind": "gitlab", "project": "a/b", "token": "file:/run/token"}},
            "observe": {"sentry": {"dsn": "env:DSN"}},
        }
    )


@pytest.mark.parametrize(
    "reference",
    ["env:A", "file:/run/secrets/a b", "vault:secret/shop#dsn", "vault:kv/team/web/shop.db#user name", "vault:a/b#c"],
)
def test_every_form_of_a_reference_is_one(reference: str) -> None:
    assert TypeAdapter(SecretReference).validate_python(reference) == reference


@pytest.mark.parametrize(
    "value",
    [
        "hunter2",
        "env:",
        "env:1A",
        "file:relative",
        "vault:secret",
        "vault:secret/shop",
        "vault:secret#dsn",
        "vault:/shop#dsn",
        "vault:secret/../sys/raw#dsn",
        "vault:secret/./x#dsn",
        "vault:secret/a/..#dsn",
        "vault:secret//x#dsn",
        "vault:secret/x?y#dsn",
        "vault:secret/x#",
        "vault:secret/x#a#b",
        "vault:secret/x#a\nb",
    ],
)
def test_everything_else_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(SecretReference).validate_python(value)

    assert "env:NAME, file:/absolute/path or vault:mount/path#key" in caught.value.errors()[0]["msg"]


def test_all_references_of_a_spec_are_found_by_their_place() -> None:
    assert references(spec_with("vault:secret/shop#dsn")) == {
        "env:U": "release.artifacts.0.username",
        "env:P": "release.artifacts.0.password",
        "vault:secret/shop#dsn": "platform.environment.A",
        "file:/run/token": "preflight.ci.token",
        "env:DSN": "observe.sentry.dsn",
    }


def test_what_only_the_worker_can_know_is_not_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEPLOYMENT_SPECIALIST_HOME", str(tmp_path / "home"))
    for name in ("U", "P", "DSN"):
        monkeypatch.setenv(name, "value")

    assert missing_secrets(spec_with("vault:secret/shop#dsn")) == [
        "preflight.ci.token: the secret file:/run/token: No such file or directory"
    ]


def test_how_vault_is_reached_is_handed_over_with_the_values(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEPLOYMENT_SPECIALIST_HOME", str(tmp_path / "home"))
    given = {"U": "u", "P": "p", "DSN": "d", "VAULT_ADDR": "https://vault.example", "VAULT_TOKEN": "hvs.x"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    store = SecretStore(Home.from_environment())
    store.put("P", "what runs was given")

    hand_over_secrets(spec_with("vault:secret/shop#dsn"), replace=False)
    kept = {name: store.get(name) for name in given}
    hand_over_secrets(spec_with("vault:secret/shop#dsn"))

    assert kept == given | {"P": "what runs was given"}
    assert store.get("P") == "p"
    assert store.get("VAULT_NAMESPACE") is None

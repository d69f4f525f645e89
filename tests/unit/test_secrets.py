"""A secret reaches who needs it and comes back in no text."""

import base64
import json
import os
from pathlib import Path
from urllib.parse import quote_plus

import pytest

from activities.secrets import resolver
from activities.secrets.resolver import MASK, remember, resolve, scrub, scrub_values
from home.paths import Home
from home.secret_store import SecretStore
from models.errors import SecretUnresolvedError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    # What one test remembers must not be scrubbed from the texts of the next.
    monkeypatch.setattr(resolver, "_known", set())
    monkeypatch.setattr(resolver, "_pattern", None)
    monkeypatch.setenv("DEPLOYMENT_SPECIALIST_HOME", str(tmp_path / "home"))
    return Home.from_environment()


def test_a_variable_of_the_worker_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "from-the-environment")

    assert resolve("env:SHOP_TOKEN") == "from-the-environment"


def test_the_homes_store_comes_before_the_environment(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "from-the-environment")
    SecretStore(home).put("SHOP_TOKEN", "from-the-store")

    assert resolve("env:SHOP_TOKEN") == "from-the-store"


@pytest.mark.parametrize(
    ("content", "value"), [("s3cret\n", "s3cret"), ("s3cret\r\n", "s3cret"), ("a\nb\n\n", "a\nb\n")]
)
def test_a_file_loses_its_last_line_break_only(tmp_path: Path, content: str, value: str) -> None:
    path = tmp_path / "token"
    path.write_bytes(content.encode())

    assert resolve(f"file:{path}") == value


def test_a_mounted_secret_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("linked-value")
    (tmp_path / "token").symlink_to(tmp_path / "data")

    assert resolve(f"file:{tmp_path / 'token'}") == "linked-value"


def test_what_is_missing_is_named_by_its_reference() -> None:
    with pytest.raises(SecretUnresolvedError, match="env:NO_SUCH_TOKEN: neither this home's secret store nor"):
        resolve("env:NO_SUCH_TOKEN")


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "no regular file"),
        (lambda path: os.mkfifo(path), "no regular file"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(b"\n"), "empty"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "not UTF-8"),
        (lambda path: path.write_bytes(b"a\0bcdef"), "NUL"),
        (lambda path: path.write_bytes(b"a" * 65537), "larger than 64 KiB"),
    ],
    ids=["missing", "directory", "pipe", "empty", "empty-line", "binary", "nul", "large"],
)
def test_a_file_that_gives_no_value_says_why(tmp_path: Path, make: object, cause: str) -> None:
    path = tmp_path / "token"
    make(path)  # type: ignore[operator]

    with pytest.raises(SecretUnresolvedError, match=cause) as found:
        resolve(f"file:{path}")

    assert str(path) in str(found.value)


def test_what_is_no_reference_is_not_repeated() -> None:
    with pytest.raises(SecretUnresolvedError) as found:
        resolve("hunter2-pasted-by-mistake")

    assert "hunter2" not in str(found.value)


def test_an_empty_variable_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "")

    with pytest.raises(SecretUnresolvedError, match="empty"):
        resolve("env:SHOP_TOKEN")


def test_every_form_of_a_value_is_scrubbed() -> None:
    value = 'p"ss w/rd&ü+1'
    remember(value)

    for form in (
        value,
        quote_plus(value),
        json.dumps(value)[1:-1],
        repr(value)[1:-1],
        base64.b64encode(value.encode()).decode(),
        base64.urlsafe_b64encode(value.encode()).decode().rstrip("="),
    ):
        assert scrub(f"before {form} after").startswith(f"before {MASK}"), form


@pytest.mark.parametrize("user", ["a", "ab", "abc", "abcd"])
def test_a_value_inside_longer_base64_is_scrubbed(user: str) -> None:
    remember("correct-horse-battery")

    header = base64.b64encode(f"{user}:correct-horse-battery".encode()).decode()

    left = scrub(f"Authorization: Basic {header}").removeprefix("Authorization: Basic ")
    assert MASK in left
    assert len(left) - len(MASK) < 12


def test_each_line_of_a_key_is_scrubbed() -> None:
    remember("-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END KEY-----")

    assert scrub("log: MIIEvQIBADANBg and kqhkiG9w0BAQEF") == f"log: {MASK} and {MASK}"


def test_the_longest_value_is_replaced_first() -> None:
    remember("tokenlong")
    remember("tokenlong-and-longer")

    assert scrub("x tokenlong-and-longer y tokenlong z") == f"x {MASK} y {MASK} z"


def test_short_values_are_let_through() -> None:
    remember("on")

    assert scrub("the light is on") == "the light is on"


def test_structures_keep_what_is_no_text() -> None:
    remember("structured-secret")

    scrubbed = scrub_values({"n": 1, "deep": [True, None, "structured-secret"]})

    assert scrubbed == {"n": 1, "deep": [True, None, MASK]}


def test_bytes_of_no_encoding_are_scrubbed_as_well() -> None:
    remember("caf\udce9-secret")

    assert scrub("said caf%E9-secret") == f"said {MASK}"

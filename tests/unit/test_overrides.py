"""What was typed behind `--set KEY=` arrives as it was typed wherever the type of the key is text."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from cli.options import PersonName, Reason
from cli.spec.overrides import apply
from cli.spec.reader import read_spec
from cli.spec.yaml_source import Document, parse
from models.errors import SpecError
from models.schema_types import Schemas, types
from models.spec import DeploymentSpec

SPEC = """\
service: shop
target: staging
release: {version: "1.1.0"}
platform:
  kind: local
  run: ["python3", "app.py"]
  listen: 127.0.0.1:8080
  environment: {OLD: info, TOKEN: {secret: "env:TOKEN"}}
preflight:
  environment: [DATABASE_URL]
verify:
  smoke:
    - {name: checkout, request: {method: POST, path: /checkout, headers: {X-Old: a}, body: old}, expect: {body: old}}
freeze:
  - {cron: "0 0 * * *", for: 1h, reason: old}
"""
# What YAML reads as something else, or not at all.
ODD = [
    "Shop #1", "#", "a\nb", "a\r\nb\n", "  x  ", "\tx", " ", "", "Note: closed", "a:", ": ", '{"a":1}', "{", "}",
    "[1, 2]", "[", "*x", "&x", "@x", "`x", "!x", "!!str x", "%x", "|", ">", "- x", "-", "---", "...", "? x", "6801028",
    "007", "0x1f", "1_000", "1e3", ".5", "1.10", "12:30:00", "2026-05-04", "+1", "-0", ".inf", ".nan", "yes", "No",
    "on", "off", "true", "False", "~", "Null", "NULL", "<<", "=", "a=b=c", "'", '"', "'x'", '"x"', "\\n", "\\", "$HOME",
    "%(x)s", "{{ x }}", "grün 日本 🚀", "e\u0301", "\u2028", "\u0085", "\ufeffx", "\x1b[31m", "\x7f", "x" * 4096,
    "{secret: hunter2}",
]  # fmt: skip
# Keys whose text may be any text at all.
FREE = [
    "platform.environment.NEW",
    "platform.environment.OLD",
    "platform.environment.TOKEN",
    "platform.run.1",
    "verify.smoke.0.request.body",
    "verify.smoke.0.request.headers.X-New",
    "verify.smoke.0.expect.body",
]


def any_text(dice: random.Random) -> str:
    pieces = [*ODD[:-2], "a", "Z", "0", " ", "\n", "\t", "#", ": ", "{", "}", "é", "\U0001f600", "null"]
    return "".join(dice.choice(pieces) for _ in range(dice.randint(0, 5)))


def texts() -> Iterator[str]:
    dice = random.Random(os.environ.get("FUZZ_SEED", "20260504"))  # noqa: S311  dice, no secret
    yield from ODD
    for _ in range(300):
        yield any_text(dice)


def at(value: Any, path: list[str]) -> Any:
    for part in path:
        if isinstance(value, list | tuple):
            value = value[int(part)]
        else:
            value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


@pytest.fixture
def spec_file(tmp_path: Path) -> str:
    path = tmp_path / "deployment.yaml"
    path.write_text(SPEC)
    return str(path)


@pytest.mark.parametrize("key", FREE)
def test_any_text_reaches_the_spec_as_it_was_typed(spec_file: str, key: str) -> None:
    for text in texts():
        if len(text) > 4096 or (text == "null" and key.endswith(".body")):
            continue
        if "$" in text and key.startswith("platform.run"):  # a variable there is refused, or filled in
            continue

        spec = read_spec(spec_file, overrides=[f"{key}={text}"])

        assert at(spec, key.split(".")) == text, f"{key}={text!r}"


def every_key(schemas: Schemas) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    """Each key that the schema has, with a document in which its place is there."""

    def walk(schema: Any, path: tuple[str | int, ...], kinds: tuple[tuple[tuple[str | int, ...], str], ...]) -> Any:
        for one in schemas._alternatives(schema, None):
            inner = dict(one.get("properties", {}))
            known = kinds + tuple(((*path, key), each["const"]) for key, each in inner.items() if "const" in each)
            for pattern in one.get("patternProperties", {}).values():
                inner["NAME"] = pattern
            if isinstance(one.get("additionalProperties"), dict):
                inner["NAME"] = one["additionalProperties"]
            for key, each in inner.items():
                yield (*path, key), known
                yield from walk(each, (*path, key), known)
            if isinstance(one.get("items"), dict):
                yield (*path, 0), known
                yield from walk(one["items"], (*path, 0), known)

    for path, kinds in walk(schemas._whole, (), ()):
        document: dict[str, Any] = {}
        for known, word in kinds:
            if known != path:
                put(document, known, word)
        put(document, path, None)
        yield path, document


def put(document: Any, path: tuple[str | int, ...], value: Any) -> None:
    place = document
    for part, following in zip(path, [*path[1:], None], strict=True):
        fresh = value if following is None else [] if isinstance(following, int) else {}
        if isinstance(place, list):
            place += [fresh] if not place else []
        else:
            place.setdefault(part, fresh)
        place = place[part]


def test_every_key_of_type_text_takes_any_text_and_no_other_key_does() -> None:
    schemas, dice = Schemas(DeploymentSpec), random.Random(os.environ.get("FUZZ_SEED", "20260504"))  # noqa: S311
    as_text: set[str] = set()
    other: set[str] = set()
    for path, data in every_key(schemas):
        key = ".".join(map(str, path))
        allowed = types(schemas.at(path, data))
        assert allowed or key.endswith(".json"), key
        text_only = allowed <= {"string", "null"} and "string" in allowed
        for text in [*dice.sample(ODD, 6), any_text(dice), "6801028"]:
            if text == "null":
                continue
            document = Document(data)
            origins, problems = apply(document, [f"{key}={text}"], None)
            if text_only:
                assert (problems, list(origins)) == ([], [path]), key
                assert at(data, [str(part) for part in path]) == text, f"{key}={text!r}"
        (as_text if text_only else other).add(key)

    assert {
        "release.revision",
        "platform.listen",
        "strategy.deadline",
        "conflict",
        "platform.environment.NAME.secret",
    } <= as_text
    assert {"platform.instances", "rehearse.enabled", "platform.run", "platform.environment.NAME"} <= other
    assert len(as_text) > 100


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("release.revision=6801028", "6801028"),
        ("release.revision=null", None),
        ("verify.endpoints.metrics=null", None),
        ("strategy.judge.min_requests=null", None),
        ("platform.instances=3", 3),
        ("rehearse.enabled=no", False),
        ("rehearse.enabled=true", True),
        ("preflight.load_per_core=1.5", 1.5),
        ("platform.run=[sh, -c, 'true']", ("sh", "-c", "true")),
        ("verify.smoke.0.name=007", "007"),
        ("verify.smoke.0.expect.status=201", 201),
    ],
)
def test_the_type_of_the_key_says_how_a_value_is_read(spec_file: str, override: str, value: object) -> None:
    key = override.partition("=")[0]

    assert at(read_spec(spec_file, overrides=[override]), key.split(".")) == value


@pytest.mark.parametrize("name", ["OLD", "TOKEN", "NEW"])
@pytest.mark.parametrize(
    "form", ["{key}.secret=env:OTHER", "{key}={{secret: env:OTHER}}", '{key}={{"secret": "env:OTHER"}}']
)
def test_a_secret_is_still_referred_to(spec_file: str, name: str, form: str) -> None:
    spec = read_spec(spec_file, overrides=[form.format(key=f"platform.environment.{name}")])

    assert at(spec, ["platform", "environment", name, "secret"]) == "env:OTHER"


def test_a_mapping_that_is_no_reference_is_the_text_that_it_looks_like(spec_file: str) -> None:
    for text in ("{secret: hunter2}", '{"secret": "env:A", "more": 1}', "{}", "secret: env:A\nx: 1"):
        spec = read_spec(spec_file, overrides=[f"platform.environment.JSON={text}"])
        assert spec.platform.environment["JSON"] == text


def test_a_port_is_a_number_or_a_name() -> None:
    data = parse("service: shop\nplatform: {kind: kubernetes, port: http}").data
    for text, value in (("8080", 8080), ("http", "http"), ("#", "#"), ("null", None)):
        apply(Document(data), [f"platform.port={text}"], None)
        assert data["platform"]["port"] == value


def test_a_required_name_may_become_a_mapping(spec_file: str) -> None:
    spec = read_spec(spec_file, overrides=["preflight.environment.0.name=OTHER", "preflight.environment.0.secret=true"])

    assert at(spec, ["preflight", "environment", "0", "name"]) == "OTHER"
    assert at(spec, ["preflight", "environment", "0", "secret"]) is True


@pytest.mark.parametrize("text", ["a\0b", "\udcff"])
def test_what_is_no_text_is_refused_with_a_sentence(spec_file: str, text: str) -> None:
    for key in ("platform.environment.NEW", "platform.instances", "release.version"):
        with pytest.raises(SpecError, match=r"NUL character cannot be used|not UTF-8 text"):
            read_spec(spec_file, overrides=[f"{key}={text}"])


def test_a_version_is_the_text_that_was_typed(spec_file: str) -> None:
    for text in ("1.10", "007", "1e3", "0x1f", "null", "yes", "6801028", "1_000"):
        assert read_spec(spec_file, version=text).release.version == text
        assert read_spec(spec_file, overrides=[f"release.version={text}"]).release.version == text
    for text in (" 1.1.0", "1.1.0\n", "1 #2", "{a: 1}"):
        with pytest.raises(SpecError, match="a version has 1 to 63"):
            read_spec(spec_file, version=text)


def test_a_reason_and_a_name_are_the_texts_that_were_typed() -> None:
    for text in texts():
        if text.strip() and len(text) <= 1000:
            assert Reason().convert(text, None, None) == text
        try:
            assert PersonName().convert(text, None, None) == text
        except click.BadParameter as error:
            assert "a person's name" in str(error)

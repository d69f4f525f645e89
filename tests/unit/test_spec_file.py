"""A spec file is understood as it was meant, or every mistake in it is told at once, with its line."""

import io
import os
import random
import sys
import time
from pathlib import Path

import pytest

from cli.spec.reader import read_spec
from models.errors import SpecError
from models.plan import make_plan
from models.platforms import LocalPlatformSpec, of_kind
from models.release import Capabilities, Release, Snapshot
from models.spec import DeploymentSpec
from tests.support.extent import FULL

GOOD = """\
service: shop
target: staging
release:
  version: "1.1.0"
  artifacts:
    - {path: build/app.tar}
platform:
  kind: local
  run: ["python3", "app.py"]
  directory: app
  listen: 127.0.0.1:8080
  environment:
    LOG_LEVEL: info
    DATABASE_URL: {secret: "env:SHOP_DATABASE_URL"}
strategy:
  kind: canary
  steps:
    - {weight: 5, watch: 10m}
    - {weight: 100, watch: 5m}
verify:
  smoke:
    - name: checkout
      request: {method: POST, path: /checkout, json: {sku: A1}}
      expect: {status: 200, within: 2s}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    return tmp_path


def read(folder: Path, text: str | bytes, *overrides: str, version: str | None = None) -> DeploymentSpec:
    path = folder / "deployment.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_spec(str(path), overrides=overrides, version=version)


def problems(folder: Path, text: str | bytes, *overrides: str, version: str | None = None) -> list[str]:
    with pytest.raises(SpecError) as caught:
        read(folder, text, *overrides, version=version)
    return [line.replace(f"{folder}/", "") for line in str(caught.value).splitlines()]


def test_paths_become_absolute_relative_to_the_file(folder: Path) -> None:
    spec = read(folder, GOOD)

    assert spec.platform.directory == str(folder / "app")
    assert spec.release.artifacts[0].path == str(folder / "build/app.tar")
    assert of_kind(spec.platform, LocalPlatformSpec).run == ("python3", "app.py")


def test_standard_input_is_read_for_a_dash(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(GOOD.encode())))

    assert read_spec("-").platform.directory == str(folder / "app")


def test_every_problem_is_told_at_once_with_its_line(folder: Path) -> None:
    text = GOOD.replace("listen:", "lsten:").replace("watch: 10m", "wach: 10m").replace("kind: canary", "kind: canery")

    assert problems(folder, text) == [
        "deployment.yaml:7: platform.listen: this key is missing",
        "deployment.yaml:11: platform.lsten: unknown key; did you mean listen?",
        "deployment.yaml:16: strategy.kind: one of rolling, blue-green, canary",
        "deployment.yaml:18: strategy.steps.0.watch: this key is missing",
        "deployment.yaml:18: strategy.steps.0.wach: unknown key; did you mean watch?",
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('version: "1.1.0"', "version: 1.10", '4: release.version: without quotes YAML reads a number here; write'),
        ('version: "1.1.0"', "version: 2026-05-04", ""),
        ('version: "1.1.0"', "version: a..b", "4: release.version: a version has"),
        ("service: shop", "service: a/b", "1: service: a name has"),
        ("service: shop", "service: ..", "1: service: a name has"),
        ("service: shop", 'service: "a\\nb"', "1: service: a name has"),
        ("service: shop", 'service: "a\\0b"', "1: service: a NUL character cannot be used"),
        ("service: shop", "service: [shop]", "1: service: this must be text"),
        ("service: shop", "service: 5", "1: service: this must be text; put quotes around it"),
        ('run: ["python3", "app.py"]', "run: python3 app.py", "9: platform.run: this must be a list"),
        ('run: ["python3", "app.py"]', "run: []", "9: platform.run: this must not be empty"),
        ("weight: 5", "weight: 100", "15: strategy: the weights of the steps must rise and end with 100"),
        ("weight: 100", "weight: 90", "15: strategy: the weights of the steps must rise and end with 100"),
        ("weight: 5", "weight: 5.5", "18: strategy.steps.0.weight: this must be a whole number"),
        ("weight: 5", "weight: 0", "18: strategy.steps.0.weight: this must be at least 1"),
        ("watch: 10m", "watch: -10m", "18: strategy.steps.0.watch: a duration is written like"),
        ("watch: 10m", "watch: 10", "18: strategy.steps.0.watch: a duration is written like"),
        ("watch: 10m", "watch: 99999999d", "18: strategy.steps.0.watch: a duration is at most 30d"),
        ("watch: 10m", "watch: 8d", "18: strategy.steps.0.watch: a step is watched for at most 7d"),
        ("LOG_LEVEL: info", "LOG_LEVEL: yes", "13: platform.environment.LOG_LEVEL: put quotes around it"),
        ("LOG_LEVEL: info", "PORT: '1'", "PORT: set by the platform itself"),
        ("secret: ", "secrt: ", "14: platform.environment.DATABASE_URL.secrt: unknown key; did you mean secret?"),
        ("json: {sku: A1}", "jsn: {sku: A1}", "23: verify.smoke.0.request.jsn: unknown key; did you mean json?"),
        ("target: staging", "target: staging\ntarget: x", "3: target: the key is here a second time; the first is"),
        ("status: 200", "status: .inf", "24: verify.smoke.0.expect.status: this is no number that can be used here"),
        ("directory: app", "directory: nowhere", "10: platform.directory: the directory"),
        ("directory: app", "directory: deployment.yaml", "is not a directory"),
    ],
)  # fmt: skip
def test_a_wrong_value_gets_one_sentence(folder: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    if not said:
        assert read(folder, text).release.version == "2026-05-04"
        return

    found = problems(folder, text)

    assert len(found) == 1 or "secrt" in new
    assert any(said in line for line in found), found


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("[1, 2]", "a spec is a mapping"),
        ("just text", "a spec is a mapping"),
        (BOMB, "its aliases unfold to more than 20,000 values"),
        ("a: &a\n  b: *a\n", "an alias stands for something that contains it"),
        ("x: " + "[" * 200 + "]" * 200, "nested deeper than 50 levels"),
        ("x: " + "[" * 500_000, "nested deeper than 50 levels"),
        ("x:\n" + "- 1\n" * 30_000, "more than 20,000 values"),
        ("x: !!python/object/apply:os.system ['true']", "the tag '!!python/object/apply:os.system' is not allowed"),
        ("x: !!python/object:os.system {}", "is not allowed; a spec is plain data"),
        ("x: !mine 3", "the tag '!mine' is not allowed"),
        ("x: !!binary aGVsbG8=", "is not allowed"),
        ("a: 1\n---\nb: 2\n", ":2: a second document begins here"),
        ("a: [1, 2", "this is no YAML"),
        ("a: 1\n\tb: 2", "this is no YAML"),
        ("a: b: c", "this is no YAML"),
        ("? [a, b]\n: 1\n", "a key is a word"),
        (b"a: \xff\xfe", "the file is not UTF-8 text"),
        (b"a: b\nc: \0", ":2: the file holds a NUL character"),
        (b"a: " + b"x" * (10 << 20), "the file is larger than 1 MiB"),
        ("a: *nobody", "this is no YAML"),
        ('a: "\\uD800"', "no"),
        ("<<: 3\n", "<< takes a mapping"),
    ],
)
def test_what_cannot_be_a_spec_is_refused_quickly(folder: Path, text: str | bytes, said: str) -> None:
    began = time.process_time()

    found = problems(folder, text)

    assert said in found[0]
    assert time.process_time() - began < 1


def test_merge_keys_and_aliases_are_understood(folder: Path) -> None:
    text = GOOD.replace("    - {weight: 5, watch: 10m}", "    - &step {watch: 10m, weight: 5}").replace(
        "    - {weight: 100, watch: 5m}", "    - {<<: *step, weight: 100}"
    )

    steps = read(folder, text).strategy.steps

    assert steps is not None
    assert [(step.weight, step.watch.total_seconds()) for step in steps] == [(5, 600), (100, 600)]


def test_overrides_are_values_of_yaml_and_versions_stay_text(folder: Path) -> None:
    spec = read(
        folder,
        GOOD,
        "platform.instances=3",
        "strategy.steps.0.weight=7",
        "platform.environment.RATE=1.10",
        "platform.environment.TOKEN={secret: env:TOKEN}",
        "rehearse.enabled=false",
        version="1.20",
    )

    assert spec.platform.instances == 3
    assert spec.strategy.steps is not None and spec.strategy.steps[0].weight == 7
    assert spec.platform.environment["RATE"] == "1.10"
    assert spec.release.version == "1.20"
    assert spec.rehearse.enabled is False


def test_a_version_on_the_command_line_mends_a_number_in_the_file(folder: Path) -> None:
    assert read(folder, GOOD.replace('"1.1.0"', "1.10"), version="1.10").release.version == "1.10"
    assert read(folder, GOOD, "release.version=1.10").release.version == "1.10"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("nothing", "--set: this takes KEY=VALUE"),
        ("=x", "--set: this takes KEY=VALUE"),
        ("platform.instnces=3", "--set platform.instnces: platform.instnces: unknown key; did you mean instances?"),
        ("platform.instances=many", "--set platform.instances: platform.instances: this must be a whole number"),
        ("platform.run.9=x", "--set platform.run.9: the list has 2 items; the first one is 0"),
        ("service.name=x", "--set service.name: there is no such place in the file"),
        ("a..b=1", "--set a..b: the key is a path"),
        ("platform.instances=!!python/object:os.system {}", "is not allowed"),
        ("platform.instances=" + "[" * 100, "nested deeper than 50 levels"),
    ],
)
def test_a_wrong_override_names_its_option(folder: Path, override: str, said: str) -> None:
    assert said in problems(folder, GOOD, override)[0]


def test_no_value_is_repeated_in_a_sentence(folder: Path) -> None:
    text = GOOD.replace("LOG_LEVEL: info", "LOG_LEVEL: [hunter2]\n    'bad name': hunter2").replace(
        'secret: "env:SHOP_DATABASE_URL"', "secret: hunter2"
    )

    found = problems(folder, text, "platform.environment.X={hunter2: 1}", "hunter2")

    assert len(found) >= 4
    assert "hunter2" not in "\n".join(line for line in found if "environment.X" not in line)


def test_what_cannot_be_opened_is_said(folder: Path) -> None:
    for path, said in ((folder / "none.yaml", "there is no such file"), (folder, "this is a directory")):
        with pytest.raises(SpecError, match=said):
            read_spec(str(path))


def test_an_endless_file_is_not_read_to_its_end() -> None:
    with pytest.raises(SpecError, match="larger than 1 MiB"):
        read_spec("/dev/zero")


def test_a_mutilated_file_never_causes_anything_but_a_sentence(folder: Path) -> None:
    dice = random.Random(os.environ.get("FUZZ_SEED", "20260504"))  # noqa: S311  dice, no secret
    alphabet = b"{}[]:,-&*!|>'\"%@`#?\\ \n\t\0\xff019.eE~<=abyn"
    read_well = refused = 0
    files = 1500 if FULL else 200
    for _ in range(files):
        raw = bytearray(GOOD.encode())
        for _ in range(dice.randint(1, 6)):
            at = dice.randrange(len(raw))
            kind = dice.randrange(4)
            if kind == 0:
                raw[at] = dice.choice(alphabet)
            elif kind == 1:
                del raw[at : at + dice.randint(1, 30)]
            elif kind == 2:
                raw[at:at] = bytes(dice.choice(alphabet) for _ in range(dice.randint(1, 8)))
            else:
                other = dice.randrange(len(raw))
                raw[at:at] = raw[other : other + dice.randint(1, 60)]
        try:
            read(folder, bytes(raw))
            read_well += 1
        except SpecError as error:
            refused += 1
            assert str(error).strip()
            assert "Traceback" not in str(error) and "pydantic" not in str(error)
    assert read_well and refused > files * 2 / 3


def test_random_bytes_never_cause_anything_but_a_sentence(folder: Path) -> None:
    dice = random.Random(7)  # noqa: S311  dice, no secret
    for _ in range(500 if FULL else 100):
        assert problems(folder, dice.randbytes(dice.randint(0, 300)))


CI = GOOD.replace('version: "1.1.0"', 'version: "1.1.0"\n  revision: acb5820ced9479c074f688cc328bf03f341a511d')


@pytest.mark.parametrize(
    ("ci", "sentence"),
    [
        ("{kind: gitub, repository: a/b}", "preflight.ci: there is no kind of that name; did you mean github?"),
        ("{repository: a/b}", "preflight.ci: this needs a kind"),
        ("{kind: github}", "preflight.ci.repository: this key is missing"),
        ("{kind: github, repository: shop}", "preflight.ci.repository: a repository is OWNER/NAME, like acme/shop"),
        ("{kind: github, repository: a/..}", "preflight.ci.repository: a repository is OWNER/NAME, like acme/shop"),
        ("{kind: github, repository: a/b, project: c}", "preflight.ci.project: unknown key; known here: ignore"),
        ("{kind: gitlab, project: 12}", "preflight.ci.project: this must be text; put quotes around it"),
        ("{kind: gitlab, project: a/../b}", "preflight.ci.project: a project is GROUP/NAME, or its number in quotes"),
        ("{kind: github, repository: a/b, url: 'https://u:hunter2@h'}", "preflight.ci.url: the base of an API is"),
        ("{kind: github, repository: a/b, token: ghp_abcdef}", "preflight.ci.token: a secret is referred to as"),
        ("{kind: github, repository: a/b, wait: 2d}", "preflight.ci.wait: CI is waited for at most 1d"),
        ("{kind: command, run: []}", "preflight.ci.run: this must not be empty"),
        ("{kind: command, run: [x], pending: [1]}", "preflight.ci.pending.0: this must be at least 2"),
    ],
)
def test_what_is_wrong_about_ci_is_said_where_it_is(folder: Path, ci: str, sentence: str) -> None:
    found = problems(folder, CI + f"preflight:\n  ci: {ci}\n")

    assert any(sentence in line for line in found), found
    assert not any("hunter2" in line or "ghp_abcdef" in line for line in found)


@pytest.mark.parametrize("revision", ["", "\n  revision: acb5820"])
def test_ci_is_asked_about_a_whole_revision(folder: Path, revision: str) -> None:
    text = GOOD.replace('version: "1.1.0"', f'version: "1.1.0"{revision}')

    found = problems(folder, text + "preflight:\n  ci: {kind: github, repository: acme/shop}\n")

    assert len(found) == 1 and "preflight.ci asks about one git revision" in found[0]
    assert read(folder, text + "preflight:\n  ci: {kind: command, run: [x]}\n" if revision else GOOD)


ON_A_CLUSTER = """\
service: shop
target: staging
release: {version: "1.1.0"}
platform: {kind: kubernetes, deployment: shop, image: "shop:{version}", url: "http://shop.example"}
strategy: {kind: canary}
"""
COUNTERS = 'platform.counters={urls: ["http://gateway:9100/metrics"]}'


def test_requests_that_nothing_counts_cannot_be_asked_for(folder: Path) -> None:
    wanted = "strategy.judge.min_requests=10"
    [told] = problems(folder, ON_A_CLUSTER, wanted)
    assert "nothing counts requests without platform.counters" in told
    assert read(folder, ON_A_CLUSTER, wanted, COUNTERS).strategy.judge.min_requests == 10


@pytest.mark.parametrize("counted", [True, False])
def test_a_canary_needs_requests_where_they_are_counted(folder: Path, counted: bool) -> None:
    able = Capabilities(exact_weights=True, preview=True, in_place_roll=True, counts_requests=counted)
    release = Release(service="shop", version="1.1.0")
    plan = make_plan(read(folder, ON_A_CLUSTER), release, able, Snapshot())
    assert (plan.min_requests > 0) is counted


def test_what_a_wrong_kind_hides_is_told_with_it(folder: Path) -> None:
    text = """\
service: shop
target: staging
release: {version: "1.1.0"}
platform:
  kind: locl
  run: ["python3", "app.py"]
  directory: not-here
  lissten: 127.0.0.1:8080
  environment: {PORT: "1"}
strategy: {kind: canary, stepss: [{weight: 50, watch: 1m}]}
"""

    assert problems(folder, text) == [
        "deployment.yaml:4: platform: there is no kind of that name; did you mean local?",
        "deployment.yaml:4: platform.listen: this key is missing",
        "deployment.yaml:8: platform.lissten: unknown key; did you mean listen?",
        "deployment.yaml:9: platform.environment: PORT: set by the platform itself",
        "deployment.yaml:10: strategy.stepss: unknown key; did you mean steps?",
        "deployment.yaml:10: strategy: the weights of the steps must rise and end with 100, not [50]",
    ]


def test_of_a_kind_that_was_only_guessed_nothing_is_said_to_be_missing(folder: Path) -> None:
    text = (
        'service: shop\ntarget: staging\nrelease: {version: "1"}\nplatform: {kind: docker, project: 3, instances: 0}\n'
    )

    assert problems(folder, text) == [
        "deployment.yaml:4: platform: there is no kind of that name; known here: compose, kubernetes, local",
        "deployment.yaml:4: platform.instances: this must be at least 1",
        "deployment.yaml:4: platform.project: this must be text; put quotes around it",
    ]


def test_what_the_disk_the_clock_and_the_environment_say_is_told_at_once(folder: Path) -> None:
    text = GOOD.replace("directory: app", "directory: not-here").replace('"app.py"]', '"app.py", "$DATABASE_URL"]')
    path = folder / "deployment.yaml"
    path.write_text(text + "freeze: [{reason: quiet, cron: '0 0 30 2 *', for: 1d}]\n")

    with pytest.raises(SpecError) as caught:
        read_spec(str(path), with_secrets=True)

    said = str(caught.value)
    assert "freeze.0: " in said
    assert "platform.run.2: $DATABASE_URL would be passed as it stands" in said
    assert "platform.directory: the directory" in said
    assert "the secret env:SHOP_DATABASE_URL is missing" in said
    assert len(said.splitlines()) == 4

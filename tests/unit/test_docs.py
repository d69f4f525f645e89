"""Pages that nobody runs grow wrong quietly: what they say about keys, commands, codes and files is compared here."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click
import pytest
import yaml
from pydantic import BaseModel

from cli import main
from cli.spec.reader import read_spec
from models.gates import GATES
from models.outcome import EXIT_CODES, USAGE_ERROR, FailureType, Outcome
from models.spec import DeploymentSpec
from models.verdict import Verdict
from tests.support.front_proxy_explained import EXPLAINED, REFUSED

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
SPEC, CLI, DECIDES = (ROOT / "docs" / f"{name}.md" for name in ("spec", "cli", "how-it-decides"))
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> Iterator[str]:
    """Lines outside of blocks and tables."""
    for line in FENCE.sub("", page.read_text()).splitlines():
        if not line.lstrip().startswith("|"):
            yield line


def blocks(page: Path, *kinds: str) -> Iterator[str]:
    for kind, text in FENCE.findall(page.read_text()):
        if kind in kinds:
            yield text


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


def keys(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """Every key that a spec file may have, by its path without list positions and names that users choose."""
    for name, field in model.model_fields.items():
        path = f"{above}{field.alias or name}"
        yield path
        for inner in models_in(field.annotation):
            yield from keys(inner, f"{path}.")


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command line of ours in a page's shell blocks, from the name of the command on."""
    for block in blocks(page, "sh"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            for entry in (".venv/bin/python starter.py", "deployment-specialist"):
                start = entry.split()
                for i in range(len(words)):
                    if words[i : i + len(start)] == start:
                        rest = words[i + len(start) :]
                        ends = [at for at, word in enumerate(rest) if word in (">", "|", "||", "&", "&&")]
                        yield rest[: min(ends, default=len(rest))]


def test_there_are_pages_with_commands_yaml_and_links() -> None:
    assert len(PAGES) > 15
    assert sum(len(list(commands(page))) for page in PAGES) > 15
    assert sum(len(list(blocks(page, "yaml"))) for page in PAGES) >= 2


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_prose_is_wrapped(page: Path) -> None:
    # A word that is longer by itself, like an address, has nowhere to wrap.
    assert [line for line in prose(page) if len(line) > 120 and " " in line.strip(" -*>")] == []


@pytest.mark.parametrize("key", sorted(set(keys(DeploymentSpec))))
def test_every_key_of_a_spec_is_explained(key: str) -> None:
    assert re.search(rf"^\| `{re.escape(key)}` \| [^|]+\| [^|]*\|", SPEC.read_text(), re.MULTILINE), key


def test_no_key_is_explained_that_a_spec_cannot_have() -> None:
    explained = re.findall(r"^\| `([a-z_.0-9]+)` \|", SPEC.read_text(), re.MULTILINE)

    assert set(explained) == set(keys(DeploymentSpec))


@pytest.mark.parametrize("path", ["platform.instances", "platform.keep", "strategy.judge.failed_probes"])
def test_numbers_that_are_said_to_be_defaults_are(path: str) -> None:
    found: Any = DeploymentSpec.model_validate(
        {
            "service": "shop",
            "target": "staging",
            "release": {"version": "1"},
            "platform": {"kind": "local", "run": ["true"], "listen": "127.0.0.1:8080"},
        }
    ).model_dump(mode="json")
    for part in path.split("."):
        found = found[part]

    row = next(line for line in SPEC.read_text().splitlines() if line.startswith(f"| `{path}` |"))
    assert row.split("|")[3].strip() == f"`{found}`"


def test_every_command_and_each_of_its_options_is_explained() -> None:
    text = CLI.read_text()
    for name in main._COMMANDS:
        command = main.commands.get_command(click.Context(main.commands), name)
        assert command is not None
        assert re.search(rf"^\| \[`{name}`\]", text, re.MULTILINE), name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.opts[0] in text, f"{name} {parameter.opts[0]}"


@pytest.mark.parametrize("page", [ROOT / "README.md", CLI], ids=name_of)
def test_every_exit_code_is_explained(page: Path) -> None:
    rows = [line for line in page.read_text().splitlines() if line.startswith("|")]
    for outcome, code in EXIT_CODES.items():
        assert any(f"`{outcome}`" in row and re.search(rf"\b{code}\b", row) for row in rows), outcome
    for code in (1, USAGE_ERROR, 130, 143):
        assert any(re.search(rf"\| ?(?:\d+, )?{code}(?:, \d+)? \|", row) for row in rows), code


@pytest.mark.parametrize("word", [*FailureType, *Verdict, *(gate.name for gate in GATES)])
def test_every_verdict_gate_and_kind_of_failure_is_explained(word: str) -> None:
    assert re.search(rf"^\| `{word}` \|", DECIDES.read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_on_a_page_parses(page: Path) -> None:
    for words in commands(page):
        command = main.commands.get_command(click.Context(main.commands), words[0])
        assert command is not None, words
        command.make_context(words[0], [word for word in words[1:] if word != "…"])
        for word in words:
            if word.startswith("examples/"):
                assert (ROOT / word).is_file(), word


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_on_a_page_is_there(page: Path) -> None:
    there = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE)

    assert set(named) <= there


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_spec_on_a_page_validates(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "yaml"):
        file = tmp_path / "deployment.yaml"
        file.write_text(block)
        assert read_spec(str(file), on_this_machine=False).service


def test_the_ten_lines_are_those_of_the_file() -> None:
    shown = next(blocks(ROOT / "README.md", "yaml"))
    file = (ROOT / "examples" / "shop" / "minimal.yaml").read_text()

    assert yaml.safe_load(shown) == yaml.safe_load(file)
    assert len(shown.splitlines()) <= 10


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_and_every_file_that_a_page_names_is_there(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, heading = link.partition("#")
        aim = (page.parent / path) if path else page
        assert aim.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.*)$", FENCE.sub("", aim.read_text()), re.MULTILINE)
            assert heading in {anchor(title) for title in titles}, link
    for named in re.findall(r"`((?:cli|models|workflows|activities|embedded|home|tests|examples)/[\w./*-]+)`", text):
        assert list(ROOT.glob(named.rstrip("/").replace("NAME", "*"))), named


def anchor(title: str) -> str:
    """A heading's anchor, as GitHub and GitLab make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_every_decision_is_listed_once() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\((\d{4}-[a-z0-9-]+\.md)\)", (folder / "README.md").read_text())

    assert listed == sorted(path.name for path in folder.glob("0*.md"))
    for path in folder.glob("0*.md"):
        text = path.read_text()
        assert all(f"**{part}.**" in text for part in ("Question", "Decision", "Cost")), path.name


def test_what_differs_behind_the_front_proxy_is_what_the_tests_compare_with() -> None:
    rows = re.findall(r"^\| (.+) \| (.+) \|$", (ROOT / "docs" / "front-proxy.md").read_text(), re.MULTILINE)
    told = [(each.what, each.why) for each in EXPLAINED] + [(what, str(status)) for what, _, status in REFUSED]

    assert [row for row in rows if row not in (("what", "why"), ("request", "status"))] == told


def test_outcomes_are_all_of_those_that_the_pages_name() -> None:
    named = set(re.findall(r"^\| \d+ \| `([a-z-]+)` \|", CLI.read_text(), re.MULTILINE))

    assert named == set(Outcome)


def test_help_has_no_marks_of_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("", *main._COMMANDS):
        assert main.run([*filter(None, [name]), "--help"]) == 0

    assert "\\b" not in capsys.readouterr().out


def test_every_message_that_is_looked_up_is_one_of_ours() -> None:
    """The words between what differs stand together in one module."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    messages = [match.strip() for match in re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)]
    folders = ("activities", "cli", "embedded", "workflows", "models")
    # Texts that a line's end divides are read as one.
    texts = [
        re.sub(r'"\s*f?"', "", path.read_text()) for name in folders for path in sorted((ROOT / name).rglob("*.py"))
    ]
    unknown = [
        message
        for message in messages
        if not any(all(part.strip(" ;,:") in text for part in message.split("…")) for text in texts)
    ]
    assert len(messages) > 25
    assert unknown == []

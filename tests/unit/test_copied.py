"""What is copied of a service's folder is what it needs to run: careful by default, and said in the plan."""

from pathlib import Path

import pytest

from activities.system.directory_digest import copy_tree, list_tree, tree_digest
from cli.spec.copied import copied_lines
from cli.spec.reader import read_spec
from models.platforms import LocalPlatformSpec, of_kind

SPEC = """\
service: site
target: staging
release: {version: "1"}
platform:
  kind: local
  run: [python3, -m, http.server, $PORT]
  listen: 127.0.0.1:8080
  environment: {TOKEN: {secret: "file:TOKEN_FILE"}}
"""
SERVED = {"index.html", "css", "css/deployment.yaml", "config.yaml", ".venv", ".venv/python"}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A static site with everything beside it that people leave there."""
    folder = tmp_path / "site"
    for name in (*SERVED, ".env", ".env.local", "tls.key", ".git/config", "token.txt", "sub/.env", "a.pyc"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name not in ("css", ".venv"):
            path.write_text("x")
    (folder / "sub" / ".env").rename(folder / "css" / ".env")
    (folder / "sub").rmdir()
    (folder / "deployment.yaml").write_text(SPEC.replace("TOKEN_FILE", str(folder / "token.txt")))
    (folder / "production[eu].yml").write_text(SPEC)
    return folder


def platform_of(folder: Path, more: str = "") -> LocalPlatformSpec:
    path = folder / "deployment.yaml"
    path.write_text(path.read_text() + more)
    return of_kind(read_spec(str(path)).platform, LocalPlatformSpec)


def copied(folder: Path, platform: LocalPlatformSpec) -> set[str]:
    return {entry.path for entry in list_tree(folder, platform.exclude)}


def test_neither_spec_files_nor_secrets_nor_keys_are_copied(site: Path, tmp_path: Path) -> None:
    platform = platform_of(site)

    copy_tree(site, tmp_path / "copy", platform.exclude)

    assert copied(site, platform) == SERVED
    assert tree_digest(tmp_path / "copy") == tree_digest(site, platform.exclude)


def test_a_spec_in_another_folder_leaves_the_directory_as_it_is(site: Path, tmp_path: Path) -> None:
    (site / "production[eu].yml").unlink()
    elsewhere = tmp_path / "specs"
    elsewhere.mkdir()
    (site / "deployment.yaml").rename(elsewhere / "deployment.yaml")
    platform = platform_of(elsewhere, "  directory: ../site\n")

    assert copied(site, platform) == SERVED


def test_whoever_says_what_is_left_out_decides_all_of_it(site: Path) -> None:
    platform = platform_of(site, "  exclude: [.git]\n")

    assert {".env", "deployment.yaml", "tls.key", "token.txt"} <= copied(site, platform)
    assert ".git" not in copied(site, platform)


def test_the_state_of_this_program_is_left_out_whatever_is_excluded(site: Path) -> None:
    home = site / "state"
    (home / "programs").mkdir(parents=True)
    (home / "supervisord.conf").write_text("")
    (home / "secret").write_text("hunter2")
    before = platform_of(site, "  exclude: []\n")

    assert not {path for path in copied(site, before) if path.startswith("state")}
    assert any("state (state of this program)" in line for line in copied_lines(before))


def test_the_plan_says_how_much_is_copied_and_what_is_not(site: Path) -> None:
    first, second = copied_lines(platform_of(site))

    assert first == f"4 files, 4 B, from {site}"
    assert second.startswith("not copied (platform.exclude): .env, .env.local, .git, a.pyc, deployment.yaml, ")


def test_a_folder_that_cannot_be_copied_is_said_in_the_plan(site: Path) -> None:
    platform = platform_of(site)
    (site / "pipe").symlink_to("../../out")

    assert "the link" in copied_lines(platform)[0]
    gone = platform.model_copy(update={"directory": str(site / "none")})
    assert "not on this machine" in copied_lines(gone)[0]

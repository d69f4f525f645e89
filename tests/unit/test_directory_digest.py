"""One byte, one name or one x-bit more is another release; a time or an owner is not."""

import os
import re
from pathlib import Path

import pytest

from activities.system import directory_digest
from activities.system.directory_digest import copy_tree, tree_digest
from models.errors import PreconditionError, UnavailableError

EXCLUDE = (".git", "*.pyc", "build/cache")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    root = tmp_path / "release"
    (root / "static").mkdir(parents=True)
    (root / "app.py").write_text("print(1)")
    (root / "static" / "logo").write_text("a logo")
    (root / "latest").symlink_to("static/logo")
    return root


def test_the_same_content_has_the_same_digest_whatever_its_times(release: Path) -> None:
    before = tree_digest(release)
    os.utime(release / "app.py", (1, 1))
    assert tree_digest(release) == before


@pytest.mark.parametrize("change", ["content", "name", "executable", "link", "empty directory"])
def test_every_change_that_matters_changes_the_digest(release: Path, change: str) -> None:
    before = tree_digest(release)
    match change:
        case "content":
            (release / "app.py").write_text("print(2)")
        case "name":
            (release / "app.py").rename(release / "main.py")
        case "executable":
            (release / "app.py").chmod(0o755)
        case "link":
            (release / "latest").unlink()
            (release / "latest").symlink_to("app.py")
        case _:
            (release / "empty").mkdir()
    assert tree_digest(release) != before


def test_what_is_excluded_neither_counts_nor_is_copied(release: Path, tmp_path: Path) -> None:
    before = tree_digest(release, EXCLUDE)
    for path in (".git/HEAD", "static/x.pyc", "build/cache/1"):
        (release / path).parent.mkdir(parents=True, exist_ok=True)
        (release / path).write_text("noise")
    (release / "build").mkdir(exist_ok=True)
    copy_tree(release, tmp_path / "copy", EXCLUDE)
    assert {path.name for path in (tmp_path / "copy").rglob("*")} == {"app.py", "static", "logo", "latest", "build"}
    (release / "build" / "cache" / "1").unlink()
    (release / "build" / "cache").rmdir()
    (release / "build").rmdir()
    assert tree_digest(release, EXCLUDE) == before


def test_a_copy_has_the_digest_of_its_source_and_is_the_owners_alone(release: Path, tmp_path: Path) -> None:
    (release / "run").write_text("#!/bin/sh")
    (release / "run").chmod(0o755)
    copy_tree(release, tmp_path / "copy", ())
    assert tree_digest(tmp_path / "copy") == tree_digest(release)
    assert (tmp_path / "copy" / "latest").is_symlink()
    assert all(path.lstat().st_mode & 0o077 == 0 for path in (tmp_path / "copy").rglob("*") if not path.is_symlink())


def test_two_names_cannot_be_read_as_one_with_other_content(tmp_path: Path) -> None:
    for name, files in {"one": {"ab": "c"}, "two": {"a": "bc"}}.items():
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(text)
    assert tree_digest(tmp_path / "one") != tree_digest(tmp_path / "two")


def test_what_cannot_be_copied_is_refused_with_its_path(release: Path) -> None:
    os.mkfifo(release / "pipe")
    with pytest.raises(PreconditionError, match="pipe is a device, a socket or a pipe"):
        tree_digest(release)


@pytest.mark.parametrize(
    ("name", "aim", "said"),
    [
        ("static/out", "../../elsewhere", "leads out of its directory, to ../../elsewhere"),
        ("out", "{outside}/file", "leads out of its directory, to"),
        ("out", "{outside}", "leads out of its directory, to"),
        ("out", "/no/such/file", "leads out of its directory, to /no/such/file"),
        ("out", "../release/app.py", "leads out of its directory"),
        ("out", "here/../environment.json", "leads out of its directory"),  # written as if it stayed
        ("out", "here/..", "leads out of its directory"),
        ("own", "{root}/app.py", "make it a relative one"),
        ("own", "{alias}/app.py", "make it a relative one"),
        ("bin/python", "{outside}/file", "leads out of its directory"),  # of no virtual environment
    ],
)
def test_a_link_that_leads_out_is_refused(release: Path, tmp_path: Path, name: str, aim: str, said: str) -> None:
    outside, alias = tmp_path / "outside", tmp_path / "alias"
    outside.mkdir()
    (outside / "file").write_text("")
    alias.symlink_to(release)
    (release / "here").symlink_to(".")
    (release / "bin").mkdir()
    (release / name).symlink_to(aim.format(outside=outside, root=release, alias=alias))
    with pytest.raises(PreconditionError, match=re.escape(said)):
        tree_digest(release)
    with pytest.raises(PreconditionError, match=re.escape(said)):
        copy_tree(release, tmp_path / "copy", ())
    assert tree_digest(release, (name,)), "what is excluded is nobody's business"


def test_a_chain_of_links_is_as_long_as_its_last_link(release: Path, tmp_path: Path) -> None:
    (release / "first").symlink_to("second")
    (release / "second").symlink_to("static/third")
    (release / "static" / "third").symlink_to("../app.py")
    tree_digest(release)
    (release / "static" / "third").unlink()
    (release / "static" / "third").symlink_to(tmp_path)
    with pytest.raises(PreconditionError, match="third leads out"):
        tree_digest(release)


def test_all_links_that_lead_out_are_told_at_once(release: Path) -> None:
    for number in range(7):
        (release / f"out{number}").symlink_to("/elsewhere")
    with pytest.raises(PreconditionError, match=r"out0 leads.*out4 leads.*; and 2 more links"):
        tree_digest(release)


@pytest.mark.parametrize("aim", ["nothing", "round", "static", ".", "static/../app.py"])
def test_a_link_that_stays_is_kept_as_it_is(release: Path, tmp_path: Path, aim: str) -> None:
    (release / "round").symlink_to("round")
    (release / "link").symlink_to(aim)
    copy_tree(release, tmp_path / "copy", ())
    assert os.readlink(tmp_path / "copy" / "link") == aim
    assert tree_digest(tmp_path / "copy") == tree_digest(release)


def test_a_virtual_environments_interpreter_counts_with_its_content(release: Path, tmp_path: Path) -> None:
    python = tmp_path / "python3.99"
    python.write_text("1")
    python.chmod(0o755)
    (release / ".venv" / "bin").mkdir(parents=True)
    (release / ".venv" / "pyvenv.cfg").touch()
    (release / ".venv" / "bin" / "python3").symlink_to(python)
    (release / ".venv" / "bin" / "python").symlink_to("python3")
    before = tree_digest(release)
    copy_tree(release, tmp_path / "copy", ())
    assert tree_digest(tmp_path / "copy") == before
    python.write_text("2")
    assert tree_digest(release) != before
    assert tree_digest(tmp_path / "copy") == tree_digest(release)


def test_a_hard_links_content_is_copied_and_not_shared(release: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("1")
    (release / "hard").hardlink_to(tmp_path / "elsewhere")
    copy_tree(release, tmp_path / "copy", ())
    (tmp_path / "elsewhere").write_text("2")
    assert (tmp_path / "copy" / "hard").read_text() == "1"


def test_a_file_that_grows_while_it_is_copied_is_copied_as_it_was_listed(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, listed = tree_digest(release), directory_digest.list_tree(release, ())
    (release / "app.py").write_text("print(1)\nprint(2)")
    monkeypatch.setattr(directory_digest, "list_tree", lambda *_: listed)
    copy_tree(release, tmp_path / "copy", ())
    monkeypatch.undo()
    assert tree_digest(tmp_path / "copy") == before


@pytest.mark.parametrize("becomes", ["link", "pipe"])
def test_a_file_that_becomes_something_else_is_not_followed(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, becomes: str
) -> None:
    listed = directory_digest.list_tree(release, ())
    (release / "app.py").unlink()
    if becomes == "link":
        (tmp_path / "secret").write_text("a secret")
        (release / "app.py").symlink_to(tmp_path / "secret")
    else:
        os.mkfifo(release / "app.py")
    monkeypatch.setattr(directory_digest, "list_tree", lambda *_: listed)
    with pytest.raises(UnavailableError, match=r"app\.py could not be copied"):
        copy_tree(release, tmp_path / "copy", ())
    with pytest.raises(PreconditionError, match=r"app\.py cannot be read"):
        directory_digest.digest_of(release, listed)


def test_too_much_is_refused_before_it_is_copied(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_digest, "MOST_FILES", 3)
    with pytest.raises(PreconditionError, match=r"platform\.exclude"):
        tree_digest(release)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(PreconditionError, match="nowhere is not there"):
        tree_digest(tmp_path / "nowhere")


def test_who_wrote_the_path_may_sit_elsewhere_than_the_worker(tmp_path: Path) -> None:
    with pytest.raises(PreconditionError, match="seen from the worker: paths are those of its machine or container"):
        tree_digest(tmp_path / "nowhere")


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(PreconditionError, match="file is no directory"):
        tree_digest(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_a_directory_that_the_worker_may_not_see_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "locked" / "inside").mkdir(parents=True)
    (tmp_path / "locked").chmod(0)
    try:
        with pytest.raises(PreconditionError, match=r"cannot look into the directory .*inside: Permission denied"):
            tree_digest(tmp_path / "locked" / "inside")
    finally:
        (tmp_path / "locked").chmod(0o700)

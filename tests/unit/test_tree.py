"""One byte, one name or one x-bit more is another release; a time or an owner is not."""

import os
from pathlib import Path

import pytest

from activities import tree
from activities.tree import copy_tree, tree_digest
from models.errors import Impossible

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
    with pytest.raises(Impossible, match="pipe is a device, a socket or a pipe"):
        tree_digest(release)


def test_a_link_that_leads_out_is_refused(release: Path) -> None:
    (release / "static" / "out").symlink_to("../../elsewhere")
    with pytest.raises(Impossible, match="leads out of its directory"):
        tree_digest(release)


def test_too_much_is_refused_before_it_is_copied(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MOST_FILES", 3)
    with pytest.raises(Impossible, match=r"platform\.exclude"):
        tree_digest(release)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(Impossible, match="nowhere is not there"):
        tree_digest(tmp_path / "nowhere")


def test_who_wrote_the_path_may_sit_elsewhere_than_the_worker(tmp_path: Path) -> None:
    with pytest.raises(Impossible, match="seen from the worker: paths are those of its machine or container"):
        tree_digest(tmp_path / "nowhere")


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(Impossible, match="file is no directory"):
        tree_digest(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_a_directory_that_the_worker_may_not_see_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "locked" / "inside").mkdir(parents=True)
    (tmp_path / "locked").chmod(0)
    try:
        with pytest.raises(Impossible, match=r"cannot look into the directory .*inside: Permission denied"):
            tree_digest(tmp_path / "locked" / "inside")
    finally:
        (tmp_path / "locked").chmod(0o700)

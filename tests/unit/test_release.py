"""A release names its version everywhere or nowhere."""

import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / ".ci" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


release = load()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What a release changes, in a repository of its own."""
    for name in [*release.PLACES, "CHANGELOG.md"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    log = tmp_path / "CHANGELOG.md"
    log.write_text(log.read_text().replace(release.UNRELEASED, f"{release.UNRELEASED}\n### Added\n\n- Something.\n"))
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "all"]):
        subprocess.run(["git", *author(), *command], cwd=tmp_path, check=True)
    return tmp_path


def author() -> list[str]:
    return ["-c", "user.name=ann", "-c", "user.email=ann@example.com"]


def test_the_version_is_new_in_every_place(root: Path) -> None:
    before = release.current(ROOT)
    texts = release.changed(root, "99.0.1", "2026-01-02")
    for name in release.PLACES:
        assert "99.0.1" in texts[name], name
    assert f'version = "{before}"' not in texts["pyproject.toml"]
    assert f"deployment-specialist:{before}" not in texts["docs/kubernetes.md"]


def test_what_was_unreleased_is_the_section_of_the_release(root: Path) -> None:
    log = release.changed(root, "99.0.1", "2026-01-02")["CHANGELOG.md"]
    assert log.index("## [Unreleased]\n\n## [99.0.1] - 2026-01-02\n") < log.index("- Something.")


@pytest.mark.parametrize("version", ["0.0.1", "1", "v2.0.0", "1.2.3-rc1", "01.0.0"])
def test_a_version_that_is_not_newer_is_refused(root: Path, version: str) -> None:
    with pytest.raises(release.ReleaseError, match=version):
        release.changed(root, version, "2026-01-02")


def test_a_release_of_nothing_is_refused(root: Path) -> None:
    (root / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n## [0.1.0] - 2026-01-01\n\n- Old.\n")
    with pytest.raises(release.ReleaseError, match="says nothing"):
        release.changed(root, "99.0.1", "2026-01-02")


def test_a_dry_run_changes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    release.release(root, "99.0.1", dry_run=True)
    assert '+version = "99.0.1"' in capsys.readouterr().out
    assert subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, check=True).stdout == b""


def test_what_is_not_committed_is_not_released(root: Path) -> None:
    (root / "more").write_text("")
    with pytest.raises(release.ReleaseError, match="not committed"):
        release.release(root, "99.0.1", dry_run=False)
    assert release.current(root) != "99.0.1"


def test_what_cannot_be_built_is_not_released(root: Path) -> None:
    with pytest.raises(release.ReleaseError, match="wheel could not be built"):
        release.release(root, "99.0.1", dry_run=False)
    assert subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, check=True).stdout == b""

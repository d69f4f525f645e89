"""Files of a release are what was written down of them, whatever their names and whoever wrote it down."""

import asyncio
import hashlib
import os
import re
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from activities.preflight.artifact_files import MOST_FILES, parse_checksums
from activities.preflight.artifacts import check_artifacts
from models.checks import PreflightCheck
from models.spec import DeploymentSpec
from models.verdict import CheckResult, Verdict


def sha(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "app.py").write_text("")
    (tmp_path / "dist").mkdir()
    for name in ("a.whl", "b.whl"):
        (tmp_path / "dist" / name).write_text(name)
    return tmp_path


def check(folder: Path, expected: dict[str, str] | None = None, **artifact: Any) -> CheckResult:
    for name in ("path", "checksums"):
        if name in artifact:
            artifact[name] = str(folder / artifact[name])
    document = {
        "service": "shop",
        "target": "staging",
        "release": {"version": "1", "artifacts": [artifact]},
        "platform": {"kind": "local", "run": ["python3"], "directory": str(folder / "app"), "listen": "127.0.0.1:8080"},
    }
    spec = DeploymentSpec.model_validate(document)
    return asyncio.run(check_artifacts(PreflightCheck(spec=spec, expected=expected or {})))


class TestGlobs:
    def test_every_file_that_fits_is_measured(self, folder: Path) -> None:
        found = check(folder, path="dist/*.whl")

        assert found.verdict is Verdict.PASS, found.reason
        assert found.evidence["digests"][str(folder / "dist/a.whl")] == sha("a.whl")
        assert found.evidence["digests"][str(folder / "dist/b.whl")] == sha("b.whl")

    def test_none_that_fits_fails(self, folder: Path) -> None:
        found = check(folder, path="dist/*.tar")

        assert found.verdict is Verdict.FAIL
        assert f"no file fits the artifact {folder}/dist/*.tar" in found.reason

    def test_a_file_that_came_since_the_plan_fails(self, folder: Path) -> None:
        planned = check(folder, path="dist/*").evidence["digests"]
        (folder / "dist" / "c.whl").write_text("late")

        found = check(folder, planned, path="dist/*")

        assert (found.verdict, "c.whl is not in the plan" in found.reason) == (Verdict.FAIL, True)

    def test_a_bracket_in_a_directory_means_itself(self, folder: Path) -> None:
        (folder / "d[1]").mkdir()
        (folder / "d[1]" / "x.whl").write_text("x")

        assert check(folder, path="d[1]/*.whl").verdict is Verdict.PASS

    def test_too_many_are_refused(self, folder: Path) -> None:
        for n in range(MOST_FILES + 1):
            (folder / "dist" / f"{n}").touch()

        found = check(folder, path="dist/*")

        assert (found.verdict, f"more than {MOST_FILES}" in found.reason) == (Verdict.FAIL, True)

    @pytest.mark.timeout(20)
    def test_a_pipe_and_a_device_among_them_are_not_opened_for_ever(self, folder: Path) -> None:
        os.mkfifo(folder / "dist" / "pipe")
        (folder / "dist" / "zero").symlink_to("/dev/zero")

        found = check(folder, path="dist/*")

        assert found.verdict is Verdict.FAIL
        assert "pipe is no regular file" in found.reason and "zero is no regular file" in found.reason

    def test_a_name_that_begins_with_a_hyphen_is_a_name(self, folder: Path) -> None:
        (folder / "dist" / "-rf").write_text("x")

        assert check(folder, path="dist/-rf", sha256=sha("x")).verdict is Verdict.PASS
        assert check(folder, path="dist/-*").verdict is Verdict.PASS


class TestAge:
    def test_what_is_young_enough_passes_and_what_is_not_fails(self, folder: Path) -> None:
        old = time.time() - 7200
        os.utime(folder / "dist" / "a.whl", (old, old))

        assert check(folder, path="dist/a.whl", max_age="3h").verdict is Verdict.PASS
        found = check(folder, path="dist/*", max_age="1h")
        assert found.verdict is Verdict.FAIL
        assert "a.whl is 2h old, max_age is 1h" in found.reason and "b.whl" not in found.reason

    def test_a_time_in_the_future_is_no_age(self, folder: Path) -> None:
        late = time.time() + timedelta(days=1).total_seconds()
        os.utime(folder / "dist" / "a.whl", (late, late))

        found = check(folder, path="dist/a.whl", max_age="1h")

        assert (found.verdict, "in the future" in found.reason) == (Verdict.FAIL, True)


class TestChecksums:
    @pytest.mark.parametrize(
        "text",
        [
            "{a}  a.whl\n{b}  b.whl\n",
            "{a} *a.whl\r\n{b} *b.whl\r\n",
            "\ufeff{a}  ./a.whl\r\n# made by hand\r\n\r\n{b}  b.whl",
            "SHA256 (a.whl) = {a}\nSHA256 (b.whl) = {b}\n",
            "{A}  a.whl\n{b}  b.whl\n{a}  another.whl\n",
        ],
        ids=["gnu", "crlf-binary", "bom", "bsd", "capitals"],
    )
    def test_every_form_is_read(self, folder: Path, text: str) -> None:
        sums = {"a": sha("a.whl"), "b": sha("b.whl"), "A": sha("a.whl").upper()}
        (folder / "dist" / "SHA256SUMS").write_bytes(text.format(**sums).encode())

        found = check(folder, path="dist/*.whl", checksums="dist/SHA256SUMS")

        assert found.verdict is Verdict.PASS, found.reason

    def test_another_sum_and_a_missing_name_fail_with_both(self, folder: Path) -> None:
        (folder / "SUMS").write_text(f"{sha('other')}  dist/a.whl\n")

        found = check(folder, path="dist/*.whl", checksums="SUMS")

        assert found.verdict is Verdict.FAIL
        assert f"a.whl has sha256 {sha('a.whl')}, expected {sha('other')}" in found.reason
        assert f"b.whl is not named in {folder}/SUMS" in found.reason

    @pytest.mark.parametrize(
        "name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "..", "..\\..\\windows", "-/../../x"]
    )
    def test_a_name_that_leads_out_of_the_directory_is_refused(self, folder: Path, name: str) -> None:
        (folder / "dist" / "SUMS").write_text(f"{sha('a.whl')}  a.whl\n{sha('x')}  {name}\n")

        found = check(folder, path="dist/a.whl", checksums="dist/SUMS")

        assert found.verdict is Verdict.FAIL
        assert "line 2:" in found.reason and "leads out of its directory" in found.reason

    @pytest.mark.parametrize(
        ("content", "cause"),
        [
            (b"d41d8cd98f00b204e9800998ecf8427e  a.whl\n", "line 1 is not a sha256 and a name"),
            (b"\xff\xfe\x00", "not UTF-8"),
            (f"{'a' * 64}  a.whl\n{'b' * 64}  a.whl\n".encode(), "there twice"),
            (b"#" * ((4 << 20) + 1), "larger than 4 MiB"),
        ],
        ids=["md5", "binary", "twice", "large"],
    )
    def test_what_is_no_checksums_file_says_why(self, folder: Path, content: bytes, cause: str) -> None:
        (folder / "dist" / "SUMS").write_bytes(content)

        found = check(folder, path="dist/a.whl", checksums="dist/SUMS")

        assert (found.verdict, cause in found.reason) == (Verdict.FAIL, True)

    @pytest.mark.timeout(20)
    def test_a_checksums_file_that_is_none_is_not_opened_for_ever(self, folder: Path) -> None:
        os.mkfifo(folder / "dist" / "SUMS")

        assert "no regular file" in check(folder, path="dist/a.whl", checksums="dist/SUMS").reason
        assert "is not there" in check(folder, path="dist/a.whl", checksums="dist/NONE").reason

    def test_escaped_names_are_read_as_they_were_meant(self) -> None:
        assert parse_checksums(f"\\{'a' * 64}  odd\\nname\\\\x\n") == {"odd\nname\\x": "a" * 64}


@pytest.mark.parametrize(
    ("artifact", "sentence"),
    [
        ({}, "either a path or an image"),
        ({"path": "a", "image": "localhost:5000/shop:1"}, "either a path or an image"),
        ({"path": "a", "platform": "linux/amd64"}, "platform: only for an image"),
        ({"image": "localhost:5000/shop:1", "sha256": "0" * 64}, "sha256: only for a file"),
        ({"path": "*.whl", "sha256": "0" * 64}, "sha256 is for one file"),
        ({"path": "a", "sha256": "0" * 64, "checksums": "b"}, "only one of the two"),
        ({"path": "a", "max_age": "0s"}, "max_age is more than 0s"),
        ({"image": "localhost:5000/shop:1", "username": "env:U"}, "username and password go together"),
        ({"image": "localhost:5000/shop:1", "platform": "amd64"}, "an operating system and an architecture"),
        *(
            ({"image": image}, "an image is named with its registry and a tag or digest")
            for image in (
                "shop:1",
                "shop",
                "-x/shop:1",
                "localhost:5000/../shop:1",
                "localhost:5000/shop",
                "localhost:5000/shop:1@sha256:beef",
                "http://localhost:5000/shop:1",
                "user:hunter2@localhost:5000/shop:1",
                "localhost:5000/Shop:1",
                "localhost:5000/shop:-1",
                "localhost:5000/" + "a/" * 300 + "b:1",
            )
        ),
    ],
)
def test_what_cannot_be_an_artifact_is_refused(folder: Path, artifact: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        check(folder, **artifact)


def test_paths_that_no_plan_has_room_for_are_refused(folder: Path) -> None:
    deep = folder / "dist" / "/".join(["d" * 200] * 15)
    deep.mkdir(parents=True)
    for number in range(60):
        (deep / f"{number}.bin").touch()

    found = check(folder, path=f"{deep.relative_to(folder)}/*.bin")

    assert found.verdict is Verdict.FAIL
    assert "more than 128 KiB together" in found.reason

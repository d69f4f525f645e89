"""What a service is started by, beside the folder that is copied, is measured, named or refused."""

import asyncio
import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from activities.preflight.artifacts import check_artifacts
from activities.system.scripts import first_line, in_copy
from models.checks import PreflightCheck
from models.spec import DeploymentSpec
from models.verdict import CheckResult, Verdict


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "app.py").write_text("print(1)")
    return tmp_path / "app"


def check(folder: Path, *run: str, expected: dict[str, str] | None = None, **platform: Any) -> CheckResult:
    own = {"kind": "local", "run": list(run), "directory": str(folder), "listen": "127.0.0.1:8080"}
    spec = DeploymentSpec.model_validate(
        {"service": "shop", "target": "staging", "release": {"version": "1"}, "platform": own | platform}
    )
    return asyncio.run(check_artifacts(PreflightCheck(spec=spec, expected=expected or {})))


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def environment(folder: Path, python: str = sys.executable) -> Path:
    """A virtual environment as `python -m venv` lays it out, without packages."""
    made = folder / ".venv"
    (made / "bin").mkdir(parents=True)
    (made / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    (made / "bin" / "python3").symlink_to(os.path.realpath(python))
    (made / "bin" / "python").symlink_to("python3")
    (made / "lib" / "python3" / "site-packages").mkdir(parents=True)
    (made / "lib64").symlink_to("lib")
    return made


class TestProgramsOnThePath:
    def test_it_is_named_and_measured(self, folder: Path, tmp_path: Path) -> None:
        serve = program(tmp_path / "bin" / "serve", "\x7fELF")

        found = check(folder, "serve", environment={"PATH": str(serve.parent)})

        digest = hashlib.sha256(b"\x7fELF").hexdigest()
        assert found.evidence["digests"][f"program:{serve}"] == digest
        assert f"serve is {serve} (sha256 {digest[:12]}…)" in found.reason

    def test_one_that_changes_after_the_plan_fails(self, folder: Path, tmp_path: Path) -> None:
        serve = program(tmp_path / "bin" / "serve", "\x7fELF")
        planned = check(folder, "serve", environment={"PATH": str(serve.parent)}).evidence["digests"]
        program(serve, "\x7fELF2")

        found = check(folder, "serve", environment={"PATH": str(serve.parent)}, expected=planned)

        assert found.verdict is Verdict.FAIL
        assert f"program:{serve} changed since the plan" in found.reason

    def test_another_one_in_front_of_it_fails(self, folder: Path, tmp_path: Path) -> None:
        serve = program(tmp_path / "bin" / "serve", "1")
        search = f"{tmp_path / 'first'}:{serve.parent}"
        planned = check(folder, "serve", environment={"PATH": search}).evidence["digests"]
        program(tmp_path / "first" / "serve", "1")

        assert check(folder, "serve", environment={"PATH": search}, expected=planned).verdict is Verdict.FAIL

    def test_a_plan_made_without_programs_is_still_good(self, folder: Path) -> None:
        planned = check(folder, "python3", "app.py").evidence["digests"]
        old = {what: digest for what, digest in planned.items() if not what.startswith("program:")}

        assert old != planned
        assert check(folder, "python3", "app.py", expected=old).verdict is Verdict.PASS

    @pytest.mark.parametrize("line", ["#!/usr/bin/env runner", "#!/usr/bin/env -S runner --fast", "#! {runner}"])
    def test_a_scripts_interpreter_is_measured_too(self, folder: Path, tmp_path: Path, line: str) -> None:
        runner = program(tmp_path / "bin" / "runner", "\x7fELF")
        program(folder / "start", line.format(runner=runner) + "\n")

        found = check(folder, "./start", environment={"PATH": str(runner.parent)})

        assert f"program:{runner}" in found.evidence["digests"], found.reason

    def test_a_script_whose_interpreter_is_nowhere_is_refused(self, folder: Path) -> None:
        program(folder / "start", "#!/usr/bin/env no-such-runner\n")
        assert "no-such-runner, which is not on the PATH" in check(folder, "./start").reason


class TestOutOfTheFolder:
    @pytest.mark.parametrize(
        ("run", "said"),
        [
            (("../start",), "is not in the copy that is run"),
            (("bin/../../start",), "is not in the copy that is run"),
            (("{folder}/own",), "write own"),
            (("python3", "../app2.py"), "leads out of"),
        ],
    )
    def test_what_the_copy_would_not_find_is_refused(self, folder: Path, run: tuple[str, ...], said: str) -> None:
        (folder / "bin").mkdir()
        program(folder.parent / "start", "\x7fELF")
        program(folder / "own", "\x7fELF")
        (folder.parent / "app2.py").touch()

        found = check(folder, *(part.format(folder=folder) for part in run))

        assert found.verdict is Verdict.FAIL
        assert said in found.reason

    def test_an_excluded_program_is_refused(self, folder: Path) -> None:
        program(folder / "build" / "start", "\x7fELF")
        assert check(folder, "build/start", exclude=["build"]).verdict is Verdict.FAIL

    def test_a_file_elsewhere_is_measured_a_folder_named(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "rules.json").write_text("{}")
        (tmp_path / "data").mkdir()

        found = check(folder, "python3", "app.py", str(tmp_path / "rules.json"), str(tmp_path / "data"))

        assert found.verdict is Verdict.PASS
        assert found.evidence["digests"][f"program:{tmp_path / 'rules.json'}"] == hashlib.sha256(b"{}").hexdigest()
        assert f"{tmp_path / 'data'} is neither copied nor measured" in found.evidence["not_copied"]

    def test_the_folders_own_file_as_an_absolute_argument_is_named(self, folder: Path) -> None:
        found = check(folder, "python3", str(folder / "app.py"))
        assert any("is the folder's own, not the copy's" in said for said in found.evidence["not_copied"])


class TestVirtualEnvironments:
    def test_its_interpreter_is_named_and_measured(self, folder: Path) -> None:
        environment(folder)

        found = check(folder, ".venv/bin/python", "app.py")

        assert found.verdict is Verdict.PASS, found.reason
        assert f"program:{os.path.realpath(sys.executable)}" in found.evidence["digests"]
        assert f".venv/bin/python3 is {os.path.realpath(sys.executable)}" in found.reason

    def test_another_interpreter_is_another_release(self, folder: Path, tmp_path: Path) -> None:
        python = program(tmp_path / "python", "\x7fELF")
        environment(folder, str(python))
        planned = check(folder, ".venv/bin/python", "app.py").evidence["digests"]
        program(python, "\x7fELF2")

        assert "directory changed" in check(folder, ".venv/bin/python", "app.py", expected=planned).reason

    @pytest.mark.parametrize(
        ("name", "line"),
        [
            ("_shop.pth", "{folder}/src"),
            ("shop.pth", "../../../../../elsewhere"),
            ("__editable__.shop-1.pth", "import __editable___shop_1_finder; __editable___shop_1_finder.install()"),
        ],
    )
    def test_an_editable_installation_is_refused(self, folder: Path, name: str, line: str) -> None:
        packages = environment(folder) / "lib" / "python3" / "site-packages"
        (folder / "src").mkdir()
        (folder.parent / "elsewhere").mkdir()
        (packages / name).write_text(line.format(folder=folder) + "\n")

        found = check(folder, ".venv/bin/python", "app.py")

        assert found.verdict is Verdict.FAIL
        assert f"{name} leads Python out of the copy" in found.reason
        # One that the service is not run by is only named.
        assert check(folder, sys.executable, "app.py").verdict is Verdict.PASS

    def test_lines_that_stay_inside_are_nobodys_business(self, folder: Path) -> None:
        packages = environment(folder) / "lib" / "python3" / "site-packages"
        (packages / "vendored").mkdir()
        (packages / "a.pth").write_text("# a comment\nvendored\nimport _virtualenv\n/no/such/folder\n")

        assert check(folder, ".venv/bin/python", "app.py").verdict is Verdict.PASS

    def test_one_that_sees_the_systems_packages_says_so(self, folder: Path) -> None:
        made = environment(folder)
        (made / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = true\n")
        assert "also uses the packages of its interpreter" in check(folder, ".venv/bin/python", "app.py").reason


class TestInTheCopy:
    @pytest.mark.parametrize("line", ["#!{python}\n", "#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n"])
    def test_a_script_is_run_by_the_copys_own_python(self, folder: Path, tmp_path: Path, line: str) -> None:
        script = environment(folder) / "bin" / "serve"
        program(script, line.format(python=folder / ".venv/bin/python") + "import sys; print(sys.executable)\n")
        copy = tmp_path / "copy"
        subprocess.run(["cp", "-a", folder, copy], check=True)

        run = in_copy((".venv/bin/serve", "--x"), folder, copy, None)

        assert run == (str(copy / ".venv/bin/python"), ".venv/bin/serve", "--x")
        said = subprocess.run(run, cwd=copy, capture_output=True, text=True, check=True).stdout
        assert said.strip() == str(copy / ".venv/bin/python")

    def test_a_program_without_a_slash_may_come_with_the_release(self, folder: Path, tmp_path: Path) -> None:
        program(folder / "serve", "#!/bin/sh\n")
        assert in_copy(("serve", "1"), folder, folder, str(tmp_path)) == (str(folder / "serve"), "1")

    @pytest.mark.parametrize("run", [("python3", "app.py"), (sys.executable, "app.py"), ("./start", "x")])
    def test_everything_else_is_run_as_it_is_written(self, folder: Path, run: tuple[str, ...]) -> None:
        program(folder / "start", "#!/bin/sh\n")
        assert in_copy(run, folder, folder, os.environ["PATH"]) == run

    def test_what_is_no_script_has_no_first_line(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe", stat.S_IRUSR)
        (tmp_path / "binary").write_bytes(b"\x7fELF\0\xff")
        assert first_line(tmp_path / "pipe") == first_line(tmp_path / "binary") == first_line(tmp_path / "none") == []

"""A program on the PATH of whoever deploys is found, whatever shell had started the worker."""

import os
from pathlib import Path

import pytest

from activities.check_result import Finding
from activities.platforms.local import revision_files
from activities.platforms.traefik.state import TargetStore
from activities.preflight.artifacts import check_artifacts
from activities.verify.command import run_command
from home.caller import hand_over, inherited
from home.paths import VARIABLE, Home
from models.checks import PreflightCheck, SmokeCheck
from models.plan import config_hash, make_revision
from models.release import Release
from models.spec import DeploymentSpec, SmokeTest
from models.verdict import Verdict


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "home"))
    return Home(tmp_path / "home")


@pytest.fixture
def tools(tmp_path: Path) -> str:
    """A folder with a program that is on no other PATH."""
    folder = tmp_path / "tools"
    folder.mkdir()
    program = folder / "only-mine"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o700)
    return str(folder)


def spec(tmp_path: Path, **environment: str) -> DeploymentSpec:
    (tmp_path / "app").mkdir(exist_ok=True)
    return DeploymentSpec.model_validate(
        {
            "service": "shop",
            "target": "staging",
            "release": {"version": "1.0.0"},
            "platform": {
                "kind": "local",
                "run": ["only-mine"],
                "directory": str(tmp_path / "app"),
                "listen": "127.0.0.1:8080",
                "environment": environment,
            },
        }
    )


async def test_a_program_on_the_callers_path_alone_is_found(home: Home, tools: str, tmp_path: Path) -> None:
    before = await check_artifacts(PreflightCheck(spec=spec(tmp_path)))
    hand_over(home, "shop", "staging", {"PATH": f"{tools}:/usr/bin:/bin"})
    after = await check_artifacts(PreflightCheck(spec=spec(tmp_path)))
    elsewhere = await check_artifacts(PreflightCheck(spec=spec(tmp_path, PATH="/usr/bin")))

    assert before.verdict is Verdict.FAIL and "neither on the PATH" in before.reason
    assert after.verdict is Verdict.PASS, after.reason
    assert elsewhere.verdict is Verdict.FAIL, "the spec's own PATH comes first"


async def test_a_smoke_tests_program_is_found_as_well(home: Home, tools: str, tmp_path: Path) -> None:
    hand_over(home, "shop", "staging", {"PATH": f"{tools}:/usr/bin:/bin"})
    check = SmokeCheck(
        test=SmokeTest.model_validate({"name": "mine", "command": ["only-mine"]}),
        base_url="http://127.0.0.1:1", directory=str(tmp_path), service="shop", target="staging", version="1.0.0",
    )  # fmt: skip

    assert (await run_command(Finding("smoke_mine"), check, ("only-mine",))).verdict is Verdict.PASS


def test_each_target_has_its_own_caller_and_no_secret_is_kept(home: Home) -> None:
    hand_over(home, "shop", "staging", {"PATH": "/one", "TZ": "UTC", "TOKEN": "hunter2", "LANG": ""})
    hand_over(home, "shop", "production", {"PATH": "/two"})

    assert inherited("shop", "staging") == {"PATH": "/one", "TZ": "UTC"}
    assert inherited("shop", "production") == {"PATH": "/two"}
    assert inherited("shop", "test")["PATH"] == os.environ["PATH"]
    kept = list((home.path / "callers").iterdir())
    assert not any("hunter2" in path.read_text() for path in kept)
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}


def test_a_revision_keeps_the_path_that_it_had(home: Home, tmp_path: Path) -> None:
    wanted = spec(tmp_path)
    release = Release(service="shop", version="1.0.0", config_hash=config_hash(wanted))
    first, second = (make_revision(wanted, release, run) for run in ("aaaaaa", "bbbbbb"))
    store = TargetStore(home, "shop", "staging")
    hand_over(home, "shop", "staging", {"PATH": "/one"})
    for each in (first, second):
        store.revision_folder(each.id).mkdir(parents=True)
    revision_files.environment(store, first)

    hand_over(home, "shop", "staging", {"PATH": "/two"})

    assert revision_files.environment(store, first)["PATH"] == "/one"
    assert revision_files.environment(store, second)["PATH"] == "/two"

"""A command that is suggested works when it is pasted: the same interpreter, the same script, the same home."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cli.client.connection import Server
from cli.invocation import called_as, world

ROOT = Path(__file__).parents[2]
SUGGESTED = re.compile(r"`([^`]+) up`")


@pytest.mark.parametrize(
    ("argv", "typed", "said"),
    [
        (["starter.py", "plan", "x"], [".venv/bin/python", "starter.py", "plan", "x"], ".venv/bin/python starter.py"),
        (["starter.py"], ["python", "-X", "utf8", "starter.py"], "python -X utf8 starter.py"),
        (["/co/starter.py", "up"], ["python3", "-m", "starter", "up"], "python3 -m starter"),
        (["a b/starter.py", "up"], ["py thon", "a b/starter.py", "up"], "'py thon' 'a b/starter.py'"),
        (["bin/ds", "up"], ["/v/python", "bin/ds", "up"], "bin/ds"),
        (["starter.py", "up"], ["pytest"], "/v/python starter.py"),
        (["-c"], ["python", "-c"], "deployment-specialist"),
        ([], [], "deployment-specialist"),
    ],
)  # fmt: skip
def test_what_was_typed_is_said(argv: list[str], typed: list[str], said: str) -> None:
    assert called_as(argv, typed, "/v/python") == said


def test_the_installed_command_is_called_by_its_name_where_the_path_leads_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "deployment-specialist"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert (
        called_as([str(script), "up"], [sys.executable, str(script), "up"], sys.executable) == "deployment-specialist"
    )


def test_the_world_that_was_meant_is_part_of_the_command_and_no_secret_is() -> None:
    environment = {
        "DEPLOYMENT_SPECIALIST_HOME": "/srv/my home",
        "TEMPORAL_ADDRESS": "127.0.0.1:7233",
        "TEMPORAL_API_KEY": "hunter2",
        "TEMPORAL_PROFILE": "",
    }

    assert world(environment) == "DEPLOYMENT_SPECIALIST_HOME='/srv/my home' TEMPORAL_ADDRESS=127.0.0.1:7233"


@pytest.mark.parametrize(
    ("folder", "call"),
    [
        (ROOT, [sys.executable, "starter.py"]),
        (ROOT / "docs", [sys.executable, "../starter.py"]),
        (ROOT, [sys.executable, "-m", "starter"]),
        (Path("/"), [sys.executable, str(ROOT / "starter.py")]),
    ],
)
def test_a_suggested_command_runs_in_a_bare_shell_and_means_the_same_home(
    tmp_path: Path, folder: Path, call: list[str]
) -> None:
    home = tmp_path / "a home"
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    asked = subprocess.run(
        [*call, "status", "shop/staging"],
        cwd=folder, env=bare | {"DEPLOYMENT_SPECIALIST_HOME": str(home)},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    suggested = SUGGESTED.search(asked.stderr)
    assert suggested is not None, asked.stderr

    pasted = subprocess.run(
        ["sh", "-c", f"{suggested[1]} doctor --json"],
        cwd=folder, env=bare, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

    assert json.loads(pasted.stdout)["home"] == str(home), pasted.stderr


def test_the_examples_in_the_help_are_commands_to_paste() -> None:
    helped = subprocess.run(
        [sys.executable, "starter.py", "status", "--help"],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip

    assert f"{shlex.quote(sys.executable)} starter.py status shop/staging" in helped.stdout


def test_a_link_opens_the_page_of_the_ui_that_reads_like_a_log() -> None:
    server = Server({"namespace": "my team"}, "here", "http://127.0.0.1:8233/", embedded=True)

    assert server.link("deploy/shop/staging", "0a-1b") == (
        "http://127.0.0.1:8233/namespaces/my%20team/workflows/deploy%2Fshop%2Fstaging/0a-1b/timeline"
    )
    assert Server({}, "elsewhere", "", embedded=False).link("deploy/shop/staging", "0a-1b") == ""

"""The example that approves from Slack: who is not Slack, or may not approve, gets nothing done."""

import hashlib
import hmac
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "slack_approvals.py"
SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
PLAN = "0123456789abcdef"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    program = tmp_path / "bin" / "deployment-specialist"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>"{tmp_path}/calls"\necho "ann approved it"\n')
    program.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLE), "--listen", "127.0.0.1:0", "U1=ann"],
        env={"PATH": f"{program.parent}:{os.environ['PATH']}", "SLACK_SIGNING_SECRET": SECRET},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield "http://" + process.stdout.readline().split()[-1]
    finally:
        process.kill()
        process.communicate()


def ask(url: str, text: str, user: str = "U1", secret: str = SECRET, age: int = 0) -> httpx.Response:
    body = urlencode({"user_id": user, "text": text}).encode()
    sent = str(int(time.time()) - age)
    signed = hmac.new(secret.encode(), b"v0:" + sent.encode() + b":" + body, hashlib.sha256).hexdigest()
    headers = {"X-Slack-Request-Timestamp": sent, "X-Slack-Signature": f"v0={signed}"}
    return httpx.post(url, content=body, headers=headers, trust_env=False)


def test_a_person_of_the_list_approves_the_plan_that_was_named(url: str, tmp_path: Path) -> None:
    answer = ask(url, f"shop/production {PLAN}")

    assert (answer.status_code, answer.text) == (200, "ann approved it")
    wanted = f"approve shop/production --as ann --plan {PLAN} --reason from Slack\n"
    assert (tmp_path / "calls").read_text() == wanted


def test_nobody_else_does(url: str, tmp_path: Path) -> None:
    good = f"shop/production {PLAN}"

    assert ask(url, good, secret="another").status_code == 401
    assert ask(url, good, age=600).status_code == 401
    assert "may not approve" in ask(url, good, user="U2").text
    assert "may not approve" in ask(url, "shop/production --help").text
    assert not (tmp_path / "calls").exists()

"""Whoever supervises a worker must see that it no longer takes work, even while its process lives."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from home import worker_heartbeat
from home.paths import VARIABLE, Home

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def probe(home: Home) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "home.worker_heartbeat"]
    environment = {**os.environ, VARIABLE: str(home.path)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30)


def test_a_worker_that_has_just_been_seen_is_well(home: Home) -> None:
    worker_heartbeat.beat(home)

    asked = probe(home)

    assert (asked.returncode, asked.stdout) == (0, "the worker polls\n")


def test_without_a_pulse_no_worker_polls(home: Home) -> None:
    asked = probe(home)

    assert (asked.returncode, asked.stdout) == (1, "no worker of this home polls\n")


def test_what_an_earlier_worker_left_behind_is_forgotten(home: Home) -> None:
    worker_heartbeat.beat(home)

    worker_heartbeat.forget(home)

    assert worker_heartbeat.complaint(home.path) == "no worker of this home polls"


def test_an_old_pulse_is_a_complaint(home: Home) -> None:
    long_ago = time.monotonic() - worker_heartbeat.LONGEST_AGE - 5
    (home.path / worker_heartbeat.FILE).write_text(f"{os.getpid()} {long_ago}\n")

    assert "has not seen the worker poll" in worker_heartbeat.complaint(home.path)


def test_a_pulse_from_before_the_machine_was_started_is_a_complaint(home: Home) -> None:
    (home.path / worker_heartbeat.FILE).write_text(f"{os.getpid()} {time.monotonic() + 1000}\n")

    assert worker_heartbeat.complaint(home.path)


def test_a_pulse_of_a_process_that_has_ended_is_a_complaint(home: Home) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait(10)
    (home.path / worker_heartbeat.FILE).write_text(f"{ended.pid} {time.monotonic()}\n")

    assert worker_heartbeat.complaint(home.path) == "the worker's process has ended"


@pytest.mark.parametrize("text", ["", "abc", "1 2 3", "x 1.0"])
def test_a_pulse_that_makes_no_sense_is_a_complaint(home: Home, text: str) -> None:
    (home.path / worker_heartbeat.FILE).write_text(text)

    assert worker_heartbeat.complaint(home.path) == "no worker of this home polls"

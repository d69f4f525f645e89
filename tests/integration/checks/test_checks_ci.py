"""GitLab and commands: the tests of exactly this revision passed, failed, are under way, or nobody can tell.

GitLab is the stand-in of `tests/servers/ci.py`; the command is a real one.
"""

import sys
import time
from pathlib import Path

import psutil
import pytest

from activities.preflight import ci, ci_api
from activities.secrets import resolver
from models.verdict import Verdict
from tests.servers.ci import OTHER, REVISION, TOKEN, Said, gitlab, job, pipeline, reported
from tests.support.asking_ci import ask, ask_gitlab


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "_known", set())
    monkeypatch.setattr(resolver, "_pattern", None)
    monkeypatch.setenv("DEPLOYMENT_SPECIALIST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CI_TOKEN", TOKEN)
    monkeypatch.setattr(ci, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(ci_api, "AGAIN_AFTER", 0.01)


class TestGitlab:
    async def test_the_newest_pipeline_of_each_ref_and_source_counts(self) -> None:
        older, newer = pipeline(46, "failed"), pipeline(47)

        assert (await ask_gitlab(gitlab([newer, older]))).verdict is Verdict.PASS
        assert (await ask_gitlab(gitlab([older | {"source": "schedule"}, newer]))).verdict is Verdict.FAIL
        assert (await ask_gitlab(gitlab([older | {"sha": OTHER}]))).verdict is Verdict.INCONCLUSIVE

    @pytest.mark.parametrize(
        ("status", "verdict"),
        [
            ("success", Verdict.PASS),
            ("failed", Verdict.FAIL),
            ("canceled", Verdict.FAIL),
            ("skipped", Verdict.INCONCLUSIVE),
            *((word, Verdict.INCONCLUSIVE) for word in ("created", "pending", "running", "manual", "scheduled")),
        ],
    )
    async def test_every_status_has_its_verdict(self, status: str, verdict: Verdict) -> None:
        assert (await ask_gitlab(gitlab([pipeline(47, status)]))).verdict is verdict

    async def test_required_jobs_alone_decide(self) -> None:
        jobs = {47: [job(1, "build"), job(2, "lint", "failed", allow_failure=True), job(3, "deploy", "manual")]}

        assert (await ask_gitlab(gitlab([pipeline(47, "running")], jobs), required=["build"])).verdict is Verdict.PASS
        failed = await ask_gitlab(gitlab([pipeline(47)], jobs), required=["build", "lint"])
        assert (failed.verdict, "lint (failed)" in failed.reason) == (Verdict.FAIL, True)
        skipped = {47: [job(1, "build", "skipped")]}
        assert (await ask_gitlab(gitlab([pipeline(47)], skipped), required=["build"])).verdict is Verdict.FAIL

    async def test_required_jobs_are_asked_without_a_token_where_statuses_are_not_shown(self) -> None:
        stand_in = gitlab([pipeline(47)], {47: [job(1, "build")]}, closed=("/statuses",))

        assert (await ask_gitlab(stand_in)).verdict is Verdict.PASS
        assert (await ask_gitlab(stand_in, required=["build"])).verdict is Verdict.PASS
        unknown = await ask_gitlab(stand_in, required=["build", "ci/jenkins"])
        assert (unknown.verdict, "is missing, wrong or has expired" in unknown.reason) == (Verdict.ERROR, True)

    @pytest.mark.parametrize(
        ("status", "verdict"),
        [
            ("success", Verdict.PASS),
            ("failed", Verdict.FAIL),
            ("canceled", Verdict.FAIL),
            *((word, Verdict.INCONCLUSIVE) for word in ("pending", "running")),
        ],
    )
    async def test_what_another_tool_reports_counts_like_a_pipeline(self, status: str, verdict: Verdict) -> None:
        one = [reported(9, "ci/jenkins", status)]
        beside = gitlab([pipeline(46)], {46: [job(1, "build")]}, one)
        alone = gitlab([pipeline(46, status, source="external")], statuses=one)

        for stand_in in (beside, alone):
            assert (await ask_gitlab(stand_in)).verdict is verdict
            found = await ask_gitlab(stand_in, required=["ci/jenkins"])
            assert (found.verdict, found.evidence["runs"][-1]["name"]) == (verdict, "ci/jenkins")

    async def test_the_latest_report_of_a_name_counts_whichever_pipeline_has_it(self) -> None:
        # Reported into a pipeline of its own, and again when there was another one.
        pipelines = [pipeline(45, "failed", source="external"), pipeline(46)]
        both = [reported(2, "ci/jenkins", "failed"), reported(9, "ci/jenkins")]

        assert (await ask_gitlab(gitlab(pipelines, {46: [job(3, "build")]}, both))).verdict is Verdict.PASS
        worse = [both[0] | {"id": 10}, both[1]]
        assert (await ask_gitlab(gitlab(pipelines, {46: [job(3, "build")]}, worse))).verdict is Verdict.FAIL
        elsewhere = [both[0] | {"ref": "release"}, both[1]]
        assert (await ask_gitlab(gitlab(pipelines, {46: [job(3, "build")]}, elsewhere))).verdict is Verdict.FAIL

    async def test_a_job_is_no_report_of_another_tool(self) -> None:
        # Of a pipeline that was replaced, of a trigger, of a child: the newest pipelines speak for them.
        pipelines = [pipeline(45, "failed"), pipeline(46), pipeline(50, "failed", source="parent_pipeline", ref="main")]
        jobs = {45: [job(1, "old", "failed")], 46: [job(2, "build")], 50: [job(8, "child", "failed")]}
        stand_in = gitlab(pipelines, jobs, bridges={46: [job(3, "trigger", "failed", allow_failure=True)]})

        found = await ask_gitlab(stand_in)

        assert (found.verdict, [run["name"] for run in found.evidence["runs"]]) == (
            Verdict.PASS,
            ["pipeline 46 of main by push"],
        )
        missing = await ask_gitlab(stand_in, required=["child"])
        assert (missing.verdict, "child not there" in missing.reason) == (Verdict.INCONCLUSIVE, True)

    async def test_what_is_allowed_to_fail_stands_in_nobodys_way_unless_it_is_required(self) -> None:
        allowed = reported(9, "ci/lint", "failed", allow_failure=True)

        found = await ask_gitlab(gitlab([pipeline(46)], statuses=[allowed]))
        assert found.verdict is Verdict.PASS
        assert "passed over: ci/lint (failed, allowed to fail)" in found.reason
        assert (await ask_gitlab(gitlab([pipeline(46)], statuses=[allowed]), required=["ci/lint"])).verdict is (
            Verdict.FAIL
        )

    async def test_a_job_counts_at_its_latest_attempt(self) -> None:
        jobs = {46: [job(1, "build", "failed"), job(5, "build")]}

        assert (await ask_gitlab(gitlab([pipeline(46)], jobs), required=["build"])).verdict is Verdict.PASS

    async def test_every_page_of_the_statuses_is_read(self) -> None:
        statuses = [reported(n, f"ci/{n}") for n in range(100, 220)] + [reported(999, "last", "failed")]

        assert (await ask_gitlab(gitlab([pipeline(47)], statuses=statuses))).verdict is Verdict.FAIL

    async def test_every_page_is_read(self) -> None:
        found = await ask_gitlab(gitlab([pipeline(n, ref=f"r{n}") for n in range(120)] + [pipeline(999, "failed")]))

        assert found.verdict is Verdict.FAIL

    async def test_the_token_is_sent_as_gitlab_wants_it(self) -> None:
        stand_in = gitlab([pipeline(47)], token=("private-token", TOKEN))

        assert (await ask_gitlab(stand_in, token="env:CI_TOKEN")).verdict is Verdict.PASS
        refused = await ask_gitlab(gitlab([pipeline(47)], token=("private-token", TOKEN)))
        assert (refused.verdict, "is missing, wrong or has expired" in refused.reason) == (Verdict.ERROR, True)

    async def test_a_limit_is_waited_for(self) -> None:
        limit = Said("429 Too Many Requests", {"RateLimit-Remaining": "0", "RateLimit-Reset": str(int(time.time()))})

        assert (await ask_gitlab(gitlab([pipeline(47)], first=[limit]), wait=30)).verdict is Verdict.PASS


class TestCommand:
    @pytest.mark.parametrize(
        ("code", "verdict"),
        [
            (0, Verdict.PASS),
            (1, Verdict.FAIL),
            (75, Verdict.INCONCLUSIVE),
            (9, Verdict.INCONCLUSIVE),
            (2, Verdict.ERROR),
        ],
    )
    async def test_its_exit_code_is_the_answer(self, tmp_path: Path, code: int, verdict: Verdict) -> None:
        run = [sys.executable, "-c", f"print('said'); raise SystemExit({code})"]

        found = await ask({"kind": "command", "run": run, "pending": [75, 9]}, tmp_path)

        assert found.verdict is verdict
        assert "said" in found.model_dump_json()

    async def test_it_is_asked_again_until_it_knows(self, tmp_path: Path) -> None:
        (tmp_path / "ci.sh").write_text("#!/bin/sh\necho x >> asked\n[ $(wc -l < asked) -ge 3 ] || exit 75\n")
        (tmp_path / "ci.sh").chmod(0o700)

        found = await ask({"kind": "command", "run": ["./ci.sh"]}, tmp_path, wait=30)

        assert found.verdict is Verdict.PASS
        assert (tmp_path / "asked").read_text() == "x\nx\nx\n"

    async def test_it_gets_the_revision_and_its_secrets_and_they_stay_there(self, tmp_path: Path) -> None:
        code = (
            "import os, sys; e = os.environ; print(e['TOKEN'], e['SERVICE'], e['TARGET'], e['VERSION'], 'HOME2' in e);"
            f"sys.exit(0 if e['REVISION'] == '{REVISION}' and e['TOKEN'] == '{TOKEN}' else 1)"
        )
        spec = {
            "kind": "command",
            "run": [sys.executable, "-c", code],
            "environment": {"TOKEN": {"secret": "env:CI_TOKEN"}},
        }

        found = await ask(spec, tmp_path)

        assert found.verdict is Verdict.PASS, found.reason
        assert "*** shop staging 1.1.0 False" in found.evidence["runs"][0]["said"]
        assert TOKEN not in found.model_dump_json()

    async def test_it_is_ended_with_its_children_when_its_time_is_over(self, tmp_path: Path) -> None:
        code = "import subprocess, sys; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); p.wait()"

        found = await ask({"kind": "command", "run": [sys.executable, "-c", code], "within": "1s"}, tmp_path)

        assert found.verdict is Verdict.ERROR
        assert "did not end within 1s" in found.reason
        assert is_gone(int(found.reason.split()[-1]))

    @pytest.mark.parametrize("program", ["./no-such-program", "-x"])
    async def test_what_cannot_be_run_is_an_error(self, tmp_path: Path, program: str) -> None:
        found = await ask({"kind": "command", "run": [program]}, tmp_path)

        assert found.verdict is Verdict.ERROR
        assert "could not be run: No such file or directory" in found.reason


def is_gone(pid: int) -> bool:
    """Whether the process has ended, or ends within some seconds."""
    deadline = time.monotonic() + 5
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not runs(pid)


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

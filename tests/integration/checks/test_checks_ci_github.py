"""GitHub: the tests of exactly this revision passed, failed, are under way or unknown, or nobody can tell.

GitHub is the stand-in of `tests/servers/ci.py`.
"""

import time
from datetime import timedelta
from pathlib import Path

import pytest

from activities.preflight import ci, ci_api
from activities.secrets import resolver
from models.verdict import Verdict
from tests.servers.ci import OTHER, REVISION, TOKEN, Said, check_run, commit_status, github, standing_in, workflow_run
from tests.support.asking_ci import ask, ask_github
from tests.support.serving import Behaviour, endless, hanging_up, saying, serving, silent


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "_known", set())
    monkeypatch.setattr(resolver, "_pattern", None)
    monkeypatch.setenv("DEPLOYMENT_SPECIALIST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CI_TOKEN", TOKEN)
    monkeypatch.setattr(ci, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(ci_api, "AGAIN_AFTER", 0.01)


class TestGithub:
    async def test_runs_that_passed_pass_and_are_the_evidence(self) -> None:
        found = await ask_github(github([workflow_run(1)], [check_run(7, "build"), check_run(8, "test")]))

        assert found.verdict is Verdict.PASS, found.reason
        assert found.reason == f"{REVISION[:12]}: 3 passed"
        assert found.evidence["revision"] == REVISION
        assert [run["name"] for run in found.evidence["runs"]] == ["Build", "build", "test"]
        assert found.evidence["runs"][0]["url"].startswith("https://github.com/octo-org/octo-repo/actions/runs/")

    async def test_the_token_and_the_version_of_the_api_are_sent(self) -> None:
        stand_in = github([workflow_run(1)], token=("authorization", f"Bearer {TOKEN}"))

        found = await ask_github(stand_in, token="env:CI_TOKEN")

        assert found.verdict is Verdict.PASS, found.reason
        assert all(headers["x-github-api-version"] == "2022-11-28" for _, headers in stand_in.requests)
        assert TOKEN not in found.model_dump_json()

    async def test_another_revision_does_not_count_even_when_it_is_listed(self) -> None:
        stand_in = github([], [check_run(7, "build", head_sha=OTHER)])

        found = await ask_github(stand_in)

        assert found.verdict is Verdict.INCONCLUSIVE
        assert "there is no run of this revision" in found.reason

    @pytest.mark.parametrize("conclusion", ["failure", "cancelled", "timed_out", "action_required", "stale"])
    async def test_what_did_not_pass_fails_at_once_whatever_is_under_way(self, conclusion: str) -> None:
        checks = [check_run(7, "build", conclusion), check_run(8, "test", None)]

        found = await ask_github(github([workflow_run(1, conclusion=None)], checks), wait=60)

        assert found.verdict is Verdict.FAIL
        assert f"build ({conclusion}) did not pass" in found.reason
        assert found.seconds < 10

    async def test_the_latest_attempt_counts(self) -> None:
        first, second = workflow_run(1, conclusion="failure"), workflow_run(1, run_attempt=2)
        checks = [check_run(7, "build", "failure"), check_run(9, "build")]

        assert (await ask_github(github([first, second], checks))).verdict is Verdict.PASS
        assert (await ask_github(github([second, first], checks[::-1]))).verdict is Verdict.PASS

    async def test_a_newer_run_of_the_workflow_replaces_the_older_one_with_its_jobs(self) -> None:
        runs = [workflow_run(1, conclusion="failure"), workflow_run(2)]
        checks = [check_run(7, "build", "failure", suite=43), check_run(8, "build", suite=44)]

        assert (await ask_github(github(runs, checks))).verdict is Verdict.PASS

    async def test_an_older_success_does_not_hide_a_newer_failure(self) -> None:
        runs = [workflow_run(1), workflow_run(2, conclusion="failure")]

        assert (await ask_github(github(runs))).verdict is Verdict.FAIL

    async def test_the_same_workflow_for_another_event_counts_beside_it(self) -> None:
        runs = [workflow_run(1, conclusion="failure", event="pull_request"), workflow_run(2)]

        assert (await ask_github(github(runs))).verdict is Verdict.FAIL

    async def test_every_page_is_read(self) -> None:
        checks = [check_run(n, f"test ({n})") for n in range(250)] + [check_run(999, "last", "failure")]
        stand_in = github([workflow_run(1)], checks)

        found = await ask_github(stand_in)

        assert (found.verdict, found.reason) == (Verdict.FAIL, f"{REVISION[:12]}: last (failure) did not pass")
        pages = [target for target, _ in stand_in.requests if "check-runs" in target]
        assert len(pages) == 6

    async def test_a_server_with_smaller_pages_is_read_to_its_end(self) -> None:
        checks = [check_run(n, f"test ({n})") for n in range(25)] + [check_run(999, "last", "failure")]

        assert (await ask_github(github([], checks, page_size=10))).verdict is Verdict.FAIL

    async def test_a_list_without_end_is_an_error(self) -> None:
        found = await ask_github(github([], [check_run(n, f"t{n}") for n in range(45)], page_size=1))

        assert found.verdict is Verdict.ERROR
        assert "more than" in found.reason

    async def test_required_names_alone_decide(self) -> None:
        checks = [check_run(7, "build"), check_run(8, "flaky", "failure"), check_run(9, "deploy", None)]

        assert (await ask_github(github([], checks), required=["build"])).verdict is Verdict.PASS
        assert (await ask_github(github([], checks), required=["build", "flaky"])).verdict is Verdict.FAIL

    async def test_a_required_name_that_is_not_there_is_named(self) -> None:
        found = await ask_github(github([], [check_run(7, "build")]), required=["build", "e2e"])

        assert found.verdict is Verdict.INCONCLUSIVE
        assert "e2e not there" in found.reason

    async def test_a_required_name_may_be_a_commit_status(self) -> None:
        stand_in = github([], [check_run(7, "build")], [commit_status("ci/jenkins")])
        assert (await ask_github(stand_in, required=["build", "ci/jenkins"])).verdict is Verdict.PASS

        stand_in = github([], [], [commit_status("ci/jenkins", "error")])
        assert (await ask_github(stand_in, required=["ci/jenkins"])).verdict is Verdict.FAIL

    @pytest.mark.parametrize(
        ("state", "verdict"),
        [
            ("success", Verdict.PASS),
            ("failure", Verdict.FAIL),
            ("error", Verdict.FAIL),
            ("pending", Verdict.INCONCLUSIVE),
        ],
    )
    async def test_a_commit_status_counts_like_a_check_run(self, state: str, verdict: Verdict) -> None:
        beside = github([workflow_run(1)], [check_run(7, "build")], [commit_status("ci/jenkins", state)])
        alone = github([], [], [commit_status("ci/jenkins", state)])

        assert (await ask_github(beside)).verdict is verdict
        found = await ask_github(alone)
        assert (found.verdict, found.evidence["runs"][0]["name"]) == (verdict, "ci/jenkins")
        assert (await ask_github(alone, ignore=["CI/Jenkins"])).verdict is Verdict.INCONCLUSIVE
        assert (await ask_github(alone, required=["CI/Jenkins"])).verdict is verdict

    async def test_a_revision_without_any_status_is_not_pending_by_the_combined_state(self) -> None:
        assert (await ask_github(github([workflow_run(1)]))).verdict is Verdict.PASS
        nothing = await ask_github(github())
        assert (nothing.verdict, "there is no run of this revision" in nothing.reason) == (Verdict.INCONCLUSIVE, True)

    async def test_the_latest_status_of_a_context_counts(self) -> None:
        older, newer = commit_status("ci/jenkins", "failure", 3), commit_status("CI/jenkins", "success", 4)

        assert (await ask_github(github([], [], [older, newer]))).verdict is Verdict.PASS
        assert (await ask_github(github([], [], [newer, older]))).verdict is Verdict.PASS
        other = commit_status("ci/buildkite", "failure", 1)
        assert (await ask_github(github([], [], [older, newer, other]))).verdict is Verdict.FAIL

    async def test_every_page_of_the_statuses_is_read(self) -> None:
        statuses = [commit_status(f"ci/{n}", number=n) for n in range(120)] + [commit_status("last", "error", 999)]

        found = await ask_github(github([workflow_run(1)], [], statuses))

        assert (found.verdict, "last (error) did not pass" in found.reason) == (Verdict.FAIL, True)

    async def test_a_name_that_two_kinds_share_must_pass_in_both(self) -> None:
        stand_in = github([], [check_run(7, "build")], [commit_status("build", "failure")])

        assert (await ask_github(stand_in, required=["build"])).verdict is Verdict.FAIL
        assert (await ask_github(stand_in)).verdict is Verdict.FAIL

    async def test_a_token_that_may_not_read_statuses_is_an_error(self) -> None:
        stand_in = github([workflow_run(1)], [check_run(7, "build")])
        seen = iter([None, None, Said("403 Forbidden", body={"message": "Resource not accessible by integration"})])

        def refuse(_: int) -> None:
            said = next(seen, None)
            if said is not None:
                stand_in.first.append(said)

        stand_in.on_request = refuse
        found = await ask_github(stand_in)

        assert (found.verdict, "commit statuses" in found.reason) == (Verdict.ERROR, True)

    async def test_the_latest_check_of_an_app_and_name_counts_whichever_suite_it_is_in(self) -> None:
        app = {"id": 9, "slug": "buildkite"}
        older, newer = check_run(7, "e2e", "failure", 900, app=app), check_run(8, "e2e", suite=901, app=app)

        assert (await ask_github(github([], [newer, older]))).verdict is Verdict.PASS
        another = check_run(9, "e2e", "failure", 902, app={"id": 10, "slug": "other"})
        assert (await ask_github(github([], [newer, older, another]))).verdict is Verdict.FAIL

    async def test_checks_of_no_app_and_no_suite_count_by_their_names(self) -> None:
        older, newer = (check_run(n, "e2e", c, app=None, check_suite=None) for n, c in ((7, "failure"), (8, "success")))

        assert (await ask_github(github([], [older, newer]))).verdict is Verdict.PASS
        assert (await ask_github(github([], [newer | {"id": 6}, older]))).verdict is Verdict.FAIL

    async def test_two_workflows_may_have_a_job_of_the_same_name(self) -> None:
        runs = [workflow_run(1), workflow_run(2, "Nightly", workflow_id=2)]
        checks = [check_run(7, "build", "failure", suite=43), check_run(8, "build", suite=44)]

        assert (await ask_github(github(runs, checks))).verdict is Verdict.FAIL

    async def test_a_status_that_is_pending_is_waited_for(self) -> None:
        status = commit_status("ci/jenkins", "pending")
        stand_in = github([workflow_run(1)], [], [status])
        stand_in.on_request = lambda request: status.update(state="success") if request == 5 else None

        assert (await ask_github(stand_in, wait=30)).verdict is Verdict.PASS

    async def test_skipped_and_neutral_stand_in_nobodys_way_and_prove_nothing(self) -> None:
        skipped = [check_run(7, "docs", "skipped"), check_run(8, "lint", "neutral")]

        found = await ask_github(github([workflow_run(1)], skipped))
        assert (found.verdict, found.reason) == (
            Verdict.PASS,
            f"{REVISION[:12]}: 1 passed; passed over: docs (skipped), lint (neutral)",
        )
        assert (await ask_github(github([], skipped), required=["docs"])).verdict is Verdict.PASS
        alone = await ask_github(github([], skipped), wait=60)
        assert (alone.verdict, alone.seconds < 10) == (Verdict.INCONCLUSIVE, True)

    async def test_what_is_ignored_does_not_count_with_its_jobs(self) -> None:
        runs = [workflow_run(1), workflow_run(2, "Deploy", conclusion=None, workflow_id=2)]
        checks = [check_run(7, "build"), check_run(8, "deploy", None, suite=44)]

        found = await ask_github(github(runs, checks), ignore=["Deploy"])

        assert found.verdict is Verdict.PASS, found.reason

    async def test_runs_under_way_are_waited_for(self) -> None:
        check = check_run(7, "build", None)
        stand_in = github([], [check])

        def finish(request: int) -> None:
            if request == 6:
                check.update(status="completed", conclusion="success")

        stand_in.on_request = finish

        found = await ask_github(stand_in, wait=30)

        assert found.verdict is Verdict.PASS, found.reason
        assert len(stand_in.requests) >= 6

    async def test_what_is_not_finished_in_time_is_inconclusive(self) -> None:
        found = await ask_github(github([], [check_run(7, "build", None)]), wait=0.3)

        assert found.verdict is Verdict.INCONCLUSIVE
        assert found.reason == f"{REVISION[:12]}: under way: build (queued)"
        assert 0.3 <= found.seconds < 5

    async def test_when_planning_nothing_is_waited_for(self) -> None:
        stand_in = github([], [check_run(7, "build", None)])

        found = await ask_github(stand_in)

        assert found.verdict is Verdict.INCONCLUSIVE
        assert "a deployment waits for it" in found.reason
        assert len(stand_in.requests) == 3  # runs, check runs and statuses, once each

    @pytest.mark.parametrize(
        ("status", "cause"),
        [
            ("401 Unauthorized", "the token (preflight.ci.token) is wrong or has expired"),
            ("403 Forbidden", "the token may not read it"),
            ("404 Not Found", "there is no such repository, or the token"),
            ("422 Unprocessable Entity", "it knows no such commit"),
            ("451 Unavailable For Legal Reasons", "answered 451"),
        ],
    )
    async def test_a_refusal_has_its_cause(self, status: str, cause: str) -> None:
        body = {"message": f"not with {TOKEN}", "documentation_url": "https://docs.github.com/rest"}
        stand_in = github(first=[Said(status, body=body), Said(status, body=body)])

        found = await ask_github(stand_in, wait=30, token="env:CI_TOKEN")

        assert found.verdict is Verdict.ERROR
        assert cause in found.reason and "not with ***" in found.reason
        assert TOKEN not in found.model_dump_json()
        assert found.seconds < 10

    @pytest.mark.parametrize(
        "limit",
        [
            Said("429 Too Many Requests", {"Retry-After": "1"}),
            Said("403 Forbidden", {"Retry-After": "1"}, {"message": "You have exceeded a secondary rate limit"}),
            Said("403 Forbidden", {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "{now}"}),
        ],
        ids=["429", "403-retry-after", "403-reset"],
    )
    async def test_a_limit_is_waited_for(self, limit: Said) -> None:
        headers = {name: value.replace("{now}", str(int(time.time()) + 1)) for name, value in limit.headers.items()}
        stand_in = github([workflow_run(1)], first=[Said(limit.status, headers, limit.body)])

        found = await ask_github(stand_in, wait=30)

        assert found.verdict is Verdict.PASS, found.reason
        assert max(stand_in.seen_at) - min(stand_in.seen_at) >= 1

    @pytest.mark.parametrize("wait", [None, 5.0])
    async def test_a_limit_that_lasts_longer_than_may_be_waited_is_an_error(self, wait: float | None) -> None:
        stand_in = github(first=[Said("429 Too Many Requests", {"Retry-After": "3600"}) for _ in range(2)])

        found = await ask_github(stand_in, wait=wait)

        assert found.verdict is Verdict.ERROR
        assert "wants to be asked again in 3600 s" in found.reason
        assert found.seconds < 3

    async def test_a_servers_own_error_is_asked_again(self) -> None:
        stand_in = github([workflow_run(1)], first=[Said("502 Bad Gateway"), Said("503 Service Unavailable")])

        assert (await ask_github(stand_in)).verdict is Verdict.PASS

    @pytest.mark.parametrize(
        ("behaviour", "cause"),
        [
            (saying("503 Service Unavailable"), "answered 503, 3 times"),
            (hanging_up, "did not answer"),
            (silent, "did not answer: no whole answer within 0.2s, 3 times"),
            (endless, "did not answer"),
            (saying("200 OK", "<html>login</html>"), "something else than JSON"),
            (saying("200 OK", "[" * 1_000_000), "something else than JSON"),
            (saying("200 OK", '{"workflow_runs": {"a": 1}}'), "something else than a list"),
            (saying("302 Found", "", "Location: http://169.254.169.254/latest/meta-data/"), "never asked"),
        ],
        ids=["503", "hanging-up", "silent", "endless", "html", "deep", "no-list", "metadata"],
    )
    async def test_a_server_that_misbehaves_is_an_error(
        self, behaviour: Behaviour, cause: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ci_api, "WITHIN", timedelta(seconds=0.2 if behaviour is silent else 5))

        async with serving(behaviour) as url:
            found = await ask({"kind": "github", "repository": "octo-org/octo-repo", "url": url})

        assert found.verdict is Verdict.ERROR
        assert cause in found.reason

    async def test_a_token_that_leads_nowhere_is_named(self) -> None:
        found = await ask_github(github(), token="env:NO_SUCH_TOKEN")

        assert found.verdict is Verdict.ERROR
        assert "preflight.ci.token: env:NO_SUCH_TOKEN" in found.reason

    async def test_a_renamed_repository_is_followed_without_its_token_going_elsewhere(self) -> None:
        elsewhere = github([workflow_run(1)])
        async with standing_in(elsewhere) as url:
            stand_in = github()
            stand_in.on_request = lambda _: stand_in.first.append(
                Said("301 Moved Permanently", {"Location": url + stand_in.requests[-1][0]})
            )
            found = await ask_github(stand_in, token="env:CI_TOKEN")

        assert found.verdict is Verdict.PASS, found.reason
        assert all("authorization" in headers for _, headers in stand_in.requests)
        assert not any("authorization" in headers for _, headers in elsewhere.requests)

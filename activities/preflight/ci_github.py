"""A commit on GitHub has many runs: workflows started twice, attempts made again, jobs, and what other tools report.

Of each workflow and event the newest run counts, at its latest attempt, and of the check runs those that belong to no
older run, the latest of each app and name. A commit status is as real as a check run: the latest of each context
counts. `skipped` and `neutral` stand in nobody's way: this is how GitHub's own branch protection counts.

GitHub: docs.github.com/rest/actions/workflow-runs, /rest/checks/runs, /rest/commits/statuses (version 2022-11-28).
"""

from collections.abc import Callable, Iterable
from typing import Any

from activities.preflight.ci_api import CiApi
from activities.preflight.ci_runs import Run, RunState
from models.preflight.ci import GithubCi

_CAUSES = {
    401: "the token (preflight.ci.token) is wrong or has expired",
    403: "the token may not read it: it needs to read actions, checks and commit statuses of the repository",
    404: "there is no such repository, or the token (preflight.ci.token) may not see it",
    422: "it knows no such commit (release.revision)",
}
_CONCLUSIONS = {
    "success": RunState.PASSED,
    "neutral": RunState.SKIPPED,
    "skipped": RunState.SKIPPED,
}
_STATUSES = {"success": RunState.PASSED, "pending": RunState.PENDING}
_SHARED = ("id", "name", "head_sha", "status", "conclusion", "html_url")
_OF_RUNS = (*_SHARED, "workflow_id", "event", "run_number", "run_attempt", "check_suite_id")
_OF_CHECKS = (*_SHARED, "check_suite", "app")
_OF_STATUSES = ("id", "context", "state", "target_url")
Item = dict[str, Any]


def make_api(ci: GithubCi, token: str | None, patience: Callable[[], float]) -> CiApi:
    """The API as GitHub wants to be asked."""
    return CiApi(
        base=ci.url,
        headers={"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"},
        secret_headers={"Authorization": f"Bearer {token}"} if token else {},
        insecure=ci.insecure,
        patience=patience,
        causes=_CAUSES,
    )


async def find_runs(api: CiApi, ci: GithubCi, revision: str) -> list[Run]:
    """The runs of exactly this revision that count.

    Raises:
        CannotTellError: GitHub did not say.
    """
    base = f"/repos/{ci.repository}"
    workflows, checks, statuses = await api.list_each(
        api.list_all(f"{base}/actions/runs", {"head_sha": revision}, _OF_RUNS, "workflow_runs"),
        api.list_all(f"{base}/commits/{revision}/check-runs", {"filter": "latest"}, _OF_CHECKS, "check_runs"),
        # Its own `state` is `pending` where there is no status at all: only the statuses in it are looked at.
        api.list_all(f"{base}/commits/{revision}/status", {}, _OF_STATUSES, "statuses"),
    )
    workflows = [item for item in workflows if item.get("head_sha") == revision]
    checks = [item for item in checks if item.get("head_sha") == revision]
    current = _newest(workflows, lambda run: (run.get("workflow_id"), run.get("event")), _attempt)
    ignored = {_suite(run) for run in workflows if run.get("name") in ci.ignore}
    of_workflows = {_suite(run) for run in workflows}
    left_out = ignored | (of_workflows - {_suite(run) for run in current})
    counted = (check for check in checks if _suite_of(check) not in left_out)

    def about(check: Item) -> tuple[Any, ...]:
        # Two workflows may have a job of the same name: both count. Any other app has one check of a name.
        app, suite = check.get("app") or {}, _suite_of(check)
        return app.get("id"), app.get("slug"), check.get("name"), suite if suite in of_workflows else None

    found = [_run(item) for item in current]
    found += [_run(item) for item in _newest(counted, about, _age)]
    found = [run for run in found if run.name not in ci.ignore]
    # GitHub does not tell contexts apart by upper and lower case.
    spelled = {name.casefold(): name for name in ci.required}
    passed_over = {name.casefold() for name in ci.ignore}
    latest = _newest(statuses, lambda status: (_context(status).casefold(),), _age)
    found += [_status(item, spelled) for item in latest if _context(item).casefold() not in passed_over]
    return found


def _newest(
    items: Iterable[Item], key: Callable[[Item], tuple[Any, ...]], age: Callable[[Item], tuple[int, ...]]
) -> list[Item]:
    newest: dict[tuple[Any, ...], Item] = {}
    for item in items:
        before = newest.get(key(item))
        if before is None or age(item) > age(before):
            newest[key(item)] = item
    return list(newest.values())


def _attempt(run: Item) -> tuple[int, ...]:
    return _number(run.get("run_number")), _number(run.get("run_attempt")), _number(run.get("id"))


def _suite(run: Item) -> Any:
    # A run that names none belongs to itself alone.
    return run.get("check_suite_id") or f"run {run.get('id')}"


def _suite_of(check: Item) -> Any:
    return (check.get("check_suite") or {}).get("id")


def _age(item: Item) -> tuple[int, ...]:
    return (_number(item.get("id")),)


def _context(status: Item) -> str:
    return str(status.get("context"))


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _run(item: Item) -> Run:
    status, conclusion = str(item.get("status")), item.get("conclusion")
    done = status == "completed" and isinstance(conclusion, str)
    return Run(
        name=str(item.get("name")),
        state=_CONCLUSIONS.get(str(conclusion), RunState.FAILED) if done else RunState.PENDING,
        said=str(conclusion) if done else status,
        url=str(item.get("html_url") or ""),
    )


def _status(item: Item, spelled: dict[str, str]) -> Run:
    said = str(item.get("state"))
    name = _context(item)
    return Run(
        name=spelled.get(name.casefold(), name),
        state=_STATUSES.get(said, RunState.FAILED),
        said=said,
        url=str(item.get("target_url") or ""),
    )

"""A commit on GitLab has a pipeline for each way it was started, and statuses that other tools report.

Of each ref and source the newest pipeline counts, or its required jobs. Of the statuses the latest of each ref and name
counts, whichever pipeline GitLab has put it into: it puts each into the newest pipeline of the moment, and makes one of
the source `external` where there is none. The list of a commit's statuses has the jobs of all its pipelines, too, and
does not say which is what: what is among no pipeline's jobs was reported by another tool.

GitLab: docs.gitlab.com/api/pipelines ("List project pipelines"), /api/jobs ("List pipeline jobs", "List pipeline
trigger jobs") and /api/commits ("List the statuses of a commit").
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any
from urllib.parse import quote

from activities.preflight.ci_api import CiApi
from activities.preflight.ci_runs import NotAllowedError, Run, RunState
from models.preflight.ci import GitlabCi

_CAUSES = {
    401: "the token (preflight.ci.token) is missing, wrong or has expired",
    403: "the token may not read it: it needs the scope read_api, and pipelines must be visible to it",
    404: "there is no such project or revision, or the token (preflight.ci.token) may not see it",
}
_DONE = {
    "success": RunState.PASSED,
    "skipped": RunState.SKIPPED,
    "failed": RunState.FAILED,
    "canceled": RunState.FAILED,
}
_OF_PIPELINES = ("id", "ref", "source", "sha", "status", "web_url")
_OF_JOBS = ("id", "name", "status", "web_url")
_OF_STATUSES = ("id", "sha", "ref", "name", "status", "allow_failure", "target_url")
_EXTERNAL = "external"
Item = dict[str, Any]


def make_api(ci: GitlabCi, token: str | None, patience: Callable[[], float]) -> CiApi:
    """The API as GitLab wants to be asked."""
    return CiApi(
        base=ci.url,
        headers={"Accept": "application/json"},
        secret_headers={"PRIVATE-TOKEN": token} if token else {},
        insecure=ci.insecure,
        patience=patience,
        causes=_CAUSES,
    )


async def find_runs(api: CiApi, ci: GitlabCi, revision: str) -> list[Run]:
    """The newest pipeline of each ref and source, or the jobs of these pipelines when jobs are required; and statuses.

    Raises:
        CannotTellError: GitLab did not say.
    """
    base = f"/projects/{quote(ci.project, safe='')}"
    refused: list[NotAllowedError] = []
    pipelines, statuses = await api.list_each(
        api.list_all(f"{base}/pipelines", {"sha": revision}, _OF_PIPELINES),
        _statuses(api, f"{base}/repository/commits/{revision}/statuses", refused),
    )
    pipelines = [item for item in pipelines if item.get("sha") == revision]
    statuses = [item for item in statuses if item.get("sha") == revision]
    current = _newest(pipelines, lambda item: (item.get("ref"), item.get("source")))
    # Without `include_retried` a job is listed at its latest attempt.
    jobs = await _inside(api, base, "jobs", pipelines if statuses else current if ci.required else [])
    known = {_id(job) for of_one in jobs.values() for job in of_one}
    reported = [_status(item, ci.required) for item in await _reported(api, base, pipelines, statuses, known)]
    if not ci.required:
        # A pipeline that only holds what was reported says nothing beside it, and may be older.
        return [_pipeline(item) for item in current if not (reported and item.get("source") == _EXTERNAL)] + reported
    of_current = (_newest(jobs.get(_id(pipeline), []), lambda job: (job.get("name"),)) for pipeline in current)
    found = [_job(job) for of_one in of_current for job in of_one] + reported
    if refused and not {run.name for run in found}.issuperset(ci.required):
        raise refused[0]
    return found


async def _statuses(api: CiApi, path: str, refused: list[NotAllowedError]) -> list[Item]:
    """The statuses of the commit, jobs among them. Without a token GitLab refuses this list where it shows the others,
    and pipelines have the state of what was reported in them.
    """
    try:
        return await api.list_all(path, {}, _OF_STATUSES)
    except NotAllowedError as error:
        if api.secret_headers:
            raise
        refused.append(error)
        return []


async def _reported(api: CiApi, base: str, pipelines: list[Item], statuses: list[Item], known: set[int]) -> list[Item]:
    """The latest of what other tools reported: the statuses that are not a job of a pipeline or of its children."""
    left = [item for item in statuses if _id(item) not in known]
    own = [item for item in pipelines if item.get("source") != _EXTERNAL]
    if left and own:
        triggers = await _inside(api, base, "bridges", own)
        known = known | {_id(job) for of_one in triggers.values() for job in of_one}
        left = [item for item in left if _id(item) not in known]
    if left and own:
        query = {"sha": statuses[0]["sha"], "source": "parent_pipeline"}
        children = await api.list_all(f"{base}/pipelines", query, _OF_PIPELINES)
        for kind in ("jobs", "bridges"):
            inside = await _inside(api, base, kind, children)
            known = known | {_id(job) for of_one in inside.values() for job in of_one}
        left = [item for item in left if _id(item) not in known]
    return _newest(left, lambda item: (item.get("ref"), item.get("name")))


async def _inside(api: CiApi, base: str, kind: str, pipelines: list[Item]) -> dict[int, list[Item]]:
    """What runs in these pipelines, by their number."""
    numbers = [_id(item) for item in pipelines if item.get("source") != _EXTERNAL]
    found = await api.list_each(
        *(api.list_all(f"{base}/pipelines/{number}/{kind}", {}, _OF_JOBS) for number in numbers)
    )
    return dict(zip(numbers, found, strict=True))


def _newest(items: Iterable[Item], key: Callable[[Item], tuple[Any, ...]]) -> list[Item]:
    newest: dict[tuple[Any, ...], Item] = {}
    for item in items:
        if key(item) not in newest or _id(item) > _id(newest[key(item)]):
            newest[key(item)] = item
    return list(newest.values())


def _id(item: Item) -> int:
    found = item.get("id")
    return found if isinstance(found, int) else 0


def _pipeline(item: Item) -> Run:
    name = f"pipeline {_id(item)} of {item.get('ref')} by {item.get('source')}"
    said = str(item.get("status"))
    return Run(name=name, state=_DONE.get(said, RunState.PENDING), said=said, url=str(item.get("web_url") or ""))


def _job(item: Item) -> Run:
    said = str(item.get("status"))
    # A job that must pass and was passed over has proven nothing.
    state = RunState.FAILED if said == "skipped" else _DONE.get(said, RunState.PENDING)
    return Run(name=str(item.get("name")), state=state, said=said, url=str(item.get("web_url") or ""))


def _status(item: Item, required: Collection[str]) -> Run:
    name, said = str(item.get("name")), str(item.get("status"))
    state = _DONE.get(said, RunState.PENDING)
    if name in required:
        state = RunState.FAILED if state is RunState.SKIPPED else state
    elif item.get("allow_failure") is True and state is RunState.FAILED:
        # As in GitLab's own pipelines: it stands in nobody's way, and proves nothing.
        state, said = RunState.SKIPPED, f"{said}, allowed to fail"
    return Run(name=name, state=state, said=said, url=str(item.get("target_url") or ""))

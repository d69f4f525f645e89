"""A commit on GitLab has a pipeline for each way it was started; of each the newest counts, or its required jobs.

GitLab: docs.gitlab.com/api/pipelines ("List project pipelines") and /api/jobs ("List pipeline jobs").
"""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from activities.preflight.ci_api import Api
from activities.preflight.ci_runs import Run, State
from models.preflight.ci import GitlabCi

_CAUSES = {
    401: "the token (preflight.ci.token) is missing, wrong or has expired",
    403: "the token may not read it: it needs the scope read_api, and pipelines must be visible to it",
    404: "there is no such project, or the token (preflight.ci.token) may not see it",
}
_DONE = {"success": State.PASSED, "skipped": State.SKIPPED, "failed": State.FAILED, "canceled": State.FAILED}
_OF_PIPELINES = ("id", "ref", "source", "sha", "status", "web_url")
_OF_JOBS = ("name", "status", "web_url")
Item = dict[str, Any]


def make_api(ci: GitlabCi, token: str | None, patience: Callable[[], float]) -> Api:
    """The API as GitLab wants to be asked."""
    return Api(
        base=ci.url,
        headers={"Accept": "application/json"},
        secret_headers={"PRIVATE-TOKEN": token} if token else {},
        insecure=ci.insecure,
        patience=patience,
        causes=_CAUSES,
    )


async def find_runs(api: Api, ci: GitlabCi, revision: str) -> list[Run]:
    """The newest pipeline of each ref and source, or the jobs of these pipelines when jobs are required.

    Raises:
        CannotTellError: GitLab did not say.
    """
    base = f"/projects/{quote(ci.project, safe='')}/pipelines"
    newest: dict[tuple[Any, Any], Item] = {}
    for item in await api.list_all(base, {"sha": revision}, _OF_PIPELINES):
        key = (item.get("ref"), item.get("source"))
        if item.get("sha") == revision and _id(item) > _id(newest.get(key, {})):
            newest[key] = item
    pipelines = list(newest.values())
    if not ci.required:
        return [_pipeline(item) for item in pipelines]
    # Without `include_retried` a job is listed at its latest attempt.
    jobs = await asyncio.gather(*(api.list_all(f"{base}/{_id(item)}/jobs", {}, _OF_JOBS) for item in pipelines))
    return [_job(job) for of_one in jobs for job in of_one]


def _id(item: Item) -> int:
    found = item.get("id")
    return found if isinstance(found, int) else 0


def _pipeline(item: Item) -> Run:
    name = f"pipeline {_id(item)} of {item.get('ref')} by {item.get('source')}"
    said = str(item.get("status"))
    return Run(name=name, state=_DONE.get(said, State.PENDING), said=said, url=str(item.get("web_url") or ""))


def _job(item: Item) -> Run:
    said = str(item.get("status"))
    # A job that must pass and was passed over has proven nothing.
    state = State.FAILED if said == "skipped" else _DONE.get(said, State.PENDING)
    return Run(name=str(item.get("name")), state=state, said=said, url=str(item.get("web_url") or ""))

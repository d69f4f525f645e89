"""Stand-ins for GitHub's and GitLab's APIs: neither can be installed here.

Made from what they publish: GitHub's OpenAPI description of REST (version 2022-11-28: list workflow runs for a
repository, list check runs for a Git reference, get the combined status; rate limits; pagination by `Link`) and
GitLab's API documentation (list project pipelines, list pipeline jobs and trigger jobs, list the statuses of a commit,
pagination, rate limits). Items have the fields
that these mark as required and that matter here, with the values of their examples; errors have the bodies and headers
that are documented for them.
"""

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.serving import read_request, serving

REVISION = "acb5820ced9479c074f688cc328bf03f341a511d"
OTHER = "009b8a3a9ccbb128af87f9b1c0f4c62e8a304f6d"
TOKEN = "ghs_16C7e42F292c6912E7710c838347Ae178B4a"
Item = dict[str, Any]


@dataclass
class Said:
    """One answer that the server gives before it goes on as usual."""

    status: str
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None


@dataclass
class FakeWorkflow:
    """A server with lists by path.

    Attributes:
        lists: path → (key in the answer or None, items).
        first: answers that come before anything else, in this order.
        token: header and value that every request must have; None: anybody may ask.
        closed: paths that nobody may ask without a token, where everything else is public.
        on_request: called with the number of each request; may change the lists.
    """

    lists: dict[str, tuple[str | None, list[Item]]]
    first: list[Said] = field(default_factory=list)
    token: tuple[str, str] | None = None
    closed: tuple[str, ...] = ()
    page_size: int = 100
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    seen_at: list[float] = field(default_factory=list)
    on_request: Callable[[int], None] = lambda _: None
    base: str = ""

    def answer(self, target: str, headers: dict[str, str]) -> Said:
        """What is said to one request."""
        self.requests.append((target, headers))
        self.seen_at.append(time.monotonic())
        self.on_request(len(self.requests))
        if self.first:
            return self.first.pop(0)
        if self.token is not None and headers.get(self.token[0]) != self.token[1]:
            return Said("401 Unauthorized", body={"message": "Bad credentials", "status": "401"})
        split = urlsplit(target)
        if split.path.endswith(self.closed) and "private-token" not in headers:
            return Said("401 Unauthorized", body={"message": "401 Unauthorized"})
        query = {name: values[0] for name, values in parse_qs(split.query).items()}
        if split.path not in self.lists:
            return Said("404 Not Found", body={"message": "Not Found", "status": "404"})
        return self._page(split.path, query)

    def _page(self, path: str, query: dict[str, str]) -> Said:
        key, items = self.lists[path]
        items = [item for item in items if _wanted(item, query)]
        size, page = min(int(query.get("per_page", 30)), self.page_size), int(query.get("page", 1))
        part = items[(page - 1) * size : page * size]
        more = len(items) > page * size
        headers = {"Link": f'<{self.base}{path}?page={page + 1}>; rel="next"'} if more else {}
        if key is None:
            return Said("200 OK", headers, part)
        combined = {"state": _combined(items), "sha": REVISION} if key == "statuses" else {}
        return Said("200 OK", headers, {**combined, "total_count": len(items), key: part})


def _combined(statuses: list[Item]) -> str:
    """`failure` if any context reports as error or failure, `pending` if there are none or one is pending."""
    states = {item["state"] for item in statuses}
    if states & {"error", "failure"}:
        return "failure"
    return "pending" if not states or "pending" in states else "success"


def _wanted(item: Item, query: dict[str, str]) -> bool:
    if "source" in item and query.get("source") != "parent_pipeline" and item["source"] == "parent_pipeline":
        return False  # child pipelines are listed only to those who ask for them
    return all(item.get(name) == query[name] for name in ("head_sha", "sha", "source") if name in query)


@asynccontextmanager
async def standing_in(stand_in: FakeWorkflow) -> AsyncIterator[str]:
    """The stand-in on a free port; gives its base URL."""

    async def behaviour(reader: Any, writer: Any) -> None:
        head, *lines = (await read_request(reader)).split(b"\r\n\r\n")[0].decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        said = stand_in.answer(head.split()[1], headers)
        body = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
        extra = "".join(f"{name}: {value}\r\n" for name, value in said.headers.items())
        writer.write(
            f"HTTP/1.1 {said.status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"Connection: close\r\n{extra}\r\n".encode()
            + body
        )

    async with serving(behaviour) as base:
        stand_in.base = base
        yield base


def github(
    runs: list[Item] | None = None, checks: list[Item] | None = None, statuses: list[Item] | None = None, **more: Any
) -> FakeWorkflow:
    """GitHub with the repository octo-org/octo-repo."""
    base = "/repos/octo-org/octo-repo"
    return FakeWorkflow(
        {
            f"{base}/actions/runs": ("workflow_runs", runs or []),
            f"{base}/commits/{REVISION}/check-runs": ("check_runs", checks or []),
            f"{base}/commits/{REVISION}/status": ("statuses", statuses or []),
        },
        **more,
    )


def workflow_run(number: int, name: str = "Build", conclusion: str | None = "success", **fields: Any) -> Item:
    """A workflow run as GitHub lists it."""
    return {
        "id": 30433642 + number,
        "name": name,
        "node_id": "MDEyOldvcmtmbG93IFJ1bjI2OTI4OQ==",
        "check_suite_id": 42 + number,
        "head_branch": "main",
        "head_sha": REVISION,
        "path": f".github/workflows/{name.lower()}.yml@main",
        "run_number": number,
        "run_attempt": 1,
        "event": "push",
        "display_title": "Update README.md",
        "status": "completed" if conclusion else "in_progress",
        "conclusion": conclusion,
        "workflow_id": 159038,
        "html_url": f"https://github.com/octo-org/octo-repo/actions/runs/{30433642 + number}",
        "created_at": "2020-01-22T19:33:08Z",
        "updated_at": "2020-01-22T19:33:08Z",
        **fields,
    }


def check_run(number: int, name: str, conclusion: str | None = "success", suite: int = 43, **fields: Any) -> Item:
    """A check run as GitHub lists it; `suite` 42 + n belongs to the workflow run n."""
    return {
        "id": number,
        "head_sha": REVISION,
        "node_id": "MDg6Q2hlY2tSdW40",
        "external_id": "",
        "html_url": f"https://github.com/octo-org/octo-repo/runs/{number}",
        "details_url": "https://example.com",
        "status": "completed" if conclusion else "queued",
        "conclusion": conclusion,
        "started_at": "2018-05-04T01:14:52Z",
        "completed_at": "2018-05-04T01:14:52Z" if conclusion else None,
        "name": name,
        "check_suite": {"id": suite},
        "app": {"id": 15368, "slug": "github-actions"},
        "pull_requests": [],
        **fields,
    }


def commit_status(context: str, state: str = "success", number: int = 1, **fields: Any) -> Item:
    """A commit status in the combined status."""
    return {
        "url": f"https://api.github.com/repos/octo-org/octo-repo/statuses/{REVISION}",
        "avatar_url": "https://github.com/images/error/hubot_happy.gif",
        "id": number,
        "node_id": "MDY6U3RhdHVzMQ==",
        "state": state,
        "description": "Build",
        "target_url": "https://ci.example.com",
        "context": context,
        "created_at": "2012-07-20T01:19:13Z",
        "updated_at": "2012-07-20T01:19:13Z",
        **fields,
    }


def gitlab(
    pipelines: list[Item],
    jobs: dict[int, list[Item]] | None = None,
    statuses: list[Item] | None = None,
    bridges: dict[int, list[Item]] | None = None,
    **more: Any,
) -> FakeWorkflow:
    """GitLab with the project group/shop. As there, the statuses of the commit have the jobs of all pipelines, too."""
    project = "/projects/group%2Fshop"
    assert unquote(project).endswith("group/shop")
    lists: dict[str, tuple[str | None, list[Item]]] = {f"{project}/pipelines": (None, pipelines)}
    listed = list(statuses or [])
    for kind, inside in (("jobs", jobs or {}), ("bridges", bridges or {})):
        for number in {each["id"] for each in pipelines} | inside.keys():
            found = inside.get(number, [])
            lists[f"{project}/pipelines/{number}/{kind}"] = (None, found)
            listed += [reported(each["id"], **_as_status(each)) for each in found]
    lists[f"{project}/repository/commits/{REVISION}/statuses"] = (None, listed)
    return FakeWorkflow(lists, **more)


def _as_status(job: Item) -> Item:
    kept = {name: job[name] for name in ("name", "status", "ref", "allow_failure")}
    return {**kept, "target_url": job["web_url"]}


def reported(number: int, name: str, status: str = "success", **fields: Any) -> Item:
    """A status of a commit as GitLab lists it. Numbers are shared with jobs and trigger jobs."""
    return {
        "id": number,
        "sha": REVISION,
        "ref": "main",
        "status": status,
        "name": name,
        "target_url": "https://ci.example.com",
        "description": None,
        "created_at": "2016-01-19T08:40:25.934Z",
        "started_at": None,
        "finished_at": None,
        "allow_failure": False,
        "coverage": None,
        "author": {"username": "janedoe", "id": 28, "state": "active"},
        **fields,
    }


def pipeline(number: int, status: str = "success", **fields: Any) -> Item:
    """A pipeline as GitLab lists it."""
    return {
        "id": number,
        "iid": number,
        "project_id": 1,
        "status": status,
        "source": "push",
        "ref": "main",
        "sha": REVISION,
        "web_url": f"https://example.com/foo/bar/pipelines/{number}",
        "created_at": "2016-08-11T11:28:34.085Z",
        "updated_at": "2016-08-11T11:32:35.169Z",
        **fields,
    }


def job(number: int, name: str, status: str = "success", **fields: Any) -> Item:
    """A job as GitLab lists it."""
    return {
        "id": number,
        "name": name,
        "status": status,
        "stage": "test",
        "ref": "main",
        "allow_failure": False,
        "web_url": f"https://example.com/foo/bar/-/jobs/{number}",
        **fields,
    }

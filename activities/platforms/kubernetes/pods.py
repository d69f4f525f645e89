"""A pod that runs is not an instance yet: it is one when it answers for itself. Every pod is asked, not one of them.

A pod is asked at its own address where that can be reached, and through the API server elsewhere.
"""

import asyncio
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import httpx

from activities.heartbeat import last_lines, shorten
from activities.platforms.kubernetes.api import Json, KubernetesApi
from activities.platforms.kubernetes.cluster import Cluster
from activities.platforms.kubernetes.names import OFF, REVISION, TRAFFIC, label_value
from activities.platforms.kubernetes.state import KubernetesRevisionRecord
from activities.platforms.printed import LARGEST_PIECE, read_timed
from activities.platforms.probes import (
    PROBE_SECONDS,
    ask_health,
    ask_ready,
    ask_unfit,
    ask_version,
    explain,
    first_good,
    make_client,
)
from models.errors import PlatformError, UnavailableError
from models.platforms.kubernetes import Reach
from models.release import InstanceReport, Printed
from models.spec import Endpoints

_BEHIND = "http://behind-the-api-server"
# For an API server that says it has too much to do.
PATIENCE = 6.0
LOG_LINES = 30


class Proxied(httpx.AsyncBaseTransport):
    """Puts a request through the API server's proxy of a pod: the path is that of the API."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            path, within = request.url.raw_path.decode(), float(request.extensions.get("within", PROBE_SECONDS))
            # Only a Host that the service is to be asked with: the one of the address is nobody's.
            host = request.headers["Host"] if request.headers["Host"] != request.url.netloc.decode() else None
            status, body, headers = await self._api.through(path, within, PATIENCE + within - PROBE_SECONDS, host)
        except UnavailableError as error:
            raise httpx.ConnectError(str(error), request=request) from error
        kept = {name: headers[name] for name in ("Content-Type", "Location") if name in headers}
        if "Content-Encoding" in headers:
            body = b""  # was not asked for, and says nothing here as it says nothing elsewhere
        return httpx.Response(status, headers=kept, content=body)


class Pods:
    """The pods of the revisions of a target."""

    def __init__(self, cluster: Cluster, direct: httpx.AsyncClient) -> None:
        self._cluster = cluster
        self._direct = direct

    @cached_property
    def _client(self) -> httpx.AsyncClient:
        if not self.through_api:
            return self._direct
        return httpx.AsyncClient(transport=Proxied(self._cluster.api), trust_env=False, timeout=PATIENCE)

    async def of(self, kept: KubernetesRevisionRecord) -> list[Json]:
        """The living pods of a revision, the oldest first: not those that end, or were taken out to end."""
        found = await self._cluster.api.list(self._cluster.core("pods"), selector_of(kept))
        return sorted((pod for pod in found if _is_living(pod)), key=_age)

    async def lately(self, kept: KubernetesRevisionRecord, within: float) -> list[Json]:
        """The same as they were at most `within` seconds ago, listed together with those of other targets."""
        path = self._cluster.core("pods")
        if kept.adopted:
            found = await self._cluster.api.list_lately(path, kept.selector, within)
        else:
            found = _of_revision(kept, await self._cluster.api.list_lately(path, REVISION, within))
        return sorted((pod for pod in found if _is_living(pod)), key=_age)

    def guess(self, kept: KubernetesRevisionRecord) -> list[Json]:
        """The same as a watch of this worker has read them last. To be checked."""
        if kept.adopted:
            return []
        found = self._cluster.api.listed_last(self._cluster.core("pods"), REVISION)
        return [pod for pod in _of_revision(kept, found) if _is_living(pod)]

    async def leaving(self, kept: KubernetesRevisionRecord) -> list[Json]:
        """Those that were taken out of the traffic to end."""
        found = await self._cluster.api.list(self._cluster.core("pods"), {**selector_of(kept), TRAFFIC: OFF})
        return [pod for pod in found if not ends(pod)]

    async def report(
        self,
        kept: KubernetesRevisionRecord,
        expected: int = 0,
        *,
        with_version: bool = False,
        before_users: bool = False,
    ) -> tuple[InstanceReport, ...]:
        """Each instance of a revision, as it answers for itself now; also those that are expected and not there.

        Args:
            kept: the revision.
            expected: how many there should be.
            with_version: each is asked for its version as well.
            before_users: each is asked as well for what would be refused later, with users on it.
        """
        pods = await self.of(kept)
        reports = await asyncio.gather(
            *(self._report(kept, pod, with_version=with_version, before_users=before_users) for pod in pods)
        )
        return (*reports, *(_absent(kept, number) for number in range(len(pods) + 1, expected + 1)))

    async def healthy(self, kept: KubernetesRevisionRecord, pods: Iterable[Json]) -> list[Json]:
        """Those that answer healthy right now."""
        among = list(pods)
        said = await asyncio.gather(*(self._unhealthy(kept, pod) for pod in among))
        return [pod for pod, wrong in zip(among, said, strict=True) if not wrong]

    async def any_healthy(
        self, kept: KubernetesRevisionRecord, pods: Iterable[Json], asked: Mapping[str, asyncio.Task[str]] | None = None
    ) -> bool:
        """Whether one of them answers healthy right now; the first good answer ends the wait.

        Those in `asked`, by their uid, are being asked already.
        """
        before = asked or {}
        return await first_good(self._still_unhealthy(kept, pod, before.get(pod["metadata"]["uid"])) for pod in pods)

    def ask_early(self, kept: KubernetesRevisionRecord) -> dict[str, asyncio.Task[str]]:
        """Begins to ask those that were there a moment ago, by their uid, before it is known who is there now."""
        return {
            pod["metadata"]["uid"]: asyncio.create_task(self._unhealthy(kept, pod))
            for pod in self.guess(kept)
            if not not_running(kept, pod)
        }

    async def one(self, kept: KubernetesRevisionRecord, pod: Json) -> InstanceReport:
        """One instance, as it answers for itself now."""
        return await self._report(kept, pod, with_version=False, before_users=False)

    @property
    def through_api(self) -> bool:
        """Whether each question to a pod is a request to the API server."""
        return self._cluster.reach is Reach.API

    async def unready(self, kept: KubernetesRevisionRecord, pod: Json) -> str:
        """What keeps a pod from taking traffic; empty when nothing does."""
        wrong = not_running(kept, pod) or await self._unhealthy(kept, pod)
        wrong = wrong or await ask_ready(self._client, self.base(kept, pod), kept.revision)
        return wrong or ("" if is_ready(pod) else "its readiness probe has not passed yet")

    def base(self, kept: KubernetesRevisionRecord, pod: Json) -> str:
        """Where the pod is asked."""
        port = port_of(kept, pod)
        if self._cluster.reach is Reach.API:
            path = self._cluster.core("pods", f"{pod['metadata']['name']}:{port}").replace("%3A", ":")
            return f"{_BEHIND}{path}/proxy"
        return address_of(kept, pod)

    async def log(self, kept: KubernetesRevisionRecord, pod: Json) -> str:
        """The last lines of the container that is the service, or of the one before it; scrubbed and cut."""
        lines = await self._log(kept, pod, previous=False)
        if len(lines.strip().splitlines()) <= 1 and restarts_of(kept, pod):
            lines = await self._log(kept, pod, previous=True) or lines
        return last_lines(lines)

    async def printed(self, kept: KubernetesRevisionRecord, pod: Json, lines: int, since: Mapping[str, str]) -> Printed:
        """What the container that is the service has printed: its last lines, or what came after a cursor."""
        name = str(pod["metadata"]["name"])
        cursor = since.get(name, "")
        query = {"container": kept.container, "timestamps": "true", "limitBytes": str(LARGEST_PIECE)}
        query |= {"sinceTime": cursor} if cursor else {"tailLines": str(lines)}
        try:
            text = await self._cluster.api.text(self._cluster.core("pods", name, "/log"), query, LARGEST_PIECE)
        except PlatformError:
            text = ""  # a container that never ran has printed nothing
        return read_timed(name, text, cursor)

    async def found(self, kept: KubernetesRevisionRecord, pod: Json, wanted: Endpoints) -> tuple[Endpoints, str | None]:
        """Which of the endpoints a pod that nobody has told us about really has, and its version."""
        base, kept_ones = self.base(kept, pod), {}
        for name in ("health", "ready", "live", "metrics"):
            path = getattr(wanted, name)
            asked = kept.revision.model_copy(update={"endpoints": Endpoints(ready=path)})
            wrong = path is None or await ask_ready(self._client, base, asked)
            kept_ones[name] = None if wrong else path
        version, _ = await ask_version(self._client, base, kept.revision.model_copy(update={"endpoints": wanted}))
        kept_ones["version"] = wanted.version if version else None
        return Endpoints(**kept_ones), version

    async def _log(self, kept: KubernetesRevisionRecord, pod: Json, *, previous: bool) -> str:
        query = {"container": kept.container, "tailLines": str(LOG_LINES), "limitBytes": "65536"}
        path = self._cluster.core("pods", pod["metadata"]["name"], "/log")
        try:
            return await self._cluster.api.text(path, {**query, **({"previous": "true"} if previous else {})}, 16384)
        except PlatformError:
            return ""  # a container that never ran has none

    async def _unhealthy(self, kept: KubernetesRevisionRecord, pod: Json) -> str:
        wrong, endpoints = not_running(kept, pod), kept.revision.endpoints
        if wrong:
            return wrong
        if self._cluster.reach is Reach.API and not (endpoints.health or endpoints.ready):
            return await self._silent(kept, pod)
        return await ask_health(self._client, self.base(kept, pod), kept.revision)

    async def _still_unhealthy(self, kept: KubernetesRevisionRecord, pod: Json, asked: asyncio.Task[str] | None) -> str:
        # A bad answer may be one of the past: it was asked for where the pod was before.
        return await self._unhealthy(kept, pod) if asked is None or await asked else ""

    async def _silent(self, kept: KubernetesRevisionRecord, pod: Json) -> str:
        """Whether nothing listens behind the API server's proxy: then the server itself answers, with its Status."""
        try:
            answer = await self._client.get(self.base(kept, pod) + "/")
            said = json.loads(answer.content)
        except httpx.HTTPError as error:
            return f"the port cannot be asked: {error}"
        except ValueError:
            return ""
        status = isinstance(said, dict) and (said.get("kind"), said.get("apiVersion")) == ("Status", "v1")
        return "the port does not accept a connection" if status else ""

    async def explain(self, kept: KubernetesRevisionRecord, pod: Json, detail: str) -> str:
        """All that is wrong with what a pod answers; `detail` where it does not answer at all."""
        return (
            detail
            if not_running(kept, pod)
            else await explain(self._client, self.base(kept, pod), kept.revision, detail)
        )

    async def _report(
        self, kept: KubernetesRevisionRecord, pod: Json, *, with_version: bool, before_users: bool
    ) -> InstanceReport:
        running = not not_running(kept, pod)
        wrong = await self._unhealthy(kept, pod)
        version, unknown = None, ""
        if running and with_version:
            version, unknown = await ask_version(self._client, self.base(kept, pod), kept.revision)
        unfit = await ask_unfit(self._client, self.base(kept, pod), kept.revision) if running and before_users else {}
        return InstanceReport(
            name=pod["metadata"]["name"],
            address=address_of(kept, pod) if pod.get("status", {}).get("podIP") else "",
            running=running,
            healthy=not wrong,
            version=version,
            restarts=restarts_of(kept, pod),
            detail=shorten("; ".join(part for part in (wrong, unknown) if part)),
            unfit={endpoint: shorten(said) for endpoint, said in unfit.items()},
        )


def direct_client() -> httpx.AsyncClient:
    """The client that pods are asked with at their own addresses."""
    return make_client()


def selector_of(kept: KubernetesRevisionRecord) -> dict[str, str]:
    """The labels of all pods of a revision, whether they take traffic or not."""
    if kept.adopted:
        return kept.selector
    return {REVISION: label_value(kept.revision.id)}


def not_running(kept: KubernetesRevisionRecord, pod: Json) -> str:
    """Why the container that is the service does not run; empty when it does."""
    status = container_status(kept, pod)
    if status is None:
        waits = next((one for one in conditions(pod) if one.get("status") == "False" and one.get("message")), None)
        return f"it has not been started: {waits['message']}" if waits else "it has not been started"
    state = status.get("state") or {}
    if "running" in state:
        return "" if pod.get("status", {}).get("podIP") else "it has no address yet"
    for name in ("waiting", "terminated"):
        if name in state:
            said = " ".join(str(state[name].get(part) or "") for part in ("reason", "message")).strip()
            return f"it does not run ({said or name})"
    return "it has not been started"


def container_status(kept: KubernetesRevisionRecord, pod: Json) -> Json | None:
    """The status of the container that is the service."""
    statuses = pod.get("status", {}).get("containerStatuses") or []
    return next((one for one in statuses if one.get("name") == kept.container), None)


def restarts_of(kept: KubernetesRevisionRecord, pod: Json) -> int:
    """How often the container that is the service was started again."""
    status = container_status(kept, pod)
    return int(status.get("restartCount") or 0) if status else 0


def conditions(thing: Json) -> list[Json]:
    """The conditions that an object reports."""
    found: list[Json] = thing.get("status", {}).get("conditions") or []
    return found


def is_ready(pod: Json) -> bool:
    """Whether the cluster itself counts the pod as ready."""
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions(pod))


def ends(pod: Json) -> bool:
    """Whether the pod has been asked to end."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def address_of(kept: KubernetesRevisionRecord, pod: Json) -> str:
    """The pod's own address, as a URL."""
    ip = str(pod.get("status", {}).get("podIP") or "")
    return f"http://{f'[{ip}]' if ':' in ip else ip}:{port_of(kept, pod)}"


def port_of(kept: KubernetesRevisionRecord, pod: Json) -> int:
    """The number of the port where the pod answers for itself."""
    if isinstance(kept.port, int):
        return kept.port
    named: list[dict[str, Any]] = [
        port for container in pod["spec"]["containers"] for port in container.get("ports") or ()
    ]
    return next((int(port["containerPort"]) for port in named if port.get("name") == kept.port), 0)


def pod_path(cluster: Cluster, pod: Json) -> str:
    """The path of a pod."""
    return cluster.core("pods", pod["metadata"]["name"])


def _of_revision(kept: KubernetesRevisionRecord, pods: list[Json]) -> list[Json]:
    value = label_value(kept.revision.id)
    return [pod for pod in pods if (pod["metadata"].get("labels") or {}).get(REVISION) == value]


def _is_living(pod: Json) -> bool:
    labels = pod["metadata"].get("labels") or {}
    gone = ends(pod) or pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return not gone and labels.get(TRAFFIC) != OFF


def _age(pod: Json) -> tuple[str, str]:
    return pod["metadata"].get("creationTimestamp") or "", pod["metadata"]["name"]


def _absent(kept: KubernetesRevisionRecord, number: int) -> InstanceReport:
    name = f"{kept.deployment}/{number}"
    return InstanceReport(name=name, address="", running=False, healthy=False, detail="there is no such instance")

"""Asks the pods of a watched candidate, as seldom as a watch allows.

Where a question to a pod is a request to the API server, pods that are well are asked in turns: each comes round within
three probes, and one that was not well, is not ready or was restarted is asked each time. Pods are listed together with
those of other targets; before one is called ill, those that are there are read anew.
"""

import asyncio
import time

from activities.platforms.kubernetes.api import Json
from activities.platforms.kubernetes.pods import Pods, is_ready, not_running, restarts_of
from activities.platforms.kubernetes.state import KubernetesRevisionRecord
from models.release import InstanceReport

TURNS = 3
FORGOTTEN_AFTER = 600.0


class Probes:
    """What each pod has answered last, by its uid."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, InstanceReport]] = {}

    async def report(self, pods: Pods, kept: KubernetesRevisionRecord, within: float) -> tuple[InstanceReport, ...]:
        """Each instance of a revision; who is there was read at most `within` seconds ago."""
        there = await pods.lately(kept, within)
        due = self._due(kept, there) if pods.through_api else there
        await self._ask(pods, kept, due)
        if not all(self._last[_uid(pod)][1].healthy for pod in due):
            known = {_uid(pod): pod for pod in there}
            # One that has gone meanwhile did not fail; one that is there since is asked the next time.
            there = [pod for pod in await pods.of(kept) if _uid(pod) in known]
            started = [p for p in there if not_running(kept, p) != not_running(kept, known[_uid(p)])]
            await self._ask(pods, kept, started)
        return tuple(self._last[_uid(pod)][1] for pod in there)

    async def _ask(self, pods: Pods, kept: KubernetesRevisionRecord, due: list[Json]) -> None:
        reports = await asyncio.gather(*(pods.one(kept, pod) for pod in due))
        now = time.monotonic()
        self._last |= {_uid(pod): (now, report) for pod, report in zip(due, reports, strict=True)}
        oldest = now - FORGOTTEN_AFTER
        for uid in [uid for uid, (asked_at, _) in self._last.items() if asked_at < oldest]:
            del self._last[uid]

    def _due(self, kept: KubernetesRevisionRecord, there: list[Json]) -> list[Json]:
        doubtful = [pod for pod in there if not self._was_well(kept, pod)]
        well = sorted((p for p in there if self._was_well(kept, p)), key=lambda pod: self._last[_uid(pod)][0])
        return doubtful + well[: -(-len(well) // TURNS)]

    def _was_well(self, kept: KubernetesRevisionRecord, pod: Json) -> bool:
        last = self._last.get(_uid(pod))
        unchanged = last is not None and last[1].healthy and last[1].restarts == restarts_of(kept, pod)
        return unchanged and is_ready(pod) and not not_running(kept, pod)


def _uid(pod: Json) -> str:
    return str(pod["metadata"]["uid"])

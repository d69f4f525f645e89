"""Watches a candidate until the deadline; shifts traffic back to stable the moment it fails.

Counters and probes are read side by side, so that a candidate that hangs does not hide its errors. On a failing
verdict traffic goes back to stable first, if stable is healthy at that moment, and the report follows. What was
counted survives in the platform, what was probed in the heartbeats: a retried watch goes on and judges all of it.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import Field, ValidationError
from temporalio import activity

from activities import activity_stubs
from activities.heartbeat import attempt
from activities.platforms.activities import find_platform
from activities.platforms.base import Platform
from models.base import WireModel
from models.errors import DeploymentSpecialistError, FencedOutError, UnavailableError, UnsafeChangeError
from models.judges.candidate import CandidateJudge, Judgement, Observation, appraise, share_of, sight
from models.judges.split import Divided
from models.judges.state import JudgeState, Reading, Settings
from models.judges.votes import Arm
from models.release import Counters, InstanceReport, Revision, ShiftOrder, Split
from models.verdict import Verdict
from models.watch import WatchOrder, WatchReport

LAST_COUNT_WITHIN = 3.0
LAST_PROBES_WITHIN = 30.0
SHIFT_ATTEMPTS = 5
PAUSE = 0.1
SETTLES_WITHIN = 10.0
# Where no weight is known: beside fewer answers of stable than this share, the candidate serves alone.
ALONE_BELOW = 0.02


class Memory(WireModel):
    """What an attempt hands on to the next one.

    Attributes:
        settled: the counters when what was under way at the beginning had its time to end: whose answers users get is
            judged by what is counted beyond this.
        state: what the judge knows of the whole deployment.
    """

    probes: int = 0
    failed_probes: dict[str, int] = Field(default_factory=dict)
    attempts: int = 1
    watched_since: datetime
    settled: dict[str, Counters] | None = None
    state: JudgeState | None = None


class WatchActivities:
    """The watch, on all platforms."""

    def __init__(self, platforms: Mapping[str, Platform]) -> None:
        self._platforms = platforms

    @activity.defn(name=activity_stubs.WATCH.name)
    async def watch(self, order: WatchOrder) -> WatchReport:
        """Watches until the deadline, or until the candidate has failed."""
        hand_on: list[Watch] = []
        before = activity.info().heartbeat_details
        # Until this attempt knows anything itself, it hands on what it was given.
        async with attempt(lambda: hand_on[0].hand_on() if hand_on else next(iter(before), None)):
            platform = await find_platform(self._platforms, order.platform)
            hand_on.append(Watch(order, platform, _remembered(before)))
            return await hand_on[0].run()


class Watch:
    """One attempt of a watch."""

    def __init__(self, order: WatchOrder, platform: Platform, memory: Memory) -> None:
        self._order = order
        self._platform = platform
        self._memory = memory
        self._judging = CandidateJudge(order.judge, order.min_requests)
        latency = order.judge.latency
        self._settings = Settings(
            slice=order.slice,
            tolerated=1 + latency.tolerated,
            warm_up=latency.warm_up if latency.enabled else None,
        )
        self._counters: dict[str, Counters] | None = None
        self._uncounted = "they were not read yet"
        self._weights: dict[str, int] | None = None
        # Seconds before the deadline. What is under way at a move is answered by who had it before.
        self._settles_at = max(self._left() - SETTLES_WITHIN, self._left() * 3 / 4)
        self._instances: tuple[InstanceReport, ...] = ()
        self._state = self._first_state()
        self._news = asyncio.Event()

    def hand_on(self) -> dict[str, Any]:
        """What the next attempt needs to know, and what people like to see meanwhile."""
        seen = self._observation()
        counted = {"candidate": seen.candidate.untimed(), "stable": seen.stable.untimed()}
        memory = self._memory.model_copy(update={"state": self._state})
        return {
            **memory.model_dump(mode="json"),
            **{whose: each.model_dump() for whose, each in counted.items()},
            "e": round(appraise(self._state, self._order.judge).e, 3),
        }

    async def run(self) -> WatchReport:
        """Returns the verdict; by then the traffic is where it belongs."""
        looking = [asyncio.create_task(self._keep_counting()), asyncio.create_task(self._keep_probing())]
        try:
            while (left := self._left()) > 0:
                if (failed := self._judging.failed(self._observation())) is not None:
                    return await self._fail(failed)
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._news.wait()
                self._news.clear()
                for task in looking:
                    if task.done():
                        task.result()
        finally:
            for task in looking:
                task.cancel()
            await asyncio.gather(*looking, return_exceptions=True)
        return await self._end()

    async def _end(self) -> WatchReport:
        """The deadline is over: one last look, and what it makes of everything."""
        counted = await self._count_at_last()
        await self._probe_at_last()
        self._state = self._state.end(self._settings)
        judged = self._judge()
        if judged.verdict is Verdict.FAIL:
            return await self._fail(judged)
        if not counted:
            judged = Judgement(verdict=Verdict.ERROR, reason=f"the router's counters are unknown: {self._uncounted}")
        elif judged.verdict is Verdict.PASS and (wrong := self._divides_otherwise()):
            judged = Judgement(verdict=Verdict.INCONCLUSIVE, reason=wrong)
        return self._report(judged)

    def _divides_otherwise(self) -> str:
        """What the router says of its weights where these are not those that were asked; empty where they are."""
        if self._weights is None or self._order.weight is None:
            return ""
        error = abs(self._weights.get(self._order.candidate.id, 0) - self._order.weight) / 100
        if error <= (self._order.judge.max_split_error or 0):
            return ""
        shares = ", ".join(f"{weight} % {id}" for id, weight in self._weights.items()) or "nothing"
        return f"the router divides {shares}, and {self._order.weight} % of the candidate were asked for"

    def _judge(self) -> Judgement:
        return self._judging.judge(self._observation())

    def _first_state(self) -> JudgeState:
        """What the last attempt, or the watch before this one, has handed on."""
        if self._memory.state is not None:
            return self._memory.state.go_on()
        began = self._reading(self._order.began)
        return (self._order.state or JudgeState()).step(began)

    def _reading(self, counters: Mapping[str, Counters]) -> Reading:
        stable = self._order.stable
        return Reading(
            at=datetime.now(UTC),
            candidate=counters.get(self._order.candidate.id, Counters()),
            stable=counters.get(stable.id, Counters()) if stable else Counters(),
            starts=len(self._instances) + sum(instance.restarts for instance in self._instances),
        )

    def _is_alone(self, candidate: Counters, stable: Counters) -> bool:
        if self._order.stable is None or self._order.weight is not None:
            return self._order.stable is None or self._order.weight == 100
        return stable.requests < ALONE_BELOW * candidate.requests

    def _before(self) -> Arm:
        """How stable answered before the candidate had everything: beside it, or in all the time it is known."""
        beside, stable = self._state.seen.stable, self._order.stable
        if stable is None or beside.answers:
            return beside
        known = self._order.began.get(stable.id, Counters())
        return Arm(answers=known.requests, events=min(known.errors, known.requests))

    def _observation(self) -> Observation:
        candidate = self._since(self._order.candidate)
        stable = self._since(self._order.stable) if self._order.stable else Counters()
        return Observation(
            candidate=candidate,
            stable=stable,
            failed_probes=self._memory.failed_probes,
            instances=tuple(self._since_begin(instance) for instance in self._instances),
            probes=self._memory.probes,
            weight=self._order.weight,
            divided=self._divided(),
            state=self._state,
            alone=self._is_alone(candidate, stable),
            before=self._before(),
        )

    def _divided(self) -> Divided:
        stable, settled = self._order.stable, self._memory.settled
        if stable is None or settled is None or self._counters is None:
            return Divided()
        candidate, beside = (
            max(0, self._counters.get(id, Counters()).requests - settled.get(id, Counters()).requests)
            for id in (self._order.candidate.id, stable.id)
        )
        return Divided(candidate=candidate, stable=beside)

    def _since(self, revision: Revision) -> Counters:
        now = (self._counters or {}).get(revision.id, Counters())
        began = self._order.began.get(revision.id, Counters())
        if self._counters is None or now.requests < began.requests:
            return Counters()
        return Counters(requests=now.requests - began.requests, errors=max(0, now.errors - began.errors))

    def _since_begin(self, instance: InstanceReport) -> InstanceReport:
        restarts = max(0, instance.restarts - self._order.restarts.get(instance.name, 0))
        return instance.model_copy(update={"restarts": restarts})

    async def _keep_counting(self) -> None:
        while True:
            await self._count()
            await asyncio.sleep(self._platform.count_every)

    async def _count(self) -> bool:
        try:
            split = await self._platform.split(self._order)
        except UnavailableError as error:
            # A metrics outage is not a candidate failure.
            self._uncounted = str(error)
            return False
        self._counters, self._weights = split.counters, split.weights if split.exact else None
        self._state = self._state.read(self._reading(split.counters), self._settings)
        if self._memory.settled is None and self._left() <= self._settles_at:
            self._memory = self._memory.model_copy(update={"settled": split.counters})
        self._news.set()
        return True

    async def _count_at_last(self) -> bool:
        until = time.monotonic() + LAST_COUNT_WITHIN
        while True:
            if await self._count():
                return True
            if time.monotonic() > until:
                return False
            await asyncio.sleep(PAUSE)

    async def _probe_at_last(self) -> None:
        """Probes whoever did not answer well at last until that is a streak, or is over.

        A worker that was away for most of the step would let a dead candidate pass with the one probe it has time for.
        """
        if not self._instances:
            await self._probe()
        until = time.monotonic() + LAST_PROBES_WITHIN
        for _ in range(self._order.judge.failed_probes):
            if (
                time.monotonic() > until
                or all(each.healthy for each in self._instances)
                or self._judging.failed(self._observation()) is not None
            ):
                return
            await asyncio.sleep(self._order.judge.probe_every.total_seconds())
            await self._probe()

    async def _keep_probing(self) -> None:
        every = self._order.judge.probe_every.total_seconds()
        while True:
            began = time.monotonic()
            await self._probe()
            await asyncio.sleep(max(0.0, every - (time.monotonic() - began)))

    async def _probe(self) -> None:
        instances = await self._platform.probe(self._order, self._order.candidate)
        self._instances = instances
        failed = self._memory.failed_probes
        self._memory = self._memory.model_copy(
            update={
                "probes": self._memory.probes + bool(instances),
                "failed_probes": {one.name: 0 if one.healthy else failed.get(one.name, 0) + 1 for one in instances},
            }
        )
        self._news.set()

    async def _fail(self, judged: Judgement) -> WatchReport:
        verdict_at = datetime.now(UTC)
        if self._order.stable is None:
            return self._report(judged, "nothing else can serve: no traffic was moved", verdict_at)
        try:
            # Whether stable is healthy is asked by the move itself.
            split = await self._move_to(self._order.stable)
        except FencedOutError as error:
            return self._report(judged, f"a newer deployment controls traffic: {error}", verdict_at, stable_probed=True)
        except UnsafeChangeError as error:
            note = f"{self._order.stable.id} is not healthy: no traffic was moved to it ({error})"
            return self._report(judged, note, verdict_at, stable_probed=False)
        except DeploymentSpecialistError as error:
            # The verdict counts more than why it could not be acted upon: the rollback that follows acts again.
            note = f"the traffic could not be moved at once: {error}"
            return self._report(judged, note, verdict_at, stable_probed=True)
        return self._report(judged, "", verdict_at, split=split, stable_probed=True)

    async def _move_to(self, stable: Revision) -> Split:
        order = ShiftOrder(
            service=self._order.service,
            target=self._order.target,
            platform=self._order.platform,
            fence=self._order.fence,
            candidate=self._order.candidate.id,
            stable=stable.id,
            weight=0,
        )
        for _ in range(SHIFT_ATTEMPTS - 1):
            try:
                return await self._platform.shift(order)
            except UnavailableError:
                await asyncio.sleep(PAUSE)
        return await self._platform.shift(order)

    def _left(self) -> float:
        return (self._order.deadline - datetime.now(UTC)).total_seconds()

    def _report(
        self,
        judged: Judgement,
        note: str = "",
        verdict_at: datetime | None = None,
        split: Split | None = None,
        stable_probed: bool | None = None,
    ) -> WatchReport:
        return WatchReport(
            verdict=judged.verdict,
            reason="; ".join(part for part in (judged.reason, note) if part),
            evidence=self._evidence(),
            verdict_at=verdict_at or datetime.now(UTC),
            stable_at=split.seen if split else None,
            split=split,
            stable_probed=stable_probed,
            state=self._state,
            could_not_see=judged.could_not_see,
        )

    def _appraised(self) -> dict[str, Any]:
        """The evidence over the whole deployment, in numbers: E of each metric, and what it is made of."""
        state, found = self._state, appraise(self._state, self._order.judge)
        visible = sight(state, self._order.judge).visible
        latency, edge = state.latency, state.latency.worst
        said: dict[str, Any] = {
            "e": _rounded(found.e),
            "e_needed": _rounded(found.needed),
            "errors": {
                "e": _rounded(found.e_errors),
                "votes": state.errors.votes,
                "candidate": [state.seen.candidate.events, state.seen.candidate.answers],
                "stable": [state.seen.stable.events, state.seen.stable.answers],
            },
            "slices": round(sum(each.slices for each in state.exposures)),
            "could_have_seen": None if visible is None else round(visible, 5),
            "interruptions": {name: count for name, count in state.interruptions.model_dump().items() if count},
        }
        if found.e_latency is not None and edge is not None:
            slow = latency.slower[edge]
            said["latency"] = {
                "e": _rounded(found.e_latency),
                "votes": latency.votes,
                "edge": edge,
                "candidate": [slow.candidate.events, slow.candidate.answers],
                "stable": [slow.stable.events, slow.stable.answers],
            }
        return said

    def _evidence(self) -> dict[str, Any]:
        seen = self._observation()
        watched: timedelta = datetime.now(UTC) - self._memory.watched_since
        return {
            "candidate": _counted(seen.candidate),
            "stable": _counted(seen.stable),
            "judge": self._appraised(),
            "divided": {**seen.divided.model_dump(), "asked": seen.weight},
            "probes": seen.probes,
            "failed_probes": {name: failed for name, failed in seen.failed_probes.items() if failed},
            "restarts": {each.name: each.restarts for each in seen.instances if each.restarts},
            "instances": len(seen.instances),
            "seconds": round(watched.total_seconds(), 3),
            "attempts": self._memory.attempts,
        }


def _rounded(value: float) -> float:
    """To four digits: E spans many orders of magnitude."""
    return float(f"{value:.4g}")


def _counted(counters: Counters) -> dict[str, Any]:
    return {**counters.untimed().model_dump(), "error_share": round(share_of(counters), 5)}


def _remembered(details: Any) -> Memory:
    """What the last attempt handed on; a first attempt, and one whose predecessor died at once, remembers nothing."""
    this = activity.info().attempt
    try:
        before = Memory.model_validate(details[0])
    except (IndexError, ValidationError):
        return Memory(watched_since=datetime.now(UTC), attempts=this)
    return before.model_copy(update={"attempts": max(before.attempts + 1, this)})

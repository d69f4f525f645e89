"""A started process is not an instance yet: it is one when it answers for itself, on the port it was given.

This starts what is missing of a revision and waits for it, and ends waiting early for what can only get worse: a
program that ends again and again. A port that somebody else took in between is no reason to give up.
"""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import httpx
import psutil

from activities.heartbeat import last_lines
from activities.platforms.local import revision_files
from activities.platforms.local.instances import add_instances, ports_of, program, program_name, program_prefix
from activities.platforms.probes import Unready, ask_health, ask_ready, explain
from activities.platforms.traefik.state import Instance, RevisionRecord, TargetStore
from embedded import ports
from embedded.supervision.supervisor import ProgramState, Supervisor
from models.errors import NotReadyError
from models.release import Fence

# The third start without one healthy answer: the fourth would be no different.
HOPELESS_STARTS = 3
MOST_PORTS_TRIED = 5
LOOK_EVERY = 0.05


@dataclass
class _Waiting:
    """What is known of an instance that is not ready yet."""

    starts_before: int | None = None
    ports_tried: int = 1
    detail: str = "it has not been asked yet"


@dataclass
class _StartWait:
    waiting: dict[int, _Waiting] = field(default_factory=dict)
    ready: set[int] = field(default_factory=set)


class LocalStarting:
    """Brings up instances of all targets of one home: see `activities.platforms.traefik.interfaces`."""

    def __init__(self, supervisor: Supervisor, client: httpx.AsyncClient) -> None:
        self._supervisor = supervisor
        self._client = client

    async def bring_up(self, store: TargetStore, fence: Fence, revision: str, count: int, deadline: datetime) -> None:
        await asyncio.to_thread(self._start_missing, store, fence, revision, count)
        wait, unready_yet = _StartWait(), Unready()
        while True:
            kept = (await asyncio.to_thread(store.read)).kept(revision)
            unready = [instance for instance in kept.living() if instance.number not in wait.ready]
            states = await asyncio.to_thread(self._supervisor.states, program_prefix(store, revision))
            await asyncio.gather(*(self._look(store, kept, one, states, wait) for one in unready))
            unready = [instance for instance in unready if instance.number not in wait.ready]
            if not unready:
                return
            for instance in unready:
                name = program_name(store, revision, instance.number)
                await self._act(store, fence, kept, instance, states.get(name), wait)
            if datetime.now(UTC) >= deadline:
                name = program_name(store, revision, unready[0].number)
                said = wait.waiting[unready[0].number].detail
                raise await self._told(name, f"{name} is not ready in time: {said}")
            await unready_yet.tell(
                {
                    program_name(store, revision, one.number): partial(
                        self._explain,
                        kept,
                        one,
                        wait.waiting[one.number],
                        states.get(program_name(store, revision, one.number)),
                    )
                    for one in unready
                }
            )
            await asyncio.sleep(LOOK_EVERY)

    async def _explain(
        self, kept: RevisionRecord, instance: Instance, known: _Waiting, state: ProgramState | None
    ) -> str:
        if state is None or not state.running:
            return known.detail
        return await explain(self._client, instance.url, kept.revision, known.detail)

    def _start_missing(self, store: TargetStore, fence: Fence, revision: str, count: int) -> None:
        with store.programs(fence):
            with store.change(fence) as target:
                kept = target.kept(revision)
                ended = [instance for instance in kept.instances if instance.stopping]
            for instance in ended:
                self._supervisor.remove(program_name(store, revision, instance.number))
            with store.change(fence) as target:
                kept = target.kept(revision)
                kept.instances = kept.living()
                add_instances(kept, count, ports_of(target))
            environment = revision_files.environment(store, kept.revision)
            running = self._supervisor.states(program_prefix(store, revision))
            for instance in kept.instances:
                state = running.get(program_name(store, revision, instance.number))
                # Also one that is defined and does not run: who defined it may have died before starting it.
                if state is None or not state.running:
                    self._supervisor.put(program(store, kept.revision, instance, environment))

    async def _look(
        self,
        store: TargetStore,
        kept: RevisionRecord,
        instance: Instance,
        states: dict[str, ProgramState],
        wait: _StartWait,
    ) -> None:
        known = wait.waiting.setdefault(instance.number, _Waiting())
        state = states.get(program_name(store, kept.revision.id, instance.number))
        if state is not None and known.starts_before is None:
            known.starts_before = max(0, state.starts - 1)
        if state is None or not state.running:
            known.detail = f"it does not run ({state.detail or 'not started' if state else 'not started'})"
            return
        revision, address = kept.revision, instance.url
        known.detail = await ask_health(self._client, address, revision) or await ask_ready(
            self._client, address, revision
        )
        if known.detail:
            return
        # Somebody else's server may be the one that answered.
        if state.pid is None or await asyncio.to_thread(owns_port, state.pid, instance.port):
            wait.ready.add(instance.number)
        else:
            known.detail = f"port {instance.port} is answered by another process"

    async def _act(
        self,
        store: TargetStore,
        fence: Fence,
        kept: RevisionRecord,
        instance: Instance,
        state: ProgramState | None,
        wait: _StartWait,
    ) -> None:
        known = wait.waiting[instance.number]
        name = program_name(store, kept.revision.id, instance.number)
        if state is None:
            # The supervisor lost it, or the first attempt died before it was started.
            await asyncio.to_thread(self._start_missing, store, fence, kept.revision.id, 0)
            return
        if await asyncio.to_thread(taken_by_other, state, instance.port):
            if known.ports_tried >= MOST_PORTS_TRIED:
                raise await self._told(name, f"{name}: its port is taken again and again")
            await asyncio.to_thread(self._move, store, fence, kept.revision.id, instance.number)
            known.ports_tried, known.starts_before = known.ports_tried + 1, None
        elif known.starts_before is not None and state.starts - known.starts_before >= HOPELESS_STARTS:
            times = state.starts - known.starts_before
            raise await self._told(name, f"{name} was started {times} times and never became ready")

    def _move(self, store: TargetStore, fence: Fence, revision: str, number: int) -> None:
        with store.programs(fence):
            with store.change(fence) as state:
                kept = state.kept(revision)
                instance = next(one for one in kept.living() if one.number == number)
                instance.port = ports.choose(1, ports_of(state))[0]
            self._supervisor.put(
                program(store, kept.revision, instance, revision_files.environment(store, kept.revision))
            )

    async def _told(self, name: str, sentence: str) -> NotReadyError:
        printed = await asyncio.to_thread(self._supervisor.last_run, name)
        return NotReadyError(sentence, last_lines(printed), str(self._supervisor.log(name)))


def owns_port(pid: int, port: int) -> bool:
    """Whether a process, or one that it started, listens on the port."""
    try:
        family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return False
    return any(port in ports.listening(one) for one in family)


def taken_by_other(state: ProgramState, port: int) -> bool:
    """Whether somebody listens on the port of an instance that does not."""
    return not ports.is_free(port) and not (state.pid is not None and owns_port(state.pid, port))

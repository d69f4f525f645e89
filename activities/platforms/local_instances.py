"""A started process is not an instance yet: it is one when it answers for itself, on the port it was given.

This starts what is missing of a revision and waits for it, ends waiting early for what can only get worse, and asks
instances for themselves. What is started or stopped is noted in the target's state first.
"""

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import psutil

from activities.attempts import shorten
from activities.platforms import local_files
from activities.platforms.asking import ask_health, ask_ready, ask_version
from activities.platforms.local_state import Instance, Kept, TargetState, TargetStore
from embedded import ports
from embedded.supervisor import Program, ProgramState, Supervisor
from models.errors import NotReady
from models.release import Fence, InstanceReport, Revision

# The third start without one healthy answer: the fourth would be no different.
HOPELESS_STARTS = 3
MOST_PORTS_TRIED = 5
LOOK_EVERY = 0.05
LONGEST_LOG = 1200


@dataclass
class _Waiting:
    """What is known of an instance that is not ready yet."""

    starts_before: int | None = None
    ports_tried: int = 1
    detail: str = "it has not been asked yet"


@dataclass
class _Wait:
    waiting: dict[int, _Waiting] = field(default_factory=dict)
    ready: set[int] = field(default_factory=set)


class Instances:
    """The processes of the revisions of all targets of one home."""

    def __init__(self, supervisor: Supervisor, client: httpx.AsyncClient) -> None:
        self._supervisor = supervisor
        self._client = client

    async def bring_up(self, store: TargetStore, fence: Fence, revision: str, count: int, deadline: datetime) -> None:
        """Start what is missing up to `count` instances, all at once, and wait until each is healthy and ready.

        Raises:
            NotReady: the deadline is over, or one of them cannot become ready any more.
            Stale: somebody newer has taken over the target.
        """
        await asyncio.to_thread(self._start_missing, store, fence, revision, count)
        wait = _Wait()
        while True:
            kept = (await asyncio.to_thread(store.read)).kept(revision)
            unready = [instance for instance in kept.living() if instance.number not in wait.ready]
            states = await self._states(store, revision)
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
                raise NotReady(await self._told(name, f"{name} is not ready in time: {said}"))
            await asyncio.sleep(LOOK_EVERY)

    async def report(
        self, store: TargetStore, kept: Kept, expected: int = 0, with_version: bool = False
    ) -> tuple[InstanceReport, ...]:
        """Each instance of a revision, as it answers for itself now; also those that are expected and not there."""
        states = await self._states(store, kept.revision.id)
        living = kept.living()
        reports = await asyncio.gather(*(self._report(store, kept, one, states, with_version) for one in living))
        taken = {instance.number for instance in living}
        absent = [number for number in range(1, expected + 1) if number not in taken][: max(0, expected - len(living))]
        return (*reports, *(_absent(program_name(store, kept.revision.id, number)) for number in absent))

    async def healthy(self, kept: Kept, among: list[Instance]) -> list[Instance]:
        """Those that answer healthy right now; only HTTP is asked, so that it takes milliseconds."""
        endpoints = kept.revision.endpoints
        said = await asyncio.gather(*(ask_health(self._client, base(one), endpoints) for one in among))
        return [instance for instance, wrong in zip(among, said, strict=True) if not wrong]

    async def any_healthy(self, kept: Kept, among: list[Instance]) -> bool:
        """Whether one of them answers healthy right now; the first good answer ends the wait."""
        endpoints = kept.revision.endpoints
        asked = [asyncio.ensure_future(ask_health(self._client, base(one), endpoints)) for one in among]
        try:
            for answer in asyncio.as_completed(asked):
                if not await answer:
                    return True
            return False
        finally:
            for one in asked:
                one.cancel()

    def stop(self, names: list[str]) -> None:
        """End processes, all at once: SIGTERM, then SIGKILL when their time is over. Needs the target's programs."""
        with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
            for ended in [pool.submit(self._supervisor.remove, name) for name in names]:
                ended.result()

    async def _states(self, store: TargetStore, revision: str) -> dict[str, ProgramState]:
        return await asyncio.to_thread(self._supervisor.states, program_prefix(store, revision))

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
            environment = local_files.environment(store, kept.revision)
            running = self._supervisor.states(program_prefix(store, revision))
            for instance in kept.instances:
                state = running.get(program_name(store, revision, instance.number))
                # Also one that is defined and does not run: who defined it may have died before starting it.
                if state is None or not state.running:
                    self._supervisor.put(program(store, kept.revision, instance, environment))

    async def _look(
        self, store: TargetStore, kept: Kept, instance: Instance, states: dict[str, ProgramState], wait: _Wait
    ) -> None:
        known = wait.waiting.setdefault(instance.number, _Waiting())
        state = states.get(program_name(store, kept.revision.id, instance.number))
        if state is not None and known.starts_before is None:
            known.starts_before = max(0, state.starts - 1)
        if state is None or not state.running:
            known.detail = f"it does not run ({state.detail or 'not started' if state else 'not started'})"
            return
        endpoints, address = kept.revision.endpoints, base(instance)
        known.detail = await ask_health(self._client, address, endpoints) or await ask_ready(
            self._client, address, endpoints
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
        kept: Kept,
        instance: Instance,
        state: ProgramState | None,
        wait: _Wait,
    ) -> None:
        known = wait.waiting[instance.number]
        name = program_name(store, kept.revision.id, instance.number)
        if state is None:
            # The supervisor lost it, or the first attempt died before it was started.
            await asyncio.to_thread(self._start_missing, store, fence, kept.revision.id, 0)
            return
        if await asyncio.to_thread(taken_by_other, state, instance.port):
            if known.ports_tried >= MOST_PORTS_TRIED:
                raise NotReady(await self._told(name, f"{name}: its port is taken again and again"))
            await asyncio.to_thread(self._move, store, fence, kept.revision.id, instance.number)
            known.ports_tried, known.starts_before = known.ports_tried + 1, None
        elif known.starts_before is not None and state.starts - known.starts_before >= HOPELESS_STARTS:
            times = state.starts - known.starts_before
            raise NotReady(await self._told(name, f"{name} was started {times} times and never became ready"))

    def _move(self, store: TargetStore, fence: Fence, revision: str, number: int) -> None:
        with store.programs(fence):
            with store.change(fence) as state:
                kept = state.kept(revision)
                instance = next(one for one in kept.living() if one.number == number)
                instance.port = ports.choose(1, ports_of(state))[0]
            self._supervisor.put(program(store, kept.revision, instance, local_files.environment(store, kept.revision)))

    async def _told(self, name: str, sentence: str) -> str:
        log = await asyncio.to_thread(self._supervisor.log_tail, name, LONGEST_LOG)
        return f"{sentence}. Its last lines:\n{shorten(log, LONGEST_LOG)}" if log.strip() else sentence

    async def _report(
        self, store: TargetStore, kept: Kept, instance: Instance, states: dict[str, ProgramState], with_version: bool
    ) -> InstanceReport:
        name = program_name(store, kept.revision.id, instance.number)
        state, endpoints, address = states.get(name), kept.revision.endpoints, base(instance)
        if state is None or not state.running:
            why = state.detail if state else "it was never started"
            restarts = max(0, state.starts - 1) if state else 0
            return InstanceReport(
                name=name, address=address, running=False, healthy=False, restarts=restarts, detail=shorten(why)
            )
        wrong = await ask_health(self._client, address, endpoints)
        version, unknown = await ask_version(self._client, address, endpoints) if with_version else (None, "")
        return InstanceReport(
            name=name,
            address=address,
            running=True,
            healthy=not wrong,
            version=version,
            restarts=max(0, state.starts - 1),
            detail=shorten("; ".join(part for part in (wrong, unknown) if part)),
        )


def program_prefix(store: TargetStore, revision: str) -> str:
    """What the names of a revision's programs begin with."""
    return f"{store.service}.{store.target}.{revision}."


def program_name(store: TargetStore, revision: str, number: int) -> str:
    """What an instance is called, by the supervisor and in every report."""
    return f"{program_prefix(store, revision)}{number}"


def base(instance: Instance) -> str:
    """The instance's own address."""
    return f"http://127.0.0.1:{instance.port}"


def program(store: TargetStore, revision: Revision, instance: Instance, environment: dict[str, str]) -> Program:
    """How an instance is started."""
    return Program(
        name=program_name(store, revision.id, instance.number),
        argv=revision.platform.run,
        directory=local_files.files(store, revision),
        environment={**environment, "HOST": "127.0.0.1", "PORT": str(instance.port)},
        stop_seconds=revision.platform.stop.total_seconds(),
    )


def add_instances(kept: Kept, count: int, avoid: set[int]) -> None:
    """Note instances that are to be started, with a port each, until there are `count`."""
    while len(kept.instances) < count:
        taken = {one.number for one in kept.instances}
        number = next(number for number in itertools.count(1) if number not in taken)
        port = ports.choose(1, avoid | {one.port for one in kept.instances})[0]
        kept.instances.append(Instance(number=number, port=port))


def ports_of(state: TargetState) -> set[int]:
    """Ports that the target's state has given away; their processes may not listen yet."""
    given = {instance.port for kept in state.revisions.values() for instance in kept.instances}
    return given | {door.api_port for door in state.doors.values()}


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


def _absent(name: str) -> InstanceReport:
    return InstanceReport(name=name, address="", running=False, healthy=False, detail="there is no such instance")

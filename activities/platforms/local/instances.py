"""An instance is a supervised process with a number and a port of its own: how it is run, how it is, how it ends."""

import asyncio
import itertools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from activities.heartbeat import shorten
from activities.platforms.local import revision_files
from activities.platforms.printed import read_file
from activities.platforms.probes import ask_health, ask_unfit, ask_version, first_good
from activities.platforms.traefik.state import Instance, RevisionRecord, TargetState, TargetStore
from activities.system.scripts import in_copy
from embedded import ports
from embedded.supervision.supervisor import Program, ProgramState, Supervisor
from models.arguments import fill_in
from models.identity import of_instance
from models.platforms import LocalPlatformSpec, of_kind
from models.platforms.local import FILLED_IN
from models.release import InstanceReport, Printed, Revision


class LocalInstances:
    """The processes of the revisions of all targets of one home: see `activities.platforms.traefik.interfaces`."""

    def __init__(self, supervisor: Supervisor, client: httpx.AsyncClient) -> None:
        self._supervisor = supervisor
        self._client = client

    async def report(
        self,
        store: TargetStore,
        kept: RevisionRecord,
        expected: int = 0,
        with_version: bool = False,
        before_users: bool = False,
    ) -> tuple[InstanceReport, ...]:
        states = await self._states(store, kept.revision.id)
        living = kept.living()
        reports = await asyncio.gather(
            *(self._report(store, kept, one, states, with_version, before_users) for one in living)
        )
        taken = {instance.number for instance in living}
        absent = [number for number in range(1, expected + 1) if number not in taken][: max(0, expected - len(living))]
        return (*reports, *(_absent(program_name(store, kept.revision.id, number)) for number in absent))

    async def healthy(self, store: TargetStore, kept: RevisionRecord, among: list[Instance]) -> list[Instance]:
        # Only HTTP is asked, so that it takes milliseconds.
        said = await asyncio.gather(*(ask_health(self._client, one.url, kept.revision) for one in among))
        return [instance for instance, wrong in zip(among, said, strict=True) if not wrong]

    async def any_healthy(self, store: TargetStore, kept: RevisionRecord, among: list[Instance]) -> bool:
        return await first_good(ask_health(self._client, one.url, kept.revision) for one in among)

    def preview(self, store: TargetStore, kept: RevisionRecord) -> tuple[str, ...]:
        return tuple(instance.url for instance in kept.living())

    def logs(
        self, store: TargetStore, kept: RevisionRecord, lines: int, since: Mapping[str, str]
    ) -> tuple[Printed, ...]:
        names = [program_name(store, kept.revision.id, one.number) for one in kept.living()]
        return tuple(read_file(name, self._supervisor.log(name), lines, since.get(name, "")) for name in names)

    def name(self, store: TargetStore, revision: str, number: int) -> str:
        return program_name(store, revision, number)

    def stop(self, store: TargetStore, kept: RevisionRecord, instances: list[Instance]) -> None:
        # SIGTERM, then SIGKILL when their time is over.
        names = [program_name(store, kept.revision.id, instance.number) for instance in instances]
        with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
            for ended in [pool.submit(self._supervisor.remove, name) for name in names]:
                ended.result()

    async def _states(self, store: TargetStore, revision: str) -> dict[str, ProgramState]:
        return await asyncio.to_thread(self._supervisor.states, program_prefix(store, revision))

    async def _report(
        self,
        store: TargetStore,
        kept: RevisionRecord,
        instance: Instance,
        states: dict[str, ProgramState],
        with_version: bool,
        before_users: bool,
    ) -> InstanceReport:
        name = program_name(store, kept.revision.id, instance.number)
        state, revision, address = states.get(name), kept.revision, instance.url
        if state is None or not state.running:
            why = state.detail if state else "it was never started"
            restarts = max(0, state.starts - 1) if state else 0
            return InstanceReport(
                name=name, address=address, running=False, healthy=False, restarts=restarts, detail=shorten(why)
            )
        wrong = await ask_health(self._client, address, revision)
        version, unknown = await ask_version(self._client, address, revision) if with_version else (None, "")
        unfit = await ask_unfit(self._client, address, revision) if before_users else {}
        return InstanceReport(
            name=name,
            address=address,
            running=True,
            healthy=not wrong,
            version=version,
            restarts=max(0, state.starts - 1),
            detail=shorten("; ".join(part for part in (wrong, unknown) if part)),
            unfit={endpoint: shorten(said) for endpoint, said in unfit.items()},
        )


def program_prefix(store: TargetStore, revision: str) -> str:
    """What the names of a revision's programs begin with."""
    return f"{store.service}.{store.target}.{revision}."


def program_name(store: TargetStore, revision: str, number: int) -> str:
    """What an instance is called, by the supervisor and in every report."""
    return f"{program_prefix(store, revision)}{number}"


def program(store: TargetStore, revision: Revision, instance: Instance, environment: dict[str, str]) -> Program:
    """How an instance is started."""
    platform, files = of_kind(revision.platform, LocalPlatformSpec), revision_files.files(store, revision)
    name = program_name(store, revision.id, instance.number)
    environment = of_instance(environment, revision.identity, name)
    environment = {**environment, "HOST": "127.0.0.1", "PORT": str(instance.port)}
    run = fill_in(platform.run, {name: environment[name] for name in FILLED_IN})
    return Program(
        name=name,
        argv=in_copy(run, Path(platform.directory), files, environment.get("PATH")),
        directory=files,
        environment=environment,
        stop_seconds=platform.stop.total_seconds(),
    )


def add_instances(kept: RevisionRecord, count: int, avoid: set[int]) -> None:
    """Note instances that are to be started, with a port each, until there are `count`."""
    while len(kept.instances) < count:
        taken = {one.number for one in kept.instances}
        number = next(number for number in itertools.count(1) if number not in taken)
        port = ports.choose(1, avoid | {one.port for one in kept.instances})[0]
        kept.instances.append(Instance(number=number, port=port))


def ports_of(state: TargetState) -> set[int]:
    """Ports that the target's state has given away; their processes may not listen yet."""
    given = {instance.port for kept in state.revisions.values() for instance in kept.instances}
    return given | {proxy.api_port for proxy in state.doors.values()}


def _absent(name: str) -> InstanceReport:
    return InstanceReport(name=name, address="", running=False, healthy=False, detail="there is no such instance")

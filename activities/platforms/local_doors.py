"""Users come to one address; it must be open before the first instance and stay open until the last one is gone.

A door is a supervised router at an address of users. A target has one, or two while its address changes.
"""

import psutil

from activities.platforms.local_instances import ports_of
from activities.platforms.target_state import Door, Instance, TargetState, TargetStore
from activities.platforms.traefik import static_configuration
from embedded import ports
from embedded.door import address, door_program, listen_at
from embedded.launch import identity, read
from embedded.paths import Home
from embedded.processes import alive
from embedded.supervisor import Supervisor
from models.errors import Impossible
from models.release import Fence, Revision


class LocalDoors:
    """The doors of all targets of one home: see `activities.platforms.parts`."""

    def __init__(self, home: Home, supervisor: Supervisor) -> None:
        self._home = home
        self._supervisor = supervisor

    def check(self, store: TargetStore, revision: Revision) -> None:
        listen = revision.platform.address
        if listen in store.read().doors:
            return
        try:
            listen_at(address(listen)).close()
        except OSError as error:
            holder = self._holder(listen) or "another program, or the address is not one of this machine"
            raise Impossible(
                f"users cannot be served at {listen}: {error.strerror}. It belongs to {holder}. "
                "Choose another platform.listen, or stop what has it."
            ) from error

    def open(self, store: TargetStore, fence: Fence, revision: Revision) -> None:
        listen = revision.platform.address
        with store.programs(fence):
            door = store.read().doors.get(listen)
            if door is None:
                self.check(store, revision)
                with store.change(fence) as state:
                    door = Door(listen=listen, program=_name(store, state, listen), api_port=_api_port(state))
                    state.doors[listen] = door
            elif self._api_port_lost(door):
                self._supervisor.remove(door.program)
                with store.change(fence) as state:
                    door = state.doors[listen].model_copy(update={"api_port": _api_port(state)})
                    state.doors[listen] = door
            running = self._supervisor.states(door.program).get(door.program)
            if running is None or not running.running:
                configuration = store.folder / f"{door.program}.yml"
                self._home.write(
                    configuration, static_configuration(listen, f"{door.api_host}:{door.api_port}", store.routes)
                )
                self._supervisor.put(door_program(self._home, door.program, listen, configuration, store.folder))

    def close(self, store: TargetStore, fence: Fence, keep: set[str]) -> list[str]:
        closed = [door for listen, door in store.read().doors.items() if listen not in keep]
        for door in closed:
            self._supervisor.remove(door.program)
            (store.folder / f"{door.program}.yml").unlink(missing_ok=True)
            with store.change(fence) as state:
                state.doors.pop(door.listen, None)
        return [door.listen for door in closed]

    def leave(self, store: TargetStore) -> None:
        # A door has nothing beside its program and the target's folder.
        return

    def connections(self, store: TargetStore, state: TargetState, instances: list[Instance]) -> int:
        instance_ports, found = {instance.port for instance in instances}, 0
        for door in state.doors.values():
            pid = self._router(door)
            try:
                connections = psutil.Process(pid).net_connections("tcp") if pid else []
            except psutil.Error:
                continue
            found += sum(
                one.status == psutil.CONN_ESTABLISHED and bool(one.raddr) and one.raddr.port in instance_ports
                for one in connections
            )
        return found

    def why_silent(self, store: TargetStore, state: TargetState) -> str:
        states = [self._supervisor.states(door.program).get(door.program) for door in state.doors.values()]
        return "; ".join(f"{one.name} does not run: {one.detail}" for one in states if one and not one.running)

    def _router(self, door: Door) -> int | None:
        # The door adopts a router that outlived the door before it: it need not be the door's own child.
        found = identity(read(str(self._home.programs / door.program / "traefik.json")))
        return found.pid if found and alive(found) else None

    def _api_port_lost(self, door: Door) -> bool:
        pid = self._router(door)
        return not ports.is_free(door.api_port) and not (pid and door.api_port in ports.listening(pid))

    def _holder(self, listen: str) -> str:
        for path in sorted((self._home.path / "targets").glob("*/*/state.json")):
            other = TargetStore(self._home, path.parent.parent.name, path.parent.name)
            port = listen.rpartition(":")[2]
            if any(each.rpartition(":")[2] == port for each in other.read().doors):
                return f"{other.service}/{other.target}, which is deployed here"
        return ""


def _name(store: TargetStore, state: TargetState, listen: str) -> str:
    name = f"{store.service}.{store.target}.door-{listen.rpartition(':')[2]}"
    # The same port at another address of this machine, while the address changes.
    return f"{name}-2" if name in {door.program for door in state.doors.values()} else name


def _api_port(state: TargetState) -> int:
    return ports.choose(1, ports_of(state))[0]

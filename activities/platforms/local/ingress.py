"""Users come to one address; it must be open before the first instance and stay open until the last one is gone.

A door is a supervised router at an address of users. A target has one, or two while its address changes.
"""

import os
import signal

import psutil

from activities.platforms.local.instances import ports_of
from activities.platforms.traefik.config import static_configuration
from activities.platforms.traefik.state import Door, Instance, TargetState, TargetStore
from embedded import ports
from embedded.ingress.front_proxy import address, door_program, listen_at, routers, runs_with
from embedded.supervision.supervisor import Supervisor
from home.paths import Home
from models.errors import Impossible
from models.release import Fence, Revision


class LocalDoors:
    """The doors of all targets of one home: see `activities.platforms.traefik.interfaces`."""

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
            configuration = store.folder / f"{door.program}.yml"
            if running is None or not running.running:
                self._home.write(configuration, _static(store, door, revision))
                self._supervisor.put(door_program(self._home, door.program, listen, configuration, store.folder))
            elif not runs_with(self._home.programs / door.program, _static(store, door, revision)):
                # The next router runs beside this one until it takes over: it needs a port of its own for its API.
                with store.change(fence) as state:
                    door = state.doors[listen].model_copy(update={"api_port": _api_port(state)})
                    state.doors[listen] = door
                self._home.write(configuration, _static(store, door, revision))
                # A door of a version that did not know this ends, and the one that follows it looks by itself.
                os.kill(running.pid or 0, signal.SIGHUP)

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
        for router in (each for door in state.doors.values() for each in routers(self._home.programs / door.program)):
            try:
                connections = psutil.Process(router.pid).net_connections("tcp")
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

    def _api_port_lost(self, door: Door) -> bool:
        # The door adopts a router that outlived the door before it: it need not be the door's own child.
        there = routers(self._home.programs / door.program)
        return not ports.is_free(door.api_port) and not any(
            door.api_port in ports.listening(each.pid) for each in there
        )

    def _holder(self, listen: str) -> str:
        for path in sorted((self._home.path / "targets").glob("*/*/state.json")):
            other = TargetStore(self._home, path.parent.parent.name, path.parent.name)
            port = listen.rpartition(":")[2]
            if any(each.rpartition(":")[2] == port for each in other.read().doors):
                return f"{other.service}/{other.target}, which is deployed here"
        return ""


def _static(store: TargetStore, door: Door, revision: Revision) -> str:
    """What the router behind a door is started with for this revision."""
    api = f"{door.api_host}:{door.api_port}"
    return static_configuration(door.listen, api, store.routes, revision.platform.trusts)


def _name(store: TargetStore, state: TargetState, listen: str) -> str:
    name = f"{store.service}.{store.target}.door-{listen.rpartition(':')[2]}"
    # The same port at another address of this machine, while the address changes.
    return f"{name}-2" if name in {door.program for door in state.doors.values()} else name


def _api_port(state: TargetState) -> int:
    return ports.choose(1, ports_of(state))[0]

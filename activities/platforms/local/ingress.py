"""Users come to one address; it must be open before the first instance and stay open until the last one is gone.

A front proxy is a supervised router at an address of users. A target has one, or two while its address changes.
"""

import os
import signal

import psutil

from activities.platforms.local.instances import ports_of
from activities.platforms.traefik.config import static_configuration
from activities.platforms.traefik.state import FrontProxyRecord, Instance, TargetState, TargetStore
from embedded import ports
from embedded.ingress.front_proxy import address, front_proxy_program, listen_at, routers, runs_with
from embedded.supervision.supervisor import Supervisor
from home.paths import Home
from models.errors import PreconditionError
from models.release import Fence, Revision


class LocalIngress:
    """The front proxies of all targets of one home: see `activities.platforms.traefik.interfaces`."""

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
            raise PreconditionError(
                f"users cannot be served at {listen}: {error.strerror}. It belongs to {holder}. "
                "Choose another platform.listen, or stop what has it."
            ) from error

    def open(self, store: TargetStore, fence: Fence, revision: Revision) -> None:
        listen = revision.platform.address
        with store.programs(fence):
            proxy = store.read().doors.get(listen)
            if proxy is None:
                self.check(store, revision)
                with store.change(fence) as state:
                    proxy = FrontProxyRecord(
                        listen=listen, program=_name(store, state, listen), api_port=_api_port(state)
                    )
                    state.doors[listen] = proxy
            elif self._api_port_lost(proxy):
                self._supervisor.remove(proxy.program)
                with store.change(fence) as state:
                    proxy = state.doors[listen].model_copy(update={"api_port": _api_port(state)})
                    state.doors[listen] = proxy
            running = self._supervisor.states(proxy.program).get(proxy.program)
            configuration = store.folder / f"{proxy.program}.yml"
            if running is None or not running.running:
                self._home.write(configuration, _static(store, proxy, revision))
                self._supervisor.put(
                    front_proxy_program(self._home, proxy.program, listen, configuration, store.folder)
                )
            elif not runs_with(self._home.programs / proxy.program, _static(store, proxy, revision)):
                # The next router runs beside this one until it takes over: it needs a port of its own for its API.
                with store.change(fence) as state:
                    proxy = state.doors[listen].model_copy(update={"api_port": _api_port(state)})
                    state.doors[listen] = proxy
                self._home.write(configuration, _static(store, proxy, revision))
                # A front proxy of a version that did not know this ends, and the one that follows it looks by itself.
                os.kill(running.pid or 0, signal.SIGHUP)

    def close(self, store: TargetStore, fence: Fence, keep: set[str]) -> list[str]:
        closed = [proxy for listen, proxy in store.read().doors.items() if listen not in keep]
        for proxy in closed:
            self._supervisor.remove(proxy.program)
            (store.folder / f"{proxy.program}.yml").unlink(missing_ok=True)
            with store.change(fence) as state:
                state.doors.pop(proxy.listen, None)
        return [proxy.listen for proxy in closed]

    def teardown(self, store: TargetStore) -> None:
        # A front proxy has nothing beside its program and the target's folder.
        return

    def connections(self, store: TargetStore, state: TargetState, instances: list[Instance]) -> int:
        instance_ports, found = {instance.port for instance in instances}, 0
        for router in (each for proxy in state.doors.values() for each in routers(self._home.programs / proxy.program)):
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
        states = [self._supervisor.states(proxy.program).get(proxy.program) for proxy in state.doors.values()]
        return "; ".join(f"{one.name} does not run: {one.detail}" for one in states if one and not one.running)

    def _api_port_lost(self, proxy: FrontProxyRecord) -> bool:
        # The front proxy adopts a router that outlived the front proxy before it: it need not be the front proxy's own
        # child.
        there = routers(self._home.programs / proxy.program)
        return not ports.is_free(proxy.api_port) and not any(
            proxy.api_port in ports.listening(each.pid) for each in there
        )

    def _holder(self, listen: str) -> str:
        for path in sorted((self._home.path / "targets").glob("*/*/state.json")):
            other = TargetStore(self._home, path.parent.parent.name, path.parent.name)
            port = listen.rpartition(":")[2]
            if any(each.rpartition(":")[2] == port for each in other.read().doors):
                return f"{other.service}/{other.target}, which is deployed here"
        return ""


def _static(store: TargetStore, proxy: FrontProxyRecord, revision: Revision) -> str:
    """What the router behind a front proxy is started with for this revision."""
    api = f"{proxy.api_host}:{proxy.api_port}"
    return static_configuration(proxy.listen, api, store.routes, revision.platform.trusts)


def _name(store: TargetStore, state: TargetState, listen: str) -> str:
    name = f"{store.service}.{store.target}.door-{listen.rpartition(':')[2]}"
    # The same port at another address of this machine, while the address changes.
    return f"{name}-2" if name in {proxy.program for proxy in state.doors.values()} else name


def _api_port(state: TargetState) -> int:
    return ports.choose(1, ports_of(state))[0]

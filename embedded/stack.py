"""The embedded stack as one `up` and one `down`.

`up` may be called at any time, by several at once, over whatever is left of an earlier one: it looks at what is there,
heals it, and returns when deployments can run. `down` stops the control plane and lets what serves users serve on.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from embedded import temporal_server, worker_program
from embedded.supervision import cleanup, supervisord
from embedded.supervision.processes import alive
from embedded.supervision.programs import Definitions, Program
from embedded.supervision.supervisor import ProgramState, Supervisor
from home.paths import Home
from models.errors import StackError

CONTROL_PLANE = (worker_program.NAME, temporal_server.NAME)
_OWN = (*CONTROL_PLANE, supervisord.GUARDIAN)
_READY_WITHIN = 30.0
_STARTING = 3.0
_GRACE = 10.0
_PATIENCE_WITH_ENDS = 2
_NEVER = "it was not started"
_TITLES = {
    worker_program.NAME: "worker",
    temporal_server.NAME: "Temporal server",
    supervisord.GUARDIAN: "guardian",
}


def _silent(_: str) -> None:
    pass


@dataclass(frozen=True)
class Component:
    """One part of the stack as it is now.

    Attributes:
        address: where it answers; empty for what is not asked.
        detail: why it is not healthy.
    """

    name: str
    pid: int | None
    address: str
    healthy: bool
    detail: str = ""


class Stack:
    """Temporal server, worker, supervisor and guardian of one home."""

    def __init__(self, home: Home, worker: Path | None = None) -> None:
        """Args: worker: the worker's script, if not the installed one."""
        self._home = home
        self._worker = worker
        self._supervisor = Supervisor(home)
        self._definitions = Definitions(home)

    @property
    def temporal_address(self) -> str:
        """Host and port of this home's Temporal server.

        Raises:
            StackError: it was never started.
        """
        return f"127.0.0.1:{self._port('port')}"

    @property
    def ui_url(self) -> str:
        """Where the Temporal UI is shown in a browser.

        Raises:
            StackError: it was never started.
        """
        return f"http://127.0.0.1:{self._port('ui-port')}"

    def up(self, say: Callable[[str], None] = _silent) -> None:
        """Starts what does not run and returns when Temporal answers and the worker polls.

        Raises:
            StackError: something does not start; the text has the end of its log.
            UnavailableError: another process has been at it for too long.
        """
        with self._home.lock("stack", timeout=120):
            supervisord.replace_outdated(self._home)
            self._supervisor.ensure()
            self._supervisor.put(supervisord.guardian_program(self._home))
            self._up_temporal(say)
            temporal_server.set_retention(temporal_server.kept_ports(self._home))
            self._up_worker(say)

    def down(self, everything: bool, say: Callable[[str], None] = _silent) -> None:
        """Stops the control plane; with `everything` also all services and front proxies, and leaves no process behind.

        Raises:
            StackError: something does not end.
            UnavailableError: another process has been at it for too long.
        """
        with self._home.lock("stack", timeout=120):
            serving = set(self._supervisor.states()) - set(_OWN) if self._supervisor.alive() else set()
            if serving and not everything:
                for name in CONTROL_PLANE:
                    self._remove(name, say)
            else:
                self._down_everything(say)

    def running(self) -> bool:
        """Whether the control plane is up: Temporal answers and the worker polls."""
        states = self._supervisor.states()
        return self._temporal(states).healthy and self._worker_state(states).healthy

    def worker_is_outdated(self) -> bool:
        """Whether the worker that runs is of other code than this program: it may not understand what it is sent."""
        defined = self._supervisor.definition(worker_program.NAME)
        return defined is not None and not worker_program.same(defined, self._wanted_worker())

    def components(self) -> list[Component]:
        """Everything there is, whether it runs or not: the stack's own four, then what serves users."""
        states = self._supervisor.states()
        served = [
            Component(name, state.pid, self._address(name), state.running, state.detail)
            for name, state in states.items()
            if name not in _OWN
        ]
        return [
            self._supervisor_component(),
            self._guardian(states),
            self._temporal(states),
            self._worker_state(states),
            *served,
        ]

    def _port(self, name: str) -> int:
        kept = temporal_server.kept_ports(self._home)
        if not kept:
            raise StackError("This home's Temporal server was never started.")
        return kept[name]

    def _up_temporal(self, say: Callable[[str], None]) -> None:
        if not self._answers_soon():
            # Its ports may be a stranger's by now; only while it does not run can that be told.
            say("Starting the Temporal server")
            self._supervisor.remove(temporal_server.NAME)
            chosen = temporal_server.choose_ports(self._home)
        else:
            chosen = temporal_server.kept_ports(self._home)
        self._supervisor.put(temporal_server.program(self._home, chosen))
        self._wait(temporal_server.NAME, self._temporal)

    def _answers_soon(self) -> bool:
        deadline = time.monotonic() + _STARTING
        while True:
            states = self._supervisor.states(temporal_server.NAME)
            if self._temporal(states).healthy:
                return True
            state = states.get(temporal_server.NAME)
            if state is None or not state.running or time.monotonic() > deadline:
                return False
            time.sleep(0.02)

    def _up_worker(self, say: Callable[[str], None]) -> None:
        wanted = self._wanted_worker()
        defined = self._supervisor.definition(worker_program.NAME)
        if defined is None or not worker_program.same(defined, wanted):
            say("Starting the worker" if defined is None else "Replacing the worker")
            defined = wanted
        self._supervisor.put(defined)
        self._wait(worker_program.NAME, self._worker_state)

    def _wanted_worker(self) -> Program:
        file = self._worker or worker_program.script()
        return worker_program.program(self._home, self.temporal_address, file)

    def _wait(self, name: str, ready: Callable[[dict[str, ProgramState]], Component]) -> None:
        deadline = time.monotonic() + _READY_WITHIN
        before = self._supervisor.states(name)[name].starts
        while not ready(states := self._supervisor.states()).healthy:
            ended = states[name].starts - before > _PATIENCE_WITH_ENDS
            if ended or time.monotonic() > deadline:
                what = "keeps ending" if ended else f"is not ready after {_READY_WITHIN:.0f} seconds"
                tail = self._supervisor.log_tail(name, 2000).strip() or "(nothing)"
                raise StackError(f"The {_TITLES[name]} {what}. It last said: {tail}")
            time.sleep(0.01)

    def _address(self, name: str) -> str:
        program = self._definitions.load(name)
        if program is None:
            return ""
        if "--listen" in program.argv:
            return program.argv[program.argv.index("--listen") + 1]
        port = program.environment.get("PORT")
        return f"{program.environment.get('HOST', '127.0.0.1')}:{port}" if port else ""

    def _remove(self, name: str, say: Callable[[str], None]) -> None:
        if self._supervisor.definition(name) is not None:
            say(f"Stopping the {_TITLES[name]}")
            self._supervisor.remove(name)

    def _down_everything(self, say: Callable[[str], None]) -> None:
        """Services keep their definitions: the next `up` brings back what served."""
        if self._supervisor.alive():
            # The guardian first: it would start again what goes away.
            self._remove(supervisord.GUARDIAN, say)
            served = sorted(set(self._supervisor.states()) - set(_OWN))
            say("Stopping everything that runs here")
            with ThreadPoolExecutor(max_workers=8) as pool:
                ends = [pool.submit(self._supervisor.remove, name) for name in CONTROL_PLANE]
                ends += [pool.submit(self._supervisor.stop, name) for name in served]
            for end in ends:
                end.result()
        supervisord.stop(self._home)
        self._end_orphans()
        for name in _OWN:
            self._definitions.forget(name)

    def _end_orphans(self) -> None:
        known = [process for name in self._definitions.names() if (process := self._definitions.process(name))]
        cleanup.end_processes(self._home, grace=_GRACE)
        cleanup.end(known, _GRACE)  # those that wrote over their own environment
        left = [found.pid for found in cleanup.processes_of(self._home)]
        left += [process.pid for process in known if alive(process)]
        if left:
            raise StackError(f"These processes do not end: {', '.join(str(pid) for pid in sorted(set(left)))}.")

    def _supervisor_component(self) -> Component:
        process = supervisord.process_of(self._home)
        healthy = process is not None and self._supervisor.alive()
        detail = "" if healthy else "it does not run" if process is None else "it does not answer"
        address = f"unix:{self._home.supervisor_socket}"
        return Component("supervisor", process.pid if process else None, address, healthy, detail)

    def _temporal(self, states: dict[str, ProgramState]) -> Component:
        name = temporal_server.NAME
        chosen = temporal_server.kept_ports(self._home)
        state = states.get(name)
        if state is None or not chosen:
            return Component(name, None, "", False, _NEVER)
        healthy = temporal_server.answers(chosen, state.pid)
        detail = "" if healthy else state.detail or "it does not answer yet"
        return Component(name, state.pid, f"127.0.0.1:{chosen['port']}", healthy, detail)

    def _worker_state(self, states: dict[str, ProgramState]) -> Component:
        name = worker_program.NAME
        state = states.get(name)
        if state is None:
            return Component(name, None, "", False, _NEVER)
        healthy = state.pid is not None and worker_program.ready_pid(self._home) == state.pid
        return Component(name, state.pid, "", healthy, "" if healthy else state.detail or "it does not poll yet")

    def _guardian(self, states: dict[str, ProgramState]) -> Component:
        name = supervisord.GUARDIAN
        state = states.get(name)
        if state is None:
            return Component(name, None, "", False, _NEVER)
        return Component(name, state.pid, "", state.running, state.detail)

"""Keeps programs running: supervisord, started when it is needed and spoken to by its XML-RPC interface.

supervisord alone would not do: its configuration cannot hold every path, its programs die with their log when it is
killed, and it tells no restart from a first start. So its configuration is written from the programs' own descriptions
and names only them; `launch.py` does the rest.
"""

import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from embedded.supervision import supervisord
from embedded.supervision.cleanup import end_processes
from embedded.supervision.client import Client, FaultCode
from embedded.supervision.processes import signal_group, wait_for_end
from embedded.supervision.programs import Definitions, Program, ProgramState
from home.paths import Home
from models.errors import StackError, UnavailableError

__all__ = ["Program", "ProgramState", "Supervisor"]
# States of supervisord (supervisor.states.ProcessStates) from which a program does not start by itself.
_STOPPED = ("STOPPED", "FATAL")
_ENDING = ("STOPPED", "FATAL", "STOPPING")
_PATIENCE = 10.0


class Supervisor:
    """Programs of one home. Safe to use from several threads and processes at once."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._programs = Definitions(home)

    def put(self, program: Program) -> None:
        """Sees to it that exactly this program runs: unchanged it stays as it is, changed it is replaced.

        Starts the supervisor when none runs. Returns as soon as the program is started, not when it is ready.

        Raises:
            UnavailableError: the supervisor does not answer.
            StackError: the definition cannot be used.
        """
        self._programs.text(program)
        with self._changing(program.name):
            supervisord.ensure(self._home)
            if self._programs.current(program):
                if self._start(program.name):
                    return
            elif (old := self._programs.load(program.name)) is not None:
                self._stop(program.name, old.stop_seconds)
            self._replace(program.name, lambda: self._programs.save(program), program.stop_seconds)

    def remove(self, name: str) -> None:
        """Ends a program and whatever it started, and forgets it; its log is kept. One that is not there is no error.

        Raises:
            UnavailableError: the supervisor does not answer.
            StackError: the program does not end.
        """
        with self._changing(name):
            program = self._programs.load(name)
            if program is not None:
                supervisord.ensure(self._home)
                self._stop(name, program.stop_seconds)
                self._replace(name, lambda: self._programs.forget(name), program.stop_seconds)
            end_processes(self._home, name)
            self._programs.forget(name)

    def stop(self, name: str) -> None:
        """Ends a program and whatever it started; it stays defined, and runs again when the supervisor is started.

        Raises:
            UnavailableError: the supervisor does not answer.
            StackError: the program does not end.
        """
        with self._changing(name):
            program = self._programs.load(name)
            if program is not None:
                self._stop(name, program.stop_seconds)

    def restart(self, name: str) -> None:
        """Stops a program and starts it again; counts as a start.

        Raises:
            StackError: there is no such program, or it does not end.
            UnavailableError: the supervisor does not answer.
        """
        with self._changing(name):
            program = self._programs.load(name)
            if program is None:
                raise StackError(f"There is no program {name} to restart.")
            supervisord.ensure(self._home)
            self._stop(name, program.stop_seconds)
            if not self._start(name):
                self._replace(name, lambda: None, program.stop_seconds)

    def states(self, prefix: str = "") -> dict[str, ProgramState]:
        """All programs whose name begins with `prefix`. Needs no supervisor: what runs is known without it."""
        found = {name: self._programs.state(name) for name in self._programs.names(prefix)}
        if all(state.running for state in found.values()):
            return found
        reasons = self._reasons()
        unknown = "the supervisor does not answer" if reasons is None else "the supervisor does not know it"
        return {
            name: state if state.running else self._programs.state(name, (reasons or {}).get(name, unknown))
            for name, state in found.items()
        }

    def definition(self, name: str) -> Program | None:
        """The program as it was put; None when there is none of this name."""
        return self._programs.load(name)

    def log_tail(self, name: str, size: int = 4000) -> str:
        """The last `size` bytes that a program printed; nothing when it printed nothing."""
        try:
            with self._programs.log(name).open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - size))
                return file.read(size).decode(errors="replace")
        except FileNotFoundError:
            return ""

    def last_run(self, name: str, size: int = 8000) -> str:
        """The end of what a program printed since its last start, or since the one before when it is silent so far."""
        text = ""
        for began in reversed(self._programs.log_marks(name)):
            try:
                with self._programs.log(name).open("rb") as file:
                    length = file.seek(0, 2)
                    if began > length:
                        break  # it was emptied in between
                    file.seek(max(began, length - size, 0))
                    text = file.read(size).decode(errors="replace")
            except FileNotFoundError:
                return ""
            if text.strip():
                return text
        return text if text.strip() else self.log_tail(name, size)

    def log(self, name: str) -> Path:
        """Where a program's output goes."""
        return self._programs.log(name)

    def alive(self) -> bool:
        """Whether the supervisor answers."""
        return supervisord.alive(self._home)

    def ensure(self) -> None:
        """Starts the supervisor, and the guardian that watches it, when they do not run."""
        supervisord.ensure(self._home)

    def _client(self) -> Client:
        return Client(self._home.supervisor_socket)

    def _changing(self, name: str) -> AbstractContextManager[None]:
        return self._home.lock(f"program-{self._programs.folder(name).name}", timeout=120)

    def _reasons(self) -> dict[str, str] | None:
        try:
            infos = self._client().call("getAllProcessInfo")
        except UnavailableError:
            return None
        return {
            info["name"]: ": ".join(part for part in (info["statename"].lower(), info["spawnerr"]) if part)
            for info in infos
        }

    def _state(self, name: str) -> str:
        info = self._client().call("getProcessInfo", name, but=(FaultCode.BAD_NAME,))
        return str(info["statename"]) if info else "STOPPED"

    def _start(self, name: str) -> bool:
        """Starts a program that the supervisor knows; False when it does not know it."""
        known = self._client().call("getProcessInfo", name, but=(FaultCode.BAD_NAME,))
        if known is None:
            return False
        if known["statename"] in (*_STOPPED, "EXITED"):
            # A program that ends at once is the business of restarts and of who watches the states.
            self._client().call(
                "startProcess",
                name,
                False,
                but=(FaultCode.ALREADY_STARTED, FaultCode.SPAWN_ERROR),
            )
        return True

    def _replace(self, name: str, change: Callable[[], None], stop_seconds: float) -> None:
        """Changes what is defined, and makes the supervisor know it; the program is stopped by then."""
        for _ in range(5):
            with self._home.lock("supervisor"):
                if self._forgotten(name):
                    change()
                    supervisord.write_configuration(self._home)
                    self._client().call("reloadConfig")
                    if self._programs.load(name) is not None:
                        self._client().call("addProcessGroup", name, but=(FaultCode.ALREADY_ADDED,))
                        self._start(name)
                    return
            # A supervisor that came up a moment ago started the old definition once more.
            self._stop(name, stop_seconds)
        raise StackError(f"The program {name} could not be replaced: it was started again and again.")

    def _forgotten(self, name: str) -> bool:
        if self._client().call("removeProcessGroup", name, but=(FaultCode.BAD_NAME, FaultCode.STILL_RUNNING)):
            return True
        return self._client().call("getProcessInfo", name, but=(FaultCode.BAD_NAME,)) is None

    def _stop(self, name: str, stop_seconds: float) -> None:
        deadline = time.monotonic() + stop_seconds
        told = False
        while True:
            state = self._state(name)
            if state not in _ENDING:
                self._client().call("stopProcess", name, False, but=(FaultCode.BAD_NAME, FaultCode.NOT_RUNNING))
            process = self._programs.process(name)
            if process is None and state in _STOPPED:
                end_processes(self._home, name, grace=max(0.0, deadline - time.monotonic()))
                return
            if process is not None and time.monotonic() > deadline:
                signal_group(process, signal.SIGKILL)
            elif process is not None and state in _STOPPED and not told:
                # Of an earlier supervisor, and adopted by nobody: the signal went to nobody.
                signal_group(process, signal.SIGTERM)
                told = True
            if time.monotonic() > deadline + _PATIENCE:
                raise StackError(f"The program {name} does not end; the supervisor says it is {state.lower()}.")
            if process is None:
                time.sleep(0.005)
            else:
                wait_for_end(process, 0.05)

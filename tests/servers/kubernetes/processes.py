"""A cluster outlives the process that started it, and what a killed test run left behind must still be found.

Each server is therefore written down, by pid and start time, before anything waits for it; containers are found by the
supervisor process (the shim) that containerd gives each of them.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from embedded.supervision.processes import Identity, alive, identify, wait_for_end
from tests.servers.cache import run

_STARTED: list[subprocess.Popen[bytes]] = []


class Servers:
    """The servers of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._logs = folder / "logs"
        self._records = folder / "servers"

    def start(self, name: str, *command: str | Path, **environment: str) -> Identity:
        """Starts a server; what it prints goes to `logs/NAME.log`."""
        for folder in (self._logs, self._records):
            folder.mkdir(parents=True, exist_ok=True)
        with open(self.log(name), "ab") as log:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={"PATH": os.environ["PATH"], "HOME": str(self._folder), **environment},
                start_new_session=True,
            )
        # Servers outlast whoever started them: one that is forgotten while it runs would be warned about.
        _STARTED.append(process)
        found = identify(process.pid)
        if found is None:
            raise RuntimeError(f"{name} ended at once: {self.last_words(name)}")
        (self._records / f"{name}.json").write_text(json.dumps([found.pid, found.started]))
        return found

    def log(self, name: str) -> Path:
        """Where it writes."""
        return self._logs / f"{name}.log"

    def last_words(self, name: str) -> str:
        """The end of what it wrote."""
        return self.log(name).read_text(errors="replace")[-1500:] if self.log(name).exists() else ""

    def running(self, name: str) -> bool:
        """Whether the one that was started last still runs."""
        return alive(self._recorded(name))

    def names(self) -> list[str]:
        """All that were started."""
        return sorted(path.stem for path in self._records.glob("*.json"))

    def wait(self, name: str, condition: Callable[[], bool], within: float = 60) -> None:
        """Waits for what shows that a server is ready.

        Raises:
            RuntimeError: it ended, or did not come to that; told with its last lines.
        """
        deadline = time.monotonic() + within
        while not condition():
            if not self.running(name):
                raise RuntimeError(f"{name} ended: {self.last_words(name)}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} was not ready within {within:g} s: {self.last_words(name)}")
            time.sleep(0.05)

    def end(self, name: str, gently: float = 3) -> None:
        """Ends a server, and waits for that."""
        found = self._recorded(name)
        if found is not None and alive(found):
            os.kill(found.pid, signal.SIGTERM)
            if not wait_for_end(found, gently):
                with suppress(ProcessLookupError):
                    os.kill(found.pid, signal.SIGKILL)
                wait_for_end(found, 10)
        if found is not None:
            with suppress(ChildProcessError):  # one that this very process started would stay a zombie
                os.waitpid(found.pid, os.WNOHANG)
        (self._records / f"{name}.json").unlink(missing_ok=True)

    def _recorded(self, name: str) -> Identity | None:
        try:
            pid, started = json.loads((self._records / f"{name}.json").read_text())
        except (OSError, ValueError):
            return None
        return Identity(pid, started)


def end_containers(socket: Path) -> None:
    """Kills every container of the containerd at this socket, and what holds it; works without that containerd."""
    shims = [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if (process.info["name"] or "").startswith("containerd-shim") and str(socket) in (process.info["cmdline"] or ())
    ]
    doomed = []
    for shim in shims:
        with suppress(psutil.NoSuchProcess):
            doomed += [*shim.children(recursive=True), shim]
    for process in doomed:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(doomed, timeout=10)


def unmount_below(folder: Path, rounds: int = 3) -> None:
    """Nothing is mounted below the folder any more: root file systems, volumes, network namespaces."""
    for _ in range(rounds):
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        points = [line.split()[4].replace("\\040", " ") for line in lines]
        ours = [point for point in points if Path(point).is_relative_to(folder)]
        if not ours:
            return
        for point in sorted(ours, key=len, reverse=True):
            subprocess.run(["umount", "--lazy", point], capture_output=True, timeout=30, check=False)


def remove_chains(prefixes: Sequence[str]) -> None:
    """Takes the chains whose names begin so out of the firewall, with all rules that lead to them."""
    for program in ("iptables", "ip6tables"):
        for table in ("filter", "nat", "mangle", "raw"):
            _remove_chains([program, "-w", "10", "-t", table], prefixes)


def _remove_chains(command: list[str], prefixes: Sequence[str]) -> None:
    done = subprocess.run([*command, "-S"], capture_output=True, text=True, timeout=30, check=False)
    rules = [line.split() for line in done.stdout.splitlines()]
    chains = [rule[1] for rule in rules if rule[0] == "-N" and rule[1].startswith(tuple(prefixes))]
    if not chains:
        return
    for chain in chains:
        run([*command, "-F", chain], timeout=30)
    for chain, number in _jumps(command, chains):
        run([*command, "-D", chain, number], timeout=30)
    for chain in chains:
        run([*command, "-X", chain], timeout=30)


def _jumps(command: list[str], chains: Sequence[str]) -> list[tuple[str, str]]:
    """Chain and number of each rule that leads to one of those, the last first, so that the numbers stay true."""
    said = run([*command, "-S"], timeout=30)
    found: list[tuple[str, str]] = []
    numbers: dict[str, int] = {}
    for line in said.splitlines():
        words = line.split()
        if words[0] == "-A":
            numbers[words[1]] = numbers.get(words[1], 0) + 1
            if _target(words) in chains:
                found.append((words[1], str(numbers[words[1]])))
    return found[::-1]


def _target(words: Sequence[str]) -> str:
    for flag in ("-j", "-g"):
        if flag in words:
            return words[words.index(flag) + 1]
    return ""

"""A real Docker daemon where there is none: started by hand in a temporary folder, and gone without a trace after it.

It needs root and Debian's packages. What a killed test run left behind is ended by the next start or stop: each daemon
leaves a record of whose it is.
"""

import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import docker
import docker.errors
import psutil
from docker.models.containers import Container

from embedded.supervision.processes import alive, identify, wait_for_end
from tests.servers import cache
from tests.servers.docker_engine import network

PACKAGES = ("docker.io", "containerd", "runc", "iproute2", "iptables")
STARTS_WITHIN = 60.0
ENDS_WITHIN = 30.0
# Ours, until somebody has looked at their end.
_started: dict[int, subprocess.Popen[bytes]] = {}


@dataclass
class Daemon:
    """One daemon, known by its folder.

    Attributes:
        bridge: the interface of its default network.
        addresses: everything that it gives to containers lies in this range.
        owner: the process that it ends with; 0 for one that was started by hand.
        apart: it is in a network of its own, like another machine.
    """

    folder: str
    bridge: str
    addresses: str
    owner: int
    owner_started: str
    apart: bool = False

    @property
    def host(self) -> str:
        """What `DOCKER_HOST` says."""
        return f"unix://{self.folder}/docker.sock"

    @property
    def address(self) -> str:
        """Where its published ports are."""
        return network.far_end(ipaddress.IPv4Network(self.addresses)) if self.apart else "127.0.0.1"

    @property
    def log(self) -> Path:
        return Path(self.folder, "dockerd.log")

    @property
    def pid(self) -> int:
        """The daemon's process; 0 when there is none."""
        try:
            return int(Path(self.folder, "dockerd.pid").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def client(self) -> docker.DockerClient:
        """A new connection to it."""
        return docker.DockerClient(base_url=self.host, timeout=60)

    def start(self, *arguments: str) -> None:
        """Starts the daemon in its folder, and waits until it answers; what was in the folder comes up again."""
        folder, addresses = Path(self.folder), ipaddress.ip_network(self.addresses)
        Path(folder, "dockerd.pid").unlink(missing_ok=True)
        pools = f"base={addresses},size=24"
        # Only the network: with its own mounts it would not see the machine's control groups.
        inside = ["nsenter", f"--net=/var/run/netns/{self.bridge}"] if self.apart else []
        command = [
            *inside,
            *("dockerd", f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/dockerd.pid"),
            *(f"--host={self.host}", f"--bridge={self.bridge}", f"--default-address-pool={pools}"),
            *("--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"),
            *arguments,
        ]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        _started[process.pid] = process
        deadline = time.monotonic() + STARTS_WITHIN
        while not self.answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"dockerd did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether it can be asked right now."""
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(5)
            try:
                asked.connect(f"{self.folder}/docker.sock")
                asked.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return asked.recv(100).split()[1:2] == [b"200"]
            except OSError:
                return False

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends the daemon alone, as an administrator or the kernel does; its data stay."""
        process = identify(self.pid)
        if process is None:
            return
        ours = f"{self.folder}/exec/containerd/containerd.toml"
        containerd = [each for each in psutil.process_iter(["cmdline"]) if ours in (each.info["cmdline"] or ())]
        os.kill(process.pid, how)
        if not wait_for_end(process, ENDS_WITHIN):
            os.kill(process.pid, signal.SIGKILL)
            wait_for_end(process, ENDS_WITHIN)
        _reap(process.pid)
        # It goes down with the daemon. A new one that meets it, if only as a zombie, waits in vain for its answer.
        deadline = time.monotonic() + ENDS_WITHIN
        while any(each.is_running() for each in containerd) and time.monotonic() < deadline:
            time.sleep(0.05)

    def remove(self) -> None:
        """Ends it and everything that it runs; no container, network, mount, process or file is left."""
        if self.answers():
            self._empty()
        self.end()
        for process in psutil.process_iter(["cmdline"]):
            # Its containerd and what that holds the containers with.
            if any(self.folder in part for part in process.info["cmdline"] or ()) and process.pid != os.getpid():
                process.kill()
                psutil.wait_procs([process], timeout=5)
        network.give_back(ipaddress.IPv4Network(self.addresses), self.bridge)
        for mount in reversed(_mounts(self.folder)):
            cache.run(["umount", "--lazy", mount], timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)
        _record(self).unlink(missing_ok=True)

    def _empty(self) -> None:
        client = self.client()
        try:
            with ThreadPoolExecutor(max_workers=8) as pool:
                list(pool.map(_remove_container, client.containers.list(all=True, ignore_removed=True)))
            for each in client.networks.list():
                if each.name not in ("bridge", "host", "none"):
                    each.remove()
        finally:
            client.close()


Prepare = Callable[[Daemon], None]


def start(
    *arguments: str, by_hand: bool = False, apart: bool = False, room: str = "", prepare: Prepare | None = None
) -> Daemon:
    """A new daemon, which answers; it needs root.

    Args:
        arguments: more of dockerd's; `{address}` and `{folder}` are filled in.
        by_hand: it outlives this process.
        apart: it is in a network of its own, like another machine.
        room: how much its disk holds, like `900m`; else as much as there is.
        prepare: called when its folder is there, before it starts.

    Raises:
        NotInstalledError: this is not root, or the Debian packages are neither there nor can be got.
    """
    if os.geteuid() != 0:
        raise cache.NotInstalledError(
            "there is no Docker here, and only root can start one: start Docker, or set DOCKER_HOST"
        )
    cache.debian(*PACKAGES)
    sweep()
    # Short: a socket's path may have 107 characters.
    folder = tempfile.mkdtemp(prefix="dockerd-")
    bridge = f"dst{folder[-8:]}"
    me = identify(os.getpid())
    assert me is not None
    owner, started = (0, "") if by_hand else (me.pid, me.started)
    daemon = Daemon(folder, bridge, str(network.take_range(bridge, apart=apart)), owner, started, apart)
    _record(daemon).write_text(json.dumps(asdict(daemon)))
    try:
        if room:
            Path(folder, "data").mkdir()
            cache.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", f"{folder}/data"], timeout=30)
        if prepare is not None:
            prepare(daemon)
        daemon.start(*(argument.format(address=daemon.address, folder=folder) for argument in arguments))
    except BaseException:
        # Nothing is swallowed: also an interruption must leave no mount and no process, and goes on.
        daemon.remove()
        raise
    return daemon


def recorded(*, by_hand: bool = True) -> list[Daemon]:
    """Daemons that were started by hand, or those of test runs."""
    found = [Daemon(**json.loads(path.read_text())) for path in sorted(_records().glob("*.json"))]
    return [daemon for daemon in found if (daemon.owner == 0) == by_hand]


def sweep() -> None:
    """Ends what test runs that were killed have left behind."""
    with cache.locked("docker-sweep"):
        for daemon in recorded(by_hand=False):
            owner = identify(daemon.owner)
            if owner is None or owner.started != daemon.owner_started or not alive(owner):
                daemon.remove()


def _records() -> Path:
    folder = cache.folder() / "dockerds"
    folder.mkdir(exist_ok=True)
    return folder


def _record(daemon: Daemon) -> Path:
    return _records() / f"{Path(daemon.folder).name}.json"


def _remove_container(container: Container) -> None:
    try:
        container.remove(force=True, v=True)
    except docker.errors.NotFound:
        return


def _mounts(folder: str) -> Sequence[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line.split()[1] for line in lines if line.split()[1].startswith(f"{folder}/")]


def _reap(pid: int) -> None:
    process = _started.pop(pid, None)
    if process is not None:
        process.wait(ENDS_WITHIN)

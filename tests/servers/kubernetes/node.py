"""One node with real containers: containerd, kubelet and kube-proxy, with folders and a bridge of their own.

Nothing of it meets a Docker or containerd that the machine has anyway. Made for cgroup v1 as well as v2.
"""

import hashlib
import json
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.servers.base_image import root_file_system
from tests.servers.cache import kept, run
from tests.servers.kubernetes import images
from tests.servers.kubernetes.binaries import Programs
from tests.servers.kubernetes.processes import Servers, end_containers, remove_chains, unmount_below

NAME = "node"
BRIDGE = "ds-kube0"
# Of the bridge, which the kubelet needs: it refuses to be a node at a loopback address.
ADDRESS = "10.253.0.1"
PODS = "10.253.0.0/24"
_CGROUPS = Path("/sys/fs/cgroup")
_SHIMS = Path("/run/containerd/s")


class Node:
    """What runs pods."""

    def __init__(
        self, folder: Path, programs: Programs, servers: Servers, ports: dict[str, int], kubeconfig: Path
    ) -> None:
        self._folder, self._programs, self._servers, self._ports = folder, programs, servers, ports
        self._kubeconfig = kubeconfig
        self._socket = containerd_socket(folder)

    def start(self) -> None:
        """Starts it; the images are there when this returns, the node may not have reported yet."""
        self._make_bridge()
        self._start_containerd()
        self._servers.start(
            "kubelet",
            self._programs.kubernetes / "kubelet",
            f"--config={self._write_kubelet_config()}",
            f"--kubeconfig={self._kubeconfig}",
            f"--hostname-override={NAME}",
            f"--node-ip={ADDRESS}",
            f"--root-dir={self._folder / 'kubelet'}",
            f"--cert-dir={self._folder / 'kubelet-certificates'}",
        )
        self._servers.start(
            "kube-proxy",
            self._programs.kubernetes / "kube-proxy",
            f"--kubeconfig={self._kubeconfig}",
            "--proxy-mode=iptables",
            "--iptables-localhost-nodeports=false",
            f"--cluster-cidr={PODS}",
            f"--hostname-override={NAME}",
            "--conntrack-max-per-core=0",
            f"--healthz-bind-address=127.0.0.1:{self._ports['proxy-health']}",
            f"--metrics-bind-address=127.0.0.1:{self._ports['proxy-metrics']}",
        )

    def import_image(self, archive: Path) -> None:
        """An image from an archive, for pods that never pull."""
        self._ctr("-n", "k8s.io", "images", "import", str(archive))

    def _ctr(self, *arguments: str) -> str:
        return run(["ctr", "-a", str(self._socket), *arguments], timeout=120)

    def _make_bridge(self) -> None:
        remove_bridge()
        for arguments in (
            ("link", "add", BRIDGE, "type", "bridge"),
            ("addr", "add", f"{ADDRESS}/24", "dev", BRIDGE),
            ("link", "set", BRIDGE, "up"),
        ):
            run(["ip", *arguments], timeout=30)

    def _start_containerd(self) -> None:
        networks = self._folder / "networks"
        networks.mkdir()
        (networks / "10-tests.conflist").write_text(json.dumps(_network(self._folder / "addresses")))
        config = self._folder / "containerd.toml"
        config.write_text(_CONTAINERD.format(folder=self._folder, socket=self._socket, pause=images.PAUSE))
        # Its shims listen at paths made from this socket's, not in this folder.
        self._servers.start("containerd", "containerd", "--config", config)
        self._servers.wait("containerd", self._containerd_answers)
        for archive in _archives(self._programs):
            self.import_image(archive)

    def _containerd_answers(self) -> bool:
        asked = ["ctr", "-a", str(self._socket), "version"]
        return subprocess.run(asked, capture_output=True, timeout=30, check=False).returncode == 0

    def _write_kubelet_config(self) -> Path:
        resolve = self._folder / "resolv.conf"
        resolve.write_text("")
        path = self._folder / "kubelet.json"
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "kubelet.config.k8s.io/v1beta1",
                    "kind": "KubeletConfiguration",
                    "address": ADDRESS,
                    "port": self._ports["kubelet"],
                    "healthzPort": 0,
                    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
                    "authorization": {"mode": "AlwaysAllow"},
                    "containerRuntimeEndpoint": f"unix://{self._socket}",
                    "cgroupDriver": "cgroupfs",
                    "cgroupsPerQOS": False,
                    "enforceNodeAllocatable": [],
                    "failSwapOn": False,
                    "failCgroupV1": False,
                    "resolvConf": str(resolve),
                    "podLogsDir": str(self._folder / "pod-logs"),
                    "volumePluginDir": str(self._folder / "plugins"),
                    "maxPods": 200,
                    "serializeImagePulls": False,
                    "imageGCHighThresholdPercent": 100,
                    "evictionHard": {"memory.available": "50Mi", "nodefs.available": "100Mi"},
                    "kubeAPIQPS": 100,
                    "kubeAPIBurst": 200,
                    "syncFrequency": "10s",
                }
            )
        )
        return path


def clean(folder: Path) -> None:
    """Nothing is left of a node whose servers have ended: no container, mount, control group, bridge or chain."""
    socket = containerd_socket(folder)
    tasks = [path.name for path in (folder / "run" / "io.containerd.runtime.v2.task" / "k8s.io").glob("*")]
    end_containers(socket)
    unmount_below(folder)
    for task in tasks:
        # Named by containerd 1.6: a shim that was killed leaves its socket behind.
        name = hashlib.sha256(f"{socket}/k8s.io/{task}".encode()).hexdigest()
        (_SHIMS / name).unlink(missing_ok=True)
    for group in [*_CGROUPS.glob("*/k8s.io"), *_CGROUPS.glob("k8s.io")]:
        for path in [*(group / task for task in tasks), group]:
            with suppress(OSError):  # of somebody else, or gone already
                path.rmdir()
    remove_bridge()
    remove_chains(("KUBE-",))


def remove_bridge() -> None:
    """The bridge of the pods is gone."""
    subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True, timeout=30, check=False)


def containerd_socket(folder: Path) -> Path:
    """Where its containerd listens."""
    return folder / "containerd.sock"


def _archives(programs: Programs) -> list[Path]:
    """The archives of the two images, kept between clusters."""

    def pause(into: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="pause-") as name:
            layer = Path(name) / "layer.tar"
            images.program_layer(layer, programs.pause)
            images.archive(into, images.PAUSE, layer, Entrypoint=["/pause"])

    layer = root_file_system()

    def python(into: Path) -> None:
        images.archive(into, images.PYTHON, layer, Entrypoint=[], WorkingDir="/")

    source = Path(images.__file__).read_bytes()
    return [
        kept("image-pause", [source, programs.pause.name, str(programs.pause.parent.name)], pause),
        kept("image-python", [source, layer.name], python),
    ]


def _network(addresses: Path) -> dict[str, object]:
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(addresses),
            "ranges": [[{"subnet": PODS, "gateway": ADDRESS}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return {"cniVersion": "0.4.0", "name": "deployment-specialist-tests", "plugins": [bridge]}


_CONTAINERD = """\
version = 2
root = "{folder}/images"
state = "{folder}/run"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
]

[grpc]
address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
# Without it a machine that is a container itself says: can't get final child's PID from pipe.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
stream_server_address = "127.0.0.1"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{folder}/networks"
"""

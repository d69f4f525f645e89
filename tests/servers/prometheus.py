"""A real Prometheus and a real Alertmanager on loopback, from Debian, each with a folder of its own."""

import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.servers.cache import debian
from tests.support.free_ports import free_port


def installed() -> None:
    """Sees that the programs are there.

    Raises:
        NotInstalledError: they are not, and cannot be installed by the tests.
    """
    if any(shutil.which(program) is None for program in ("prometheus", "promtool", "prometheus-alertmanager")):
        debian("prometheus", "prometheus-alertmanager")


@dataclass(frozen=True)
class RunningPrometheus:
    """A running server, with the folders that it reads.

    Attributes:
        targets: read as file_sd_configs.
        rules: read as rule_files.
    """

    url: str
    targets: Path
    rules: Path
    process: "subprocess.Popen[bytes]"

    def get(self, path: str, **query: str) -> Any:
        """The data that its API answers."""
        return httpx.get(f"{self.url}/api/v1/{path}", params=query, trust_env=False).json()["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of a query."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found


@contextmanager
def running_prometheus(
    folder: Path, *, lifecycle: bool = True, alertmanager: str = "", scraped_every: str = "1s"
) -> Iterator[RunningPrometheus]:
    """Prometheus on a free port, with its data in `folder`; ended at the end."""
    targets, rules, port = folder / "targets", folder / "rules", free_port()
    targets.mkdir(parents=True)
    rules.mkdir()
    configuration: dict[str, Any] = {
        "global": {"scrape_interval": scraped_every, "evaluation_interval": "1s"},
        "rule_files": [f"{rules}/*.yml"],
        "scrape_configs": [{"job_name": "services", "file_sd_configs": [{"files": [f"{targets}/*.yml"]}]}],
    }
    if alertmanager:
        host = alertmanager.partition("://")[2]
        configuration["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [host]}]}]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    command = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        *(["--web.enable-lifecycle"] if lifecycle else []),
    ]
    url = f"http://127.0.0.1:{port}"
    with _running(command, folder / "prometheus.log", f"{url}/-/ready") as process:
        yield RunningPrometheus(url, targets, rules, process)


@contextmanager
def running_alertmanager(folder: Path, configuration: dict[str, Any]) -> Iterator[str]:
    """Alertmanager on a free port; gives its address."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(configuration))
    command = [
        "prometheus-alertmanager",
        f"--config.file={folder}/alertmanager.yml",
        f"--storage.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    url = f"http://127.0.0.1:{port}"
    with _running(command, folder / "alertmanager.log", f"{url}/-/ready"):
        yield url


@contextmanager
def _running(command: Sequence[str], log: Path, ready: str) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("w") as into:
        process = subprocess.Popen(command, stdout=into, stderr=into)
    try:
        deadline = time.monotonic() + 30
        while True:
            assert process.poll() is None, f"{command[0]} did not start: {log.read_text()[-2000:]}"
            try:
                if httpx.get(ready, trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, f"{command[0]} does not answer: {log.read_text()[-2000:]}"
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

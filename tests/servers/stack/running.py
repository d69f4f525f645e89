"""The stack as its users have it: a checkout, `deploy/compose/prepare`, a `.env`, `docker compose up -d --wait`.

Only `.env` differs from theirs: it names the tests' images and free ports. Grafana is in no registry that the tests
reach, so the services are named and it is left out.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers.docker_engine import Engine
from tests.servers.stack import images
from tests.support.free_ports import free_port

SERVICES = ("postgres", "temporal-schema", "temporal", "temporal-namespace", "temporal-ui", "worker", "prometheus")
ONCE = ("temporal-schema", "temporal-namespace")
PORTS = ("TEMPORAL", "TEMPORAL_METRICS", "TEMPORAL_UI", "WORKER_METRICS", "PROMETHEUS", "GRAFANA")
_CHECKOUT = ("docker-compose.yml", "deploy", "examples")


class Stack:
    """One Compose project of the stack.

    Attributes:
        checkout: what it is started from.
        deployments: the folder whose paths mean the same to the worker and to everybody else.
        ports: of what is published, by the variable's name without `_PORT`.
    """

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.project = f"ds-stack-{uuid.uuid4().hex[:8]}"
        self.checkout = folder / "checkout"
        self.deployments = folder / "deployments"
        self._tagged: list[str] = []
        self.ports = dict(zip(PORTS, (free_port() for _ in PORTS), strict=True))

    @property
    def address(self) -> str:
        """Temporal's."""
        return f"127.0.0.1:{self.ports['TEMPORAL']}"

    @property
    def prometheus(self) -> str:
        """Prometheus' URL."""
        return f"http://127.0.0.1:{self.ports['PROMETHEUS']}"

    def prepare(self, *options: str) -> None:
        """Makes the checkout and does what the page tells users to do first."""
        self.checkout.mkdir()
        self.deployments.mkdir()
        for name in _CHECKOUT:
            source = images.ROOT / name
            if source.is_dir():
                shutil.copytree(source, self.checkout / name, ignore=shutil.ignore_patterns("secrets", "__pycache__"))
            else:
                shutil.copy2(source, self.checkout / name)
        settings = {
            "COMPOSE_PROJECT_NAME": self.project,
            "DEPLOYMENTS": str(self.deployments),
            **images.VARIABLES,
            **{f"{name}_PORT": str(port) for name, port in self.ports.items()},
        }
        (self.checkout / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        socket = self.engine.host.removeprefix("unix://")
        done = self._run("deploy/compose/prepare", *options, timeout=120, DOCKER_SOCKET=socket)
        assert done.returncode == 0, done.stderr

    def secret(self, name: str) -> str:
        """A secret's value."""
        return (self.checkout / "deploy" / "compose" / "secrets" / name).read_text()

    def up(self) -> None:
        """`docker compose up -d --wait`, of all but Grafana."""
        self.must("up", "-d", "--wait", "--no-build", *SERVICES, timeout=500)

    def compose(self, *words: str, timeout: float = 300, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Calls `docker compose` in the checkout."""
        return self._run("docker", "compose", *words, timeout=timeout, given=given)

    def must(self, *words: str, timeout: float = 300, given: str | None = None) -> str:
        """Calls `docker compose`, which has to work; gives what it printed."""
        done = self.compose(*words, timeout=timeout, given=given)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr[-2000:]}{self.compose('logs').stdout[-4000:]}"
        return done.stdout

    def shell(self, commands: str) -> subprocess.CompletedProcess[str]:
        """Types commands into a shell in the checkout; the first that fails ends it."""
        return self._run("bash", "-euo", "pipefail", "-c", commands, timeout=900)

    def inspect(self, service: str) -> dict[str, Any]:
        """What Docker says about a service's container."""
        container = self.must("ps", "--all", "--quiet", service).strip()
        done = self._run("docker", "inspect", container, timeout=120)
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found[0]

    def logs(self, service: str) -> str:
        """What a service has printed."""
        return self.must("logs", "--no-log-prefix", "--no-color", service)

    def command(
        self, *words: str, timeout: float = 300, given: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Calls `starter.py` on the host, with the stack's address and what is given in its environment."""
        return subprocess.run(
            [sys.executable, str(images.ROOT / "starter.py"), *words],
            env={**self.client_environment(), **(given or {})},
            cwd=self.checkout,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def start_command(self, *words: str) -> "subprocess.Popen[str]":
        """Starts `starter.py` on the host."""
        return subprocess.Popen(
            [sys.executable, str(images.ROOT / "starter.py"), *words],
            env=self.client_environment(),
            cwd=self.checkout,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def client_environment(self) -> dict[str, str]:
        """What a command needs to know; its home is one that nothing may be written to."""
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.checkout),
            "USER": "ann",
            "TEMPORAL_ADDRESS": self.address,
            "DEPLOYMENT_SPECIALIST_HOME": str(self.checkout / "no-home"),
        }

    @contextmanager
    def other_images(self, *variables: str) -> Iterator[None]:
        """As after an upgrade, `.env` names other images; what is in them is the same."""
        settings = self.checkout / ".env"
        before = settings.read_text()
        client = self.engine.client()
        try:
            for variable in variables:
                name, _, tag = images.VARIABLES[variable].rpartition(":")
                # A change of the name alone would be none to Compose, which compares ids.
                container = client.api.create_container(f"{name}:{tag}")
                client.api.commit(container["Id"], name, f"{tag}-next", changes=["LABEL upgraded=yes"])
                client.api.remove_container(container["Id"], v=True)
                with settings.open("a") as file:
                    file.write(f"{variable}={name}:{tag}-next\n")
            yield
        finally:
            settings.write_text(before)
            self._tagged += [f"{images.VARIABLES[variable]}-next" for variable in variables]
            client.close()

    def remove(self) -> None:
        """Nothing of it is left."""
        if (self.checkout / "docker-compose.yml").exists():
            self.compose("down", "--volumes", "--timeout", "10", timeout=400)
        if self._tagged:
            self._run("docker", "image", "rm", *self._tagged, timeout=120)

    def _run(
        self, *command: str, timeout: float, given: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        # None of the caller's own variables for the stack: they would win over .env.
        clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
        return subprocess.run(
            command,
            cwd=self.checkout,
            env={**clean, **self.engine.environment, **environment},
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout,
        )


@contextmanager
def running(engine: Engine, *options: str) -> Iterator[Stack]:
    """A stack that has come up, prepared with these options; gone afterwards, with its data."""
    # Not pytest's own folder: only its owner may enter that, and the worker is somebody else.
    folder = Path(tempfile.mkdtemp(prefix="ds-stack-"))
    folder.chmod(0o755)
    stack = Stack(engine, folder)
    try:
        stack.prepare(*options)
        stack.up()
        yield stack
    finally:
        try:
            stack.remove()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

"""Docker for the tests: the machine's own where there is one, else a daemon that is started for them.

With `docker compose`, which Debian does not bring, and with the images that nothing can be pulled for.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import docker
import docker.errors

from tests.servers.cache import go_build
from tests.servers.docker_engine import daemon as daemons
from tests.servers.docker_engine import images
from tests.servers.docker_engine.daemon import Daemon

COMPOSE = "v2.40.3"


@dataclass(frozen=True)
class Engine:
    """A Docker with Compose and the tests' images.

    Attributes:
        host: what `DOCKER_HOST` says.
        config: what `DOCKER_CONFIG` says: a folder in which the command line finds Compose.
        daemon: the daemon that was started for it; None where it is the machine's own.
    """

    host: str
    config: Path
    daemon: Daemon | None

    @property
    def environment(self) -> dict[str, str]:
        """What the command line and the SDK need in their environment."""
        return {"DOCKER_HOST": self.host, "DOCKER_CONFIG": str(self.config)}

    def client(self) -> docker.DockerClient:
        """A new connection."""
        return docker.DockerClient(base_url=self.host, timeout=60)


@contextmanager
def engine() -> Iterator[Engine]:
    """Docker for as long as the block runs; one that was started for it ends with it.

    Raises:
        NotInstalledError: there is none and none can be started here.
    """
    host = machines_own()
    if host is None:
        with own_engine() as found:
            yield found
        return
    with _with_compose(Engine(host, Path(), None)) as found:
        yield found


@contextmanager
def own_engine(
    *arguments: str, apart: bool = False, room: str = "", prepare: daemons.Prepare | None = None
) -> Iterator[Engine]:
    """A daemon of one's own, to do to it what one likes: see `daemon.start`.

    Raises:
        NotInstalledError: none can be started here.
    """
    daemon = daemons.start(*arguments, apart=apart, room=room, prepare=prepare)
    try:
        with _with_compose(Engine(daemon.host, Path(), daemon)) as found:
            yield found
    finally:
        daemon.remove()


@contextmanager
def _with_compose(engine: Engine) -> Iterator[Engine]:
    folder = tempfile.mkdtemp(prefix="docker-config-")
    try:
        found = replace(engine, config=install_compose(Path(folder)))
        client = found.client()
        try:
            images.provide(client)
        finally:
            client.close()
        yield found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def machines_own() -> str | None:
    """The address of a Docker that answers: the one that `DOCKER_HOST` names, or the usual socket's."""
    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if host.startswith("unix://") and not Path(host.removeprefix("unix://")).exists():
        return None
    try:
        client = docker.DockerClient(base_url=host, timeout=5)
    except docker.errors.DockerException:
        return None
    client.close()
    return host


def install_compose(folder: Path) -> Path:
    """Makes the folder one that `DOCKER_CONFIG` may name, with Compose in it."""
    version = f"-X github.com/docker/compose/v2/internal.Version={COMPOSE}"
    package = "github.com/docker/compose/v2/cmd"
    built = go_build("docker-compose", Path(__file__).parent, [package], "-ldflags", f"-s -w {version}")
    plugins = folder / "cli-plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    link = plugins / "docker-compose"
    link.unlink(missing_ok=True)
    link.symlink_to(built / "cmd")
    return folder

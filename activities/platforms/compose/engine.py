"""A Docker host may be this machine or one behind ssh or TLS: it is found as the `docker` command finds it.

One connection per host and process. What the SDK raises becomes our errors here, by its types: a host that does not
answer is worth another try, whatever is in its way.
"""

import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import docker.errors
import requests
from docker.context import ContextAPI
from docker.models.containers import Container
from docker.tls import TLSConfig

from activities.heartbeat import shorten
from activities.platforms.compose.ssh import Tunnel
from models.errors import PreconditionError, UnavailableError
from models.platforms import ComposePlatformSpec

ANSWERS_WITHIN = 30
LABEL = "deployment-specialist"
# The first question is asked without one.
_ANY_VERSION = "1.41"
_DEFAULT = "unix:///var/run/docker.sock"
_CERTIFICATES = ("ca.pem", "cert.pem", "key.pem")


class Engine:
    """One Docker host.

    Attributes:
        named: how it was asked for; for people.
    """

    def __init__(self, platform: ComposePlatformSpec) -> None:
        self._variables = _variables(platform)
        self.named = _named(platform, self._variables)
        host = _where(self._variables)[0]
        self._tunnel = Tunnel(host) if host.startswith("ssh://") else None
        self._client: docker.DockerClient | None = None
        self._id = ""
        self._near: dict[str, bool] = {}
        self._lock = threading.Lock()

    @property
    def variables(self) -> dict[str, str]:
        """What the `docker` command finds it by."""
        return {"DOCKER_HOST": self._tunnel.open()} if self._tunnel else self._variables

    @property
    def docker(self) -> docker.DockerClient:
        """The connection; use it inside `asking`."""
        with self._lock:
            if self._client is None:
                self._client = _connect(self.variables)
            return self._client

    @property
    def id(self) -> str:
        """What tells this Docker host from every other, whatever its address.

        Raises:
            UnavailableError: it does not answer.
        """
        if not self._id:
            with self.asking():
                about = self.docker.info()
            # Machines that were copied have the same id, and two daemons of one machine may.
            said = "\n".join(str(about.get(name)) for name in ("ID", "Name", "DockerRootDir"))
            self._id = hashlib.sha256(said.encode()).hexdigest()[:32]
        return self._id

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around everything that asks the host.

        Raises:
            UnavailableError: it does not answer, or cannot do it right now.
        """
        try:
            yield
        except docker.errors.APIError as error:
            # It is a RequestException as well.
            raise UnavailableError(
                f"Docker at {self.named} said: {shorten(error.explanation or str(error), 500)}"
            ) from error
        except (requests.RequestException, OSError, docker.errors.DockerException) as error:
            self.forget()
            # What ssh says is why; the rest is only that a connection was closed.
            why = (self._tunnel.last_words() if self._tunnel else "") or shorten(_cause(error), 300)
            raise UnavailableError(
                f"Docker at {self.named} does not answer: {why.rstrip('.')}. "
                "Is its daemon running, and may this user reach it?"
            ) from error

    def answers(self) -> bool:
        """Whether it can be asked right now."""
        try:
            with self.asking():
                return bool(self.docker.ping())
        except UnavailableError:
            return False

    def forget(self) -> None:
        """The next question goes over a new connection."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def close(self) -> None:
        """Nothing is connected any more."""
        self.forget()
        if self._tunnel is not None:
            self._tunnel.close()

    def containers(self, **labels: str) -> list[Container]:
        """All containers with these labels of ours, also those that do not run."""
        wanted = [f"{LABEL}.{name}={value}" for name, value in labels.items()]
        with self.asking():
            return list(self.docker.containers.list(all=True, filters={"label": wanted}, ignore_removed=True))

    def container(self, name: str) -> Container | None:
        """The container of exactly this name or id."""
        with self.asking():
            try:
                return self.docker.containers.get(name)
            except docker.errors.NotFound:
                return None

    def is_near(self, gateway: str) -> bool:
        """Whether the network with this gateway is one of this machine: its containers can be reached directly."""
        if gateway not in self._near:
            family = socket.AF_INET6 if ":" in gateway else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                try:
                    probe.bind((gateway, 0))
                    self._near[gateway] = True
                except OSError:
                    self._near[gateway] = False
        return self._near[gateway]

    def is_here(self) -> bool:
        """Whether the host is this machine: its ports, disk and memory are ours."""
        with self.asking():
            networks = self.docker.networks.list(filters={"driver": "bridge"})
        gateways = [each.get("Gateway") for network in networks for each in network.attrs["IPAM"].get("Config") or ()]
        # An internal network's gateway may be nobody's address.
        return any(self.is_near(gateway) for gateway in gateways if gateway)


class Engines:
    """All Docker hosts of a worker, by how they are asked for."""

    def __init__(self) -> None:
        self._engines: dict[tuple[str | None, ...], Engine] = {}
        self._lock = threading.Lock()

    def of(self, platform: ComposePlatformSpec) -> Engine:
        """The host of that platform.

        Raises:
            PreconditionError: there is no such Docker context, or its certificates are not there.
        """
        key = (platform.host, platform.context, platform.certificates)
        with self._lock:
            if key not in self._engines:
                self._engines[key] = Engine(platform)
            return self._engines[key]

    def close(self) -> None:
        """Close all connections."""
        for engine in self._engines.values():
            engine.close()


def _variables(platform: ComposePlatformSpec) -> dict[str, str]:
    if platform.host is not None:
        found = {"DOCKER_HOST": platform.host}
        if platform.certificates is not None:
            missing = [name for name in _CERTIFICATES if not Path(platform.certificates, name).is_file()]
            if missing:
                raise PreconditionError(f"platform.certificates: {platform.certificates} has no {', '.join(missing)}")
            found |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": platform.certificates}
        return found
    if platform.context is not None:
        return {"DOCKER_CONTEXT": platform.context}
    names = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def _named(platform: ComposePlatformSpec, variables: dict[str, str]) -> str:
    context = variables.get("DOCKER_CONTEXT")
    return variables.get("DOCKER_HOST") or (f"the context {context}" if context else "its usual place")


def _where(variables: dict[str, str]) -> tuple[str, TLSConfig | bool]:
    """The host's address, and how it is trusted.

    Raises:
        PreconditionError: there is no such context.
    """
    host = variables.get("DOCKER_HOST")
    if host is not None:
        return host, _tls(variables)
    context = ContextAPI.get_context(variables.get("DOCKER_CONTEXT"))
    if context is None:
        raise PreconditionError(f"there is no Docker context {variables.get('DOCKER_CONTEXT')} on the worker")
    return context.Host or _DEFAULT, context.TLSConfig or False


def _connect(variables: dict[str, str]) -> docker.DockerClient:
    host, tls = _where(variables)
    if tls:
        return _connect_securely(host.replace("tcp://", "https://", 1), tls)
    return docker.DockerClient(base_url=host, timeout=ANSWERS_WITHIN)


def _connect_securely(host: str, tls: TLSConfig | bool) -> docker.DockerClient:
    """Trusts the given authority alone: requests would put a bundle that the environment names in its place."""
    trial = docker.APIClient(base_url=host, tls=tls, timeout=ANSWERS_WITHIN, version=_ANY_VERSION)
    trial.trust_env = False
    try:
        version = trial.version(api_version=False)["ApiVersion"]
    finally:
        trial.close()
    client = docker.DockerClient(base_url=host, tls=tls, timeout=ANSWERS_WITHIN, version=version)
    client.api.trust_env = False
    return client


def _tls(variables: dict[str, str]) -> TLSConfig | bool:
    folder = variables.get("DOCKER_CERT_PATH")
    if not variables.get("DOCKER_TLS_VERIFY") or folder is None:
        return False
    ca, cert, key = (str(Path(folder, name)) for name in _CERTIFICATES)
    return TLSConfig(client_cert=(cert, key), ca_cert=ca, verify=True)


def _cause(error: BaseException) -> str:
    """The innermost words: what is around them names only the libraries."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    return str(error) or type(error).__name__

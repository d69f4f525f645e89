"""`docker compose` is a program: it is run with a list of arguments and a time limit, and its words are cut.

What changes something holds a lock that the program inherits. When a worker dies in the middle, its last command
goes on for a moment; whoever takes over waits for its end.
"""

import fcntl
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from docker import DockerClient
from docker.errors import APIError
from docker.models.containers import Container

from activities.heartbeat import shorten
from activities.platforms.compose.engine import Engine
from models.errors import PreconditionError, UnavailableError

# Of a frame: which stream, three zeros, how long.
_HEADER = 8
QUICK = 30.0
STARTS_WITHIN = 180.0
BUILDS_WITHIN = 1800.0
EXIT_KNOWN_WITHIN = 5.0
LONGEST_WORDS = 1500
_DOCKERS_OWN = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
_MISSING = (
    "Install Docker's command line with Compose v2 where the worker runs, and see that `docker compose version` works."
)


class CommandFailedError(Exception):
    """`docker compose` ended with an error; its last words are the text."""


def compose(
    engine: Engine,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    within: float = QUICK,
    lock: Path | None = None,
) -> str:
    """Runs `docker compose` and gives what it printed.

    `environment` comes on top of the worker's own; the file `lock` is locked for as long as the program runs.

    Raises:
        CommandFailedError: it ended with an error.
        PreconditionError: there is no `docker compose`.
        UnavailableError: it took too long.
    """
    own = {name: value for name, value in os.environ.items() if name not in _DOCKERS_OWN}
    variables = {**own, **(environment or {}), **engine.variables, "COMPOSE_PROGRESS": "quiet", "DOCKER_CLI_HINTS": "0"}
    with _locked(lock, within) if lock else nullcontext(()) as descriptors:
        code, out, err = _run(["docker", "compose", *arguments], variables, within, descriptors)
    if code == 0:
        return out
    version(engine)
    raise CommandFailedError(shorten(err or out, LONGEST_WORDS) or f"docker compose ended with {code}")


def version(engine: Engine) -> str:
    """The version of Compose.

    Raises:
        PreconditionError: there is none.
    """
    own = {name: value for name, value in os.environ.items() if name not in _DOCKERS_OWN}
    code, out, _ = _run(["docker", "compose", "version", "--short"], {**own, **engine.variables}, QUICK)
    if code != 0:
        raise PreconditionError(f"the worker's docker has no Compose v2. {_MISSING}")
    return out.strip()


def inside(engine: Engine, container: Container, *command: str) -> tuple[int, bytes, bytes]:
    """Runs a program in a container; gives its exit code, output and errors.

    Raises:
        UnavailableError: Docker does not answer, or the container does not run.
    """
    with engine.asking():
        return run_inside(engine.docker, container, *command)


def run_inside(docker: DockerClient, container: Container, *command: str) -> tuple[int, bytes, bytes]:
    """The same; what goes wrong is raised as the client does it.

    Not `Container.exec_run`: that makes a raw connection of an HTTP one, and on a busy machine loses what comes along
    with the answer's headers. Whoever is told of no requests under way would end an instance too early.

    Raises:
        UnavailableError: the answer ended in the middle, or Docker does not say how the program ended.
    """
    api = docker.api
    made = api.exec_create(container.id, list(command))["Id"]
    url = f"{api.base_url}/v{api.api_version}/exec/{made}/start"
    answer = api.post(url, json={"Detach": False, "Tty": False}, timeout=api.timeout)
    if not answer.ok:
        raise APIError(answer.text, response=answer)
    out, err = _streams(answer.content)
    return _exit_code(docker, made), out, err


def _exit_code(docker: DockerClient, made: str) -> int:
    deadline = time.monotonic() + EXIT_KNOWN_WITHIN
    while (code := docker.api.exec_inspect(made)["ExitCode"]) is None:
        # What a program says can end a moment before its end is known.
        if time.monotonic() > deadline:
            raise UnavailableError("Docker does not say how a program in a container ended")
        time.sleep(0.02)
    return int(code)


def _streams(said: bytes) -> tuple[bytes, bytes]:
    """Output and errors, of what Docker sends when there is no terminal: frames of a number, a length and a text.

    Raises:
        UnavailableError: it ends in the middle of a frame.
    """
    found, at = {1: b"", 2: b""}, 0
    while at < len(said):
        stream, begin = said[at], at + _HEADER
        at = begin + int.from_bytes(said[begin - 4 : begin], "big")
        if at > len(said) or stream not in found:
            raise UnavailableError("Docker's answer ended in the middle")
        found[stream] += said[begin:at]
    return found[1], found[2]


def wait_for_last(lock: Path) -> None:
    """Returns when no command runs any more that held this lock: one of a worker that died may still be at work.

    Raises:
        UnavailableError: it does not end.
    """
    with _locked(lock, STARTS_WITHIN):
        pass


def _run(
    command: Sequence[str], variables: Mapping[str, str], within: float, descriptors: Sequence[int] = ()
) -> tuple[int, str, str]:
    try:
        done = subprocess.run(
            command,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=within,
            pass_fds=descriptors,
            cwd="/",
        )
    except FileNotFoundError:
        raise PreconditionError(f"there is no program docker on the worker's PATH. {_MISSING}") from None
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{' '.join(command[:2])} did not end within {within:.0f} s") from None
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


@contextmanager
def _locked(path: Path, within: float) -> Iterator[tuple[int]]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + within
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UnavailableError("another docker compose for this target does not end") from None
                time.sleep(0.05)
        yield (descriptor,)
    finally:
        os.close(descriptor)

"""What holds data is shared: it is started when it is missing, and never made anew, doubled, stopped or removed.

The same holds for the networks and volumes of a user's Compose file: they are made once, with the labels that Compose
itself would give them, and belong to the user's own project from then on.
"""

from dataclasses import dataclass

import docker.errors
from docker.models.containers import Container

from activities.platforms.compose.cli import STARTS_WITHIN, CommandFailedError, compose, version
from activities.platforms.compose.engine import Engine
from activities.platforms.compose.project import Project
from activities.platforms.compose.state import ComposeStore
from models.errors import NotReadyError, PreconditionError

PROJECT, SERVICE = "com.docker.compose.project", "com.docker.compose.service"


@dataclass(frozen=True)
class MissingDependency:
    """What of the surroundings of a release is not there yet.

    Attributes:
        services: shared ones that do not run.
        networks: name in the file → real name.
        volumes: the same.
    """

    services: list[str]
    networks: dict[str, str]
    volumes: dict[str, str]


def running(engine: Engine, project: str, service: str) -> list[Container]:
    """The containers that run of a service of the user's own project, oldest first."""
    labels = [f"{PROJECT}={project}", f"{SERVICE}={service}"]
    with engine.asking():
        found = engine.docker.containers.list(filters={"label": labels}, ignore_removed=True)
    return sorted(found, key=lambda each: str(each.attrs["Created"]))


def missing(engine: Engine, project: Project) -> MissingDependency:
    """Looks, and changes nothing.

    Raises:
        PreconditionError: something that the file calls external is not there.
    """
    services = [name for name in project.shared if not running(engine, project.name, name)]
    with engine.asking():
        networks = {str(each.name) for each in engine.docker.networks.list()}
        volumes = {str(each.name) for each in engine.docker.volumes.list()}
    used = [
        each["source"]
        for each in project.released.get("volumes") or ()
        if each.get("type") == "volume" and each.get("source")
    ]
    return MissingDependency(
        services,
        _absent(project, "networks", list(project.released.get("networks") or {"default": None}), networks),
        _absent(project, "volumes", used, volumes),
    )


def bring_up(store: ComposeStore, project: Project, variables: dict[str, str]) -> None:
    """Sees that everything is there that the release needs around it.

    Raises:
        NotReadyError: a shared service does not come up.
    """
    gone = missing(store.engine, project)
    if not (gone.services or gone.networks or gone.volumes):
        return
    labels = {PROJECT: project.name, "com.docker.compose.version": version(store.engine)}
    docker_ = store.engine.docker
    for kind, absent in (("network", gone.networks), ("volume", gone.volumes)):
        for name, real in absent.items():
            about = (project.model.get(f"{kind}s") or {}).get(name) or {}
            own = {**(about.get("labels") or {}), **labels, f"com.docker.compose.{kind}": name}
            with store.engine.asking():
                if kind == "network":
                    internal = bool(about.get("internal"))
                    docker_.networks.create(real, driver=about.get("driver"), internal=internal, labels=own)
                else:
                    options = about.get("driver_opts")
                    docker_.volumes.create(real, driver=about.get("driver"), driver_opts=options, labels=own)
    if gone.services:
        files = [part for file in project.platform.files for part in ("-f", file)]
        command = ("-p", project.name, "up", "-d", "--no-recreate", "--wait", *gone.services)
        try:
            compose(
                store.engine, *files, *command, environment=variables, within=STARTS_WITHIN, lock=store.command_lock
            )
        except CommandFailedError as error:
            raise NotReadyError(f"the shared services {', '.join(gone.services)} do not come up: {error}") from error


def _absent(project: Project, kind: str, names: list[str], there: set[str]) -> dict[str, str]:
    found = {name: project.real_name(kind, name) for name in names}
    absent = {name: real for name, real in found.items() if real not in there}
    for name, real in absent.items():
        if ((project.model.get(kind) or {}).get(name) or {}).get("external"):
            raise PreconditionError(f"the Compose file calls the {kind[:-1]} {real} external, and it is not there")
    return absent


def exists(engine: Engine, network: str) -> bool:
    """Whether there is a network of this name."""
    with engine.asking():
        try:
            engine.docker.networks.get(network)
        except docker.errors.NotFound:
            return False
    return True

"""What served before the first deployment becomes a revision: users must be able to get back to it.

Its containers are found by the labels of Compose. They are copied to the last setting, without their published ports,
and stay where they are, stopped: what they are made of, secrets among it, is known to Docker alone, and each further
instance is made after them.
"""

import re
from typing import Any

import docker.errors
from docker.models.containers import Container
from pydantic import TypeAdapter, ValidationError

from activities.platforms.compose import dependencies
from activities.platforms.compose.engine import LABEL, Engine
from activities.platforms.compose.instances import check_says, labels, project_name
from activities.platforms.compose.network import TargetNetwork
from activities.platforms.compose.project import Template
from activities.platforms.compose.state import ComposeStore
from activities.platforms.traefik.state import Instance, RevisionRecord
from models.errors import PreconditionError, UnavailableError
from models.names import Version
from models.platforms import ComposePlatformSpec
from models.release import Release, Revision
from models.spec import Endpoints

_STAYS_DOWN: Any = {"Name": "no"}
_VERSION_LABEL = "org.opencontainers.image.version"
_ID = re.compile(r"[0-9a-f]{12,64}")
_VERSION: TypeAdapter[str] = TypeAdapter(Version)
# A service that we know nothing of is judged by its own health check, and by whether it accepts connections.
_NO_ENDPOINTS = Endpoints(health=None, ready=None, live=None, metrics=None, version=None)


def find(engine: Engine, platform: ComposePlatformSpec, project: str) -> list[Container]:
    """Containers of the released service that serve users at the target's address; none where nobody of it does."""
    found = dependencies.running(engine, project, platform.service)
    found = [each for each in found if f"{LABEL}.role" not in each.labels]
    return found if any(publishes(each, platform.listen) for each in found) else []


def serves_there(engine: Engine, platform: ComposePlatformSpec) -> bool:
    """Whether some container of a service of this name, not ours, serves users at the address; quick to find out."""
    with engine.asking():
        running = engine.docker.containers.list(
            filters={"label": f"{dependencies.SERVICE}={platform.service}"}, ignore_removed=True
        )
    return any(publishes(each, platform.listen) for each in running if f"{LABEL}.role" not in each.labels)


def is_well(container: Container) -> bool:
    """Whether its own health check, if it has one, finds nothing wrong."""
    return check_says(container) != "unhealthy"


def publishes(container: Container, listen: str) -> bool:
    """Whether users who come to the address come to this container."""
    host, _, port = listen.rpartition(":")
    given: dict[str, list[dict[str, str]] | None] = container.attrs["NetworkSettings"].get("Ports") or {}
    at = [each for bindings in given.values() for each in bindings or () if each["HostPort"] == port]
    every = {"0.0.0.0", "::", ""}  # noqa: S104  compared, not listened at
    return any(each["HostIp"] in every or host in every or each["HostIp"] == host.strip("[]") for each in at)


def revision_of(service: str, platform: ComposePlatformSpec, containers: list[Container]) -> Revision:
    """The revision that they are; the same containers are always the same one."""
    first = containers[0]
    version = _version(first)
    return Revision(
        id=f"{version}-{str(first.id)[:6]}".lower().replace("+", "_"),
        release=Release(service=service, version=version),
        platform=platform.model_copy(update={"instances": len(containers), "image": None}),
        endpoints=_NO_ENDPOINTS,
    )


def template_of(containers: list[Container], port: int) -> Template:
    """What further instances of it are made after."""
    return Template(port=port, adopted=[str(each.id) for each in containers], image=str(containers[0].attrs["Image"]))


def networks_of(container: Container) -> dict[str, list[str]]:
    """Its networks → its names there, without those that Docker gives every container."""
    networks: dict[str, dict[str, Any]] = container.attrs["NetworkSettings"]["Networks"]
    return {
        name: [alias for alias in about.get("Aliases") or () if not _ID.fullmatch(alias) and alias != container.name]
        for name, about in networks.items()
    }


def start(
    store: ComposeStore, target_network: TargetNetwork, template: Template, kept: RevisionRecord, absent: list[Instance]
) -> None:
    """Makes instances after the adopted containers. Needs the target's programs.

    Raises:
        PreconditionError: the containers are gone.
    """
    state = store.read()
    adopted = state.adopted.containers if state.adopted else {}
    for position, one in enumerate(absent):
        model = store.engine.container(template.adopted[position % len(template.adopted)])
        if model is None:
            raise PreconditionError(
                f"{kept.revision.id} served before this target was ours, and its container is gone: somebody removed it"
            )
        name = f"{project_name(store, kept.revision.id)}-{one.number}"
        networks = adopted.get(str(model.id)) or networks_of(model)
        _copy(store, target_network, model, name, networks, one, labels(store, kept.revision, one))


def _copy(
    store: ComposeStore,
    target_network: TargetNetwork,
    model: Container,
    name: str,
    networks: dict[str, list[str]],
    instance: Instance,
    labelled: dict[str, str],
) -> None:
    about = model.attrs
    config: dict[str, Any] = dict(about["Config"])
    if str(about["Id"]).startswith(str(config.get("Hostname"))):
        config.pop("Hostname")
    own = {key: value for key, value in (config.get("Labels") or {}).items() if not key.startswith("com.docker.")}
    host: dict[str, Any] = dict(about["HostConfig"])
    bound = {each.split(":")[1] for each in host.get("Binds") or ()}
    binds = [f"{each['Name']}:{each['Destination']}" for each in about["Mounts"] if each.get("Type") == "volume"]
    host |= {
        "Binds": [*(host.get("Binds") or ()), *(each for each in binds if each.split(":")[1] not in bound)],
        "PortBindings": {},
        "PublishAllPorts": False,
        "Links": None,
        "AutoRemove": False,
        "NetworkMode": target_network.name,
        "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0},
    }
    told = {
        dependencies.PROJECT: project_name(store, labelled[f"{LABEL}.revision"]),
        dependencies.SERVICE: f"instance-{instance.number}",
        "com.docker.compose.container-number": "1",
        "com.docker.compose.oneoff": "False",
        **{key: value.replace("$$", "$") for key, value in labelled.items()},
    }
    wanted = {
        **config,
        "Image": about["Image"],
        "Labels": {**own, **told},
        "HostConfig": host,
        "NetworkingConfig": {
            "EndpointsConfig": {target_network.name: {"IPAMConfig": {"IPv4Address": instance.host}}},
        },
    }
    api = store.engine.docker.api
    with store.engine.asking():
        try:
            made = api.create_container_from_config(wanted, name)["Id"]  # type: ignore[no-untyped-call]  # it has no types
        except docker.errors.APIError as error:
            if error.status_code != 409:
                raise
            # The attempt before this one made it, and died before it was started.
            made = name
        container = store.engine.docker.containers.get(made)
        there = container.attrs["NetworkSettings"]["Networks"]
        for network in networks:
            if network not in there and network != target_network.name:
                store.engine.docker.networks.get(network).connect(container)
        container.start()


def _version(container: Container) -> str:
    """The version that its image claims, or its tag."""
    image = str(container.attrs["Config"]["Image"])
    said = container.labels.get(_VERSION_LABEL) or image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    try:
        return _VERSION.validate_python(said) if said else "before"
    except ValidationError:
        return "before"


def release_address(store: ComposeStore, containers: list[Container]) -> None:
    """Take their published ports away from them, at once; they run on. Their last users are cut off."""
    for container in containers:
        with store.engine.asking():
            container.update(restart_policy=_STAYS_DOWN)
    for container in containers:
        for network in networks_of(container):
            with store.engine.asking():
                store.engine.docker.networks.get(network).disconnect(container)


def give_back(store: ComposeStore, containers: dict[str, dict[str, list[str]]]) -> None:
    """They are on their networks again: those that run have their published ports again as well."""
    for id, networks in containers.items():
        container = store.engine.container(id)
        if container is None:
            continue
        there = networks_of(container)
        for network, names in networks.items():
            if network not in there:
                with store.engine.asking():
                    store.engine.docker.networks.get(network).connect(container, aliases=names or None)


def put_away(store: ComposeStore, containers: dict[str, dict[str, list[str]]], seconds: float) -> None:
    """They have ended, in order, and keep their networks for whoever starts them again."""
    for id in containers:
        container = store.engine.container(id)
        if container is not None and container.status == "running":
            try:
                with store.engine.asking():
                    container.stop(timeout=max(1, round(seconds)))
            except UnavailableError:
                still = store.engine.container(id)
                if still is not None and still.status == "running":
                    raise
    give_back(store, containers)

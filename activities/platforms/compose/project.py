"""A user's Compose file stays as it is: what a revision needs of it is read from what Compose itself makes of it.

Only the released service is taken, without what can be there only once: its published ports, its names, its fixed
addresses. Networks and volumes are taken by their real names: nothing of them is ever made anew or removed.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel

from activities.platforms.compose.cli import CommandFailedError, compose
from activities.platforms.compose.engine import Engine
from models.errors import PreconditionError
from models.platforms import ComposePlatformSpec

_ONLY_ONCE = (
    *("build", "container_name", "depends_on", "deploy", "environment", "env_file", "external_links", "image"),
    *("links", "mac_address", "networks", "ports", "profiles", "pull_policy", "restart", "scale", "develop"),
)
FILE_CHANGED = "what {files} says of the service has changed since it was checked"
_REFUSED_MODES = ("host", "none")


class Template(BaseModel):
    """What instances of a revision are made from.

    Attributes:
        service: the service as Compose writes it, without image, environment and networks.
        image: the id of the image.
        networks: real names, those that reach the outside first.
        volumes: name in the file → real name.
        rest: other parts of the file that the service refers to.
        names: what the service is called on its networks: the router takes these names.
        port: inside the container.
        adopted: containers that served before this target was ours; instances are made after them and nothing else.
    """

    service: dict[str, Any] = {}
    image: str = ""
    networks: list[str] = []
    volumes: dict[str, str] = {}
    rest: dict[str, Any] = {}
    names: list[str] = []
    port: int
    adopted: list[str] = []


@dataclass(frozen=True)
class Project:
    """A user's Compose file, as Compose resolves it for one release.

    Attributes:
        name: of the Compose project that the shared services run in.
        model: everything.
        released: the service that is released.
    """

    platform: ComposePlatformSpec
    name: str
    model: dict[str, Any]

    @property
    def released(self) -> dict[str, Any]:
        return dict(self.model["services"][self.platform.service])

    @property
    def image(self) -> str | None:
        """The image that the file names; None for one that is built."""
        found = self.released
        return None if found.get("build") else found.get("image")

    @property
    def environment(self) -> dict[str, str]:
        """What the file gives the released service; Compose has written each `$` twice."""
        found: dict[str, str | None] = self.released.get("environment") or {}
        return {name: value.replace("$$", "$") for name, value in found.items() if value is not None}

    @property
    def mounted(self) -> list[str]:
        """Paths on the Docker host that the released service reads where they are, whatever the release."""
        service = self.released
        found = {str(each.get("source")) for each in service.get("volumes") or () if each.get("type") == "bind"}
        for kind in ("configs", "secrets"):
            known = self.model.get(kind) or {}
            names = [str(each.get("source")) for each in service.get(kind) or ()]
            found |= {str(known[name]["file"]) for name in names if (known.get(name) or {}).get("file")}
        return sorted(found)

    @property
    def shared(self) -> list[str]:
        """Services that must run and are never doubled."""
        if self.platform.shared is not None:
            return list(self.platform.shared)
        return sorted(self.released.get("depends_on") or {})

    @property
    def port(self) -> int:
        """Where the service listens in its container.

        Raises:
            PreconditionError: the file does not say, and the spec does not either.
        """
        if self.platform.port is not None:
            return self.platform.port
        outside = self.platform.listen.rpartition(":")[2]
        ports = [each for each in self.released.get("ports") or () if each.get("protocol", "tcp") == "tcp"]
        ports.sort(key=lambda each: str(each.get("published")) != outside)
        exposed = [str(each).partition("/")[0] for each in self.released.get("expose") or ()]
        found = [each["target"] for each in ports] + [int(port) for port in exposed if port.isdigit()]
        if not found:
            raise PreconditionError(
                f"the service {self.platform.service} publishes and exposes no port: say where it listens in its "
                "container with platform.port"
            )
        return int(found[0])

    @property
    def networks(self) -> list[str]:
        """The real names of the released service's networks, those that reach the outside first."""
        wanted = self.released.get("networks") or {"default": None}
        known = self.model.get("networks") or {}
        found = [(bool((known.get(name) or {}).get("internal")), self.real_name("networks", name)) for name in wanted]
        return [name for _, name in sorted(found, key=lambda pair: pair[0])]

    @property
    def names(self) -> list[str]:
        """What others on its networks call the released service."""
        networks = self.released.get("networks") or {}
        aliases = {alias for each in networks.values() for alias in (each or {}).get("aliases") or ()}
        return [self.platform.service, *sorted(aliases - {self.platform.service})]

    def real_name(self, kind: str, name: str) -> str:
        """What a network or volume of the file is really called."""
        return str(((self.model.get(kind) or {}).get(name) or {}).get("name") or f"{self.name}_{name}")

    def digest(self) -> str:
        """sha256 over everything that the file says about the released service."""
        said = {**self.released, "networks": self.networks, "names": self.names}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def template(self, image: str, stop_seconds: float) -> Template:
        """What instances are made from."""
        service = {name: value for name, value in self.released.items() if name not in _ONLY_ONCE}
        limits = (self.released.get("deploy") or {}).get("resources")
        if limits:
            service["deploy"] = {"resources": limits}
        # Whatever the file says: who retires instances removes them. After a crash of its own Docker takes what was
        # to run unless stopped for stopped.
        service["restart"] = "always"
        service["stop_grace_period"] = f"{max(1, round(stop_seconds))}s"
        volumes = {
            each["source"]: self.real_name("volumes", each["source"])
            for each in service.get("volumes") or ()
            if each.get("type") == "volume" and each.get("source")
        }
        rest = {kind: self.model[kind] for kind in ("secrets", "configs") if kind in self.model and kind in service}
        return Template(
            service=service,
            image=image,
            networks=self.networks,
            volumes=volumes,
            rest=rest,
            names=self.names,
            port=self.port,
        )


def read_project(engine: Engine, platform: ComposePlatformSpec, variables: dict[str, str]) -> Project:
    """Has Compose resolve and validate the files, which may refer to these variables and the worker's environment.

    Raises:
        PreconditionError: they are not there, wrong, or have no such service; it says where.
    """
    files = [part for file in platform.files for part in ("-f", file)]
    project = ["-p", platform.project] if platform.project else []
    _see_yaml(platform.files)
    try:
        said = compose(engine, *files, *project, "--profile", "*", "config", "--format", "json", environment=variables)
        model: dict[str, Any] = json.loads(said)
    except (CommandFailedError, ValueError) as error:
        raise PreconditionError(f"docker compose cannot use {', '.join(platform.files)}: {error}") from error
    services = model.get("services") or {}
    for name in (platform.service, *(platform.shared or ())):
        if name not in services:
            known = ", ".join(sorted(services))
            raise PreconditionError(f"{', '.join(platform.files)} has no service {name}, only {known}")
    mode = services[platform.service].get("network_mode") or ""
    if mode in _REFUSED_MODES or mode.startswith(("service:", "container:")):
        raise PreconditionError(
            f"the service {platform.service} has network_mode {mode}: two of it cannot run side by side"
        )
    return Project(platform, str(model["name"]), model)


def _see_yaml(files: tuple[str, ...]) -> None:
    """Compose names neither the file nor the right line of what is no YAML at all."""
    for file in files:
        try:
            with open(file, "rb") as opened:
                # Only looked at: Compose reads it, with its own tags.
                for _ in yaml.parse(opened, Loader=yaml.SafeLoader):
                    pass
        except OSError as error:
            raise PreconditionError(f"the Compose file {file} cannot be read: {error.strerror}") from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise PreconditionError(
                f"{file}:{mark.line + 1 if mark else 1}: {error.problem or 'this is no YAML'}"
            ) from error
        except yaml.YAMLError as error:
            raise PreconditionError(f"{file}: this is no YAML") from error

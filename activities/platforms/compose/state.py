"""A target is on the Docker host, and its state must be findable there: a worker may come from another home.

A home keeps the state as on every platform, apart for each Docker host. A copy is in the volume of the target's
router: it is brought there with each change, and whoever comes later goes on from the newer of the two.
"""

import io
import json
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path

import docker.errors
from docker.models.containers import Container
from pydantic import BaseModel, ValidationError

from activities.platforms.compose.engine import LABEL, Engine
from activities.platforms.compose.project import Template
from activities.platforms.traefik.state import TargetState, TargetStore
from home.paths import Home
from models.errors import PreconditionError
from models.release import Fence

STATE = "/state"
FRONT_PROXY = "door"
INSTANCE = "instance"
_COPY = "target.json"
_TEMPLATE = "compose.json"
LARGEST = 16 << 20


class _Copy(BaseModel):
    """All that another worker needs to know; no secret is in it."""

    fence: Fence
    state: TargetState
    templates: dict[str, Template] = {}


class ComposeStore(TargetStore):
    """The state of one target on one Docker host.

    Attributes:
        dial: containers of one host connect within milliseconds; one that is gone answers nothing at all.
    """

    dial = "500ms"

    def __init__(self, home: Home, engine: Engine, service: str, target: str) -> None:
        super().__init__(home, service, target, scope=f"docker/{engine.id}")
        self.engine = engine

    @property
    def labels(self) -> dict[str, str]:
        """What everything of this target is labelled with."""
        return {f"{LABEL}.service": self.service, f"{LABEL}.target": self.target}

    @property
    def command_lock(self) -> Path:
        """Held while Compose changes something of this target."""
        return self._root / "locks" / f"{self.service}.{self.target}"

    def containers(self, role: str, **more: str) -> list[Container]:
        """Containers of this target, running or not."""
        return self.engine.containers(service=self.service, target=self.target, role=role, **more)

    def template(self, revision: str) -> Template:
        """What instances of the revision are made from.

        Raises:
            PreconditionError: it is gone.
        """
        path = self.revision_folder(revision) / _TEMPLATE
        try:
            return Template.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise PreconditionError(f"what the revision {revision} is made from is gone from {path}") from error

    def keep(self, folder: Path, template: Template) -> None:
        """Write the template into a revision's folder."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.home.write(folder / _TEMPLATE, template.model_dump_json(indent=1))

    def synchronise(self) -> None:
        """Go on from what somebody else, in another home, has done to the target."""
        doors = self.containers(FRONT_PROXY)
        copy = self._fetch(doors[0]) if doors else None
        if copy is None:
            return
        with self.home.lock(f"target.{self.name}"):
            self.remember_fence(copy.fence)
            if self.file.exists() and self.read().generation >= copy.state.generation:
                return
            self.make_folder()
            for revision, template in copy.templates.items():
                if not self.revision_folder(revision).exists():
                    self.keep(self.revision_folder(revision), template)
            self.home.write(self.file, copy.state.model_dump_json(indent=1))
            self.routes.unlink(missing_ok=True)

    def deliver(self, state: TargetState, routes: str) -> None:
        doors = self.containers(FRONT_PROXY)
        if doors:
            # The name that the router watches leads to one of two files, in turn: it never sees half of one.
            last = self.folder / ".linked"
            now = "routes-1.yml" if last.exists() else "routes-2.yml"
            self.put(doors[0], {now: routes, _COPY: self._copy(state)}, links={self.routes.name: now})
            last.unlink() if last.exists() else last.touch(mode=0o600)
        self.home.write(self.routes, routes)

    def put(self, container: Container, files: Mapping[str, str], links: Mapping[str, str] | None = None) -> None:
        """Write files into the volume of the target's routers, then the links."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name, text in files.items():
                data = text.encode()
                info = tarfile.TarInfo(name)
                info.size, info.mode, info.mtime = len(data), 0o600, int(time.time())
                tar.addfile(info, io.BytesIO(data))
            for name, aim in (links or {}).items():
                info = tarfile.TarInfo(name)
                info.type, info.linkname, info.mtime = tarfile.SYMTYPE, aim, int(time.time())
                tar.addfile(info)
        with self.engine.asking():
            container.put_archive(STATE, packed.getvalue())

    def _copy(self, state: TargetState) -> str:
        templates = {id: self.template(id) for id in state.revisions if (self.revision_folder(id) / _TEMPLATE).exists()}
        return _Copy(fence=self.highest_fence(), state=state, templates=templates).model_dump_json()

    def _fetch(self, proxy: Container) -> _Copy | None:
        with self.engine.asking():
            try:
                parts, _ = proxy.get_archive(f"{STATE}/{_COPY}")
            except docker.errors.NotFound:
                return None
            packed = b"".join(parts)[: LARGEST + 10240]
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            member = tar.next()
            file = tar.extractfile(member) if member is not None else None
            try:
                return _Copy.model_validate(json.loads(file.read())) if file is not None else None
            except (ValueError, ValidationError) as error:
                raise PreconditionError(f"the state in the volume of {proxy.name} is damaged") from error

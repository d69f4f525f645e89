"""What a target looks like must survive every process that changes it, and two that change it must not mix.

For every platform whose traffic Traefik divides.

One file per target says which revisions there are, where their instances listen, how traffic is divided and who was
stable before. It is changed under a lock, at once, and before the thing it describes: after a crash it names at least
everything that may exist. The highest fence lives in a file of its own and outlasts the target.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ValidationError

from activities.platforms.traefik.config import DIAL, Backend, dynamic_configuration
from home.paths import Home
from models.errors import PreconditionError, UnavailableError
from models.release import Fence, Order, Revision, Snapshot


class Instance(BaseModel):
    """One process or container of a revision.

    Attributes:
        host: where the router finds it.
        serving: the router may send requests to it, in its revision's share.
        stopping: it has been, or is about to be, asked to end; nothing brings it back.
    """

    number: int
    port: int
    host: str = "127.0.0.1"
    serving: bool = False
    stopping: bool = False

    @property
    def url(self) -> str:
        """The instance's own address."""
        return f"http://{self.host}:{self.port}"


class RevisionRecord(BaseModel):
    """A revision that the target knows: its files are there, its instances may be."""

    revision: Revision
    instances: list[Instance] = []

    def living(self) -> list[Instance]:
        """The instances that are not on their way out."""
        return [instance for instance in self.instances if not instance.stopping]

    def serving(self) -> list[Instance]:
        """The instances that get requests when the revision has weight."""
        return [instance for instance in self.instances if instance.serving]


class FrontProxyRecord(BaseModel):
    """A router at an address of users; `api_port` is its own, on an address that no user reaches."""

    listen: str
    program: str
    api_port: int
    api_host: str = "127.0.0.1"

    @property
    def api(self) -> str:
        """Where the router itself is asked."""
        return f"http://{self.api_host}:{self.api_port}"


class Adopted(BaseModel):
    """What served before this target was ours, as it was found.

    Attributes:
        revision: what it is called as a revision.
        containers: what ran of it → its networks → its names there. They stay, stopped; it comes up from them again.
        gap: for how many seconds users were refused while the address changed hands; None before that.
    """

    revision: str
    containers: dict[str, dict[str, list[str]]]
    gap: float | None = None


class TargetState(BaseModel):
    """Everything that is known of a target.

    Attributes:
        generation: rises with each change; the router's configuration carries it.
        history: revisions that were stable before, the latest first.
        weights: revision id → percent, only those above 0.
        revisions: in the order in which they were staged.
        front proxies: by their address.
        adopted: what served before the first deployment, where there was something.
    """

    generation: int = 0
    stable: str | None = None
    history: list[str] = []
    weights: dict[str, int] = {}
    revisions: dict[str, RevisionRecord] = {}
    doors: dict[str, FrontProxyRecord] = {}
    adopted: Adopted | None = None

    def kept(self, revision: str) -> RevisionRecord:
        """The revision of that id.

        Raises:
            PreconditionError: it was never staged, or has been removed.
        """
        if revision not in self.revisions:
            raise PreconditionError(
                f"the revision {revision} is not on this target: it was never staged, or has been removed"
            )
        return self.revisions[revision]

    def chosen(self, *, candidate: bool) -> RevisionRecord:
        """Stable, or the newest other revision that has instances.

        Raises:
            PreconditionError: there is none.
        """
        if not candidate and self.stable in self.revisions:
            return self.revisions[self.stable]
        others = [kept for id, kept in self.revisions.items() if kept.instances and id != self.stable]
        if not candidate or not others:
            raise PreconditionError("there is no candidate now" if candidate else "nothing serves there yet")
        return others[-1]

    def addresses_in_use(self) -> set[str]:
        """Where users must be able to go: the address of stable, and of each revision that has instances."""
        return {
            kept.revision.platform.address for id, kept in self.revisions.items() if kept.instances or id == self.stable
        }

    def backends(self) -> list[Backend]:
        """Who may be asked by the router, and with which share."""
        warm = self._warm()
        return [
            Backend(
                name=id,
                urls=tuple(instance.url for instance in kept.serving()),
                weight=self.weights.get(id, 0),
                health=kept.revision.endpoints.health or kept.revision.endpoints.ready,
                warm=id == warm,
                rule=kept.revision.health,
            )
            for id, kept in self.revisions.items()
        ]

    def _warm(self) -> str | None:
        """The revision that served last and is still up, while one that was staged after it has all the traffic.

        Never a newer one: from that somebody has just gone back.
        """
        staged = list(self.revisions)
        loaded = [staged.index(id) for id in self.weights if id in self.revisions]
        for id in (self.stable, *self.history[:1]):
            if id in self.revisions and id not in self.weights and self.revisions[id].serving():
                return id if loaded and staged.index(id) < min(loaded) else None
        return None

    def make_stable(self, revision: str, *, withdraw: bool = False) -> None:
        """Call a revision stable, and remember the one that was, unless it is left for good."""
        former = [self.stable] if self.stable and not withdraw else []
        self.history = [id for id in (*former, *self.history) if id != revision]
        self.stable = revision

    def snapshot(self, order: Order, fence: Fence) -> Snapshot:
        """What serves now; `fence` is the highest that was seen."""
        stable = self.revisions.get(self.stable or "")
        previous = next((self.revisions[id] for id in self.history if id in self.revisions), None)
        return Snapshot(
            stable=stable.revision if stable else None,
            instances=len(stable.living()) if stable else 0,
            previous=previous.revision if previous else None,
            leftovers=tuple(
                id
                for id, kept in self.revisions.items()
                if id != self.stable and (kept.instances or id in self.weights)
            ),
            weights=dict(self.weights),
            generation=self.generation,
            address=(stable.revision.platform if stable else order.platform).address,
            fence=fence,
        )


class TargetStore:
    """The files of one target.

    Attributes:
        dial: how long a router waits for a connection to an instance.

    Args:
        scope: a part of the home where names mean something else than in the rest of it, like another machine's.
    """

    dial = DIAL

    def __init__(self, home: Home, service: str, target: str, scope: str = "") -> None:
        self.home = home
        self.service = service
        self.target = target
        self._root = home.path / scope
        self.folder = self._root / "targets" / service / target
        self.name = f"{scope.replace('/', '.')}.{service}.{target}".removeprefix(".")

    @property
    def file(self) -> Path:
        return self.folder / "state.json"

    @property
    def routes(self) -> Path:
        """The part of the router's configuration that changes; all front proxies of the target read this one file."""
        return self.folder / "routes.yml"

    def revision_folder(self, revision: str) -> Path:
        """Where a revision's files and environment are kept."""
        return self.folder / "revisions" / revision

    def make_folder(self) -> Path:
        """The target's folder, which is there afterwards."""
        if self._root == self.home.path:
            return self.home.target(self.service, self.target)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.folder

    def read(self) -> TargetState:
        """The state as it is; that of a target nobody knows is empty.

        Raises:
            PreconditionError: the file is damaged.
        """
        try:
            return TargetState.model_validate_json(self.file.read_bytes())
        except FileNotFoundError:
            return TargetState()
        except (ValidationError, OSError) as error:
            raise PreconditionError(f"the state file {self.file} cannot be read: {type(error).__name__}") from error

    @contextmanager
    def change(self, fence: Fence) -> Iterator[TargetState]:
        """The state to be changed, under the target's lock; written when the block ends without an error.

        Hold it for moments only: moving traffic waits for it.

        Raises:
            FencedOutError: a higher fence has been here.
        """
        with self.home.lock(f"target.{self.name}"):
            self._pass(fence)
            state = self.read()
            before = state.model_dump_json()
            yield state
            if state.model_dump_json() != before:
                state.generation += 1
                self.make_folder()
                self.home.write(self.file, state.model_dump_json(indent=1))
            self._publish(state)

    def publish_again(self) -> None:
        """Replace the router's configuration by what it should be, even when it is that already."""
        with self.home.lock(f"target.{self.name}"):
            self._publish(self.read(), again=True)

    def _publish(self, state: TargetState, again: bool = False) -> None:
        # Compared with the file, not with the state before: a crash may have come between the two.
        text = dynamic_configuration(state.generation, state.backends(), self.dial)
        if state.doors and (again or not self.routes.exists() or self.routes.read_text() != text):
            self.deliver(state, text)

    def deliver(self, state: TargetState, routes: str) -> None:
        """Bring the routers their new configuration."""
        self.home.write(self.routes, routes)

    @contextmanager
    def programs(self, fence: Fence) -> Iterator[None]:
        """Lets one caller at a time start and stop the target's processes; moving traffic does not wait for it.

        Raises:
            FencedOutError: a higher fence has been here.
        """
        with self.home.lock(f"programs.{self.name}"):
            with self.home.lock(f"target.{self.name}"):
                self._pass(fence)
            yield

    @contextmanager
    def copying(self) -> Iterator[None]:
        """Lets one caller at a time copy files for the target."""
        with self.home.lock(f"copy.{self.name}", timeout=600):
            yield

    def forget(self, fence: Fence) -> None:
        """Remove what is left of the target; its fence stays, so that a late effect of the past still loses.

        Raises:
            FencedOutError: a higher fence has been here.
            UnavailableError: something of it cannot be removed.
        """
        with self.home.lock(f"target.{self.name}"):
            self._pass(fence)
            try:
                shutil.rmtree(self.folder)
            except FileNotFoundError:
                return
            except OSError as error:
                raise UnavailableError(
                    f"{error.filename or self.folder} cannot be removed: {error.strerror}"
                ) from error
            with suppress(OSError):
                self.folder.parent.rmdir()  # the last target of the service

    def highest_fence(self) -> Fence:
        """The highest fence that the target has seen.

        Raises:
            PreconditionError: the file that holds it is damaged.
        """
        try:
            return Fence.model_validate_json(self._fence_file.read_bytes())
        except FileNotFoundError:
            return Fence(epoch=0, sequence=0)
        except ValidationError as error:
            raise PreconditionError(f"the file {self._fence_file} is damaged") from error

    @property
    def _fence_file(self) -> Path:
        return self._root / "fences" / f"{self.service}.{self.target}.json"

    def _pass(self, fence: Fence) -> None:
        highest = self.highest_fence()
        fence.check_not_overtaken(highest, f"{self.service}/{self.target}")
        if fence != highest:
            self.remember_fence(fence)

    def remember_fence(self, fence: Fence) -> None:
        """Refuse everything lower from now on; the caller holds the target's lock."""
        highest = self.highest_fence()
        if (fence.epoch, fence.sequence) > (highest.epoch, highest.sequence):
            self._fence_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.home.write(self._fence_file, fence.model_dump_json())

"""What a target looks like must survive every worker that changes it, and two that change it must not mix.

One ConfigMap per target, in the target's own namespace, says which revisions there are, who was stable before, and
the highest fence. It is written before the thing that it describes, but for the route, which cannot wait; and with the
version that it was read as: whoever slept between reading and writing has lost. The fence in it outlasts the target.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from activities.platforms.kubernetes.api import Json
from activities.platforms.kubernetes.cluster import Cluster
from activities.platforms.kubernetes.names import (
    MANAGED_BY,
    OF_TARGETS,
    OURSELVES,
    TARGET,
    state_configmap_name,
    target_label,
)
from models.errors import PreconditionError, UnavailableError, WriteConflictError
from models.release import Fence, Order, Revision

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
MOST_CONFLICTS = 20


class KubernetesRevisionRecord(BaseModel):
    """A revision that the target knows.

    Attributes:
        deployment: the Deployment of its pods.
        service: its own Service.
        selector: the labels of its pods that take traffic.
        adopted: the Deployment was there before us: it is never changed but in its number of replicas.
        container: the one that is the service.
        port: of the container.
        copies: paths of what was made for it beside these: its ConfigMaps and Secrets.
        prepared: all of it was made: what is missing now was removed by somebody.
        idle_since: since when it has had no traffic; None while it has.
    """

    revision: Revision
    deployment: str
    service: str
    selector: dict[str, str]
    adopted: bool = False
    container: str = ""
    port: int | str = 0
    copies: list[str] = []
    prepared: bool = False
    idle_since: datetime | None = None


class KubernetesTargetState(BaseModel):
    """Everything that is known of a target.

    Attributes:
        generation: rises with each change.
        history: revisions that were stable before, the latest first.
        weights: revision id → percent, as they were asked for last; only those above 0.
        revisions: in the order in which they were staged.
        base: what the users' Service selected before it was bound to one revision.
        bound: the revision that the users' Service leads to; None when it leads to nobody, or is as it was.
        made: paths of what the first deployment made: it goes with the target.
        led: the effect that led users by the route last, as far as it is noted here.
    """

    generation: int = 0
    stable: str | None = None
    history: list[str] = []
    weights: dict[str, int] = {}
    revisions: dict[str, KubernetesRevisionRecord] = {}
    base: dict[str, str] | None = None
    bound: str | None = None
    made: list[str] = []
    led: Fence = Fence(epoch=0, sequence=0)

    def kept(self, revision: str) -> KubernetesRevisionRecord:
        """The revision of that id.

        Raises:
            PreconditionError: it was never staged, or has been removed.
        """
        if revision not in self.revisions:
            raise PreconditionError(
                f"the revision {revision} is not on this target: it was never staged, or has been removed"
            )
        return self.revisions[revision]

    def chosen(self, *, candidate: bool) -> KubernetesRevisionRecord:
        """Stable, or the revision that was staged last where that is another one.

        Raises:
            PreconditionError: there is none.
        """
        if not candidate and self.stable in self.revisions:
            return self.revisions[self.stable]
        last = next(reversed(self.revisions), None)
        if not candidate or last is None or last == self.stable or last in self.history:
            raise PreconditionError("there is no candidate now" if candidate else "nothing serves there yet")
        return self.revisions[last]

    def whole(self) -> str | None:
        """The revision that has all the traffic; None when nobody, or more than one, has any."""
        return next((id for id, weight in self.weights.items() if weight == 100), None)

    def divide(self, weights: dict[str, int]) -> None:
        """Note how traffic is divided, and since when the others have none."""
        now = datetime.now(UTC)
        for id, kept in self.revisions.items():
            if weights.get(id):
                kept.idle_since = None
            elif kept.idle_since is None and self.weights.get(id):
                kept.idle_since = now
        self.weights = {id: weight for id, weight in weights.items() if weight}
        self.bound = self.whole() or self.stable

    def lead(self, weights: dict[str, int], *, found: Fence | None, by: Fence) -> None:
        """Note how one effect divides traffic, when the route was last written by `found`; None without a route."""
        if self.unrecorded_route_write(found):
            # Any of the others may have had users until now.
            for kept in self.revisions.values():
                kept.idle_since = datetime.now(UTC)
        self.divide(weights)
        self.led = by

    def unrecorded_route_write(self, found: Fence | None) -> bool:
        """Whether the effect that wrote the route last ended before it could note that here."""
        return found is not None and found != self.led

    def make_stable(self, revision: str, *, withdraw: bool = False) -> None:
        """Call a revision stable, and remember the one that was, unless it is left for good."""
        former = [self.stable] if self.stable and not withdraw else []
        self.history = [id for id in (*former, *self.history) if id != revision]
        self.stable = revision

    def quiet_at(self, revision: str, drain: timedelta) -> datetime | None:
        """When the last requests of a revision without traffic have had as long as `drain`; None when it had none."""
        since = self.revisions[revision].idle_since if revision in self.revisions else None
        return since + drain if since else None


class KubernetesTargetStore:
    """The ConfigMap of one target, as one verb sees it."""

    def __init__(self, cluster: Cluster, order: Order) -> None:
        self.service, self.target = order.service, order.target
        self.fence = order.fence
        self._cluster = cluster
        self._name = state_configmap_name(order.service, order.target)
        self._path = cluster.core("configmaps", self._name)
        self._seen: Json | None = None

    @property
    def label(self) -> dict[str, str]:
        """What all objects of the target carry."""
        return {TARGET: target_label(self.service, self.target)}

    async def read(self) -> KubernetesTargetState:
        """The state as it is; that of a target nobody knows is empty.

        Raises:
            PreconditionError: it is damaged.
        """
        self._seen = await self._cluster.api.get(self._path)
        return self._state()

    async def read_lately(self, within: float) -> KubernetesTargetState:
        """The state as it was at most `within` seconds ago, read together with those of other targets: for watches.

        Raises:
            PreconditionError: it is damaged.
        """
        states = self._cluster.core("configmaps")
        self._seen = await self._cluster.api.get_lately(states, self._name, OF_TARGETS, within)
        return self._state()

    async def check_lately(self, within: float) -> KubernetesTargetState:
        """The same, if this effect still counts: for waits, which end when a newer deployment comes.

        Raises:
            FencedOutError: a higher fence has been here.
        """
        state = await self.read_lately(within)
        self._pass()
        return state

    def guess(self) -> KubernetesTargetState:
        """The state as a watch of this worker has read it last; empty when none has. To be checked."""
        listed = self._cluster.api.listed_last(self._cluster.core("configmaps"), OF_TARGETS)
        found = next((each for each in listed if each["metadata"]["name"] == self._name), None)
        text = ((found or {}).get("data") or {}).get("state")
        return KubernetesTargetState.model_validate_json(text) if text else KubernetesTargetState()

    def highest_fence(self) -> Fence:
        """The highest fence that was seen when the target was read."""
        return self._load(Fence, "fence") or Fence(epoch=0, sequence=0)

    async def check(self) -> KubernetesTargetState:
        """The state as it is now, if this effect still counts.

        Raises:
            FencedOutError: a higher fence has been here.
        """
        state = await self.read()
        self._pass()
        return state

    async def change(self, change: Callable[[KubernetesTargetState], T]) -> tuple[KubernetesTargetState, T]:
        """The state, changed and written; with it the fence is recorded.

        Raises:
            FencedOutError: a higher fence has been here.
        """
        for _ in range(MOST_CONFLICTS):
            if self._seen is None:
                await self.read()
            self._pass()
            state = self._state()
            before = state.model_copy(deep=True)
            result = change(state)
            if state == before and self._seen is not None and self.highest_fence() == self.fence:
                return state, result
            # Who led users is no news where they are led as before.
            state.generation += state != before.model_copy(update={"led": state.led})
            try:
                await self._write({"fence": self.fence.model_dump_json(), "state": state.model_dump_json()})
            except WriteConflictError:
                self._seen = None
                continue
            return state, result
        raise UnavailableError(f"the ConfigMap {self._name} is being changed by somebody else all the time")

    async def enter(self) -> KubernetesTargetState:
        """Record the fence before anything else is done.

        Raises:
            FencedOutError: a higher fence has been here.
        """
        self._seen = None
        return (await self.change(lambda _: None))[0]

    async def forget(self) -> None:
        """Nothing is left of the target but its fence: a late effect of the past still loses.

        Raises:
            FencedOutError: a higher fence has been here.
        """
        for _ in range(MOST_CONFLICTS):
            await self.check()
            try:
                await self._write({"fence": self.fence.model_dump_json(), "state": None, "counters": None})
            except WriteConflictError:
                continue
            return

    @property
    def counters(self) -> str:
        """What gateways have counted, as somebody noted last; empty when nobody has."""
        return str(((self._seen or {}).get("data") or {}).get("counters") or "")

    async def keep_counters(self, text: str) -> None:
        """Note what gateways have counted; orders nothing and changes no generation.

        Raises:
            WriteConflictError: somebody has written the target meanwhile.
        """
        if self._load(KubernetesTargetState, "state") is not None:
            await self._write({"counters": text})

    def _state(self) -> KubernetesTargetState:
        return self._load(KubernetesTargetState, "state") or KubernetesTargetState()

    def _load(self, model: type[M], key: str) -> M | None:
        text = ((self._seen or {}).get("data") or {}).get(key)
        try:
            return model.model_validate_json(text) if text else None
        except ValidationError as error:
            raise PreconditionError(f"the ConfigMap {self._name} is damaged: its {key} cannot be read") from error

    async def _write(self, changes: dict[str, str | None]) -> None:
        data = {**((self._seen or {}).get("data") or {}), **changes}
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self._name, "labels": {**self.label, MANAGED_BY: OURSELVES}},
            "data": {key: value for key, value in data.items() if value is not None},
        }
        if self._seen is None:
            self._seen = await self._cluster.api.create(self._cluster.core("configmaps"), body)
            return
        body["metadata"] = self._seen["metadata"]
        self._seen = await self._cluster.api.replace(self._path, body)

    def _pass(self) -> None:
        highest = self.highest_fence()
        self.fence.check_not_overtaken(highest, f"{self.service}/{self.target}")

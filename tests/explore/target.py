"""A model of a target: its revisions, instances, weights, fences and state, and what each verb does to them in steps.

Each verb is a generator that yields how long it waits for something; whatever happens in between (another verb, a
crash, a late attempt) it meets as a real platform would. The order of its effects, what it checks again before each,
and what it refuses are those of `activities.platforms.traefik.platform`; the conformance suite runs against this model,
too.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from models.errors import NotReadyError, PreconditionError, UnavailableError, UnsafeChangeError
from models.release import (
    Counters,
    Fence,
    Inspection,
    InspectOrder,
    InstanceReport,
    Order,
    PromoteOrder,
    RestoreOrder,
    Retired,
    RetireOrder,
    Revision,
    ShiftOrder,
    Snapshot,
    Split,
    Staged,
    StageOrder,
)

QUICK, ROUTER, START, QUIET = 0.01, 0.1, 0.6, 0.2
HEALTHY_AGAIN_WITHIN = 5.0
RESTART = 1.5

Steps = Generator[float, None, Any]


@dataclass(frozen=True)
class Quality:
    """What a version is like.

    Attributes:
        ill: `errors`: it answers users with 5xx; `probes`: it fails its health probes; empty: it is healthy.
        after: seconds of user traffic after which it becomes ill.
        starts: how many times as long as others it takes to become ready.
        never_ready: it starts, and never answers.
    """

    ill: str = ""
    after: float = 0.0
    starts: float = 1.0
    never_ready: bool = False

    @property
    def healthy(self) -> bool:
        return not self.ill and not self.never_ready


@dataclass
class Instance:
    """One process of a revision."""

    number: int
    ready_at: datetime | None
    serving: bool = False
    stopping: bool = False
    restarts: int = 0


@dataclass
class Kept:
    """A revision that the target knows.

    Attributes:
        first_weight: when users first reached it.
    """

    revision: Revision
    instances: dict[int, Instance] = field(default_factory=dict)
    first_weight: datetime | None = None
    requests: float = 0.0
    errors: float = 0.0
    verified: datetime | None = None

    def living(self) -> list[Instance]:
        return [each for each in self.instances.values() if not each.stopping]

    def serving(self) -> list[Instance]:
        return [each for each in self.instances.values() if each.serving]


@dataclass
class Target:
    """The target, and everything about it that can be seen.

    Attributes:
        rate: requests of users per second.
        looks_on: called with what has just changed, and by which fence.
        changed: called when something has changed that a watch may see.
    """

    now: Callable[[], datetime]
    qualities: dict[str, Quality] = field(default_factory=dict)
    rate: float = 50.0
    revisions: dict[str, Kept] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    stable: str | None = None
    history: list[str] = field(default_factory=list)
    doors: set[str] = field(default_factory=set)
    fence: Fence = field(default_factory=lambda: Fence(epoch=0, sequence=0))
    generation: int = 0
    hurt_until: dict[str, datetime] = field(default_factory=dict)
    looks_on: Callable[[str, Fence | None], None] = lambda _what, _fence: None
    changed: Callable[[], None] = lambda: None
    _accrued: datetime | None = None

    # What can be seen.

    def quality(self, revision: Revision) -> Quality:
        return self.qualities.get(revision.release.version, Quality())

    def ill_from(self, kept: Kept) -> datetime | None:
        """When its users or its probes begin to suffer; None when never."""
        quality = self.quality(kept.revision)
        if not quality.ill or kept.first_weight is None:
            return None
        return kept.first_weight + timedelta(seconds=quality.after)

    def is_ill(self, kept: Kept, how: str) -> bool:
        since = self.ill_from(kept)
        return self.quality(kept.revision).ill == how and since is not None and since <= self.now()

    def is_ready(self, kept: Kept, instance: Instance) -> bool:
        hurt = self.hurt_until.get(f"{kept.revision.id}.{instance.number}")
        return (
            not instance.stopping
            and instance.ready_at is not None
            and instance.ready_at <= self.now()
            and (hurt is None or hurt <= self.now())
        )

    def is_healthy(self, kept: Kept, instance: Instance) -> bool:
        return self.is_ready(kept, instance) and not self.is_ill(kept, "probes")

    def any_healthy(self, kept: Kept) -> bool:
        return any(self.is_healthy(kept, each) for each in kept.serving())

    def report(self, kept: Kept, expected: int = 0) -> tuple[InstanceReport, ...]:
        """Each instance as it answers; those that are missing of `expected`, too."""
        numbers = [each.number for each in kept.living()]
        missing = (number for number in range(1, 1000) if number not in kept.instances)
        while len(numbers) < expected:
            numbers.append(next(missing))
        return tuple(self._report_of(kept, number) for number in sorted(numbers))

    def _report_of(self, kept: Kept, number: int) -> InstanceReport:
        instance = kept.instances.get(number)
        running = instance is not None and not instance.stopping
        healthy = instance is not None and self.is_healthy(kept, instance)
        return InstanceReport(
            name=f"{kept.revision.id}.{number}",
            address=f"http://127.0.0.1:{20000 + number}",
            running=running,
            healthy=healthy,
            version=kept.revision.release.version if healthy else None,
            restarts=instance.restarts if instance else 0,
            detail="" if healthy else "it does not answer" if running else "it does not run",
        )

    def look(self) -> dict[str, Any]:
        """Everything that must be the same again after a rollback."""
        return {
            "stable": self.stable,
            "history": list(self.history),
            "weights": dict(self.weights),
            "doors": sorted(self.doors),
            "revisions": {
                id: {"living": len(kept.living()), "serving": len(kept.serving()), "is": kept.revision}
                for id, kept in self.revisions.items()
            },
        }

    # The world does something.

    def serve(self, revision: Revision) -> None:
        """Given: this revision has been deployed, and serves all users."""
        kept = self.revisions[revision.id] = Kept(revision)
        self._add(kept, revision.platform.instances)
        for instance in kept.instances.values():
            instance.ready_at, instance.serving = self.now(), True
        if self.stable is not None:
            self.history.insert(0, self.stable)
            self.revisions[self.stable].instances.clear()
        self.stable, self.weights = revision.id, {revision.id: 100}
        kept.first_weight = kept.verified = self.now()
        self.doors = {revision.platform.address}
        self._accrued = self.now()

    def hurt(self, revision: str, seconds: float) -> None:
        """Its instances do not answer for so long."""
        kept = self.revisions.get(revision)
        for instance in kept.living() if kept else ():
            self.hurt_until[f"{revision}.{instance.number}"] = self.now() + timedelta(seconds=seconds)
        self.changed()

    def kill(self, revision: str, number: int) -> None:
        """One of its instances dies; it is started again."""
        kept = self.revisions.get(revision)
        instance = kept.instances.get(number) if kept else None
        if instance is not None and not instance.stopping:
            instance.ready_at = self.now() + timedelta(seconds=RESTART)
            instance.restarts += 1
            self.changed()

    # The verbs.

    def snapshot(self, order: Order) -> Steps:
        yield QUICK
        return self._snapshot(order, self.fence)

    def stage(self, order: StageOrder) -> Steps:
        yield QUICK
        began = self.now()
        self._pass(order)
        self.revisions.setdefault(order.revision.id, Kept(order.revision))
        yield QUICK
        self._pass(order)
        self._open(order.revision.platform.address)
        yield from self._bring_up(order, order.revision.id, order.instances, order.deadline)
        kept = self._kept(order.revision.id)
        for instance in kept.living():
            instance.serving = True
        self._did(order, f"{order.revision.id} is up with {len(kept.living())} instances")
        yield ROUTER
        reports = self.report(self._known(order.revision), order.instances)
        self._verify(order.revision.id, reports)
        return Staged(
            inspection=Inspection(revision=order.revision.id, expected=order.instances, instances=reports),
            preview=tuple(each.address for each in reports),
            seconds=(self.now() - began).total_seconds(),
        )

    def shift(self, order: ShiftOrder) -> Steps:
        wanted = _weights(order)
        yield QUICK
        self._pass(order)
        for id, weight in wanted.items():
            if weight > self.weights.get(id, 0) and not self.any_healthy(self._kept(id)):
                raise UnsafeChangeError(f"{id} gets no more traffic: none of its instances is healthy right now")
        yield QUICK
        self._pass(order)
        for id in wanted:
            if not self._kept(id).serving():
                raise UnsafeChangeError(f"{id} gets no traffic: none of its instances takes requests any more")
        self._divide(order, wanted)
        yield ROUTER
        return self._split(wanted)

    def promote(self, order: PromoteOrder) -> Steps:
        yield QUICK
        self._pass(order)
        self._kept(order.revision)
        if self.weights != {order.revision: 100}:
            raise UnsafeChangeError(
                f"{order.revision} does not have all the traffic, but {self.weights}: it is not stable yet"
            )
        yield QUICK
        self._pass(order)
        if self.stable != order.revision:
            former = [self.stable] if self.stable and not order.withdraw else []
            self.history = [id for id in (*former, *self.history) if id != order.revision]
            self.stable = order.revision
        self._did(order, f"{order.revision} is stable")
        yield QUICK
        return self._snapshot(order, order.fence)

    def retire(self, order: RetireOrder) -> Steps:
        yield QUICK
        self._pass(order)
        kept = self.revisions.get(order.revision)
        victims = self._take_out(order, kept) if kept is not None else []
        yield ROUTER
        yield QUIET
        self._pass(order)
        for instance in victims:
            instance.serving, instance.stopping = False, True
        self._did(order, f"{len(victims)} instances of {order.revision} are stopped")
        yield ROUTER
        self._pass(order)
        kept = self.revisions.get(order.revision)
        if kept is not None:
            kept.instances = {each.number: each for each in kept.living()}
            if victims:
                kept.verified = kept.verified if kept.instances else None
        self._clean_up(order)
        self._did(order, f"{order.revision} is retired")
        yield QUICK
        return Retired(instances=tuple(f"{order.revision}.{each.number}" for each in victims))

    def restore(self, order: RestoreOrder) -> Steps:
        snapshot = order.snapshot
        yield QUICK
        self._pass(order)
        if snapshot.stable is None:
            self.stable, self.history = None, []
            self._divide(order, {})
            yield QUICK
            self._pass(order)
            self.doors = set()
            self._did(order, "nobody answers users")
            return Split(weights={}, counters={}, seen=self.now())
        stable = snapshot.stable.id
        self._kept(stable)
        self._give_all(order, stable)
        yield ROUTER
        self._pass(order)
        self._open(snapshot.stable.platform.address)
        yield from self._bring_up(order, stable, max(1, snapshot.instances), order.deadline)
        patience = self.now() + timedelta(seconds=HEALTHY_AGAIN_WITHIN)
        while not self._give_all(order, stable):
            if self.now() > patience:
                raise UnsafeChangeError(f"no traffic was given to {stable}: none of its instances is healthy right now")
            yield ROUTER
        yield QUICK
        self._become(order, snapshot)
        yield ROUTER
        self._pass(order)
        self.doors &= self._addresses_in_use()
        self._verify(stable, self.report(self._kept(stable), max(1, snapshot.instances)))
        return self._split({stable: 100})

    def inspect(self, order: InspectOrder) -> Steps:
        yield ROUTER
        kept = self.revisions.get(order.revision.id, Kept(order.revision))
        reports = self.report(kept, order.instances)
        self._verify(order.revision.id, reports)
        return Inspection(revision=order.revision.id, expected=order.instances, instances=reports)

    def split(self) -> Split:
        """The weights in force and what was counted."""
        self._accrue()
        counters = {
            id: Counters(requests=int(kept.requests), errors=int(kept.errors)) for id, kept in self.revisions.items()
        }
        return Split(weights=dict(self.weights), counters=counters, seen=self.now())

    # Parts of the verbs.

    def _pass(self, order: Order) -> None:
        order.fence.check_not_overtaken(self.fence, f"{order.service}/{order.target}")
        self.fence = order.fence

    def _kept(self, id: str) -> Kept:
        if id not in self.revisions:
            raise PreconditionError(
                f"the revision {id} is not on this target: it was never staged, or has been removed"
            )
        return self.revisions[id]

    def _known(self, revision: Revision) -> Kept:
        return self.revisions.get(revision.id, Kept(revision))

    def _did(self, order: Order, what: str) -> None:
        self.generation += 1
        self.looks_on(what, order.fence)
        self.changed()

    def _open(self, address: str) -> None:
        self.doors.add(address)

    def _add(self, kept: Kept, count: int) -> None:
        numbers = (number for number in range(1, 1000) if number not in kept.instances)
        while len(kept.living()) < count:
            number = next(numbers)
            kept.instances[number] = Instance(number, None)

    def _bring_up(self, order: Order, id: str, count: int, deadline: datetime) -> Steps:
        """What is missing is started, and waited for until the deadline."""
        yield QUICK
        self._pass(order)
        kept = self._kept(id)
        kept.instances = {each.number: each for each in kept.living()}
        self._add(kept, count)
        quality = self.quality(kept.revision)
        for instance in kept.living():
            if instance.ready_at is None and not quality.never_ready:
                instance.ready_at = self.now() + timedelta(seconds=START * quality.starts)
        self.looks_on(f"{id} is started", order.fence)
        while True:
            kept = self._kept(id)
            if all(self.is_healthy(kept, each) for each in kept.living()):
                break
            if self.now() >= deadline:
                raise NotReadyError(f"{id} is not ready in time")
            known = [each.ready_at for each in kept.living() if each.ready_at is not None]
            wait = max(0.1, min((max(known) - self.now()).total_seconds() if known else 5.0, 5.0))
            yield min(wait, max(0.05, (deadline - self.now()).total_seconds()))
        self._pass(order)

    def _take_out(self, order: RetireOrder, kept: Kept) -> list[Instance]:
        living = kept.living()
        best = sorted(living, key=lambda one: (not one.serving, not self.is_healthy(kept, one), one.number))
        staying = best[: order.keep_instances]
        going = [each for each in living if each not in staying]
        if going:
            weight = self.weights.get(order.revision, 0)
            if not staying and (weight or self.stable == order.revision):
                what = f"has {weight} % of the traffic" if weight else "is stable"
                raise UnsafeChangeError(f"{order.revision} is not retired: it {what}")
            if weight and not any(self.is_healthy(kept, each) for each in staying):
                raise UnsafeChangeError(
                    f"{order.revision} keeps its instances: none of those that would stay is healthy"
                )
        for instance in going:
            instance.serving = False
        return going

    def _clean_up(self, order: RetireOrder) -> None:
        empty = self.stable is None and not any(kept.instances for kept in self.revisions.values())
        former = set(self.history[: order.platform.keep])
        gone = [
            id
            for id, kept in self.revisions.items()
            if empty
            or (
                id not in (self.stable, order.revision)
                and not kept.instances
                and not self.weights.get(id)
                and id not in former
            )
        ]
        known = self.revisions.get(order.revision)
        if order.forget and order.revision != self.stable and known is not None and not known.instances:
            gone = [*(id for id in gone if id != order.revision), order.revision]
        self.history = [id for id in self.history if id not in gone]
        self.weights = {id: weight for id, weight in self.weights.items() if id not in gone}
        for id in gone:
            self.revisions.pop(id, None)
        self.doors = set() if empty else self.doors & self._addresses_in_use()
        if empty:
            self.generation = -1

    def _addresses_in_use(self) -> set[str]:
        return {
            kept.revision.platform.address for id, kept in self.revisions.items() if kept.instances or id == self.stable
        }

    def _give_all(self, order: Order, stable: str) -> bool:
        self._pass(order)
        kept = self._kept(stable)
        chosen = [each for each in kept.living() if self.is_healthy(kept, each)]
        if chosen:
            for instance in kept.instances.values():
                instance.serving = instance in chosen
            self._divide(order, {stable: 100})
        return bool(chosen)

    def _become(self, order: Order, snapshot: Snapshot) -> None:
        self._pass(order)
        assert snapshot.stable is not None
        stable, history = snapshot.stable.id, self.history
        if stable in history:
            history = history[history.index(stable) + 1 :]
        if snapshot.previous is not None:
            history = [snapshot.previous.id, *(id for id in history if id != snapshot.previous.id)]
        self.stable, self.history = stable, [id for id in history if id in self.revisions]
        self._did(order, f"{stable} is stable again")

    def _divide(self, order: Order, wanted: dict[str, int]) -> None:
        if wanted == self.weights:
            return
        self._accrue()
        self.weights = dict(wanted)
        for id in wanted:
            kept = self._kept(id)
            kept.first_weight = kept.first_weight or self.now()
        divided = ", ".join(f"{weight} % {id}" for id, weight in wanted.items()) or "nothing"
        self._did(order, f"traffic: {divided}")

    def _split(self, wanted: dict[str, int]) -> Split:
        if self.weights != wanted:
            raise UnavailableError(
                f"the router divides {self.weights} and not {wanted}: another effect came in between"
            )
        return self.split()

    def _verify(self, id: str, reports: tuple[InstanceReport, ...]) -> None:
        if id in self.revisions and reports and all(each.healthy for each in reports):
            self.revisions[id].verified = self.now()

    def _snapshot(self, order: Order, fence: Fence) -> Snapshot:
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
            generation=max(self.generation, 0),
            address=(stable.revision.platform if stable else order.platform).address,
            fence=fence,
        )

    def _accrue(self) -> None:
        """Counts what users have asked since the last time."""
        now, since = self.now(), self._accrued or self.now()
        self._accrued = now
        for id, weight in self.weights.items():
            kept = self.revisions.get(id)
            if kept is None:
                continue
            rate = self.rate * weight / 100
            kept.requests += rate * (now - since).total_seconds()
            ill = self.ill_from(kept) if self.quality(kept.revision).ill == "errors" else None
            if ill is not None and ill < now:
                kept.errors += rate * (now - max(ill, since)).total_seconds()


def _weights(order: ShiftOrder) -> dict[str, int]:
    if order.stable is None and 0 < order.weight < 100:
        raise PreconditionError(f"{order.candidate} cannot have {order.weight} %: there is nothing to have the rest")
    shares = {order.candidate: order.weight, **({order.stable: 100 - order.weight} if order.stable else {})}
    return {id: weight for id, weight in shares.items() if weight > 0}

"""Releases, revisions, and what a platform says of them."""

from datetime import UTC, datetime
from typing import Any

from pydantic import Field

from models.base import WireModel
from models.errors import FencedOutByItselfError, FencedOutError
from models.health import HealthRule
from models.names import Name, Version
from models.platforms import Platform
from models.secrets import Secret
from models.spec import Endpoints

# What the platform itself has measured: names of such digests begin with this.
PLATFORM_DIGEST = "platform:"


class Release(WireModel):
    """The immutable thing that is deployed.

    Attributes:
        digests: what it is made of → its sha256, measured in preflight and pinned from then on.
        config_hash: sha256 over the configuration, with secrets as references.
    """

    service: Name
    version: Version
    digests: dict[str, str] = Field(default_factory=dict)
    config_hash: str = ""
    git_revision: str | None = None


class Revision(WireModel):
    """One release as it exists on a platform; each deployment makes one of its own, also of the same release.

    Attributes:
        id: `<version>-<last six characters of the run id>` (its beginning is a time). Names processes, folders, router
            services.
        platform: how it is run; returns with a rollback, like the code.
        endpoints: where this revision answers for itself.
        health: what a healthy answer of it is.
        identity: what its instances are told about themselves, unless the user tells them; a deployment of a former
            release has none.
        abridged: it is known by its id, and the platform has it whole: values of its environment are left out here.
    """

    id: str
    release: Release
    platform: Platform
    endpoints: Endpoints = Endpoints()
    health: HealthRule = HealthRule()
    identity: dict[str, str] = Field(default_factory=dict)
    abridged: bool = False

    @property
    def routers_endpoint(self) -> str | None:
        """The endpoint that a router asks, and a probe: health, or ready where there is none."""
        return next((name for name in ("health", "ready") if getattr(self.endpoints, name) is not None), None)

    def rule_of(self, endpoint: str) -> HealthRule:
        """What a healthy answer of one endpoint is."""
        return self.health if endpoint == self.routers_endpoint else self.health.beside()

    def abridge(self) -> "Revision":
        """The same for whoever does not make anything of it. Names of its environment stay, and references."""
        given = self.platform.environment
        environment = {name: value if isinstance(value, Secret) else "" for name, value in given.items()}
        digests = {what: digest for what, digest in self.release.digests.items() if what.startswith(PLATFORM_DIGEST)}
        return self.model_copy(
            update={
                "release": self.release.model_copy(update={"digests": digests}),
                "platform": self.platform.outline().model_copy(update={"environment": environment}),
                "abridged": True,
            }
        )

    def outline(self) -> "Revision":
        """The same for whoever only asks after it: without its environment, too."""
        whole = self.abridge()
        return whole.model_copy(update={"platform": whole.platform.outline(), "identity": {}})


class Fence(WireModel):
    """Orders the effects on a target. A platform refuses an effect whose fence is lower than the highest it has seen.

    Attributes:
        epoch: when the deployment started, in microseconds since 1970: a newer deployment always wins.
        sequence: rises with each effect of one deployment: a late retry of an older effect always loses.
    """

    epoch: int
    sequence: int

    def check_not_overtaken(self, seen: "Fence", where: str) -> None:
        """Checks that no newer effect than the one with this fence has been `where`.

        Raises:
            FencedOutByItselfError: a later effect of the same deployment has.
            FencedOutError: a newer deployment has.
        """
        if (self.epoch, self.sequence) >= (seen.epoch, seen.sequence):
            return
        said = f"a newer effect has been on {where}"
        if self.epoch == seen.epoch:
            raise FencedOutByItselfError(
                f"{said}: effect {seen.sequence} of the deployment that began at {_began(self)} has overtaken its own "
                f"effect {self.sequence}. Unless it is being rolled back, this is a defect of deployment-specialist: "
                "please report it with the workflow's history"
            )
        raise FencedOutError(
            f"{said}: the deployment that began at {_began(seen)} controls it now; the one that began at "
            f"{_began(self)} changes nothing there any more"
        )


def _began(fence: Fence) -> str:
    return f"{datetime.fromtimestamp(fence.epoch / 1_000_000, UTC):%Y-%m-%d %H:%M:%S} UTC"


class Order(WireModel):
    """Says on which target, and with which fence.

    Attributes:
        endpoints: where the service answers for itself; asked of what runs there already and was never ours.
        health: how it is asked there.
    """

    service: Name
    target: Name
    platform: Platform
    fence: Fence
    endpoints: Endpoints = Endpoints()
    health: HealthRule = HealthRule()


class Counters(WireModel):
    """What the router counted for one revision since some beginning.

    Attributes:
        requests: answered requests.
        errors: of these, answered with 5xx, or not answered at all by the revision.
        timed: of the others, how many the router has timed; 0 where it times none.
        within: edge of its histogram in seconds, as it writes it → how many of these took no longer.
    """

    requests: int = 0
    errors: int = 0
    timed: int = 0
    within: dict[str, int] = Field(default_factory=dict)

    def untimed(self) -> "Counters":
        """The same for whoever does not care how long answers took."""
        return Counters(requests=self.requests, errors=self.errors)


class Split(WireModel):
    """How traffic is really divided, as the router itself reports it.

    Attributes:
        weights: revision id → percent; a revision that is not named gets nothing.
        counters: revision id → the router's counters at that moment.
        exact: false where a platform can only approximate a weight.
    """

    weights: dict[str, int] = Field(default_factory=dict)
    counters: dict[str, Counters] = Field(default_factory=dict)
    exact: bool = True
    seen: datetime


class Capabilities(WireModel):
    """What a platform can do; the plan states what follows from it.

    Attributes:
        exact_weights: a weight of 5 is 5 % of the requests.
        preview: the candidate can be asked without user traffic.
        in_place_roll: instances can be replaced one by one.
        owns_address: the address where users come is opened, kept and closed with the target.
        sees_requests: it is known how many requests are under way to an instance; elsewhere a drain is a time.
        counts_requests: each revision's requests are counted; elsewhere it is judged by its probes alone.
    """

    exact_weights: bool
    preview: bool
    in_place_roll: bool
    owns_address: bool = True
    sees_requests: bool = True
    counts_requests: bool = True
    notes: tuple[str, ...] = ()


class Snapshot(WireModel):
    """What serves now: enough to restore it.

    Attributes:
        stable: the revision that serves users; None before the first deployment.
        instances: how many instances of it there are.
        previous: the revision that served before stable and can still be brought back; for a later rollback.
        leftovers: ids of revisions that run or have weight and are not stable: what a terminated deployment left.
        generation: changes with every change of the target.
        address: where users reach the service.
        fence: the highest that the target has seen: who comes later needs a higher one, whatever the clock says.
    """

    stable: Revision | None = None
    instances: int = 0
    previous: Revision | None = None
    leftovers: tuple[str, ...] = ()
    weights: dict[str, int] = Field(default_factory=dict)
    generation: int = 0
    address: str = ""
    fence: Fence = Fence(epoch=0, sequence=0)

    def abridge(self) -> "Snapshot":
        """The same as it travels: two whole revisions can be more than one payload may have."""
        return self.model_copy(
            update={
                "stable": self.stable and self.stable.abridge(),
                "previous": self.previous and self.previous.abridge(),
            }
        )


class InstanceReport(WireModel):
    """One instance, as it answered for itself.

    Attributes:
        restarts: how often it was started again since its revision was staged.
        detail: why it is not running or healthy; scrubbed, at most 2,000 characters.
        unfit: endpoint → why what it answers would be refused later, with users on it; asked before the first one.
    """

    name: str
    address: str
    running: bool
    healthy: bool
    version: str | None = None
    restarts: int = 0
    detail: str = ""
    unfit: dict[str, str] = Field(default_factory=dict)


class Inspection(WireModel):
    """All instances of a revision, none left out."""

    revision: str
    expected: int
    instances: tuple[InstanceReport, ...] = ()


class Staged(WireModel):
    """The candidate is up beside stable, without user traffic.

    Attributes:
        preview: base URLs of the instances, asked directly.
        seconds: from the first process to the last one ready.
        notes: what else was done, for the report.
    """

    inspection: Inspection
    preview: tuple[str, ...] = ()
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


class StageOrder(Order):
    """Bring `instances` of the revision up; those that run stay as they are."""

    revision: Revision
    instances: int
    deadline: datetime


class ShiftOrder(Order):
    """Give the candidate `weight` percent of the traffic, stable the rest."""

    candidate: str
    stable: str | None
    weight: int


class PromoteOrder(Order):
    """The revision is stable now.

    Attributes:
        withdraw: the revision that was stable is being left for good: no later rollback leads to it.
    """

    revision: str
    withdraw: bool = False


class RetireOrder(Order):
    """Drain and stop instances of the revision until `keep_instances` are left; 0 removes its processes.

    Attributes:
        forget: also remove what is kept of it on disk: it will never be brought back.
        drain_until: the end of the longest wait for requests under way; a retry does not begin it anew.
    """

    revision: str
    keep_instances: int = 0
    forget: bool = False
    drain_until: datetime | None = None


class RestoreOrder(Order):
    """Back to the snapshot: its revision up and healthy, all traffic on it, its configuration."""

    snapshot: Snapshot
    deadline: datetime


class InspectOrder(Order):
    """Ask every instance of the revision; changes nothing."""

    revision: Revision
    instances: int


class Printed(WireModel):
    """What one instance has printed.

    Attributes:
        cursor: where it ends; what is asked with it later begins there.
    """

    instance: str
    lines: tuple[str, ...] = ()
    cursor: str = ""


class Logs(WireModel):
    """What the instances of a revision have printed."""

    revision: str
    printed: tuple[Printed, ...] = ()


class Retired(WireModel):
    """What was stopped, and how its last requests ended."""

    instances: tuple[str, ...] = ()
    drained: bool = True
    evidence: dict[str, Any] = Field(default_factory=dict)

"""Strategies are written once; what differs between a process, a container and a pod stays behind these verbs.

The conformance suite in `tests/integration/platforms/` says the same in code, and every platform passes it.

Every verb may be called again at any time, also after its first call died half way, and ends in the same state. Every
verb that changes something first records the order's fence: one with a lower fence than the target has seen raises
`FencedOutError` and changes nothing; an equal fence is a retry. Every verb may raise `UnavailableError` when something
does not answer right now, and `PreconditionError` when what the order names was never there or has changed.
"""

from collections.abc import Mapping
from typing import Protocol

from models.checks import Examination, PreflightCheck
from models.platforms import Platform as PlatformModel
from models.release import (
    Capabilities,
    Inspection,
    InspectOrder,
    InstanceReport,
    Logs,
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


class Platform(Protocol):
    """What runs a target.

    Attributes:
        count_every: seconds after which a watch asks again for the split and its counters.
    """

    count_every: float

    async def aclose(self) -> None:
        """Close all connections; nothing that runs is touched."""
        ...

    async def capabilities(self, platform: PlatformModel) -> Capabilities:
        """What is exact here and what is approximate; asks nothing and changes nothing."""
        ...

    async def examine(self, check: PreflightCheck) -> Examination:
        """What must be true on the platform itself before anything changes: reachable, permitted, large enough, in
        nobody else's hands. Reads and changes nothing; what cannot be asked is a check with the verdict `error`.

        With `check.expected`, a digest that has become another one is a check that fails.
        """
        ...

    async def snapshot(self, order: Order) -> Snapshot:
        """What serves now, enough for `restore`; changes nothing."""
        ...

    async def stage(self, order: StageOrder) -> Staged:
        """Bring the revision up to `instances`, all of them ready, without any user traffic.

        Instances that run stay as they are. What users reach the service by is there when this returns.

        Raises:
            NotReadyError: the deadline is over, or an instance cannot become ready any more;
                told with its last log lines.
            PreconditionError: the artifact is not the one that was pinned, or somebody else has the address.
        """
        ...

    async def shift(self, order: ShiftOrder) -> Split:
        """Divide the traffic, and return when the router itself says that it does.

        Weight 0 gives everything to stable, and needs nothing from the candidate.

        Raises:
            UnsafeChangeError: a revision that would get more than now has no instance that is healthy right now.
        """
        ...

    async def promote(self, order: PromoteOrder) -> Snapshot:
        """Call the revision stable from now on; no process and no request is touched.

        Raises:
            UnsafeChangeError: it does not have all the traffic yet.
        """
        ...

    async def retire(self, order: RetireOrder) -> Retired:
        """Take instances out of the traffic, let their last requests finish, stop them.

        What belongs to nobody any more goes as well; of a first deployment that failed nothing is left.

        Raises:
            UnsafeChangeError: it is stable or has traffic, and nothing of it would be left.
        """
        ...

    async def restore(self, order: RestoreOrder) -> Split:
        """Back to the snapshot from any state, traffic first.

        What is healthy of the snapshot's revision gets all traffic at once; what is missing of it comes up again from
        the same files with the same environment and joins. Returns when all of it serves.

        Raises:
            NotReadyError: the revision does not become ready again by the deadline.
            UnsafeChangeError: none of its instances is healthy right now; no traffic was moved.
        """
        ...

    async def inspect(self, order: InspectOrder) -> Inspection:
        """Ask every instance of the revision for itself; changes nothing."""
        ...

    async def split(self, order: Order) -> Split:
        """The weights in force and what was counted, from the router itself; changes nothing.

        Counters only rise while a revision is known, also when a router is started again in between.
        """
        ...

    async def logs(self, order: Order, *, candidate: bool, lines: int, since: Mapping[str, str]) -> Logs:
        """What each instance of the stable revision, or of the candidate, has printed; changes nothing.

        Args:
            order: the target.
            candidate: the newest revision that has instances and is not stable is meant.
            lines: so many of the last ones of each instance.
            since: instance → the cursor of an earlier answer: what came after it instead.

        Raises:
            PreconditionError: there is no such revision.
        """
        ...

    async def probe(self, order: Order, revision: Revision) -> tuple[InstanceReport, ...]:
        """Ask each instance of the revision once whether it is healthy, all at the same time, within two seconds."""
        ...

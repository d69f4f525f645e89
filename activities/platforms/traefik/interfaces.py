"""What a platform brings along so that the verbs of `activities.platforms.traefik.platform` work on it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol, TypeVar

from activities.platforms.traefik.state import Instance, RevisionRecord, TargetState, TargetStore
from models.errors import PreconditionError
from models.release import Fence, InstanceReport, Printed, Revision

S = TypeVar("S", bound=TargetStore)
S_contra = TypeVar("S_contra", bound=TargetStore, contravariant=True)


def whole(revision: Revision) -> Revision:
    """The revision, if something can be made of it.

    Raises:
        PreconditionError: it came without its environment, as one that the target knows already.
    """
    if revision.abridged:
        raise PreconditionError(f"the revision {revision.id} is not on this target any more: deploy its version anew")
    return revision


class Instances(Protocol[S_contra]):
    """What runs of a revision: how it is, and how it ends."""

    async def report(
        self,
        store: S_contra,
        kept: RevisionRecord,
        expected: int = 0,
        with_version: bool = False,
        before_users: bool = False,
    ) -> tuple[InstanceReport, ...]:
        """Each instance of a revision, as it answers for itself now; also those that are expected and not there.

        Args:
            store: the target's.
            kept: the revision.
            expected: how many there should be.
            with_version: each is asked for its version as well.
            before_users: each is asked as well for what would be refused later, with users on it.
        """
        ...

    async def healthy(self, store: S_contra, kept: RevisionRecord, among: list[Instance]) -> list[Instance]:
        """Those that answer healthy right now."""
        ...

    async def any_healthy(self, store: S_contra, kept: RevisionRecord, among: list[Instance]) -> bool:
        """Whether one of them answers healthy right now; the first good answer ends the wait."""
        ...

    def preview(self, store: S_contra, kept: RevisionRecord) -> tuple[str, ...]:
        """Base URLs at which the worker can ask each of them; none where it cannot."""
        ...

    def name(self, store: S_contra, revision: str, number: int) -> str:
        """What an instance is called in every report."""
        ...

    def logs(self, store: S_contra, kept: RevisionRecord, lines: int, since: Mapping[str, str]) -> tuple[Printed, ...]:
        """What each of them has printed: the last lines, or what came after a cursor."""
        ...

    def stop(self, store: S_contra, kept: RevisionRecord, instances: list[Instance]) -> None:
        """End them, all at once, and remove them. Needs the target's programs."""
        ...


class Starting(Protocol[S_contra]):
    """How instances come up."""

    async def bring_up(self, store: S_contra, fence: Fence, revision: str, count: int, deadline: datetime) -> None:
        """Start what is missing up to `count` instances, all at once, and wait until each is healthy and ready.

        Raises:
            NotReadyError: the deadline is over, or one of them cannot become ready any more.
            FencedOutError: somebody newer has taken over the target.
        """
        ...


class Files(Protocol[S_contra]):
    """What is kept of a revision, to bring it up from."""

    def materialize(self, store: S_contra, revision: Revision) -> None:
        """Keep what the revision is made of, unless that is there already.

        Raises:
            PreconditionError: it is not what was pinned, or cannot be had.
        """
        ...

    def remove(self, store: S_contra, revision: str) -> None:
        """Remove what is kept of a revision; one of which nothing is kept is no error."""
        ...

    def remove_orphans(self, store: S_contra, known: set[str]) -> None:
        """Remove what is kept of revisions that the target does not know."""
        ...


class Ingress(Protocol[S_contra]):
    """Where users come in: a router at each of the target's addresses."""

    def check(self, store: S_contra, revision: Revision) -> None:
        """See that the target has the address, or can have it.

        Raises:
            PreconditionError: somebody else has it.
        """
        ...

    def open(self, store: S_contra, fence: Fence, revision: Revision) -> None:
        """Open the address for users, unless it is open.

        Raises:
            PreconditionError: somebody else has the address.
            FencedOutError: somebody newer has taken over the target.
        """
        ...

    def close(self, store: S_contra, fence: Fence, keep: set[str]) -> list[str]:
        """Close the target's front proxies except those at the addresses in `keep`; the caller holds the target's
        programs.
        """
        ...

    def teardown(self, store: S_contra) -> None:
        """Nothing of the target is left but this: remove what its front proxies stood on; the caller holds its
        programs.
        """
        ...

    def connections(self, store: S_contra, state: TargetState, instances: list[Instance]) -> int:
        """How many connections the target's routers have to these; an idle one ends within a second."""
        ...

    def why_silent(self, store: S_contra, state: TargetState) -> str:
        """What is known of front proxies that do not run; empty when all do."""
        ...

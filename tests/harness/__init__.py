"""Where the conformance suite runs: for each platform, how to describe a release and how to hurt what runs.

A new platform is one module here and one line in `HARNESSES`. The suite itself knows no platform.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

from activities.platforms.base import Platform
from models.platforms import Platform as PlatformModel

APP = Path(__file__).parents[1] / "apps" / "app.py"


class Harness(Protocol):
    """One platform, up and running, for many targets."""

    kind: str
    platform: Platform
    # Whether where users come in belongs to the platform, and not to somebody's gateway.
    has_own_front_proxy: bool
    # How many times as long an instance takes to come up here as a process does.
    pace: float
    # Whether what was checked can still be had when its source has changed.
    keeps_what_was_checked: bool
    # How many seconds behind somebody else's gateway may be: behind weights, and behind an instance's death.
    gateway_lags: float
    # Whether users are waiting, and not refused, while a killed router comes back.
    address_stays_open: bool

    def model(self, service: str, directory: Path, listen: str, **settings: Any) -> PlatformModel:
        """How the test app in `directory` is run here."""
        ...

    async def pinned(self, service: str, platform: PlatformModel) -> dict[str, str]:
        """The digests of what is to be run, as preflight measures them."""
        ...

    def free_address(self) -> str:
        """An address where users can be served."""
        ...

    async def is_closed(self, listen: str) -> bool:
        """Whether nobody serves users at this address."""
        ...

    async def kill_instance(self, name: str) -> None:
        """The instance dies at once; the platform may start it again."""
        ...

    async def kill_router(self, service: str) -> None:
        """The routers of the service's targets die at once."""
        ...

    def hanging_router(self, service: str) -> AbstractAsyncContextManager[None]:
        """Meanwhile the routers of the service's targets run and answer nothing."""
        ...

    def left_of(self, service: str) -> list[str]:
        """Everything that is still there of the service: processes, files."""
        ...

    async def wipe(self, service: str) -> None:
        """End and remove everything of the service, without any verb."""
        ...

    def exposing(self, service: str, value: str) -> list[str]:
        """Where, in all that the platform keeps of the service, somebody may find the value who should not."""
        ...

    def command_lines(self) -> str:
        """The command lines of everything that runs here."""
        ...

    def elsewhere(self) -> list[str]:
        """Arguments from which `tests.harness.verb_process` makes the same platform in another process."""
        ...

    async def aclose(self) -> None:
        """Nothing of it runs or lies around any more."""
        ...


def _local() -> Harness:
    from tests.harness.local import LocalHarness

    return LocalHarness()


def _compose() -> Harness:
    from tests.harness.compose import ComposeHarness

    return ComposeHarness()


def _kubernetes() -> Harness:
    from tests.harness.kubernetes import KubernetesHarness

    return KubernetesHarness()


HARNESSES: dict[str, Callable[[], Harness]] = {"local": _local, "compose": _compose, "kubernetes": _kubernetes}

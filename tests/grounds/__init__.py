"""Where the conformance suite runs: for each platform, how to describe a release and how to hurt what runs.

A new platform is one module here and one line in `GROUNDS`. The suite itself knows no platform.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

from activities.platforms.base import Platform
from models.platforms import Platform as PlatformModel

APP = Path(__file__).parents[1] / "apps" / "app.py"


class Ground(Protocol):
    """One platform, up and running, for many targets."""

    kind: str
    platform: Platform
    start_takes: float
    """Seconds that everything around an instance's own start takes."""
    door_stays_open: bool
    """Whether users are waiting, and not refused, while a killed router comes back."""

    def model(self, directory: Path, listen: str, **settings: Any) -> PlatformModel:
        """How the test app in `directory` is run here."""
        ...

    def pins(self, model: Any, directory: Path) -> dict[str, str]:
        """What a plan would pin of the release in the directory that the model runs."""
        ...

    def free_address(self) -> str:
        """An address where users can be served."""
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

    def written_about(self, service: str) -> list[Path]:
        """All files that the platform has written for the service."""
        ...

    def command_lines(self) -> str:
        """The command lines of everything that runs here."""
        ...

    def elsewhere(self) -> list[str]:
        """Arguments from which `tests.platform_verb` makes the same platform in another process."""
        ...

    async def aclose(self) -> None:
        """Nothing of it runs or lies around any more."""
        ...


def _local() -> Ground:
    from tests.grounds.local import LocalGround

    return LocalGround()


def _compose() -> Ground:
    from tests.grounds.compose import ComposeGround

    return ComposeGround()


GROUNDS: dict[str, Callable[[], Ground]] = {"compose": _compose, "local": _local}

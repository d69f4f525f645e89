"""The local platform: processes on the worker's own machine, kept up by a supervisor, behind routers."""

import httpx

from activities.platforms.local.ingress import LocalIngress
from activities.platforms.local.instances import LocalInstances
from activities.platforms.local.revision_files import LocalFiles
from activities.platforms.local.startup import LocalStarting
from activities.platforms.probes import make_client
from activities.platforms.traefik.config import announced
from activities.platforms.traefik.platform import TraefikPlatform
from activities.platforms.traefik.state import TargetStore
from embedded.supervision.supervisor import Supervisor
from home.paths import Home
from models.checks import Examination, PreflightCheck
from models.platforms import Platform as PlatformModel
from models.release import Capabilities, Order


class LocalPlatform(TraefikPlatform[TargetStore]):
    """All targets of one home."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._client = make_client()
        self._metrics = httpx.Client(trust_env=False)
        supervisor = Supervisor(home)
        super().__init__(
            LocalInstances(supervisor, self._client),
            LocalStarting(supervisor, self._client),
            LocalFiles(),
            LocalIngress(home, supervisor),
        )

    async def aclose(self) -> None:
        """Close the connections to instances and routers; nothing that runs is touched."""
        await super().aclose()
        await self._client.aclose()
        self._metrics.close()

    async def capabilities(self, platform: PlatformModel) -> Capabilities:
        return Capabilities(exact_weights=True, preview=True, in_place_roll=True)

    async def examine(self, check: PreflightCheck) -> Examination:
        # The address, the directory, disk and memory of this machine have checks of their own.
        platform = check.spec.platform
        return Examination(changes=tuple(announced(platform.address, platform.trusts)))

    async def store_of(self, order: Order, *, fresh: bool = True) -> TargetStore:
        return TargetStore(self._home, order.service, order.target)

    def clients_of(self, store: TargetStore) -> tuple[httpx.AsyncClient, httpx.Client]:
        return self._client, self._metrics

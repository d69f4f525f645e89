"""A service whose watchers are tried: the shop, as a platform that only knows where its instances are would tell it."""

from dataclasses import dataclass, field
from typing import Any, cast

from temporalio.testing import ActivityEnvironment

from activities.observability.activities import MonitoringActivities
from activities.platforms.base import Platform
from models.checks import MonitoringOrder
from models.errors import PreconditionError
from models.observability import ObserveSpec
from models.plan import make_revision
from models.release import Fence, Inspection, InspectOrder, InstanceReport, Order, Release, Revision
from models.spec import DeploymentSpec
from models.verdict import CheckResult, Verdict


@dataclass
class KnownInstances:
    """A platform that answers where instances are, and nothing else: revision id → base URLs."""

    addresses: dict[str, list[str]] = field(default_factory=dict)

    async def inspect(self, order: InspectOrder) -> Inspection:
        if order.revision.id not in self.addresses:
            raise PreconditionError(f"{order.revision.id} was never staged")
        reports = tuple(
            InstanceReport(name=f"{order.revision.id}.{n}", address=address, running=True, healthy=True)
            for n, address in enumerate(self.addresses[order.revision.id], start=1)
        )
        return Inspection(revision=order.revision.id, expected=len(reports), instances=reports)


class WatchedService:
    """One service on one target, with what its spec says of its watchers."""

    def __init__(self, name: str, observe: dict[str, Any], **changes: Any) -> None:
        self.spec = DeploymentSpec.model_validate(
            {
                "service": name,
                "target": "staging",
                "release": {"version": "1.1.0"},
                "platform": {"kind": "local", "run": ["true"], "listen": "127.0.0.1:8080"},
                "observe": observe,
                **changes,
            }
        )
        self.platform = KnownInstances()
        self.epoch = 1_000

    def revision(self, version: str = "1.1.0") -> Revision:
        spec = self.spec.model_copy(update={"release": self.spec.release.model_copy(update={"version": version})})
        return make_revision(spec, Release(service=spec.service, version=version), run_id=f"{version}-abcdef").outline()

    def serve(self, *addresses: str, version: str = "1.1.0") -> None:
        """Given: these are the instances of that version."""
        self.platform.addresses[self.revision(version).id] = list(addresses)

    def order(self, sequence: int = 1) -> MonitoringOrder:
        fence = Fence(epoch=self.epoch, sequence=sequence)
        order = Order(service=self.spec.service, target="staging", platform=self.spec.platform, fence=fence)
        observe: ObserveSpec = self.spec.observe
        running = (self.revision("1.0.0"), self.revision())
        return MonitoringOrder(order=order, observe=observe, candidate=self.revision(), running=running)

    async def do(self, what: str, sequence: int = 1) -> dict[str, CheckResult]:
        """Runs one of the activities; its checks by name."""
        activities = MonitoringActivities({"local": cast(Platform, self.platform)})
        seen = await ActivityEnvironment().run(getattr(activities, what), self.order(sequence))
        return {check.name: check for check in seen.checks}

    async def set_up(self) -> dict[str, CheckResult]:
        return await self.do("set_up_monitoring")


def bad(checks: dict[str, CheckResult]) -> dict[str, str]:
    """Those that do not open a gate, with their reasons."""
    return {
        name: check.reason for name, check in checks.items() if check.verdict not in (Verdict.PASS, Verdict.SKIPPED)
    }

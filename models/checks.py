"""What the checks of the stages are asked. Each answers with a `models.verdict.CheckResult`."""

from collections.abc import Callable

from pydantic import Field

from models.base import WireModel
from models.health import HealthRule, HealthSpec
from models.observability import ObserveSpec, SentrySpec
from models.preflight.migrations import Tried
from models.release import Order, Release, Revision
from models.spec import DeploymentSpec, SmokeTest
from models.units import Duration
from models.verdict import CheckResult, Stage


class PreflightCheck(WireModel):
    """A question before anything changes.

    Attributes:
        expected: what → the sha256 that was pinned into the plan when it was first measured; empty then.
        planning: somebody only wants to know what would happen: nothing is waited for.
        tried: what came of the pending migrations on a copy of the database; for those who judge them.
    """

    spec: DeploymentSpec
    expected: dict[str, str] = Field(default_factory=dict)
    planning: bool = False
    tried: Tried | None = None

    def about(self, part: Callable[[DeploymentSpec], DeploymentSpec]) -> "PreflightCheck":
        """The same with a part of the spec: see `models.carrying`."""
        return self.model_copy(update={"spec": part(self.spec)})


class Examination(WireModel):
    """What a platform found out about itself before anything changes.

    Attributes:
        checks: its own questions with their verdicts; their names are unique within preflight.
        digests: what the release is made of there, like `platform:image` → its sha256; pinned into the plan. Each name
            begins with `PLATFORM_DIGEST`.
        changes: what the deployment is going to change there, line by line, for the plan.
        approvals: stages that a person must approve because of it, whatever the spec says.
    """

    checks: tuple[CheckResult, ...] = ()
    digests: dict[str, str] = Field(default_factory=dict)
    changes: tuple[str, ...] = ()
    approvals: tuple[Stage, ...] = ()


class EndpointCheck(WireModel):
    """Ask one endpoint of the service through its front proxy.

    Attributes:
        endpoint: health, ready, live, metrics or version.
        path: None where the service has no such endpoint.
        version: what the version endpoint must answer.
        timeout: for an endpoint that the rule of health does not judge.
        health: what a healthy answer is, and how it is asked for.
    """

    endpoint: str
    base_url: str
    path: str | None
    version: str
    timeout: Duration
    health: HealthRule = HealthSpec().rule(None)


class SmokeCheck(WireModel):
    """Run one smoke test against `base_url`; a command runs in `directory`.

    Attributes:
        host: the `Host` of its request, unless the test has one of its own.
    """

    test: SmokeTest
    base_url: str
    directory: str
    service: str
    target: str
    version: str
    host: str | None = None


class RouterCheck(WireModel):
    """See the router's own counters rise when the front proxy is asked."""

    spec: DeploymentSpec
    revision: Revision
    base_url: str


class SentryCheck(WireModel):
    """Send a test event tagged with release and environment, and see it accepted."""

    sentry: SentrySpec
    release: Release
    target: str


class MonitoringOrder(WireModel):
    """What the watchers are set up for, or asked about.

    Attributes:
        order: the target, and the fence that keeps a late write of an older deployment out.
        candidate: whom it is for.
        running: the revisions whose instances are watched, the candidate among them; asked of the platform.
    """

    order: Order
    observe: ObserveSpec
    candidate: Revision
    running: tuple[Revision, ...] = ()


class MonitoringSeen(WireModel):
    """What was seen of the watchers."""

    checks: tuple[CheckResult, ...] = ()

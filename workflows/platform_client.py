"""The platform's verbs on this deployment's target. Each effect gets the next fence, so that an older one that is
still under way somewhere can no longer change anything.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TypeVar

from pydantic import BaseModel
from pydantic_core import to_json
from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception
from temporalio.workflow import ActivityCancellationType

from activities import activity_stubs
from activities.activity_stubs import Signature
from models.judges.state import JudgeState
from models.release import (
    Capabilities,
    Counters,
    Fence,
    Inspection,
    InspectOrder,
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
from models.spec import DeploymentSpec
from models.watch import WatchOrder, WatchReport
from workflows import options
from workflows.concurrency import is_being_cancelled
from workflows.options import ActivityOptions

# Deployments that were begun before these rules go on without them.
_CANCELLED = "cancelled-is-no-failure"
_WAITED_FOR = "cancelled-is-waited-for"

In = TypeVar("In", bound=BaseModel)
Out = TypeVar("Out", bound=BaseModel)
LONGEST_SUMMARY = 360
LARGEST_PAYLOAD = 2_000_000


async def execute(signature: Signature[In, Out], order: In, policy: ActivityOptions, summary: str) -> Out:
    """Runs one activity by its signature; `summary` is what the Temporal UI shows for it.

    An activity has ended when this returns, cancelled or not. A task that was asked to end begins none, and takes none
    that was cancelled for one that failed. What an activity answered all the same is returned: it may have moved
    traffic.

    Raises:
        ActivityError: the activity failed.
        CancelledError: the running task was cancelled; never disguised as an `ActivityError`.
        ApplicationError: what it is asked is more than Temporal takes, which would end the workflow at once.
    """
    if is_being_cancelled() and workflow.patched(_CANCELLED):
        raise asyncio.CancelledError
    if (size := len(to_json(order))) > LARGEST_PAYLOAD:
        said = f"{signature.name} would be asked with {size:,} bytes, and Temporal takes {LARGEST_PAYLOAD:,}"
        raise ApplicationError(said, type="TooLarge", non_retryable=True)
    if workflow.patched(_WAITED_FOR):
        policy = {**policy, "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED}
    try:
        result: Out = await workflow.execute_activity(
            signature.name, order, result_type=signature.gives, summary=_cut(summary), **policy
        )
    except ActivityError as error:
        if (is_cancelled_exception(error) or is_being_cancelled()) and workflow.patched(_CANCELLED):
            raise asyncio.CancelledError from error
        raise
    return result


def _cut(summary: str) -> str:
    """Temporal takes at most 400 bytes of it, and shows 120 characters."""
    return summary[:120].encode()[:LONGEST_SUMMARY].decode(errors="ignore")


class PlatformClient:
    """What can be done to the target.

    Args:
        go_on: raises when the deployment must not go on; asked before each effect that is not an undo.
    """

    def __init__(self, spec: DeploymentSpec, go_on: Callable[[], None]) -> None:
        self._spec = spec
        self._platform = spec.platform.outline()
        self._go_on = go_on
        self._epoch = round(workflow.info().start_time.timestamp() * 1_000_000)
        self._sequence = 0

    def ensure_newer_than(self, seen: Fence) -> None:
        """Makes sure that this deployment's effects count: a clock that was set back must not make them late."""
        self._epoch = max(self._epoch, seen.epoch + 1)

    def _order(self, *, effect: bool) -> Order:
        self._sequence += effect
        return Order(
            service=self._spec.service,
            target=self._spec.target,
            platform=self._platform,
            fence=Fence(epoch=self._epoch, sequence=self._sequence),
            endpoints=self._spec.verify.endpoints,
            health=self._spec.verify.rule,
        )

    def _forward(self) -> Order:
        self._go_on()
        return self._order(effect=True)

    def order_for_watchers(self) -> Order:
        """For what is no verb and is fenced all the same: what others are told about this target."""
        return self._order(effect=True)

    async def capabilities(self) -> Capabilities:
        question = activity_stubs.CapabilitiesQuestion(platform=self._platform)
        return await execute(activity_stubs.CAPABILITIES, question, options.QUICK_CHECK, "what the platform can do")

    async def snapshot(self, summary: str = "what serves now") -> Snapshot:
        return await execute(activity_stubs.SNAPSHOT, self._order(effect=False), options.QUICK_CHECK, summary)

    async def inspect(self, revision: Revision, instances: int) -> Inspection:
        order = InspectOrder(**dict(self._order(effect=False)), revision=revision.outline(), instances=instances)
        return await execute(activity_stubs.INSPECT, order, options.QUICK_CHECK, f"ask every instance of {revision.id}")

    async def stage(self, revision: Revision, instances: int, deadline: datetime) -> Staged:
        order = StageOrder(**dict(self._forward()), revision=revision, instances=instances, deadline=deadline)
        policy = options.rollout(deadline - workflow.now())
        return await execute(activity_stubs.STAGE, order, policy, f"bring up {instances} × {revision.id}")

    async def shift(self, candidate: str, stable: str | None, weight: int) -> Split:
        order = ShiftOrder(**dict(self._forward()), candidate=candidate, stable=stable, weight=weight)
        return await execute(activity_stubs.SHIFT, order, options.TRAFFIC, f"{weight} % to {candidate}")

    async def take_traffic_away(self, candidate: str, stable: str) -> Split:
        """The emergency: everything to stable, now."""
        order = ShiftOrder(**dict(self._order(effect=True)), candidate=candidate, stable=stable, weight=0)
        return await execute(activity_stubs.SHIFT, order, options.EMERGENCY, f"all traffic back to {stable}")

    async def promote(self, revision: str, *, withdraw: bool) -> Snapshot:
        order = PromoteOrder(**dict(self._forward()), revision=revision, withdraw=withdraw)
        return await execute(activity_stubs.PROMOTE, order, options.TRAFFIC, f"{revision} is stable now")

    async def retire(self, revision: str, keep: int = 0) -> Retired:
        until = workflow.now() + self._spec.platform.drain
        order = RetireOrder(**dict(self._forward()), revision=revision, keep_instances=keep, drain_until=until)
        policy = options.rollout(self._longest_end())
        return await execute(activity_stubs.RETIRE, order, policy, f"drain {revision}, keep {keep}")

    async def remove(self, revision: str, *, forget: bool) -> Retired:
        """Undo of `stage`."""
        until = workflow.now() + self._spec.platform.drain
        order = RetireOrder(**dict(self._order(effect=True)), revision=revision, forget=forget, drain_until=until)
        policy = options.removal(self._longest_end())
        return await execute(activity_stubs.RETIRE, order, policy, f"remove {revision}")

    def _longest_end(self) -> timedelta:
        platform = self._spec.platform
        return platform.drain + platform.stop * platform.instances

    async def restore(self, snapshot: Snapshot, within: timedelta) -> Split:
        """Undo of everything that moved traffic; also the rehearsed rollback."""
        deadline = workflow.now() + within
        order = RestoreOrder(**dict(self._order(effect=True)), snapshot=snapshot.abridge(), deadline=deadline)
        back = snapshot.stable.id if snapshot.stable else "nothing: it was the first deployment"
        return await execute(activity_stubs.RESTORE, order, options.COMPENSATION, f"back to {back}")

    async def watch(
        self,
        candidate: Revision,
        stable: Revision | None,
        instances: int,
        *,
        deadline: datetime,
        min_requests: int,
        began: Mapping[str, Counters],
        restarts: Mapping[str, int],
        weight: int | None,
        slice: timedelta,
        state: JudgeState | None,
        summary: str,
    ) -> WatchReport:
        order = WatchOrder(
            **dict(self._forward()),
            candidate=candidate.outline(),
            stable=stable and stable.outline(),
            instances=instances,
            judge=self._spec.strategy.judge,
            min_requests=min_requests,
            began=dict(began),
            restarts=dict(restarts),
            weight=weight,
            slice=slice,
            state=state,
            deadline=deadline,
        )
        return await execute(activity_stubs.WATCH, order, options.watch(deadline - workflow.now()), summary)

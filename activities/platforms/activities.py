"""A workflow knows verbs, a platform does them: one activity per verb, on the platform that the order names."""

import asyncio
from collections.abc import Mapping

from temporalio import activity

from activities import activity_stubs
from activities.activity_stubs import CapabilitiesQuestion
from activities.heartbeat import attempt, deadline_of_work
from activities.platforms.base import Platform
from models.checks import Examination, PreflightCheck
from models.errors import PreconditionError
from models.platforms import Platform as PlatformModel
from models.release import (
    Capabilities,
    Inspection,
    InspectOrder,
    Order,
    PromoteOrder,
    RestoreOrder,
    Retired,
    RetireOrder,
    ShiftOrder,
    Snapshot,
    Split,
    Staged,
    StageOrder,
)


async def find_platform(platforms: Mapping[str, Platform], model: PlatformModel) -> Platform:
    """The platform of that kind.

    Raises:
        PreconditionError: this worker has none.
    """
    if model.kind not in platforms:
        raise PreconditionError(f"this worker has no platform {model.kind}; it has {', '.join(sorted(platforms))}")
    # The first one to ask for a platform loads its client library, which may take a second.
    return await asyncio.to_thread(platforms.__getitem__, model.kind)


class PlatformActivities:
    """The verbs of all platforms. Each is idempotent and fenced: see `activities.platforms.base`."""

    def __init__(self, platforms: Mapping[str, Platform]) -> None:
        self._platforms = platforms

    @activity.defn(name=activity_stubs.CAPABILITIES.name)
    async def capabilities(self, question: CapabilitiesQuestion) -> Capabilities:
        async with attempt():
            return await (await find_platform(self._platforms, question.platform)).capabilities(question.platform)

    @activity.defn(name=activity_stubs.EXAMINE.name)
    async def examine(self, check: PreflightCheck) -> Examination:
        async with attempt():
            return await (await find_platform(self._platforms, check.spec.platform)).examine(check)

    @activity.defn(name=activity_stubs.SNAPSHOT.name)
    async def snapshot(self, order: Order) -> Snapshot:
        async with attempt():
            return (await (await find_platform(self._platforms, order.platform)).snapshot(order)).abridge()

    @activity.defn(name=activity_stubs.STAGE.name)
    async def stage(self, order: StageOrder) -> Staged:
        async with attempt():
            order = order.model_copy(update={"deadline": deadline_of_work(order.deadline)})
            return await (await find_platform(self._platforms, order.platform)).stage(order)

    @activity.defn(name=activity_stubs.SHIFT.name)
    async def shift(self, order: ShiftOrder) -> Split:
        async with attempt():
            return await (await find_platform(self._platforms, order.platform)).shift(order)

    @activity.defn(name=activity_stubs.PROMOTE.name)
    async def promote(self, order: PromoteOrder) -> Snapshot:
        async with attempt():
            return (await (await find_platform(self._platforms, order.platform)).promote(order)).abridge()

    @activity.defn(name=activity_stubs.RETIRE.name)
    async def retire(self, order: RetireOrder) -> Retired:
        async with attempt():
            return await (await find_platform(self._platforms, order.platform)).retire(order)

    @activity.defn(name=activity_stubs.RESTORE.name)
    async def restore(self, order: RestoreOrder) -> Split:
        async with attempt():
            order = order.model_copy(update={"deadline": deadline_of_work(order.deadline)})
            return await (await find_platform(self._platforms, order.platform)).restore(order)

    @activity.defn(name=activity_stubs.INSPECT.name)
    async def inspect(self, order: InspectOrder) -> Inspection:
        async with attempt():
            return await (await find_platform(self._platforms, order.platform)).inspect(order)

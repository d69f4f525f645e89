"""Several people deploy to one target while users use it: each gets a turn, an answer, and the right exit code."""

from itertools import pairwise

import pytest

from tests.support.cli_process import Command
from tests.support.product_env import NEW, NEWER, OLD, ProductEnv, Service, ended
from tests.support.scenarios import side_by_side

# Up to five deployments, one after the other.
pytestmark = pytest.mark.timeout(300)

NEWEST = "1.3.0"


async def held(service: Service, version: str) -> Command:
    """One is under way, and goes on when somebody resumes it: so that others have the time to come."""
    command = await service.deploying(version, "strategy.steps.0.watch=12s")
    await service.doing("step_40: watched")
    assert (await service.living.run("hold", service.subject)).code == 0
    await service.doing("held")
    return command


async def queueing(service: Service, version: str, number: int, *settings: str, more: tuple[str, ...] = ()) -> Command:
    """One more waits, as number `number`."""
    command = await service.deploying(version, *settings, more=("--queue", *more))
    await command.said(f"queued, number {number} of {number}")
    return command


async def tickets(service: Service) -> dict[str, str]:
    """Version → ticket of those who wait."""
    status = await service.living.run("status", service.subject, "--json")
    return {each["version"]: each["ticket"] for each in status.document["queue"]}


@side_by_side
async def test_three_at_once_take_turns_also_when_one_is_bad_and_one_is_withdrawn(living: ProductEnv) -> None:
    service = living.service()
    await service.serving()
    async with service.users(bad=NEWER):
        first = await held(service, NEW)
        plan = await living.run("plan", str(service.spec), "--json")
        conflict = {check["name"]: check for check in plan.document["checks"]}["no_conflicting_deployment"]
        assert conflict["verdict"] == "fail" and "ann is deploying 1.1.0" in conflict["reason"]
        bad = await queueing(service, NEWER, 1, "platform.environment.APP_FAIL_SHARE=0.5")
        withdrawn = await queueing(service, "1.2.1", 2)
        last = await queueing(service, NEWEST, 3, more=("--as", "grace"))
        ticket = (await tickets(service))["1.2.1"]
        assert (await living.run("withdraw", service.subject, ticket, "--as", "ada")).code == 0
        assert "withdrawn from the queue by ada" in ended(await withdrawn.done(), "rejected", 13)["failure"]["reason"]
        assert (await living.run("resume", service.subject)).code == 0
        ended(await first.done(), "deployed", 0)
        document = ended(await bad.done(), "rolled-back", 10)
        assert document["previous_version"] == NEW
        document = ended(await last.done(), "deployed", 0)
        assert (document["by"], document["previous_version"]) == ("grace", NEW)
        await service.is_new(NEWEST)
    runs = (await living.run("history", service.subject, "--json")).document["runs"]
    assert [(run["version"], run["outcome"]) for run in runs] == [
        (NEWEST, "deployed"), (NEWER, "rolled-back"), (NEW, "deployed"), (OLD, "deployed"),
    ]  # fmt: skip
    assert all(later["started"] >= earlier["ended"] for later, earlier in pairwise(runs))


@side_by_side
async def test_one_that_supersedes_has_the_older_one_rolled_back_and_loses_no_request(living: ProductEnv) -> None:
    service = living.service()
    await service.serving()
    async with service.users():
        older = await held(service, NEW)
        newer = await service.deploying(NEWER, more=("--supersede", "--as", "grace"))
        document = ended(await older.done(), "rolled-back", 10)
        assert "superseded by 1.2.0, which grace deploys" in document["failure"]["reason"]
        document = ended(await newer.done(), "deployed", 0)
        assert document["previous_version"] == OLD
        await service.is_new(NEWER)


@side_by_side
async def test_a_rollback_after_the_end_is_not_kept_waiting_by_a_queue(living: ProductEnv) -> None:
    service = living.service()
    await service.serving()
    async with service.users():
        ended(await service.deploy(NEW), "deployed", 0)
        runs = await held(service, NEWER)
        waits = await queueing(service, NEWEST, 1)
        # The emergency is told to the one that runs at once; the one that waits comes after it.
        ended(await service.rollback(), "rolled-back", 10)
        ended(await runs.done(), "rolled-back", 10)
        assert ended(await waits.done(), "deployed", 0)["previous_version"] == NEW
        await service.is_new(NEWEST)

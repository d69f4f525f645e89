"""A freeze as its users meet it: nothing is deployed in it, a second person can let it be, and the way back is open."""

from datetime import UTC, datetime, timedelta

from tests.support.product_env import CANARY, NEW, NEWER, OLD, ProductEnv, ended, found
from tests.support.scenarios import side_by_side

ALWAYS = 'freeze=[{"reason": "the books are closed", "cron": "* * * * *", "for": "1d"}]'


@side_by_side
async def test_in_a_freeze_nothing_is_deployed_and_everything_can_be_rolled_back(living: ProductEnv) -> None:
    service = living.service()
    await service.serving()
    async with service.users():
        ended(await service.deploy(NEW), "deployed", 0)
        document = ended(await service.deploy(NEWER, ALWAYS), "frozen", 13)
        await service.is_new(NEW)
        assert document["failure"]["type"] == "deployment_frozen"
        assert "the books are closed" in document["failure"]["reason"]
        plan = await living.run("plan", str(service.spec), "--set", ALWAYS, "--json")
        checks = {check["name"]: check for check in plan.document["checks"]}
        assert "deploy would end as frozen" in checks["freeze"]["reason"]
        command = await service.deploying(NEWER, ALWAYS, more=("--break-glass", "payments are down", "--as", "ada"))
        await service.until(lambda report: report.waiting_for)
        own = await living.run("approve", service.subject, "--as", "ada")
        assert own.code == 2 and "a second person approves it" in own.err
        assert (await living.run("approve", service.subject, "--as", "grace")).code == 0
        document = ended(await command.done(), "deployed", 0)
        assert [(each["what"], each["by"]) for each in document["decisions"]] == [
            ("break-glass", "ada"),
            ("approve deploy", "grace"),
        ]
        assert found(document, "deploy", "freeze")["verdict"] == "skipped"
        # The freeze is in the spec of the deployment that is gone back from, and in force.
        ended(await service.rollback(), "rolled-back", 10)
        await service.is_old(NEW)


@side_by_side
async def test_a_deployment_under_way_when_a_freeze_begins_can_be_rolled_back(living: ProductEnv) -> None:
    service = living.service({**CANARY, "steps": [{"weight": 40, "watch": "30s"}, {"weight": 100, "watch": "1s"}]})
    await service.serving()
    begins, text = datetime.now(UTC) + timedelta(seconds=20), "%Y-%m-%d %H:%M:%S"
    ends = begins + timedelta(hours=1)
    window = f'freeze=[{{"reason": "sale", "from": "{begins:{text}}", "until": "{ends:{text}}"}}]'
    async with service.users():
        command = await service.deploying(NEW, window)
        await service.doing("step_40: watched")
        await service.until(lambda _: datetime.now(UTC) > begins)
        ended(await service.rollback(), "rolled-back", 10)
        ended(await command.done(), "rolled-back", 10)
        await service.is_old(OLD)
    ended(await service.deploy(NEW, window), "frozen", 13)

"""What people get wrong with images, files and containers ends with a sentence, and with the old version serving."""

import re

import pytest
import yaml

from examples.load import Record
from tests.support.compose_env import ComposeEnv
from tests.support.product_env import CANARY, NEW, OLD, ended, found
from tests.support.scenarios import side_by_side

LONG = {"kind": "canary", "steps": [{"weight": 50, "watch": "30s"}, {"weight": 100, "watch": "1s"}], "bake": "1s"}


@side_by_side
async def test_a_container_that_exits_at_once_is_told_with_its_last_words(living: ComposeEnv) -> None:
    shop = living.shop()
    await shop.serving()
    database = shop.database()
    shop.crash.touch()
    async with shop.users():
        document = ended(await shop.deploy(NEW, f"platform.environment.APP_CRASH_IF={shop.crash}"), "rolled-back", 10)
        await shop.is_old()
    assert document["failure"]["type"] == "deployment_failed"
    # As often as Docker had started it by the time somebody looked, and at least three times.
    assert re.search(r"was started ([3-9]|\d\d) times and never became ready", document["failure"]["reason"])
    assert "I was told to crash" in found(document, "deploy", "finished")["evidence"]["last_lines"]
    assert shop.instances(NEW) == {}
    assert shop.database() == database


@side_by_side
async def test_a_container_that_keeps_dying_after_it_was_ready_is_caught(living: ComposeEnv) -> None:
    shop = living.shop(LONG)
    await shop.serving()
    died: list[Record] = []

    def died_with_it(record: Record) -> bool:
        # 504: its address went with it, and nobody refused the connection.
        if lost := record.status in (502, 504):
            died.append(record)
        return lost

    async with shop.users(bad=NEW, forgiven=died_with_it):
        document = ended(await shop.deploy(NEW, "platform.environment.APP_CRASH_AFTER_S=6"), "rolled-back", 10)
        await shop.is_old()
    assert found(document, "deploy", "step_50")["verdict"] == "fail"
    # What a container was answering when it died is lost with it: the router must not ask twice.
    assert len(died) <= 12, f"{len(died)} requests died with containers"


@side_by_side
async def test_an_image_that_does_not_exist_changes_nothing(living: ComposeEnv) -> None:
    shop = living.shop()
    await shop.serving()
    before = shop.state()
    async with shop.users():
        document = ended(
            await shop.deploy(NEW, "platform.image=deployment-specialist-tests/none:{version}"), "preflight-failed", 14
        )
    check = found(document, "preflight", "image")
    assert check["verdict"] == "fail"
    assert "deployment-specialist-tests/none:1.1.0 is neither on the Docker host nor at its registry" in check["reason"]
    assert shop.state() == before


@side_by_side
async def test_a_compose_file_with_a_syntax_error_is_told_with_its_line(living: ComposeEnv) -> None:
    shop = living.shop()
    await shop.serving()
    before, good = shop.state(), shop.compose_file.read_text()
    shop.compose_file.write_text(f"services:\n  web: [\n{good}")
    document = ended(await shop.deploy(NEW), "preflight-failed", 14)
    check = found(document, "preflight", "compose_file")
    assert check["verdict"] == "fail"
    assert f"{shop.compose_file}:" in check["reason"]

    shop.compose_file.write_text(good.replace("depends_on", "depends_no"))
    document = ended(await shop.deploy(NEW), "preflight-failed", 14)
    assert "depends_no" in found(document, "preflight", "compose_file")["reason"]
    assert shop.state() == before
    await shop.is_old()


@side_by_side
async def test_the_plan_says_what_of_the_file_has_changed(living: ComposeEnv) -> None:
    shop = living.shop()
    document = yaml.safe_load(shop.compose_file.read_text())
    web = document["services"]["web"]
    web["environment"] = {"SAME": "1", "MODE": "sesame-1", "OLD": "1"}
    shop.compose_file.write_text(yaml.safe_dump(document))
    await shop.serving()
    before = shop.state()
    web["environment"] = {"SAME": "1", "MODE": "sesame-2", "NEW": "1"}
    web["stop_signal"] = "SIGINT"
    shop.compose_file.write_text(yaml.safe_dump(document))

    planned = (await living.run("plan", str(shop.spec), "--set", f"release.version={NEW}", "--json")).document

    assert planned["changes"] == [
        "the image of web is built on the Docker host",
        "what the Compose file says of web changes: stop_signal",
        "the environment that the Compose file gives web changes: MODE, NEW (new), OLD (gone)",
    ]
    assert "sesame" not in str(planned)
    assert shop.state() == before


@side_by_side
async def test_a_service_that_the_file_does_not_have_is_told_with_those_that_it_has(living: ComposeEnv) -> None:
    shop = living.shop()
    document = ended(await shop.deploy(OLD, "platform.service=wbe"), "preflight-failed", 14)
    assert "has no service wbe, only db, web" in found(document, "preflight", "compose_file")["reason"]
    assert shop.containers() == []


@pytest.mark.parametrize("good", [True, False], ids=["a good release", "a bad release"])
@side_by_side
async def test_a_stack_that_runs_already_is_adopted(living: ComposeEnv, good: bool) -> None:
    shop = living.shop(CANARY if good else LONG)
    await shop.runs_already("0.9.0")
    database = shop.database()
    assert shop.remember("before") == "+OK"

    planned = (await living.run("plan", str(shop.spec), "--json")).document
    assert any("passes from" in line and "refused" in line for line in planned["changes"]), planned["changes"]
    assert await shop.answers() == {"0.9.0"}

    setting = () if good else ("platform.environment.APP_FAIL_SHARE=1",)
    outcome = ("deployed", 0) if good else ("rolled-back", 10)
    refused: list[Record] = []

    def in_the_hand_over(record: Record) -> bool:
        if record.status is None:
            refused.append(record)
        return record.status is None

    async with shop.users(bad=NEW, forgiven=in_the_hand_over):
        document = ended(await shop.deploy(NEW, *setting), *outcome)

    # Once, and not for long: everything before and after it was answered.
    times = [record.sent_at for record in refused]
    assert max(times, default=0) - min(times, default=0) < 5, times
    said = found(document, "deploy", "staged")["reason"]
    assert "was handed over to the router: connections were refused for" in said
    assert await shop.answers() == ({NEW} if good else {"0.9.0"})
    if good:
        # The way back leads to what was there before.
        back = await shop.rollback()
        assert back.code == 10, back.err
        assert await shop.answers() == {"0.9.0"}
    assert shop.database() == database
    assert shop.remember("").endswith("before")
    (original,) = living.docker.containers.list(
        all=True, filters={"label": [f"com.docker.compose.project={shop.name}", "com.docker.compose.service=web"]}
    )
    assert original.status == "exited"


@side_by_side
async def test_a_stack_whose_next_release_never_becomes_ready_is_left_alone(living: ComposeEnv) -> None:
    shop = living.shop()
    await shop.runs_already("0.9.0")
    original = shop.database()
    async with shop.users():
        document = ended(
            await shop.deploy(NEW, "platform.environment.APP_NEVER_READY=1", "strategy.deadline=12s"), "rolled-back", 10
        )
    assert document["previous_version"] is not None
    assert await shop.answers() == {"0.9.0"}
    assert shop.containers() == []
    assert shop.database() == original

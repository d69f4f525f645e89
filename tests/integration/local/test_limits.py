"""A spec that is as large as it may be is deployed and rolled back like any other; a larger one starts nothing."""

from typing import Any

import pytest
import yaml
from temporalio.client import WorkflowExecutionStatus

from models.carrying import LARGEST_SPEC
from models.spec import DeploymentSpec
from tests.support.product_env import NEW, OLD, ProductEnv, Service, ended
from tests.support.specs_of_size import travels

LONGEST = 4096
QUICK: dict[str, Any] = {"kind": "rolling", "watch": "0s", "bake": "0s"}


def fill(shop: Service, by: str) -> dict[str, Any]:
    """Makes the spec of a service exactly as large as it may be, by its environment or by a smoke test."""
    document: dict[str, Any] = yaml.safe_load(shop.spec.read_text())
    # Commands make its paths absolute, and give it a version; both are counted as they travel.
    document["platform"]["directory"] = str(shop.folder / "app")
    document["platform"]["instances"] = 1
    left = LARGEST_SPEC - travels(document)
    if by == "environment":
        values = document["platform"].setdefault("environment", {})
        while (left := LARGEST_SPEC - travels(document)) > 2 * LONGEST:
            values[f"V{len(values)}"] = "x" * LONGEST
        values["LAST"] = ""
        left = LARGEST_SPEC - travels(document)
        values["LAST"], values["MORE"] = "x" * min(left, LONGEST), ""
        values["MORE"] = "x" * (LARGEST_SPEC - travels(document)) if LARGEST_SPEC >= travels(document) else ""
    else:
        command = ["true", *["x" * 100_000] * (left // 100_003)]
        document["verify"] = {"smoke": [{"name": "large", "command": command}]}
        command.append("")
        command[-1] = "x" * (LARGEST_SPEC - travels(document))
    assert travels(document) in (LARGEST_SPEC, LARGEST_SPEC - 1), travels(document) - LARGEST_SPEC
    shop.spec.write_text(yaml.safe_dump(document, width=1 << 30))
    DeploymentSpec.model_validate(document)
    return document


@pytest.mark.timeout(300)
@pytest.mark.parametrize("by", ["environment", "smoke test"])
async def test_what_just_fits_is_deployed_replaced_and_rolled_back(living: ProductEnv, by: str) -> None:
    shop = living.service(QUICK)
    fill(shop, by)

    ended(await shop.deploy(OLD), "deployed", 0)
    ended(await shop.deploy(NEW), "deployed", 0)
    ended(await shop.rollback(), "rolled-back", 10)

    await shop.is_old()
    assert travels(yaml.safe_load(shop.spec.read_text())) > LARGEST_SPEC - 2


@pytest.mark.timeout(300)
async def test_one_byte_more_is_refused_before_anything_starts(living: ProductEnv) -> None:
    shop = living.service(QUICK)
    document = fill(shop, "smoke test")
    document["verify"]["smoke"][0]["command"][-1] += "x" * 2
    shop.spec.write_text(yaml.safe_dump(document, width=1 << 30))

    for command in (["deploy"], ["deploy", "--queue"], ["plan"], ["plan", "--offline"]):
        done = await living.run(command[0], str(shop.spec), *command[1:])
        assert done.code == 2, done.err
        assert "at most 1,048,576 can: verify.smoke alone has" in done.err

    found = [each async for each in (await living.client()).list_workflows(f"DeployService = '{shop.name}'")]
    assert found == []


async def test_what_waits_in_a_queue_may_be_as_large(living: ProductEnv) -> None:
    shop = living.service(QUICK)
    fill(shop, "environment")

    ended(await shop.deploy(OLD, more=("--queue",)), "deployed", 0)

    queue = (await living.client()).get_workflow_handle(f"queue/{shop.name}/{shop.target}")
    assert (await queue.describe()).status is WorkflowExecutionStatus.RUNNING

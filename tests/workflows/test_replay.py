"""Deployments that are under way when the worker is upgraded go on as they were begun."""

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from tests.histories import record_queues
from tests.histories.record import ENDINGS, FOLDER
from workflows.converter import strict_data_converter
from workflows.deployment import DeploymentWorkflow
from workflows.queueing import QueueWorkflow


def test_every_ending_has_a_history_and_every_history_an_ending() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(ENDINGS)


@pytest.mark.parametrize("name", sorted(ENDINGS))
async def test_a_deployment_of_a_former_release_runs_through_this_one(name: str) -> None:
    history = WorkflowHistory.from_json(f"deploy/shop-{name}/staging", (FOLDER / f"{name}.json").read_text())
    replayer = Replayer(workflows=[DeploymentWorkflow], data_converter=strict_data_converter)

    await replayer.replay_workflow(history)


@pytest.mark.parametrize("name", sorted(record_queues.STORIES))
async def test_a_queue_of_a_former_release_runs_through_this_one(name: str) -> None:
    history = WorkflowHistory.from_json("queue/shop/staging", (record_queues.FOLDER / f"{name}.json").read_text())
    replayer = Replayer(workflows=[QueueWorkflow], data_converter=strict_data_converter)

    await replayer.replay_workflow(history)

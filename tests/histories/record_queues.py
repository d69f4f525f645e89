"""Records histories of queues, for the replay test: queues outlive the workers of a release as deployments do."""

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from temporalio.testing import WorkflowEnvironment

from models.outcome import Outcome
from models.preflight.queueing import ExitKind
from models.verdict import Verdict
from tests.workflows.turns import Ground, a_ground, working
from workflows import wire_names

FOLDER = Path(__file__).parent / "queues"


async def _in_turn(ground: Ground) -> None:
    held = await _held(ground)
    tickets = [await ground.enqueue(version) for version in ("1.2.0", "1.3.0")]
    await held.execute_update(wire_names.RESUME, {"by": "ann"})
    for ticket in tickets:
        assert (await ground.report(ticket)).outcome is Outcome.DEPLOYED


async def _withdrawn(ground: Ground) -> None:
    held = await _held(ground)
    tickets = [await ground.enqueue(version) for version in ("1.2.0", "1.3.0")]
    await ground.withdraw(tickets[0])
    await held.execute_update(wire_names.RESUME, {"by": "ann"})
    assert (await ground.report(tickets[1])).outcome is Outcome.DEPLOYED


async def _superseded(ground: Ground) -> None:
    held = await _held(ground)
    waits = await ground.enqueue("1.2.0")
    newer = await ground.enqueue("1.3.0", supersede=True)
    assert (await ground.report(newer)).outcome is Outcome.DEPLOYED
    assert (await ground.report(waits)).outcome is Outcome.DEPLOYED
    await ground.stands(held, Outcome.ROLLED_BACK)


async def _refused(ground: Ground) -> None:
    await ground.send({"ticket": "0123456789ab", "request": {"by": "ann"}})
    assert (await ground.left("0123456789ab")).how is ExitKind.REFUSED


async def _stopped(ground: Ground) -> None:
    held = await _held(ground)
    ground.target.breaking["restore"] = -1
    assert (await ground.left(await ground.enqueue("1.3.0", supersede=True))).how is ExitKind.STOPPED
    await held.execute_update(wire_names.RESOLVE, {"way": "take-over", "by": "ann"})


async def _held(ground: Ground) -> Any:
    ground.target.watches = [Verdict.INCONCLUSIVE] * 2
    handle = await ground.deploy("1.1.0")
    await ground.stands(handle, Outcome.HELD)
    return handle


STORIES: dict[str, Callable[[Ground], Awaitable[None]]] = {
    "in-turn": _in_turn,
    "withdrawn": _withdrawn,
    "superseded": _superseded,
    "refused": _refused,
    "stopped": _stopped,
}


async def record_queues(server: WorkflowEnvironment, clean: Callable[[Any], Any], *, anew: bool) -> None:
    """Records what is missing."""
    FOLDER.mkdir(exist_ok=True)
    for name, story in STORIES.items():
        path = FOLDER / f"{name}.json"
        if path.exists() and not anew:
            continue
        ground = a_ground(server.client)
        async with working(ground):
            await story(ground)
            history = await ground.waiting_room.fetch_history()
        text = json.dumps(clean(json.loads(history.to_json())), separators=(",", ":"), sort_keys=True)
        path.write_text(text.replace(server.client.identity, "recorder") + "\n")
        sys.stderr.write(f"queues/{path.name}: {path.stat().st_size // 1024} KiB\n")

"""Records one history for each way a deployment can end: `make histories`.

The replay test runs each of them through the workflow as it is now. A history that is there already is what a running
deployment of an older release looks like: it is never recorded anew, only added to, until no such deployment can exist.

    python -m tests.histories.record [--anew]
"""

import argparse
import asyncio
import json
import sys
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from models.messages import Kind
from models.report import DeploymentReport
from models.verdict import Verdict
from tests.histories.record_queues import record_queues
from tests.workflows.conftest import Bench, bench_for, ended, make_spec, old_revision, start_real_server, status
from tests.workflows.simulated import SimulatedTarget
from workflows import wire_names

FOLDER = Path(__file__).parent
CANARY = {"kind": "canary", "steps": [{"weight": 10, "watch": "50ms"}, {"weight": 100, "watch": "50ms"}]}
SMOKE = {"smoke": [{"name": "home", "request": {"path": "/"}}]}
Handle = WorkflowHandle[Any, Any]


@dataclass(frozen=True)
class Ending:
    """One way to end: what is asked for, how the target behaves, what people do."""

    outcome: str
    spec: dict[str, Any] = field(default_factory=dict)
    target: dict[str, Any] = field(default_factory=dict)
    kind: Kind = Kind.DEPLOY
    break_glass: str = ""
    serves: bool = True
    wait_for: str = ""
    then: Callable[[Handle], Awaitable[Any]] | None = None


def _tell(name: str, **message: str) -> Callable[[Handle], Awaitable[Any]]:
    return lambda handle: handle.execute_update(name, message)


FREEZE = {"cron": "* * * * *", "for": "1d", "reason": "the books are closed"}
BROKEN = {"verdicts": {"health": Verdict.FAIL}}
ENDINGS = {
    "first": Ending("deployed", serves=False),
    "canary": Ending("deployed", spec={"verify": SMOKE}),
    "rolling": Ending("deployed", spec={"strategy": {"kind": "rolling", "watch": "50ms"}}),
    "blue-green": Ending("deployed", spec={"strategy": {"kind": "blue-green", "watch": "50ms"}, "verify": SMOKE}),
    "preflight-failed": Ending("preflight-failed", target={"verdicts": {"disk": Verdict.FAIL}}),
    "ci-asked": Ending(
        "deployed",
        spec={
            "release": {"version": "1.1.0", "revision": "a" * 40},
            "preflight": {"ci": {"kind": "github", "repository": "acme/shop"}},
        },
    ),
    "watch-failed": Ending("rolled-back", target={"watches": [Verdict.FAIL]}),
    "health-failed": Ending("rolled-back", target=BROKEN),
    "bake-failed": Ending("rolled-back", target={"watches": [Verdict.PASS, Verdict.PASS, Verdict.FAIL]}),
    "approved": Ending(
        "deployed",
        spec={"approvals": {"before": ["deploy"]}},
        wait_for="awaiting-approval",
        then=_tell(wire_names.APPROVE, by="ann"),
    ),
    "rejected": Ending(
        "rejected",
        spec={"approvals": {"before": ["deploy"]}},
        wait_for="awaiting-approval",
        then=_tell(wire_names.REJECT, by="ann"),
    ),
    "held-resumed": Ending(
        "deployed",
        target={"watches": [Verdict.INCONCLUSIVE] * 2},
        wait_for="held",
        then=_tell(wire_names.RESUME, by="ann"),
    ),
    "held-rolled-back": Ending(
        "rolled-back",
        target={"watches": [Verdict.INCONCLUSIVE] * 2},
        wait_for="held",
        then=_tell(wire_names.ROLLBACK, by="ann"),
    ),
    "cancelled": Ending(
        "rolled-back",
        target={"watches": [Verdict.INCONCLUSIVE] * 2},
        wait_for="held",
        then=lambda handle: handle.cancel(),
    ),
    "rollback-taken-over": Ending(
        "rollback-failed",
        target={**BROKEN, "breaking": Counter(restore=-1)},
        spec={"rehearse": {"enabled": False}},
        wait_for="rollback-failed",
        then=_tell(wire_names.RESOLVE, way="take-over", by="ann"),
    ),
    "rollback-skipped": Ending(
        "rolled-back",
        target={**BROKEN, "breaking": Counter(retire=8)},
        spec={"rehearse": {"enabled": False}},
        wait_for="rollback-failed",
        then=_tell(wire_names.RESOLVE, way="skip", by="ann", reason="by hand"),
    ),
    "frozen": Ending("frozen", spec={"freeze": [FREEZE]}),
    "not-frozen": Ending("deployed", spec={"freeze": [FREEZE | {"cron": "0 0 29 2 *", "for": "1m"}]}),
    "break-glass": Ending(
        "deployed",
        spec={"freeze": [FREEZE]},
        break_glass="payments are down",
        wait_for="awaiting-approval",
        then=_tell(wire_names.APPROVE, by="ann"),
    ),
    "way-back": Ending("rolled-back", kind=Kind.ROLLBACK, target={"previous": old_revision("0.9.0")}),
}


async def _seen(handle: Handle, outcome: str) -> DeploymentReport:
    async with asyncio.timeout(60):
        while (report := await status(handle)).outcome != outcome:  # noqa: ASYNC110  a query has to be asked
            await asyncio.sleep(0.05)
    return report


async def _run(bench: Bench, ending: Ending, name: str) -> Handle:
    spec = make_spec(**{"service": f"shop-{name}", "strategy": CANARY, **ending.spec})
    handle = await bench.start(spec, ending.kind, break_glass=ending.break_glass)
    if ending.then is not None:
        await _seen(handle, ending.wait_for)
        await ending.then(handle)
    report = await ended(handle)
    if report.outcome != ending.outcome:
        raise AssertionError(f"{name} ended as {report.outcome}, not {ending.outcome}: {report.failure}")
    return handle


def _without_this_machine(history: Any) -> Any:
    """Stack traces, process ids and host names say nothing to a replay."""
    if isinstance(history, dict):
        blank = {"stackTrace": "", "identity": "recorder", "binaryChecksum": ""}
        return {key: blank.get(key, _without_this_machine(value)) for key, value in history.items()}
    return [_without_this_machine(each) for each in history] if isinstance(history, list) else history


async def record(server: WorkflowEnvironment, name: str) -> str:
    """Runs a deployment to one of its endings and returns its history as JSON."""
    ending = ENDINGS[name]
    target = SimulatedTarget(**ending.target)
    if ending.serves:
        target.serve(old_revision())
    async with bench_for(target, server) as bench:
        history = await (await _run(bench, ending, name)).fetch_history()
    clean = _without_this_machine(json.loads(history.to_json()))
    text = json.dumps(clean, separators=(",", ":"), sort_keys=True)
    return text.replace(server.client.identity, "recorder").replace(bench.queue, str(uuid.UUID(int=0)))


async def main() -> None:
    """Records what is missing."""
    parser = argparse.ArgumentParser(description="Records the histories that the replay tests run.")
    parser.add_argument(
        "--anew", action="store_true", help="replace those that are there: no such deployment runs any more"
    )
    anew = parser.parse_args().anew
    async with start_real_server() as server:
        for name in ENDINGS:
            path = FOLDER / f"{name}.json"
            if anew or not path.exists():
                path.write_text(await record(server, name) + "\n")
                sys.stderr.write(f"{path.name}: {path.stat().st_size // 1024} KiB\n")
        await record_queues(server, _without_this_machine, anew=anew)


if __name__ == "__main__":
    asyncio.run(main())

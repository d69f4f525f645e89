"""The task that a deployment is for: what it asks for, and what Beads is told at the end.

This is done where the command runs, because the repository of tasks is there (`BEADS_DIR`). A tracker that is down
changes nothing of a deployment that has begun: it is tried a few times, then said loudly, and
`deploy --task ID --finish-tracking` does the rest later.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from activities.trackers.beads import CLOSED, Beads, Task
from activities.trackers.cass_memory import CassMemory
from cli.client.connection import Server, connect, run_async
from cli.client.status import StatusUnavailableError, look
from cli.exits import CommandError
from cli.invocation import program
from cli.render.terminal import clean, say
from models.errors import DeploymentSpecialistError, TrackerUnavailableError
from models.gates import find_gate
from models.names import workflow_id
from models.outcome import Outcome
from models.report import DeploymentReport, Phase
from models.spec import DeploymentSpec

TRIES = 3
PAUSE = 2.0
NOT_FINISHED = 1
_STAGES = ("6", "deploy", "deployment")
_SUFFIXES = (".yaml", ".yml")
T = TypeVar("T")


@dataclass(frozen=True)
class Wanted:
    """What a task asks for.

    Attributes:
        gates: those that must be asked and passed.
        version: overrides the spec's; None where the task names none.
    """

    task: Task
    target: str
    gates: tuple[str, ...]
    version: str | None


def read_task(task: str) -> Wanted:
    """Reads the task; everything that is wrong with it is found before anything starts.

    Raises:
        CommandError: there is no such task, it is not for this stage, or it demands a gate that there is not.
    """
    try:
        found = run_async(_patiently(lambda: Beads().read(task)))
    except DeploymentSpecialistError as error:
        raise CommandError(f"{clean(error.sentence)}; nothing was started") from None
    about = found.metadata
    stage = about.get("stage")
    if str(stage).lower() not in _STAGES:
        raise CommandError(
            f"the task {found.id} is for the stage {clean(str(stage))}, not for 6 (deploy); nothing was started"
        )
    gates = []
    for called in _demanded(about.get("quality_gates")):
        if (gate := find_gate(called)) is None:
            raise CommandError(
                f"the task {found.id} demands the gate {clean(called)}, which there is not; nothing was started"
            )
        gates.append(gate)
    version = about.get("version")
    return Wanted(
        task=found,
        target=str(about.get("deployment_target") or "staging"),
        gates=tuple(dict.fromkeys(gates)),
        version=str(version) if version is not None else None,
    )


def _demanded(gates: Any) -> list[str]:
    """A list of names, or names with whether they are wanted."""
    if isinstance(gates, dict):
        return [str(name) for name, wanted in gates.items() if wanted]
    return [str(name) for name in gates] if isinstance(gates, list) else []


def choose_spec(path: str, wanted: Wanted) -> str:
    """The spec of the task's target: the file itself, or the one in a folder that names the target.

    Raises:
        CommandError: none in the folder does, or several do.
    """
    folder = Path(path)
    if path == "-" or not folder.is_dir():
        return path
    found = [
        each for each in sorted(folder.iterdir()) if each.suffix in _SUFFIXES and _target_of(each) == wanted.target
    ]
    if len(found) != 1:
        names = ", ".join(each.name for each in found) or "none"
        raise CommandError(f"the task {wanted.task.id} is for {wanted.target}; specs of that target in {path}: {names}")
    return str(found[0])


def _target_of(file: Path) -> str | None:
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return document.get("target") if isinstance(document, dict) and "service" in document else None


def check_target(wanted: Wanted, path: str, spec: DeploymentSpec) -> None:
    """A spec of another target is not deployed for this task.

    Raises:
        CommandError: it is one.
    """
    if spec.target != wanted.target:
        raise CommandError(f"the task {wanted.task.id} is for {wanted.target}, and {path} is for {spec.target}")


def check_open(wanted: Wanted) -> None:
    """A task that is closed is not deployed again.

    Raises:
        CommandError: it is.
    """
    if wanted.task.status == CLOSED:
        raise CommandError(f"the task {wanted.task.id} is closed already; nothing was started")


async def claim(wanted: Wanted) -> None:
    """The task is in progress; where that cannot be said, the deployment goes on all the same."""
    await _told(wanted, lambda: Beads().claim(wanted.task))


async def say_rules(wanted: Wanted) -> None:
    """Says what cass memory knows for a task like this, where there is one."""
    if CassMemory.is_there():
        try:
            for rule in await CassMemory().rules(wanted.task.title):
                say(f"known ({clean(rule.id)}): {clean(rule.text)}")
        except DeploymentSpecialistError as error:
            say(f"cass memory was not asked: {clean(error.sentence)}")


async def _learn(wanted: Wanted, report: DeploymentReport) -> None:
    if CassMemory.is_there():
        try:
            say(clean(await CassMemory().learn(wanted.task.id, wanted.task.title, report)))
        except DeploymentSpecialistError as error:
            say(f"cass memory was not told: {clean(error.sentence)}")


async def finish(wanted: Wanted, report: DeploymentReport | None) -> None:
    """Tells Beads how it ended, or says how that is done later."""
    if report is None or not _is_over(report):
        say(f"the task {wanted.task.id} stays in progress: {_later(wanted)} when the deployment has ended")
        return
    said = await _told(wanted, lambda: Beads().finish(wanted.task.id, report))
    if said:
        say(clean(said))
    await _learn(wanted, report)


async def finish_later(server: Server, wanted: Wanted, spec: DeploymentSpec) -> int:
    """Tells Beads how the last deployment of the target ended; returns the exit code.

    Raises:
        CommandError: there is none, it was for another task, or it is still under way.
    """
    name = f"{spec.service}/{spec.target}"
    client = await connect(server)
    try:
        report = await look(client.get_workflow_handle(workflow_id(spec.service, spec.target)))
    except StatusUnavailableError as failed:
        raise CommandError(f"what became of {name} is not known: {failed}") from None
    if report.task != wanted.task.id:
        raise CommandError(f"the last deployment of {name} was not for the task {wanted.task.id}")
    if not _is_over(report):
        raise CommandError(f"the deployment of {name} is still under way; `{program()} watch {name}` follows it")
    said = await _told(wanted, lambda: Beads().finish(wanted.task.id, report))
    if said is None:
        return NOT_FINISHED
    say(clean(said))
    return 0


def _is_over(report: DeploymentReport) -> bool:
    """A rollback that failed is told while it waits: somebody must see it."""
    return report.phase is Phase.FINISHED or report.outcome is Outcome.ROLLBACK_FAILED


async def _told(wanted: Wanted, what: Callable[[], Awaitable[T]]) -> T | None:
    try:
        return await _patiently(what)
    except DeploymentSpecialistError as error:
        say(f"BEADS WAS NOT TOLD: {clean(error.sentence)}")
        say(f"  the deployment is not affected; {_later(wanted)}")
        return None


def _later(wanted: Wanted) -> str:
    return f"`{program()} deploy SPEC --task {clean(wanted.task.id)} --finish-tracking` tells it"


async def _patiently(what: Callable[[], Awaitable[T]]) -> T:
    for left in range(TRIES - 1, -1, -1):
        try:
            return await what()
        except TrackerUnavailableError:
            if not left:
                raise
        await asyncio.sleep(PAUSE)
    raise AssertionError  # the last round returns or raises

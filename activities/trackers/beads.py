"""Beads: reads a deployment's task, claims it, and closes it with what became of the deployment.

Each step looks first for what an earlier attempt has done, so it may be repeated after any interruption. Closing an
issue unblocks its dependents: on failure they are made to depend on the fix task before that. `bd` may end with 0 and
not have done it: what counts is what it answers.
"""

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from activities.trackers.command import Said, call
from models.errors import TrackerRefusedError, TrackerUnavailableError
from models.outcome import FailureType, Outcome
from models.report import DeploymentReport
from models.sentences import say_outcome

PROGRAM = "bd"
ACTOR = "deployment-specialist"
WITHIN = timedelta(seconds=20)
LONGEST_TEXT = 4000
RUN_KEY = "deployment_run"
CLOSED = "closed"
_BLOCKS = "blocks"
_FAILED = (Outcome.ROLLED_BACK, Outcome.PREFLIGHT_FAILED, Outcome.ROLLBACK_FAILED)
_GIVEN_BACK = (Outcome.REJECTED, Outcome.FROZEN)


@dataclass(frozen=True)
class Task:
    """An issue, as far as a deployment is concerned."""

    id: str
    title: str
    status: str
    metadata: dict[str, Any]


class Beads:
    """One repository of Beads.

    Args:
        directory: where `bd` is run; it finds its database from there, or by `BEADS_DIR`.
        within: the time for each call.
    """

    def __init__(self, directory: str = ".", within: timedelta = WITHIN) -> None:
        self._directory, self._within = directory, within

    async def read(self, task: str) -> Task:
        """The task.

        Raises:
            TrackerRefusedError: there is no such task.
            TrackerUnavailableError: `bd` did not say.
        """
        said = await self._bd("show", task)
        found = [each for each in _issues(said.document) if each.get("id")]
        if said.code or len(found) != 1:
            raise TrackerRefusedError(f"there is no task {task} in Beads: {said.complaint or 'it answered nothing'}")
        metadata = found[0].get("metadata")
        return Task(
            id=str(found[0]["id"]),
            title=str(found[0].get("title", "")),
            status=str(found[0].get("status", "")),
            metadata=metadata if isinstance(metadata, dict) else {},
        )

    async def claim(self, task: Task) -> None:
        """The task is being worked on.

        Raises:
            TrackerRefusedError: it is closed already, or could not be claimed.
            TrackerUnavailableError: `bd` did not say.
        """
        if task.status == CLOSED:
            raise TrackerRefusedError(f"the task {task.id} is closed already")
        await self._set_status(task.id, "in_progress")

    async def finish(self, task: str, report: DeploymentReport) -> str:
        """Tells what became of the deployment; returns one sentence that says what was done.

        Deployed: commented and closed. Failed: a fix task, which everything that depended on the task depends on now,
        and then closed; a failed rollback has an emergency task before that. Rejected and frozen: given back, open.
        Anything else goes on, and stays claimed.

        Raises:
            TrackerRefusedError: Beads did not do it.
            TrackerUnavailableError: `bd` did not say.
        """
        if report.outcome is Outcome.DEPLOYED:
            if not await self._is_closed(task):
                await self._comment(task, report)
                await self._close(task, f"Completed: {say_outcome(report)}")
            return f"task {task}: closed"
        if report.outcome in _GIVEN_BACK:
            await self._comment(task, report)
            await self._set_status(task, "open")
            return f"task {task}: open again, because it was {report.outcome}"
        if report.outcome in _FAILED:
            return await self._failed(task, report)
        return f"task {task}: still in progress ({report.outcome})"

    async def _failed(self, task: str, report: DeploymentReport) -> str:
        if report.outcome is Outcome.ROLLBACK_FAILED:
            await self._fix(task, report, emergency=True)
        fix = await self._fix(task, report, emergency=False)
        for dependent in await self._dependents(task):
            if dependent["id"] != fix and dependent.get("status") != CLOSED and not _is_ours(dependent, report):
                await self._depend(str(dependent["id"]), fix)
        if not await self._is_closed(task):
            await self._comment(task, report)
            await self._close(task, f"Failed - created fix task {fix}")
        return f"task {task}: closed as failed, fix task {fix}"

    async def _fix(self, task: str, report: DeploymentReport, *, emergency: bool) -> str:
        failure = report.failure
        kind = FailureType.ROLLBACK if emergency or failure is None else failure.type
        priority = 0 if emergency or failure is None else failure.priority
        title = _title(kind, report, emergency=emergency)
        found = [each for each in await self._dependents(task) if each.get("title") == title]
        fix = str(found[0]["id"]) if found else await self._create(task, title, priority, _text(report))
        metadata = {
            "stage": 6,
            "failure_type": kind,
            "original_task": task,
            RUN_KEY: report.run_id,
            "failure_details": (failure.reason if failure else say_outcome(report))[:LONGEST_TEXT],
            **({"emergency": True} if emergency else {}),
        }
        said = await self._bd("update", fix, "--metadata", json.dumps(metadata))
        if said.code:
            raise TrackerRefusedError(f"the fix task {fix} did not take its metadata: {said.complaint}")
        return fix

    async def _create(self, task: str, title: str, priority: int, text: str) -> str:
        said = await self._bd("create", title, "-t", "bug", "-p", str(priority), "-d", text, "--deps", task)
        document = said.document
        if said.code or not isinstance(document, dict) or not document.get("id"):
            raise TrackerRefusedError(f"no fix task was made for {task}: {said.complaint or 'it answered nothing'}")
        fix = str(document["id"])
        # An id that it does not know is left out with a warning.
        await self._depend(fix, task)
        return fix

    async def _depend(self, issue: str, on: str) -> None:
        said = await self._bd("dep", "list", issue)
        if any(each.get("id") == on for each in _issues(said.document)):
            return
        said = await self._bd("dep", "add", issue, on)
        if said.code:
            raise TrackerRefusedError(f"{issue} could not be made to depend on {on}: {said.complaint}")

    async def _dependents(self, task: str) -> list[dict[str, Any]]:
        said = await self._bd("dep", "list", task, "--direction", "up")
        if said.code:
            raise TrackerRefusedError(f"Beads does not say what depends on {task}: {said.complaint}")
        return [each for each in _issues(said.document) if each.get("dependency_type", _BLOCKS) == _BLOCKS]

    async def _comment(self, task: str, report: DeploymentReport) -> None:
        said = await self._bd("comments", "add", task, _text(report))
        if said.code:
            raise TrackerRefusedError(f"{task} took no comment: {said.complaint}")

    async def _set_status(self, task: str, status: str) -> None:
        said = await self._bd("update", task, "--status", status)
        if said.code or not any(each.get("status") == status for each in _issues(said.document)):
            raise TrackerRefusedError(f"{task} is not {status}: {said.complaint or 'Beads answered something else'}")

    async def _is_closed(self, task: str) -> bool:
        # Closing twice would overwrite the reason.
        return (await self.read(task)).status == CLOSED

    async def _close(self, task: str, reason: str) -> None:
        said = await self._bd("close", task, "--reason", reason[:LONGEST_TEXT])
        if not any(each.get("id") == task and each.get("status") == CLOSED for each in _issues(said.document)):
            raise TrackerRefusedError(f"{task} was not closed: {said.complaint or 'Beads answered nothing'}")

    async def _bd(self, *arguments: str) -> Said:
        said = await call(PROGRAM, [*arguments, "--json", "--actor", ACTOR], self._within, directory=self._directory)
        if said.code < 0:
            raise TrackerUnavailableError(f"{PROGRAM} {arguments[0]} was ended by signal {-said.code}")
        return said


def _issues(document: Any) -> list[dict[str, Any]]:
    whole = document if isinstance(document, list) else [document]
    return [each for each in whole if isinstance(each, dict)]


def _title(kind: FailureType, report: DeploymentReport, *, emergency: bool) -> str:
    """Names the run: what an earlier attempt made is found by it, also before it has its metadata."""
    what = "Roll back by hand" if emergency else f"Fix {kind}"
    return f"{what}: {report.service} {report.version} on {report.target} (run {report.run_id})"


def _is_ours(issue: dict[str, Any], report: DeploymentReport) -> bool:
    return str(issue.get("title", "")).endswith(f"(run {report.run_id})")


def _text(report: DeploymentReport) -> str:
    lines = [
        say_outcome(report),
        f"Version {report.version}, outcome {report.outcome}, workflow {report.workflow_id}, run {report.run_id}",
        f"Report: {report.report or 'not written'}",
    ]
    if report.failure is not None:
        lines.append(f"{report.failure.type}: {report.failure.reason}")
    lines += [f"Not rolled back: {each}" for each in report.not_rolled_back]
    return "\n".join(lines)[:LONGEST_TEXT]

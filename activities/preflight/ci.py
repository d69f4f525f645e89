"""A release whose tests failed, or never ran, must not reach users; what counts is its own revision and no other.

Runs that are under way are waited for until a moment that the workflow has decided: an attempt that follows another one
goes on to the same moment. When somebody only plans, nothing is waited for.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from activities.check_result import Finding
from activities.preflight import ci_github, ci_gitlab
from activities.preflight.ci_command import ask_command
from activities.preflight.ci_runs import MOST_NAMED, CannotTellError, Run, judge
from activities.secrets.resolver import resolve
from models.errors import SecretUnresolvedError
from models.preflight.ci import CiQuestion, CommandCi, GithubCi
from models.verdict import CheckResult, Verdict

FIRST_PAUSE = 2.0
LONGEST_PAUSE = 15.0


async def check_ci(question: CiQuestion) -> CheckResult:
    """Looks at the runs of the revision until they have passed, one has failed, or the time is over.

    Evidence has the revision and the runs that were seen last; the verdict is `inconclusive` for runs that are still
    under way, or not there, and `error` when nobody could be asked.
    """
    finding = Finding("ci")
    evidence = {"revision": question.revision}
    pause = FIRST_PAUSE

    def left() -> float:
        return (question.deadline - datetime.now(UTC)).total_seconds() if question.deadline else 0.0

    try:
        token = await _token(question)
        while True:
            runs = await _look(question, token, left)
            judged = judge(runs, getattr(question.ci, "required", ()))
            found = {**evidence, "runs": _shown(runs)}
            if judged.verdict is Verdict.PASS:
                return finding.passed(f"{question.revision[:12]}: {judged.reason}", **found)
            if judged.verdict is Verdict.FAIL:
                return finding.failed(f"{question.revision[:12]}: {judged.reason}", **found)
            if judged.verdict is not None or left() <= 0:
                waited = "" if judged.verdict or question.deadline else "; a deployment waits for it"
                return finding.unclear(f"{question.revision[:12]}: {judged.reason}{waited}", **found)
            await asyncio.sleep(min(pause, max(left(), 0.0)))
            pause = min(pause * 1.5, LONGEST_PAUSE)
    except SecretUnresolvedError as error:
        return finding.not_asked(f"preflight.ci.token: {error}", **evidence)
    except CannotTellError as error:
        return finding.not_asked(str(error), **evidence)


async def _token(question: CiQuestion) -> str | None:
    reference = getattr(question.ci, "token", None)
    return await asyncio.to_thread(resolve, reference) if reference else None


async def _look(question: CiQuestion, token: str | None, left: Callable[[], float]) -> list[Run]:
    ci = question.ci
    if isinstance(ci, CommandCi):
        return [await ask_command(ci, question)]
    if isinstance(ci, GithubCi):
        return await ci_github.find_runs(ci_github.make_api(ci, token, left), ci, question.revision)
    return await ci_gitlab.find_runs(ci_gitlab.make_api(ci, token, left), ci, question.revision)


def _shown(runs: list[Run]) -> list[dict[str, str]]:
    return [{"name": run.name, "state": run.state, "said": run.said, "url": run.url} for run in runs[:MOST_NAMED]]

"""What is known of a revision's runs, whoever was asked, and what follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from models.verdict import Verdict

MOST_NAMED = 20


class CannotTellError(Exception):
    """Whoever knows the runs could not be asked, or may not say; the text is the cause."""


class NotAllowedError(CannotTellError):
    """Whoever knows the runs says nothing to somebody whom it does not know."""


class RunState(StrEnum):
    """Where one run stands."""

    PASSED = "passed"
    SKIPPED = "skipped"
    PENDING = "pending"
    FAILED = "failed"


@dataclass(frozen=True)
class Run:
    """One run of one test, at its latest attempt.

    Attributes:
        said: the word of whoever ran it: success, timed_out, in_progress.
    """

    name: str
    state: RunState
    said: str
    url: str = ""


@dataclass(frozen=True)
class JudgedRuns:
    """The verdict; None as long as another look may change it."""

    verdict: Verdict | None
    reason: str


def judge(runs: Sequence[Run], required: Sequence[str]) -> JudgedRuns:
    """What the runs say together.

    With required names only these count: each must be there, and none of that name may have failed. Without, all count,
    and at least one must have passed. A run that was skipped stands in nobody's way and proves nothing.
    """
    counted = [run for run in runs if run.name in required] if required else list(runs)
    missing = [name for name in required if all(run.name != name for run in runs)]
    failed = [run for run in counted if run.state is RunState.FAILED]
    pending = [run for run in counted if run.state is RunState.PENDING]
    if failed:
        return JudgedRuns(Verdict.FAIL, f"{_named(failed)} did not pass")
    if missing or pending:
        parts = [f"{', '.join(missing[:MOST_NAMED])} not there"] if missing else []
        return JudgedRuns(None, "; ".join(parts + ([f"under way: {_named(pending)}"] if pending else [])))
    if not counted:
        return JudgedRuns(None, "there is no run of this revision")
    skipped = [run for run in counted if run.state is RunState.SKIPPED]
    if len(skipped) == len(counted) and not required:
        return JudgedRuns(Verdict.INCONCLUSIVE, f"nothing was tested: {_named(skipped)}")
    also = f"; passed over: {_named(skipped)}" if skipped else ""
    return JudgedRuns(Verdict.PASS, f"{len(counted) - len(skipped)} passed{also}")


def _named(runs: Sequence[Run]) -> str:
    text = ", ".join(f"{run.name} ({run.said})" for run in runs[:MOST_NAMED])
    return text + (f" and {len(runs) - MOST_NAMED} more" if len(runs) > MOST_NAMED else "")

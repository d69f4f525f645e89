"""Checks, their verdicts, and what a stage makes of them."""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from models.base import WireModel


class Verdict(StrEnum):
    """The answer of a check; only `pass` is a pass."""

    PASS = "pass"  # noqa: S105  the word of the contract, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"
    SKIPPED = "skipped"


class Stage(StrEnum):
    """The six stages, in the order in which they run."""

    PREFLIGHT = "preflight"
    DEPLOY = "deploy"
    VERIFY = "verify"
    OBSERVE = "observe"
    REHEARSE = "rehearse"
    CLOSE = "close"


class CheckResult(WireModel):
    """One question with its verdict.

    Attributes:
        name: what was asked, in snake_case; unique within its stage.
        reason: one sentence a person can act on, at most 2,000 characters, scrubbed of secrets.
        evidence: small numbers, ids, digests, times that prove the verdict.
    """

    name: str
    verdict: Verdict
    reason: str = ""
    evidence: dict[str, Any] = Field(default_factory=dict)
    seconds: float = 0.0


class StageResult(WireModel):
    """What one stage found."""

    stage: Stage
    verdict: Verdict
    started: datetime
    seconds: float = 0.0
    checks: tuple[CheckResult, ...] = ()


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict over several: the worst one; `skipped` only when nothing at all was asked.

    An empty set is `inconclusive`: nothing asked proves nothing.
    """
    found = list(verdicts)
    for worst in (Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.PASS, Verdict.SKIPPED):
        if worst in found:
            return worst
    return Verdict.INCONCLUSIVE

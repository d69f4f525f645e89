"""What a check found, in the form that stays: timed, scrubbed of secrets, and small enough for a workflow's history."""

import time
from typing import Any

from activities.heartbeat import shorten
from activities.secrets.resolver import scrub
from models.verdict import CheckResult, Verdict

LONGEST_QUOTE = 200


class Finding:
    """Times one question and puts its answer into a `CheckResult`.

    Args:
        name: the check's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._began = time.monotonic()

    def passed(self, reason: str, **evidence: Any) -> CheckResult:
        """The answer is yes."""
        return self._result(Verdict.PASS, reason, evidence)

    def failed(self, reason: str, **evidence: Any) -> CheckResult:
        """The answer is no."""
        return self._result(Verdict.FAIL, reason, evidence)

    def unclear(self, reason: str, **evidence: Any) -> CheckResult:
        """There was an answer, but too little to say yes or no."""
        return self._result(Verdict.INCONCLUSIVE, reason, evidence)

    def not_asked(self, reason: str, **evidence: Any) -> CheckResult:
        """The question could not be put."""
        return self._result(Verdict.ERROR, reason, evidence)

    def skipped(self, reason: str) -> CheckResult:
        """There is nothing to ask."""
        return self._result(Verdict.SKIPPED, reason, {})

    def _result(self, verdict: Verdict, reason: str, evidence: dict[str, Any]) -> CheckResult:
        return CheckResult(
            name=self._name,
            verdict=verdict,
            reason=shorten(reason),
            evidence={name: _scrubbed(value) for name, value in evidence.items()},
            seconds=round(time.monotonic() - self._began, 3),
        )


def quote(value: Any, longest: int = LONGEST_QUOTE) -> str:
    """Somebody else's value, for a sentence: scrubbed, on one line, without control characters, and cut."""
    text = " ".join(scrub(value if isinstance(value, str) else repr(value)).split())
    text = "".join(c if c.isprintable() else "�" for c in text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return quote(value, 1000)
    if isinstance(value, dict):
        return {scrub(str(name)): _scrubbed(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_scrubbed(inner) for inner in value]
    return value

"""cass memory: the rules that are known for a task before it begins, and how it ended after.

It is a help and no condition: without `cm` on the PATH nothing is asked, and what it does not take is said.
"""

import shutil
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from activities.check_result import quote
from activities.trackers.command import Said, call
from models.errors import TrackerRefusedError
from models.outcome import Outcome
from models.report import DeploymentReport
from models.sentences import say_outcome

PROGRAM = "cm"
WITHIN = timedelta(seconds=20)
MOST_RULES = 10
LONGEST_TEXT = 1500
_WORDS = {Outcome.DEPLOYED: "success", Outcome.REJECTED: "mixed", Outcome.FROZEN: "mixed"}


@dataclass(frozen=True)
class Rule:
    """What was learned earlier."""

    id: str
    text: str


class CassMemory:
    """The memory of this machine (`CASS_MEMORY_HOME`)."""

    def __init__(self, within: timedelta = WITHIN) -> None:
        self._within = within

    @staticmethod
    def is_there() -> bool:
        """Whether there is a `cm` to ask."""
        return shutil.which(PROGRAM) is not None

    async def rules(self, title: str) -> list[Rule]:
        """What is known for a task like this.

        Raises:
            TrackerRefusedError: it answered with an error.
            TrackerUnavailableError: it did not answer.
        """
        data = _data(await self._cm("context", title))
        found = data.get("relevantBullets")
        bullets = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
        known = [Rule(str(each["id"]), quote(str(each.get("content", "")))) for each in bullets if each.get("id")]
        return known[:MOST_RULES]

    async def learn(self, task: str, title: str, report: DeploymentReport) -> str:
        """Tells how it ended, to the rules that were known, or as a new rule; returns a sentence.

        Raises:
            TrackerRefusedError: it answered with an error, or took none of it.
            TrackerUnavailableError: it did not answer.
        """
        rules = [rule.id for rule in await self.rules(title)]
        text = _text(report)
        if not rules:
            bullet = _data(await self._cm("playbook", "add", text, "--category", "deployment")).get("bullet")
            if not isinstance(bullet, dict) or not bullet.get("id"):
                raise TrackerRefusedError("cass memory took no new rule")
            rules = [str(bullet["id"])]
        word = _WORDS.get(report.outcome, "failure")
        data = _data(await self._cm("outcome", word, ",".join(rules), "--session", task, "--text", text))
        # An unknown rule is no error of its own.
        if not data.get("applied"):
            raise TrackerRefusedError("cass memory applied the outcome to no rule")
        return f"cass memory: {word}, {data['applied']} of {len(rules)} rules"

    async def _cm(self, *arguments: str) -> Said:
        return await call(PROGRAM, [*arguments, "--json"], self._within)


def _data(said: Said) -> dict[str, Any]:
    document = said.document
    data = document.get("data") if isinstance(document, dict) and document.get("success") is True else None
    if said.code or not isinstance(data, dict):
        raise TrackerRefusedError(f"cass memory did not take it: {said.complaint or 'it answered nothing'}")
    return data


def _text(report: DeploymentReport) -> str:
    failure = f" {report.failure.type}: {report.failure.reason}" if report.failure else ""
    return f"{say_outcome(report)}{failure}"[:LONGEST_TEXT]

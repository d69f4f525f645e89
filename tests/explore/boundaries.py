"""The worker is lost at every wait of every activity of a deployment: before the effect, after it, before the answer.

What is there to be tried comes from an undisturbed run, which is also what each disturbed one must end as. As a
program it prints the table of `docs/reliability.md`.
"""

import logging
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tests.explore.explorer import Exploration, Result
from tests.explore.program import Program
from tests.explore.server import Attempt, Fault

PLANS = {
    kind: Program(
        seed=f"boundaries of {kind}",
        strategy=kind,
        rehearse=True,
        approvals=("deploy", "close"),
        smoke=True,
        migrations=1,
        freeze="over",
    )
    for kind in ("canary", "rolling", "blue-green")
}
HOWS = {"dies": Fault(0, "die"), "freezes": Fault(0, "freeze", seconds=30.0)}


@dataclass(frozen=True)
class Boundary:
    """A wait of one activity at which its worker is lost."""

    strategy: str
    activity: str
    call: int
    at: int

    def __str__(self) -> str:
        return f"{self.strategy}: {self.activity} {self.call}, wait {self.at}"


def undisturbed(program: Program) -> tuple[Result, dict[str, Any], Counter[tuple[str, int]]]:
    """What comes of a program, what is left, and how often each call of an activity has waited."""
    waits: Counter[tuple[str, int]] = Counter()
    exploration = Exploration(program)
    answered = exploration.world.answered

    def count(attempt: Attempt, order: Any, error: str, result: Any) -> None:
        waits[attempt.activity.type, attempt.activity.call] = attempt.waits
        answered(attempt, order, error, result)

    exploration.world.answered = count
    result = exploration.run()
    return result, exploration.target.look(), waits


def boundaries(strategy: str) -> Iterator[Boundary]:
    """Each one that there is: at each wait, and once more between the last one and the answer."""
    _, _, waits = undisturbed(PLANS[strategy])
    for (activity, call), count in waits.items():
        for at in range(count + 1):
            yield Boundary(strategy, activity, call, at)


def disturbed(boundary: Boundary, how: str) -> tuple[Result, dict[str, Any]]:
    """The same program with its worker lost there."""
    fault = replace(HOWS[how], at=boundary.at)
    faults = ((boundary.activity, boundary.call, (fault,)),)
    result, left, _ = undisturbed(replace(PLANS[boundary.strategy], faults=faults))
    return result, left


def wrong_at(boundary: Boundary, how: str, wanted: tuple[Result, dict[str, Any]]) -> str:
    """What is not as in the undisturbed run; empty where all of it is."""
    result, left = disturbed(boundary, how)
    if result.findings:
        return f"{boundary}, {how}: {result.findings[0]}"
    if result.endings != wanted[0].endings or left != wanted[1]:
        return f"{boundary}, {how}: it ended as {result.endings}, and not as {wanted[0].endings}"
    return ""


def main() -> int:
    """Tries all of them and prints the table."""
    logging.disable(logging.CRITICAL)
    table: Counter[tuple[str, str]] = Counter()
    wrong = []
    for strategy in PLANS:
        result, left, _ = undisturbed(PLANS[strategy])
        for boundary in boundaries(strategy):
            for how in HOWS:
                table[boundary.activity, strategy] += 1
                wrong += [said] if (said := wrong_at(boundary, how, (result, left))) else []
    names = sorted({activity for activity, _ in table})
    lines = [
        "| activity | " + " | ".join(PLANS) + " |",
        "|---" * (len(PLANS) + 1) + "|",
        *(f"| `{name}` | " + " | ".join(str(table[name, each]) for each in PLANS) + " |" for name in names),
    ]
    lines += ["", f"{sum(table.values())} runs, {len(wrong)} of them ended otherwise than the undisturbed one.", *wrong]
    print("\n".join(lines))  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

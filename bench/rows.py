"""What a measurement gives: a row of a table, with a goal where there is one."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        n: how many single measurements it is made of.
        goal: in words, as the table shows it; empty where nothing is promised.
        holds: whether the goal was met; None without one.
    """

    name: str
    unit: str
    n: int
    p50: float
    p95: float
    goal: str = ""
    holds: bool | None = None


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least that share of the values does not exceed."""
    ordered = sorted(values)
    rank = max(0, -(-len(ordered) * int(share * 100) // 100) - 1)
    return ordered[rank]


def make_row(
    name: str, unit: str, values: Sequence[float], *, p50: float | None = None, p95: float | None = None
) -> Row:
    """A row from single measurements; `p50` and `p95` are the most that the goal allows."""
    half, most = percentile(values, 0.50), percentile(values, 0.95)
    goals = [f"p{q} ≤ {goal:g}" for q, goal in ((50, p50), (95, p95)) if goal is not None]
    holds = (p50 is None or half <= p50) and (p95 is None or most <= p95)
    return Row(name, unit, len(values), round(half, 4), round(most, 4), ", ".join(goals), holds if goals else None)


def write(rows: Sequence[Row], path: Path) -> None:
    """Writes the JSON beside the table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")

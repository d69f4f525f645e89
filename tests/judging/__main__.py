"""Writes how the rule before and this one do on the same simulated canaries into docs/how-it-decides.md.

`python -m tests.judging` takes some minutes, with the same numbers each time; `python -m tests.judging 200` draws fewer
canaries and only prints.
"""

import math
import sys
from pathlib import Path

from models.units import format_share
from tests.judging.simulation import judge, threshold
from tests.judging.traffic import CANARY, World

PAGE = Path(__file__).parents[2] / "docs" / "how-it-decides.md"
BEGIN, END = "<!-- python -m tests.judging writes this -->\n", "<!-- end -->\n"
CANARIES = 2000
PER_MINUTE = (20, 200, 2000)
SHARES = (
    *((share, share) for share in (0.001, 0.01, 0.02, 0.05, 0.1)),
    *((0.001, 0.005), (0.001, 0.01), (0.01, 0.02), (0.01, 0.04), (0.01, 0.05), (0.01, 0.1), (0.01, 1.0)),
)


def _percent(share: float) -> str:
    return f"{100 * share:.2g}" if share < 0.99 else f"{100 * share:.0f}"


def _seconds(value: float) -> str:
    return "-" if math.isinf(value) else f"{value:.0f}"


def table(canaries: int) -> str:
    """The table, with what it shows."""
    steps = ", ".join(f"{step.weight:g} % for {step.seconds // 60}m" for step in CANARY)
    rates = " / ".join(f"{per_minute:,}" for per_minute in PER_MINUTE)
    lines = [
        f"Simulated: {canaries:,} canaries per number, {steps}; a look each second; {rates} requests a minute in all.",
        "*Before*: 10 answers, 3 errors, a share of 5 %, and 5 points above stable.",
        "",
        "| stable → candidate | before: rolled back | now: rolled back | now: median until then |",
        "|---|---|---|---|",
    ]
    for usual, found in SHARES:
        worlds = [World(per_minute, usual, found) for per_minute in PER_MINUTE]
        counts = [world.draw(seed, canaries) for seed, world in enumerate(worlds)]
        old = " / ".join(_percent(threshold(world, each).convicted) for world, each in zip(worlds, counts, strict=True))
        new = [judge(world, each) for world, each in zip(worlds, counts, strict=True)]
        convicted = " / ".join(_percent(verdicts.convicted) for verdicts in new)
        until = " / ".join(_seconds(verdicts.median()) for verdicts in new)
        what = f"{format_share(usual)} → {format_share(found)}"
        what, until = (f"{what}, healthy", "") if usual == found else (what, f"{until} s")
        lines.append(f"| {what} | {old} % | {convicted} % | {until} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Prints the table, and writes it into the page unless a number of canaries is given."""
    canaries = int(sys.argv[1]) if len(sys.argv) > 1 else CANARIES
    found = table(canaries)
    sys.stdout.write(found)
    if len(sys.argv) == 1:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{found}\n{END}{rest.partition(END)[2]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

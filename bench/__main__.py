"""Measures, prints a table, and writes build/bench.json.

python -m bench [--only NAME]
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable

from rich.console import Console
from rich.table import Table

from bench.backup import backup
from bench.cluster import on_a_cluster
from bench.compose import on_compose
from bench.many import many
from bench.preflight import whole_stage
from bench.resilience import after_a_kill
from bench.rows import Row, write
from bench.traffic import five_steps, lost, signal_to_stable, verdict_to_stable
from bench.weight import help_time, memory
from bench.world import ROOT, World, world

OUT = ROOT / "build" / "bench.json"
MEASUREMENTS: dict[str, Callable[[World], Awaitable[list[Row]]]] = {
    "verdict": verdict_to_stable,
    "signal": signal_to_stable,
    "steps": five_steps,
    "preflight": whole_stage,
    "kill": after_a_kill,
    "help": help_time,
    "memory": memory,
    "backup": backup,
    "compose": on_compose,
    "kubernetes": on_a_cluster,
    "many": many,
}


async def measure(names: list[str]) -> list[Row]:
    """Each measurement in a world of its own, so that none is warmed up or worn out by another."""
    rows: list[Row] = []
    sent = 0
    failed: list[str] = []
    for name in names:
        sys.stderr.write(f"measuring {name} ...\n")
        async with world() as here:
            rows += await MEASUREMENTS[name](here)
            sent, failed = sent + here.sent, failed + here.lost
    if sent:
        here.sent, here.lost = sent, failed
        rows += lost(here)
    return rows


def show(rows: list[Row]) -> None:
    """Prints the table."""
    table = Table("", "unit", "n", "p50", "p95", "goal", "")
    for row in rows:
        sign = "" if row.holds is None else "✓" if row.holds else "✗"
        table.add_row(row.name, row.unit, str(row.n), f"{row.p50:g}", f"{row.p95:g}", row.goal, sign)
    Console().print(table)


def main() -> int:
    """Measures what is asked for; 1 when a goal was missed."""
    parser = argparse.ArgumentParser(prog="bench", description="Measures the product.")
    parser.add_argument("--only", choices=sorted(MEASUREMENTS), action="append", help="measure this alone")
    names = parser.parse_args().only or list(MEASUREMENTS)
    rows = asyncio.run(measure(names))
    write(rows, OUT)
    show(rows)
    return 1 if any(row.holds is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())

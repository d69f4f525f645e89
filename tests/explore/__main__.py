"""`make explore`: runs programs until one breaks a rule, makes it smaller, and tells its story."""

import argparse
import gc
import logging
import secrets
import sys
import time

from tests.explore.explorer import explore, programs, shrink, tell


def main() -> int:
    """Explores; the exit code is 1 when something was found."""
    parser = argparse.ArgumentParser(prog="make explore", description=__doc__)
    parser.add_argument("--seed", default="", help="of all programs; NAME.7 is the eighth program of NAME alone")
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--findings", type=int, default=1, help="how many are told before it stops")
    given = parser.parse_args()
    seed, _, one = (given.seed or secrets.token_hex(4)).partition(".")
    begin, count = (int(one), 1) if one else (0, given.programs)
    logging.disable(logging.CRITICAL)
    gc.disable()
    began, steps, left = time.monotonic(), 0, given.findings
    for number, program in enumerate(programs(seed, count, begin), start=1):
        if not number % 20:
            gc.collect()
        if not number % 200:
            say(f"{number} programs, {steps:,} steps, {time.monotonic() - began:.0f} s")
        result = explore(program)
        steps += result.steps
        if result.findings:
            say(f"{result.findings[0]}; it is made smaller")
            say(f"\n{tell(shrink(result))}\n\nOnce more: make explore SEED={program.seed}")
            left -= 1
        if not left:
            return 1
    say(f"{count} programs of the seed {seed}, {steps:,} steps, {time.monotonic() - began:.0f} s")
    return 0 if left == given.findings else 1


def say(line: str) -> None:
    """Prints a line at once."""
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())

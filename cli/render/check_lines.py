"""What checks found, for people: the worst first, in columns, and what would follow from it."""

import shutil
import sys
import textwrap
from collections.abc import Sequence

from cli.render.summary import GOOD, count, short
from cli.render.terminal import clean
from models.verdict import CheckResult, Verdict, combine

_WORST_FIRST = (Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.PASS, Verdict.SKIPPED)
_NARROWEST = 40


def closed(checks: Sequence[CheckResult]) -> list[str]:
    """The names of the checks that would stop a deployment."""
    return [check.name for check in checks if check.verdict not in GOOD]


def by_severity(checks: Sequence[CheckResult]) -> list[CheckResult]:
    """The same, the worst first."""
    return sorted(checks, key=lambda check: _WORST_FIRST.index(check.verdict))


def summary(checks: Sequence[CheckResult]) -> str:
    """The verdict over all of them, in a line."""
    stopping = closed(checks)
    said = f"{combine(check.verdict for check in checks)}, {count(len(checks), 'check')}"
    return f"{said}; a deployment would stop here: {', '.join(clean(name) for name in stopping)}" if stopping else said


def check_lines(checks: Sequence[CheckResult], width: int | None = None) -> list[str]:
    """Lines of verdict, name, and reason with the time that it took.

    Args:
        checks: in the order in which they were asked.
        width: columns, to which long reasons are wrapped; None: each check stays one line, for `grep`.
    """
    verdicts = max((len(check.verdict) for check in checks), default=0)
    names = max((len(clean(check.name)) for check in checks), default=0)
    lines: list[str] = []
    for check in by_severity(checks):
        head = f"{check.verdict:{verdicts}}  {clean(check.name):{names}}  "
        took = f" ({short(check.seconds)})" if check.seconds >= 0.1 else ""
        text = clean(check.reason) + took
        if width is None:
            lines.append((head + text).rstrip())
        else:
            room = max(_NARROWEST, width - len(head))
            first, *others = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
            lines += [(head + first).rstrip(), *(" " * len(head) + other for other in others)]
    return lines


def terminal_width() -> int | None:
    """Columns of the terminal that reads stdout; None when it is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None

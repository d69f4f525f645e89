"""What instances print, read a piece at a time: where a piece ends says where the next one begins.

Docker and Kubernetes put the time before each line, to the nanosecond, and are asked for what came since; what they
repeat is left out.
"""

from datetime import datetime
from pathlib import Path

from models.release import Printed

# Of one instance, at once.
LARGEST_PIECE = 1 << 20
_DIGITS = 9


def read_file(instance: str, path: Path, lines: int, cursor: str) -> Printed:
    """The last lines of a file, or those after `cursor`, a position in it. A file that became shorter was emptied."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            began = int(cursor) if cursor.isdecimal() and int(cursor) <= size else 0 if cursor else None
            file.seek(max(0, size - LARGEST_PIECE) if began is None else max(began, size - LARGEST_PIECE))
            at, piece = file.tell(), file.read(LARGEST_PIECE)
    except FileNotFoundError:
        return Printed(instance=instance, cursor=cursor)
    whole = piece.rfind(b"\n") + 1
    if began is not None:
        piece = piece[:whole]  # the rest is a line that is being written
    found = piece.decode(errors="replace").splitlines()
    end = at + len(piece)
    return Printed(instance=instance, lines=tuple(found if began is not None else found[-lines:]), cursor=str(end))


def read_timed(instance: str, text: str, cursor: str) -> Printed:
    """Lines that begin with their time, those up to the time `cursor` left out."""
    lines, last = [], cursor
    for line in text.splitlines():
        when, _, said = line.partition(" ")
        if _is_time(when) and (not cursor or _order(when) > _order(cursor)):
            lines.append(said)
            last = when
    return Printed(instance=instance, lines=tuple(lines), cursor=last)


def seconds(cursor: str) -> float:
    """The time as seconds since 1970, a millisecond early: what is repeated is left out, what is missed is not."""
    return datetime.fromisoformat(f"{cursor[:19]}+00:00").timestamp() + float(f"0.{_fraction(cursor)}") - 0.001


def _is_time(word: str) -> bool:
    return len(word) >= 20 and word[10] == "T" and word.endswith("Z")


def _order(when: str) -> str:
    # Zeros at its end are not written, so that texts do not compare as times do.
    return f"{when[:19]}.{_fraction(when)}"


def _fraction(when: str) -> str:
    return when[19:].strip(".Z").ljust(_DIGITS, "0")

"""Where words go: documents to stdout, everything else to stderr, and nothing breaks when nobody reads them.

What a service or a smoke test printed ends up in reasons; control characters in it must not reach a terminal.
"""

import json
import os
import re
import shutil
import sys
from typing import Any, TextIO

_CONTROLS: dict[int, str] = dict.fromkeys((*range(32), 127, *range(128, 160)), " ")
_CONTROLS_BUT_LINES = {code: text for code, text in _CONTROLS.items() if code not in (9, 10)}
# Marks that reorder a line, so that it reads differently from what it says.
_REORDERING: dict[int, str] = dict.fromkeys((*range(8234, 8239), *range(8294, 8298), 8206, 8207), "")

_NARROWEST = 40
# A word with the spaces before it; what stands between backticks is one word.
_WORDS = re.compile(r" *(?:[^ `]*`[^`]*`[^ `]*|[^ ]+)")
_COMMAND_LINE = re.compile(
    r" *(?:[A-Z_]+=(?:'[^']*'|\S)+ +)*"  # the world that is meant
    r"(?:[^ `]+ +){0,3}?[^ `]*(?:starter(?:\.py)?|deployment-specialist) [a-z]"
)


def clean(text: str, longest: int = 2000) -> str:
    """Makes one harmless line of a text."""
    text = " ".join(text[: longest * 2].translate(_CONTROLS | _REORDERING).split())
    return text if len(text) <= longest else text[: longest - 3] + "..."


def clean_lines(text: str) -> str:
    """Makes a text of several lines harmless."""
    return text.translate(_CONTROLS_BUT_LINES | _REORDERING)


def say(text: str = "") -> None:
    """Writes a line to stderr; a reader that has gone away stops nothing."""
    _write(sys.stderr, fit(text, _columns(sys.stderr)) + "\n")


def show(text: str, *, as_it_is: bool = False) -> None:
    """Writes lines to stdout; `as_it_is` also where a terminal is narrower."""
    _write(sys.stdout, (text if as_it_is else fit(text, _columns(sys.stdout))) + "\n")


def fit(text: str, width: int | None) -> str:
    """Breaks long lines between words, where a terminal would break them inside one.

    A command between backticks, and a line that is one, stay in one piece: they are there to be pasted.
    """
    if width is None:
        return text
    return "\n".join(_fit_line(line, width) for line in text.split("\n"))


def _fit_line(line: str, width: int) -> str:
    if len(line) <= width or _COMMAND_LINE.match(line):
        return line
    body = line.lstrip(" ")
    indent = " " * (len(line) - len(body))
    lines: list[str] = []
    for word in _WORDS.findall(body):
        if lines and len(lines[-1]) + len(word) <= width:
            lines[-1] += word
        else:
            lines.append((indent if not lines else f"{indent}  ") + word.lstrip())
    return "\n".join(each.rstrip() for each in lines)


def _columns(stream: TextIO) -> int | None:
    """Columns of the terminal behind a stream; None where there is none."""
    if not stream.isatty():
        return None
    return columns() if columns() >= _NARROWEST else None


def show_markdown(text: str) -> None:
    """Writes Markdown to stdout: as it is into a file or a pipe, laid out for its columns on a terminal."""
    if _columns(sys.stdout) is None:
        show(text)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console(highlight=False).print(Markdown(text, hyperlinks=False))


def show_document(document: Any) -> None:
    """Writes one JSON document to stdout."""
    _write(sys.stdout, json.dumps(document, indent=2, ensure_ascii=True, default=str) + "\n")


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        # Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except UnicodeEncodeError:
        stream.write(text.encode("ascii", "replace").decode())
        stream.flush()


def columns() -> int:
    """Columns of this process's terminal."""
    return shutil.get_terminal_size().columns


def is_live() -> bool:
    """Is somebody watching a terminal that can be painted on?"""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("CI")


def speaks_utf8() -> bool:
    """Can stderr show more than ASCII?"""
    return (sys.stderr.encoding or "").lower().replace("-", "").startswith("utf8")

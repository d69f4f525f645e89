"""Where words go: documents to stdout, everything else to stderr, and nothing breaks when nobody reads them.

What a service or a smoke test printed ends up in reasons; control characters in it must not reach a terminal.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

_CONTROLS: dict[int, str] = dict.fromkeys((*range(32), 127, *range(128, 160)), " ")
_CONTROLS_BUT_LINES = {code: text for code, text in _CONTROLS.items() if code not in (9, 10)}
# Marks that reorder a line, so that it reads differently from what it says.
_REORDERING: dict[int, str] = dict.fromkeys((*range(8234, 8239), *range(8294, 8298), 8206, 8207), "")


def clean(text: str, longest: int = 2000) -> str:
    """Makes one harmless line of a text."""
    text = " ".join(text[: longest * 2].translate(_CONTROLS | _REORDERING).split())
    return text if len(text) <= longest else text[: longest - 3] + "..."


def clean_lines(text: str) -> str:
    """Makes a text of several lines harmless."""
    return text.translate(_CONTROLS_BUT_LINES | _REORDERING)


def program() -> str:
    """Says how the reader called this program, for commands to copy."""
    name = Path(sys.argv[0] or "deployment-specialist").name
    return f"python {name}" if name.endswith(".py") else name


def say(text: str = "") -> None:
    """Writes a line to stderr; a reader that has gone away stops nothing."""
    _write(sys.stderr, text + "\n")


def show(text: str) -> None:
    """Writes lines to stdout."""
    _write(sys.stdout, text + "\n")


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


def is_live() -> bool:
    """Is somebody watching a terminal that can be painted on?"""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("CI")


def speaks_utf8() -> bool:
    """Can stderr show more than ASCII?"""
    return (sys.stderr.encoding or "").lower().replace("-", "").startswith("utf8")

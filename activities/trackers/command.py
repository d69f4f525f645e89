"""Runs a tracker's program: an argument list, a time limit, JSON on stdout; what it says on stderr is kept apart."""

import asyncio
import json
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from activities.check_result import quote
from models.errors import TrackerUnavailableError

LONGEST_ANSWER = 8 << 20
_KEPT_WORDS = 300


@dataclass(frozen=True)
class Said:
    """What the program printed and how it ended.

    Attributes:
        document: the JSON on stdout, out of its envelope; None where there was none.
        complaint: its error in JSON, or the end of stderr; for sentences only.
    """

    code: int
    document: Any
    complaint: str


async def call(
    program: str,
    arguments: Sequence[str],
    within: timedelta,
    *,
    directory: str = ".",
    extra: Mapping[str, str] | None = None,
) -> Said:
    """Runs the program once.

    Raises:
        TrackerUnavailableError: it could not be run, or its time was over.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            cwd=directory,
            env={**os.environ, **(extra or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise TrackerUnavailableError(f"there is no program {program} on the PATH") from None
    except OSError as error:
        raise TrackerUnavailableError(f"{program} cannot be run: {error.strerror}") from None
    try:
        async with asyncio.timeout(within.total_seconds()):
            out, err = await process.communicate()
    except TimeoutError:
        raise TrackerUnavailableError(
            f"{program} {arguments[0]} did not end within {within.total_seconds():.0f}s"
        ) from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    document = _document(out)
    said = document.get("error") if isinstance(document, dict) else None
    complaint = quote(said if said else err.decode("utf-8", "replace"), _KEPT_WORDS)
    return Said(process.returncode or 0, document, complaint)


def _document(out: bytes) -> Any:
    try:
        document = json.loads(out[:LONGEST_ANSWER])
    except (ValueError, RecursionError):
        return None
    # Announced for bd 2: everything in an envelope.
    if isinstance(document, dict) and "schema_version" in document and "data" in document:
        return document["data"]
    return document

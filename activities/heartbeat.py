"""One attempt of an activity: it beats while it works, and its errors say whether another attempt may help.

Every activity's body runs inside `attempt()`. Error texts that leave it are scrubbed of secrets and cut to a bound:
they stay in workflow histories for as long as these are kept.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.secrets.resolver import scrub
from models.errors import DeploymentSpecialistError

LONGEST_TEXT = 2000
BEAT_EVERY = 0.5
# What ends work properly, like the dropping of a database, has this long before it is disturbed, in seconds.
CANCELLED_AGAIN_AFTER = 20.0
MOST_TOLD = 8
LONGEST_TOLD = 600


def shorten(text: str, longest: int = LONGEST_TEXT) -> str:
    """Scrubs a text and keeps its end, where the cause of an error usually stands."""
    text = scrub(text).strip()
    return text if len(text) <= longest else "… " + text[-(longest - 2) :]


def last_lines(text: str, longest: int = LONGEST_TEXT) -> str:
    """Scrubs what a program printed and keeps its last lines, whole ones, as many as fit."""
    kept: list[str] = []
    for line in reversed(scrub(text).rstrip().splitlines()):
        if sum(len(each) + 1 for each in kept) + len(line) > longest:
            # One line that is too long by itself still says more than nothing.
            kept += [] if kept else [f"… {line[-(longest - 2) :]}"]
            break
        kept.append(line.rstrip())
    return "\n".join(reversed(kept)).strip("\n")


# Of its deadline: the seconds that are left, for the next attempt; and the moment, which is this worker's own.
_LEFT, _UNTIL = "seconds_left", "deadline"
_waiting: ContextVar[dict[str, Any] | None] = ContextVar("what this attempt waits for", default=None)


def waits_for(what: str, until: datetime) -> None:
    """Lets the beats of this attempt say what it waits for; outside of one nobody is told."""
    told = _waiting.get()
    if told is not None:
        told.update(waits_for=what, until=until.isoformat())


def not_ready(instances: Mapping[str, str]) -> None:
    """Lets the beats of this attempt say what instances answer that are not ready yet."""
    told = _waiting.get()
    if told is None:
        return
    said = {name: shorten(sentence, LONGEST_TOLD) for name, sentence in list(instances.items())[:MOST_TOLD]}
    if said and said != told.get("not_ready"):
        activity.logger.info("not ready yet: %s", "; ".join(f"{name}: {each}" for name, each in said.items()))
    told["not_ready"] = said


def deadline_of_work(deadline: datetime) -> datetime:
    """The deadline for this attempt: the time in which no worker was at work does not count.

    What an attempt had left goes with its beats to the next one. Outside of an attempt the deadline is what was asked.
    """
    told = _waiting.get()
    if told is None:
        return deadline
    info = activity.info()
    try:
        left = timedelta(seconds=float(info.heartbeat_details[0][_LEFT]))
    except (IndexError, KeyError, TypeError, ValueError):  # nobody has begun yet, or a worker of another release has
        left = deadline - info.scheduled_time
    mine = datetime.now(UTC) + left
    told[_UNTIL], told[_LEFT] = mine, left.total_seconds()
    return mine


@asynccontextmanager
async def attempt(details: Callable[[], Any] | None = None) -> AsyncIterator[None]:
    """Beats every half second, with `details()` for the next attempt, and sorts errors into final and retryable.

    An attempt that goes on although it was cancelled is cancelled again, so that none outlives its cancellation.
    Blocking work inside belongs into `asyncio.to_thread`, or the beats stop.

    Raises:
        ApplicationError: for each of our own errors; its `type` is the error's `wire_name`.
    """
    told: dict[str, Any] = {}
    token = _waiting.set(told)

    working, ends_within = asyncio.current_task(), CANCELLED_AGAIN_AFTER

    async def beat() -> None:
        cancelled_at = None
        while True:
            if details is None:
                if (until := told.get(_UNTIL)) is not None:
                    told[_LEFT] = round((until - datetime.now(UTC)).total_seconds(), 3)
                said = {name: value for name, value in told.items() if name != _UNTIL}
                activity.heartbeat(*([said] if said else []))
            else:
                activity.heartbeat(details())
            if activity.is_cancelled() and working is not None:
                # Temporal asks once, and the workflow waits for the end: what a library has swallowed is asked again.
                cancelled_at = time.monotonic() if cancelled_at is None else cancelled_at
                if time.monotonic() - cancelled_at > ends_within:
                    cancelled_at = time.monotonic()
                    working.cancel()
            await asyncio.sleep(BEAT_EVERY)

    beating = asyncio.create_task(beat())
    try:
        yield
    except DeploymentSpecialistError as error:
        proof = (error.evidence,) if error.evidence else ()
        raise ApplicationError(
            shorten(error.sentence), *proof, type=error.wire_name, non_retryable=not error.retryable
        ) from None
    finally:
        _waiting.reset(token)
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating

"""How long each kind of activity may take, how it is retried, and what a cancellation means for it.

Errors that another attempt cannot mend are marked final where they are raised (`activities.attempts`). What bounds the
others is a number of attempts, never a time over all of them: an hour without a worker is no failure of a deployment.
"""

from datetime import timedelta
from typing import TypedDict

from temporalio.common import Priority, RetryPolicy
from temporalio.workflow import ActivityCancellationType


class ActivityOptions(TypedDict, total=False):
    """The part of `workflow.execute_activity`'s arguments that is a matter of policy."""

    start_to_close_timeout: timedelta
    heartbeat_timeout: timedelta
    retry_policy: RetryPolicy
    cancellation_type: ActivityCancellationType
    priority: Priority


_FIRST = Priority(priority_key=1)
_BEATS = timedelta(seconds=2)
# A watch whose worker died is missed this soon; its next attempt costs nothing.
_WATCH_BEATS = timedelta(seconds=1.5)

# A question: asked again when it could not be asked; abandoned at once when nobody wants the answer any more.
QUICK_CHECK = ActivityOptions(
    start_to_close_timeout=timedelta(seconds=60),
    heartbeat_timeout=_BEATS,
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10), maximum_attempts=5
    ),
    cancellation_type=ActivityCancellationType.TRY_CANCEL,
)

# Moves user traffic: quick, retried fast, and waited for when cancelled, so that nothing is under way unnoticed.
TRAFFIC = ActivityOptions(
    start_to_close_timeout=timedelta(seconds=30),
    heartbeat_timeout=_BEATS,
    retry_policy=RetryPolicy(
        initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=2), maximum_attempts=15
    ),
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)

# Takes traffic away from a candidate at once. Few attempts: the compensation that follows does the same, thoroughly.
EMERGENCY = ActivityOptions(
    start_to_close_timeout=timedelta(seconds=10),
    heartbeat_timeout=_BEATS,
    retry_policy=RetryPolicy(
        initial_interval=timedelta(milliseconds=100), maximum_interval=timedelta(seconds=1), maximum_attempts=5
    ),
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    priority=_FIRST,
)

# Undoes an effect: bounded attempts, then a person is called; no budget over all of them that could cut it off.
COMPENSATION = ActivityOptions(
    start_to_close_timeout=timedelta(minutes=15),
    heartbeat_timeout=_BEATS,
    retry_policy=RetryPolicy(
        initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=5), maximum_attempts=8
    ),
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    priority=_FIRST,
)


def removal(longest: timedelta) -> ActivityOptions:
    """Undoes a `stage`: a compensation that may wait for the last requests for as long as the spec allows."""
    return {**COMPENSATION, "start_to_close_timeout": longest + timedelta(minutes=2)}


# Waits for others, for as long as they take: asked again for ever, and let go of when nobody waits any more.
TURN = ActivityOptions(
    start_to_close_timeout=timedelta(days=365),
    heartbeat_timeout=timedelta(seconds=5),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10)),
    cancellation_type=ActivityCancellationType.TRY_CANCEL,
)

# Starts a deployment whose turn has come: tried until Temporal has it, or says that it never will.
START = ActivityOptions(
    start_to_close_timeout=timedelta(seconds=30),
    heartbeat_timeout=_BEATS,
    retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=10)),
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)

# Nice to have: never stands in the way of an ending.
RECORD = ActivityOptions(
    start_to_close_timeout=timedelta(seconds=10),
    heartbeat_timeout=_BEATS,
    retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=500), maximum_attempts=3),
)


def rollout(deadline: timedelta) -> ActivityOptions:
    """Brings instances up or down: may take until the deadline, and a minute to say so; a retry goes on."""
    return ActivityOptions(
        start_to_close_timeout=deadline + timedelta(minutes=1),
        heartbeat_timeout=_BEATS,
        retry_policy=RetryPolicy(
            initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=5), maximum_attempts=20
        ),
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


def watch(left: timedelta) -> ActivityOptions:
    """Watches until a deadline: retried for ever, each attempt goes on to the same moment.

    Not waited for when cancelled: its fence is older than that of whatever follows, so it can no longer do anything.
    """
    return ActivityOptions(
        start_to_close_timeout=left + timedelta(minutes=1),
        heartbeat_timeout=_WATCH_BEATS,
        retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=200), backoff_coefficient=1.0),
        cancellation_type=ActivityCancellationType.TRY_CANCEL,
    )


def smoke(within: timedelta) -> ActivityOptions:
    """A smoke test is run once more only when its worker was lost: it may have effects of its own."""
    return ActivityOptions(
        start_to_close_timeout=within + timedelta(seconds=30),
        heartbeat_timeout=_BEATS,
        retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=3),
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )

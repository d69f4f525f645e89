"""How long each kind of activity may take, and how it is retried.

Every activity is waited for when it is cancelled (`workflows.platform_client.execute`); the `cancellation_type` written
here is what deployments go by that were begun before that rule.

Errors that another attempt cannot mend are marked final where they are raised (`activities.heartbeat`). What bounds the
others is a number of attempts, never a time over all of them: an hour without a worker is no failure of a deployment.
"""

from datetime import timedelta
from typing import TypedDict

from temporalio.common import Priority, RetryPolicy
from temporalio.workflow import ActivityCancellationType


class ActivityOptions(TypedDict, total=False):
    """The part of `workflow.execute_activity`'s arguments that is a matter of policy."""

    start_to_close_timeout: timedelta
    schedule_to_close_timeout: timedelta
    heartbeat_timeout: timedelta
    retry_policy: RetryPolicy
    cancellation_type: ActivityCancellationType
    priority: Priority


PLAN_ANSWERS_WITHIN = timedelta(seconds=40)
_FIRST = Priority(priority_key=1)
_BEATS = timedelta(seconds=2)
# A watch whose worker died is missed this soon; its next attempt costs nothing.
_WATCH_BEATS = timedelta(seconds=1.5)

# A question: asked again when it could not be asked.
QUICK_CHECK = ActivityOptions(
    start_to_close_timeout=timedelta(seconds=60),
    heartbeat_timeout=_BEATS,
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10), maximum_attempts=5
    ),
    cancellation_type=ActivityCancellationType.TRY_CANCEL,
)

# The same for somebody who only plans and waits for the answer: what takes longer is said not to be known.
PLANNED_CHECK = ActivityOptions(
    start_to_close_timeout=PLAN_ANSWERS_WITHIN,
    schedule_to_close_timeout=PLAN_ANSWERS_WITHIN,
    heartbeat_timeout=_BEATS,
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=3),
    cancellation_type=ActivityCancellationType.TRY_CANCEL,
)

# Moves user traffic: quick, retried fast.
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


# Waits for others, for as long as they take: asked again for ever.
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


# Tells one receiver once. What follows an attempt is decided by what came of it, so none is repeated by itself: an
# event is sent at most once within this time, also when the worker dies between sending it and saying so.
ANNOUNCE = ActivityOptions(
    start_to_close_timeout=timedelta(seconds=30),
    retry_policy=RetryPolicy(maximum_attempts=1),
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
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
    """Watches until a deadline: retried for ever, each attempt goes on to the same moment."""
    return ActivityOptions(
        start_to_close_timeout=left + timedelta(minutes=1),
        heartbeat_timeout=_WATCH_BEATS,
        retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=200), backoff_coefficient=1.0),
        cancellation_type=ActivityCancellationType.TRY_CANCEL,
    )


def waiting_check(left: timedelta) -> ActivityOptions:
    """A question whose answer others are working on until a deadline: each attempt goes on to the same moment.

    Its last look may meet a server that is slow; what bounds the attempts is their number.
    """
    return ActivityOptions(
        start_to_close_timeout=left + timedelta(minutes=2),
        heartbeat_timeout=_BEATS,
        retry_policy=RetryPolicy(
            initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10), maximum_attempts=20
        ),
        cancellation_type=ActivityCancellationType.TRY_CANCEL,
    )


def see_watchers(within: timedelta) -> ActivityOptions:
    """Sets up who watches, and waits until all of it is seen working; a retry begins the wait anew."""
    return ActivityOptions(
        start_to_close_timeout=2 * within + timedelta(minutes=2),
        heartbeat_timeout=_BEATS,
        retry_policy=RetryPolicy(
            initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10), maximum_attempts=5
        ),
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


# A question that a migration tool answers: it starts a program, which takes a moment.
MIGRATIONS = ActivityOptions(
    start_to_close_timeout=timedelta(minutes=4),
    heartbeat_timeout=timedelta(seconds=10),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10), maximum_attempts=5
    ),
    cancellation_type=ActivityCancellationType.TRY_CANCEL,
)


def migrate(longest: timedelta) -> ActivityOptions:
    """Runs migrations; a retry asks first what is applied."""
    return ActivityOptions(
        start_to_close_timeout=longest + timedelta(minutes=10),
        heartbeat_timeout=timedelta(seconds=10),
        retry_policy=RetryPolicy(
            initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10), maximum_attempts=5
        ),
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


def backup(longest: timedelta) -> ActivityOptions:
    """Makes a backup and proves it, which takes as long as it takes; a retry starts over."""
    return ActivityOptions(
        start_to_close_timeout=longest + timedelta(minutes=5),
        heartbeat_timeout=timedelta(seconds=10),
        retry_policy=RetryPolicy(
            initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10), maximum_attempts=3
        ),
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )

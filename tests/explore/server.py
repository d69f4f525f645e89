"""A Temporal server of a few hundred lines: one process, virtual time, everything in an order that a seed decides.

What a workflow can notice is as on the real one: which jobs come together, how an activity is retried, what a
cancellation does to one that runs, waits or has just ended, when an update is refused without a trace. What the
workflows here do not use (children, signals to others, local activities, Nexus) stops the program with `Unsimulated`.
"""

import heapq
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.converter import decode_typed_search_attributes
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, RetryState, TimeoutError, TimeoutType

from tests.explore import sdk

BEGINNING = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
BEAT = 0.5


class Unsimulated(Exception):
    """A workflow asked for what this server does not know."""


class Diverged(Exception):
    """A replay of the history gave other commands."""


class AttemptCancelled(Exception):
    """Thrown into an attempt that was asked to end."""


@dataclass(frozen=True)
class Until:
    """What an attempt waits for: a moment, or a change of the target when that comes earlier."""

    at: datetime
    woken: bool = True


Body = Generator[float | Until, None, Any]
Perform = Callable[["Attempt"], Body]


@dataclass
class Activity:
    """One activity that a workflow has scheduled.

    Attributes:
        call: running number among those of its type.
        unattended: seconds in which no worker was at work on it.
        beaten: when a worker was last heard of.
    """

    run: "Run"
    seq: int
    type: str
    payload: Any
    command: Any
    scheduled: datetime
    call: int
    attempt: int = 0
    state: str = "scheduled"
    cancel_requested: bool = False
    started: datetime | None = None
    current: "Attempt | None" = None
    unattended: float = 0.0
    beaten: datetime | None = None

    @property
    def done(self) -> bool:
        return self.state == "done"

    def __str__(self) -> str:
        return f"{self.type} #{self.call}"


@dataclass
class Attempt:
    """One attempt of an activity, on a worker.

    Attributes:
        heard: the server still counts on it; what it says after that is lost.
        yields: how often it has waited so far: where faults strike.
    """

    activity: Activity
    number: int
    body: Body | None = None
    heard: bool = True
    running: bool = True
    yields: int = 0
    waits: int = 0
    asked_to_end: bool = False
    until: Until | None = None

    @property
    def is_last_word(self) -> bool:
        return self.heard


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one attempt.

    Attributes:
        at: at which of its waits it strikes; where there are fewer, before its answer.
        how: `fail`: raises; `die`: the worker is gone; `freeze`: the worker is given up, and goes on later; `slow`.
        error: for `fail`: the type, and whether another attempt may help.
        seconds: how long it is frozen, or slower.
    """

    at: int
    how: str
    error: str = "Unavailable"
    final: bool = False
    seconds: float = 0.0


@dataclass
class Run:
    """One run of a workflow."""

    defn: type[Any]
    workflow_id: str
    run_id: str
    info: Any
    started: datetime
    memo: dict[str, str] = field(default_factory=dict)
    status: str = "running"
    closed: datetime | None = None
    result: Any = None
    failure: BaseException | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    instance: sdk.Instance | None = None
    pending: list[sdk.Job] = field(default_factory=list)
    task_scheduled: bool = False
    recorded: list["Recorded"] = field(default_factory=list)
    activities: dict[int, Activity] = field(default_factory=dict)
    timers: dict[int, "Event"] = field(default_factory=dict)
    updates: dict[str, "Update"] = field(default_factory=dict)
    continued_by: str = ""
    argument: Any = None
    children: dict[int, "Run"] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)
    parent: "tuple[Run, int] | None" = None

    @property
    def running(self) -> bool:
        return self.status == "running"

    def pending_activities(self) -> list[Activity]:
        return [each for each in self.activities.values() if not each.done]


@dataclass
class Recorded:
    """One workflow task: what came in, what came out."""

    jobs: list[sdk.Job]
    at: datetime
    length: int
    flags: list[int]
    commands: list[bytes]


@dataclass
class Update:
    """An update: accepted, refused, or not yet answered."""

    accepted: bool | None = None
    result: Any = None
    why: str = ""


@dataclass(order=True)
class Event:
    """Something that will happen."""

    at: datetime
    order: int
    do: Callable[[], None] = field(compare=False)
    dropped: bool = field(default=False, compare=False)


@dataclass
class Hooks:
    """Who looks on; replaced by the invariants."""

    scheduled: Callable[[Activity, list[Activity]], None] = lambda _activity, _beside: None
    resolved: Callable[[Activity, str], None] = lambda _activity, _how: None
    closed: Callable[[Run], None] = lambda _run: None
    updated: Callable[[Run, str, Any, "Update"], None] = lambda _run, _name, _argument, _update: None
    happened: Callable[[str], None] = lambda _what: None
    tell: Callable[[str], None] = lambda _line: None


class Server:
    """Runs workflows and activities in virtual time.

    Attributes:
        events: how many events a program can hang its steps on have happened.
        steps: how many things have happened at all.
    """

    def __init__(self, seed: str, perform: Perform, faults: dict[tuple[str, int], list[Fault]] | None = None) -> None:
        self.now = BEGINNING
        self.seed = seed
        self.hooks = Hooks()
        self.kinds: dict[str, type[Any]] = {}
        self.runs: list[Run] = []
        self.steps = 0
        self.worker_until: datetime | None = None
        self.struck: list[tuple[Activity, Fault]] = []
        self._perform = perform
        self._faults = faults or {}
        self._queue: list[Event] = []
        self._order = 0
        self._calls: dict[str, int] = {}
        self._attempts: list[Attempt] = []

    # Time.

    def at(self, when: datetime, do: Callable[[], None]) -> Event:
        self._order += 1
        event = Event(max(when, self.now), self._order, do)
        heapq.heappush(self._queue, event)
        return event

    def after(self, seconds: float, do: Callable[[], None]) -> Event:
        return self.at(self.now + timedelta(seconds=seconds), do)

    def jitter(self, low: float, high: float, *key: object) -> float:
        """A random number that depends on the key alone: what is left out elsewhere changes nothing here."""
        return random.Random(f"{self.seed}/{key}").uniform(low, high)  # noqa: S311

    def run_until(self, over: Callable[[], bool], bound: datetime) -> bool:
        """Lets everything happen; False when the bound was reached, or nothing was left to happen, before the end."""
        while self._queue and not over():
            event = heapq.heappop(self._queue)
            if event.dropped:
                continue
            if event.at > bound:
                return False
            self.now = event.at
            self.steps += 1
            event.do()
        return over()

    # Workflows.

    def start(self, defn: type[Any], workflow_id: str, argument: Any, memo: dict[str, str] | None = None) -> Run:
        """Starts a workflow; the caller has seen to it that none of that id runs."""
        number = len(self.runs) + 1
        run_id = f"{number:08x}-{int(self.jitter(0, 1 << 24, 'run', number)):06x}"
        info = sdk.info_of(defn, workflow_id, run_id, self.now, TypedSearchAttributes([]))
        run = Run(defn, workflow_id, run_id, info, self.now, memo=memo or {}, argument=argument)
        self.runs.append(run)
        self.tell(f"{workflow_id} starts (run {run_id})")
        self._give(run, sdk.start_job(defn, workflow_id, argument, self.now))
        return run

    def newest(self, workflow_id: str) -> Run | None:
        return next((run for run in reversed(self.runs) if run.workflow_id == workflow_id), None)

    def signal(self, run: Run, name: str, *arguments: Any) -> None:
        self._give(run, sdk.signal_job(name, arguments))

    def update(self, run: Run, id: str, name: str, argument: Any) -> Update:
        """Sends an update; the same id twice is one update."""
        if id not in run.updates:
            run.updates[id] = Update()
            self.hooks.updated(run, name, argument, run.updates[id])
            self._give(run, sdk.update_job(id, name, argument))
        return run.updates[id]

    def cancel(self, run: Run, reason: str) -> None:
        self._give(run, sdk.cancel_job(reason))

    def terminate(self, run: Run) -> None:
        """Ends a run at once: nothing of it is asked, and its activities learn of it when they beat next."""
        self._close(run, "terminated")
        for activity in run.pending_activities():
            self._give_up(activity)

    def query(self, run: Run, name: str, kind: type[Any]) -> Any:
        return self._cached(run).query(name, kind, self.now)

    def evict(self, run: Run) -> None:
        """The worker has no room for it: the next task begins with a replay."""
        if run.instance is not None:
            run.instance.evict()
            run.instance = None

    def replay(self, run: Run) -> sdk.Instance:
        """A fresh worker's view of the run.

        Raises:
            Diverged: its commands are not those of the history.
        """
        instance = sdk.Instance(run.defn, run.info)
        for number, task in enumerate(run.recorded, start=1):
            patches = [c.set_patch_marker.patch_id for c in map(_read, task.commands) if c.HasField("set_patch_marker")]
            jobs = [*(sdk.patch_job(id) for id in patches), *task.jobs]
            commands, _ = instance.activate(jobs, task.at, replaying=True, length=task.length, flags=task.flags)
            again = [each.SerializeToString(deterministic=True) for each in commands]
            if again != task.commands:
                before = [describe_command(_read(each)) for each in task.commands]
                after = [describe_command(each) for each in commands]
                raise Diverged(f"workflow task {number} of {run.workflow_id}: {before} before, {after} in the replay")
        return instance

    def unended(self, run: Run) -> list[str]:
        """What of a run is still there: activities, timers, tasks, handlers."""
        return [
            *(f"activity {each}" for each in run.pending_activities()),
            *("timer" for _ in run.timers),
            *(run.instance.unended() if run.instance is not None else ()),
        ]

    def workflow_of(self, run: Run) -> Any:
        """The workflow's object as of now."""
        return self._cached(run).workflow

    def tell(self, line: str) -> None:
        self.hooks.tell(line)

    def _cached(self, run: Run) -> sdk.Instance:
        if run.instance is None:
            run.instance = self.replay(run)
        return run.instance

    def _give(self, run: Run, job: sdk.Job) -> None:
        if not run.running:
            return
        run.pending.append(job)
        if not run.task_scheduled:
            run.task_scheduled = True
            wait = self.jitter(0.001, 0.02, "task", run.run_id, len(run.recorded))
            self.at(self._when_worker(wait), lambda: self._task(run))

    def _when_worker(self, wait: float) -> datetime:
        then = self.now + timedelta(seconds=wait)
        return then if self.worker_until is None else max(then, self.worker_until)

    def _task(self, run: Run) -> None:
        if self.worker_until is not None and self.now < self.worker_until:
            self.at(self._when_worker(0.01), lambda: self._task(run))
            return
        run.task_scheduled = False
        while run.running and run.pending:
            jobs, run.pending = run.pending, []
            self._activate(run, jobs)

    def _activate(self, run: Run, jobs: list[sdk.Job]) -> None:
        length = sum(len(each.jobs) + len(each.commands) for each in run.recorded) + len(jobs)
        instance = self._cached(run)
        commands, flags = instance.activate(jobs, self.now, length=length)
        for command in commands:
            if command.HasField("update_response"):
                self._answer(run, command.update_response)
        refused = {id for id, update in run.updates.items() if update.accepted is False}
        kept = [job for job in jobs if not (job.HasField("do_update") and job.do_update.id in refused)]
        serialised = [
            each.SerializeToString(deterministic=True)
            for each in commands
            if not (each.HasField("update_response") and each.update_response.HasField("rejected"))
        ]
        for job in kept:
            if job.HasField("do_update"):
                job.do_update.run_validator = False
        if kept or serialised:
            run.recorded.append(Recorded(kept, self.now, length, flags, serialised))
        at_once: list[sdk.Job] = []
        for command in commands:
            self._obey(run, command, at_once)
        self.hooks.happened("workflow task")
        if at_once:
            run.pending[:0] = at_once

    def _answer(self, run: Run, response: Any) -> None:
        update = run.updates[response.protocol_instance_id]
        if response.HasField("accepted"):
            update.accepted = True
        elif response.HasField("rejected"):
            error = sdk.failures.from_failure(response.rejected, sdk.converter)
            # Accepted and then failed would be a failure of the handler.
            update.accepted, update.why = update.accepted or False, str(error)
        else:
            update.result = sdk.from_payload(response.completed)

    # Commands.

    def _obey(self, run: Run, command: sdk.Command, at_once: list[sdk.Job]) -> None:
        what = command.WhichOneof("variant")
        if what == "schedule_activity":
            self._schedule(run, command.schedule_activity)
        elif what == "request_cancel_activity":
            self._request_cancel(run.activities[command.request_cancel_activity.seq], at_once)
        elif what == "start_timer":
            seq = command.start_timer.seq
            seconds = command.start_timer.start_to_fire_timeout.ToTimedelta().total_seconds()
            run.timers[seq] = self.after(seconds, lambda: self._fire(run, seq))
        elif what == "cancel_timer":
            # One that has fired a moment ago is cancelled in vain, as in the SDK's core.
            if (timer := run.timers.pop(command.cancel_timer.seq, None)) is not None:
                timer.dropped = True
        elif what == "upsert_workflow_search_attributes":
            found = decode_typed_search_attributes(command.upsert_workflow_search_attributes.search_attributes)
            run.attributes |= {pair.key.name: str(pair.value) for pair in found}
        elif what == "start_child_workflow_execution":
            self._start_child(run, command.start_child_workflow_execution)
        elif what == "signal_external_workflow_execution":
            self._signal_other(run, command.signal_external_workflow_execution)
        elif what == "cancel_child_workflow_execution":
            seq = command.cancel_child_workflow_execution.child_workflow_seq
            if run.children.pop(seq, None) is not None:  # abandoned: it is not waited for any more, and goes on
                error = CancelledError("Child Workflow execution cancelled")
                at_once.append(sdk.child_cancelled_job(seq, error, started=seq in run.begun))
        elif what in ("set_patch_marker", "update_response", "cancel_signal_workflow"):
            pass
        elif what in sdk.ENDS:
            self._end(run, what, command)
        else:
            raise Unsimulated(f"{run.workflow_id} asked for {what}")

    def _start_child(self, run: Run, command: Any) -> None:
        defn = self.kinds[command.workflow_type]
        signature = sdk.argument_of(defn)
        child = self.start(defn, command.workflow_id, sdk.from_payload(command.input[0], signature))
        child.parent = (run, command.seq)
        run.children[command.seq] = child

        def begun() -> None:
            if command.seq in run.children:
                run.begun.add(command.seq)
                self.hooks.happened("a child begins")
                self._give(run, sdk.child_started_job(command.seq, child.run_id))

        self.after(self.jitter(0.005, 0.3, "child", run.run_id, command.seq), begun)

    def _signal_other(self, run: Run, command: Any) -> None:
        other = self.newest(command.child_workflow_id or command.workflow_execution.workflow_id)
        arguments = [sdk.from_payload(each) for each in command.args]
        error = None
        if other is not None and other.running:
            self._give(other, sdk.signal_job(command.signal_name, arguments))
        else:
            error = ApplicationError("it was not there to be signalled", type="NotFound")
        wait = self.jitter(0.005, 0.3, "signal", run.run_id, command.seq)
        self.after(wait, lambda: self._give(run, sdk.signalled_job(command.seq, error)))

    def _end(self, run: Run, what: str, command: sdk.Command) -> None:
        if what == "complete_workflow_execution":
            run.result = sdk.from_payload(command.complete_workflow_execution.result)
            self._close(run, "completed")
        elif what == "fail_workflow_execution":
            failure = command.fail_workflow_execution.failure
            run.failure = sdk.failures.from_failure(failure, sdk.converter)
            self._close(run, "failed")
        elif what == "cancel_workflow_execution":
            self._close(run, "cancelled")
        else:
            self._close(run, "continued-as-new")
            payload = command.continue_as_new_workflow_execution.arguments[0]
            following = self.start(run.defn, run.workflow_id, sdk.from_payload(payload))
            run.continued_by = following.run_id

    def _close(self, run: Run, status: str) -> None:
        run.status, run.closed = status, self.now
        self.tell(f"{run.workflow_id} ends: {status}")
        for timer in run.timers.values():
            timer.dropped = status == "terminated"
        self.hooks.closed(run)
        for child in run.children.values():  # as their policy says
            if child.running:
                self.cancel(child, "parent closed")
        if run.parent is not None and status == "completed":
            parent, seq = run.parent
            if parent.running and seq in parent.children:
                self._give(parent, sdk.child_ended_job(seq, run.result))

    def _fire(self, run: Run, seq: int) -> None:
        if run.running:
            del run.timers[seq]
            self.hooks.happened("timer")
            self._give(run, sdk.timer_job(seq))

    # Activities.

    def _schedule(self, run: Run, command: Any) -> None:
        call = self._calls[command.activity_type] = self._calls.get(command.activity_type, 0) + 1
        activity = Activity(run, command.seq, command.activity_type, command.arguments[0], command, self.now, call)
        beside = run.pending_activities()
        run.activities[command.seq] = activity
        self.hooks.scheduled(activity, beside)
        self._dispatch(activity, self.jitter(0.001, 0.05, "dispatch", activity.type, activity.call))

    def _dispatch(self, activity: Activity, wait: float) -> None:
        self.at(self._when_worker(wait), lambda: self._begin(activity))

    def _begin(self, activity: Activity) -> None:
        if activity.done or not activity.run.running:
            return
        if self.worker_until is not None and self.now < self.worker_until:
            self._dispatch(activity, 0.01)
            return
        activity.attempt += 1
        activity.state, activity.started = "running", self.now
        activity.unattended += (self.now - (activity.beaten or activity.scheduled)).total_seconds()
        attempt = activity.current = Attempt(activity, activity.attempt)
        attempt.body = self._perform(attempt)
        self._attempts = [each for each in self._attempts if each.running]
        self._attempts.append(attempt)
        limit = activity.command.start_to_close_timeout.ToTimedelta().total_seconds()
        self.after(limit, lambda: self._time_out(attempt, TimeoutType.START_TO_CLOSE))
        if activity.cancel_requested:
            self._ask_to_end(attempt)
        self.hooks.happened(f"{activity.type} begins")
        self._step(attempt, None)

    def _fault(self, attempt: Attempt) -> Fault | None:
        faults = self._faults.get((attempt.activity.type, attempt.activity.call), [])
        return faults[attempt.number - 1] if attempt.number <= len(faults) else None

    def _step(self, attempt: Attempt, error: BaseException | None) -> None:
        """The attempt goes on to where it waits next, or to its end."""
        if not attempt.running or attempt.body is None:
            return
        fault = self._fault(attempt)
        if (
            fault is not None
            and fault.how in ("fail", "die", "freeze")
            and attempt.yields == fault.at
            and error is None
        ):
            attempt.yields += 1
            if self._strike(attempt, fault):
                return
        attempt.yields += 1
        try:
            wanted = attempt.body.throw(error) if error is not None else next(attempt.body)
        except StopIteration as end:
            if fault is not None and fault.how in ("die", "freeze", "fail") and attempt.yields <= fault.at:
                attempt.yields = fault.at + 1
                if fault.how == "fail":
                    self.struck.append((attempt.activity, fault))
                    self.tell(f"  ! {attempt.activity}, attempt {attempt.number}, at its end: {fault.error}")
                    self._failed(attempt, _error_of(fault))
                else:
                    self._strike(attempt, Fault(fault.at, "die"))
                attempt.running = False
                return
            self._completed(attempt, end.value)
        except AttemptCancelled:
            self._cancelled(attempt)
        except ApplicationError as failed:
            self._failed(attempt, failed)
        else:
            self._wait(attempt, wanted, fault)

    def _wait(self, attempt: Attempt, wanted: float | Until, fault: Fault | None) -> None:
        attempt.waits += 1
        waits = attempt.waits
        if isinstance(wanted, Until):
            attempt.until = wanted
            then = wanted.at
        else:
            attempt.until = None
            key = (attempt.activity.type, attempt.activity.call, attempt.number, waits)
            seconds = wanted * self.jitter(0.5, 2.0, *key)
            if fault is not None and fault.how == "slow" and fault.at == waits - 1:
                seconds += fault.seconds
                self.struck.append((attempt.activity, fault))
            then = self.now + timedelta(seconds=seconds)

        def go_on() -> None:
            if attempt.waits == waits:
                self._step(attempt, None)

        self.at(then, go_on)

    def wake(self) -> None:
        """The target has changed: whoever looks at it sees it soon."""
        for attempt in self._attempts:
            if attempt.running and attempt.until is not None and attempt.until.woken and attempt.until.at > self.now:
                self._wait(attempt, Until(self.now + timedelta(seconds=0.2), woken=False), None)

    def _strike(self, attempt: Attempt, fault: Fault) -> bool:
        """Whether the attempt does not go on now."""
        self.struck.append((attempt.activity, fault))
        if fault.how == "fail":
            self.tell(f"  ! {attempt.activity}, attempt {attempt.number}: {fault.error}")
            assert attempt.body is not None
            attempt.body.close()
            self._failed(attempt, _error_of(fault))
            return True
        self.tell(
            f"  ! the worker of {attempt.activity}, attempt {attempt.number}, "
            + ("dies" if fault.how == "die" else f"freezes for {fault.seconds:.0f} s")
        )
        self._lose(attempt, fault.seconds if fault.how == "freeze" else None)
        return True

    def _lose(self, attempt: Attempt, frozen: float | None) -> None:
        """Its worker is gone; the server misses its beats. A frozen one goes on later, and nobody listens."""
        beats = attempt.activity.command.heartbeat_timeout.ToTimedelta().total_seconds()
        self.after(beats, lambda: self._time_out(attempt, TimeoutType.HEARTBEAT))
        attempt.waits += 1
        attempt.activity.beaten = self.now
        if frozen is None:
            attempt.running = False
        else:
            attempt.until = None
            waits = attempt.waits

            def thaw() -> None:
                if attempt.waits == waits:
                    self.tell(f"  ! {attempt.activity}, attempt {attempt.number}, goes on late")
                    self._step(attempt, None)

            self.after(max(frozen, beats + 0.1), thaw)

    def kill_worker(self, seconds: float, frozen: float | None) -> None:
        """Every attempt under way is lost, every cached run evicted; another worker comes after so many seconds."""
        self.worker_until = self.now + timedelta(seconds=seconds)
        for attempt in [each for each in self._attempts if each.running and each.heard]:
            self._lose(attempt, frozen)
        for run in self.runs:
            self.evict(run)

    def _completed(self, attempt: Attempt, result: Any) -> None:
        attempt.running = False
        if self._counts(attempt):
            self._resolve(attempt.activity, sdk.completed_job(attempt.activity.seq, result), "completed")

    def _cancelled(self, attempt: Attempt) -> None:
        attempt.running = False
        if self._counts(attempt):
            self._resolve_cancelled(attempt.activity)

    def _failed(self, attempt: Attempt, error: ApplicationError) -> None:
        attempt.running = False
        if self._counts(attempt):
            attempt.activity.beaten = self.now
            self._retry(attempt, error, error.non_retryable)

    def _time_out(self, attempt: Attempt, kind: TimeoutType) -> None:
        if not self._counts(attempt):
            return
        attempt.heard = False
        if kind is TimeoutType.START_TO_CLOSE:
            self._ask_to_end(attempt)
        error = TimeoutError(f"activity {kind.name} timeout", type=kind, last_heartbeat_details=[])
        self._retry(attempt, error, final=False)

    def _counts(self, attempt: Attempt) -> bool:
        activity = attempt.activity
        return attempt.heard and activity.current is attempt and not activity.done and activity.run.running

    def _retry(self, attempt: Attempt, error: ApplicationError | TimeoutError, final: bool) -> None:
        attempt.heard = False
        activity, policy = attempt.activity, attempt.activity.command.retry_policy
        most = policy.maximum_attempts
        if final or activity.cancel_requested or (most and activity.attempt >= most):
            state = RetryState.NON_RETRYABLE_FAILURE if final else RetryState.MAXIMUM_ATTEMPTS_REACHED
            failure = ActivityError(
                "Activity task failed",
                scheduled_event_id=activity.seq,
                started_event_id=activity.seq,
                identity="worker",
                activity_type=activity.type,
                activity_id=str(activity.seq),
                retry_state=RetryState.CANCEL_REQUESTED if activity.cancel_requested else state,
            )
            failure.__cause__ = error
            self._resolve(activity, sdk.failed_job(activity.seq, failure), f"failed: {error}")
            return
        first = policy.initial_interval.ToTimedelta().total_seconds() or 1.0
        longest = policy.maximum_interval.ToTimedelta().total_seconds() or 100 * first
        wait = min(longest, first * (policy.backoff_coefficient or 2.0) ** min(activity.attempt - 1, 30))
        activity.state = "backoff"
        self._dispatch(activity, wait)

    def _request_cancel(self, activity: Activity, at_once: list[sdk.Job]) -> None:
        if activity.done or activity.cancel_requested:
            return
        activity.cancel_requested = True
        if activity.state != "running" or activity.current is None:
            # Nobody works on it: the server itself ends it.
            self._resolve_cancelled(activity, at_once)
        elif activity.command.cancellation_type == 0:  # TRY_CANCEL: the workflow does not wait for it
            attempt = activity.current
            self._resolve_cancelled(activity, at_once)
            self._ask_to_end(attempt)
        else:
            self._ask_to_end(activity.current)

    def _ask_to_end(self, attempt: Attempt) -> None:
        """The next beat tells it; what is in the middle of something then stops at its next wait."""
        if attempt.asked_to_end:
            return
        attempt.asked_to_end = True
        key = (attempt.activity.type, attempt.activity.call, attempt.number)

        def told() -> None:
            if attempt.running:
                attempt.waits += 1
                self._step(attempt, AttemptCancelled())

        self.after(self.jitter(0.0, 2 * BEAT, "cancel", *key), told)

    def _give_up(self, activity: Activity) -> None:
        activity.state = "done"
        if activity.current is not None:
            self._ask_to_end(activity.current)

    def _resolve_cancelled(self, activity: Activity, at_once: list[sdk.Job] | None = None) -> None:
        failure = ActivityError(
            "Activity cancelled",
            scheduled_event_id=activity.seq,
            started_event_id=activity.seq,
            identity="worker",
            activity_type=activity.type,
            activity_id=str(activity.seq),
            retry_state=RetryState.CANCEL_REQUESTED,
        )
        failure.__cause__ = CancelledError("Cancelled")
        self._resolve(activity, sdk.failed_job(activity.seq, failure, cancelled=True), "cancelled", at_once)

    def _resolve(self, activity: Activity, job: sdk.Job, how: str, at_once: list[sdk.Job] | None = None) -> None:
        activity.state = "done"
        self.hooks.resolved(activity, how)
        self.hooks.happened(f"{activity.type} ends")
        if at_once is not None:
            at_once.append(job)
        else:
            self._give(activity.run, job)


def _error_of(fault: Fault) -> ApplicationError:
    return ApplicationError(f"as the program says: {fault.error}", type=fault.error, non_retryable=fault.final)


def _read(command: bytes) -> sdk.Command:
    return sdk.Command.FromString(command)


def describe_command(command: sdk.Command) -> str:
    """A command in a few words."""
    what = str(command.WhichOneof("variant"))
    detail = command.schedule_activity.activity_type if what == "schedule_activity" else ""
    return f"{what} {detail}".strip()


def attributes_of(values: dict[str, str]) -> TypedSearchAttributes:
    """Search attributes as a client gives them."""
    return TypedSearchAttributes([SearchAttributePair(SearchAttributeKey.for_keyword(k), v) for k, v in values.items()])

"""Runs a workflow in this process, one activation at a time, by the SDK's own workflow instance.

This is the only module that uses what the SDK keeps to itself: `temporalio.worker._workflow_instance` and the messages
of `temporalio.bridge.proto` between its core and its workflows. `test_sdk.py` says which of it an upgrade has changed.
"""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import temporalio.api.common.v1
import temporalio.bridge.proto.workflow_activation as activation
import temporalio.common
import temporalio.converter
import temporalio.workflow
from temporalio.api.common.v1 import Payload
from temporalio.bridge.proto.workflow_commands import WorkflowCommand
from temporalio.worker import _workflow_instance as private

from workflows.converter import strict_data_converter

Job = activation.WorkflowActivationJob
Command = WorkflowCommand
NAMESPACE, TASK_QUEUE = "default", "explore"
SEED = 7

converter = strict_data_converter.payload_converter
failures = strict_data_converter.failure_converter

# Commands that end a run; each is named as the field of the command is.
ENDS = (
    "complete_workflow_execution",
    "fail_workflow_execution",
    "cancel_workflow_execution",
    "continue_as_new_workflow_execution",
)


class WorkflowTaskFailed(Exception):
    """The workflow's code raised what is not a failure of the workflow: a real server would retry this for ever."""


def to_payload(value: Any) -> Payload:
    """Serialises a value as a worker does."""
    return converter.to_payloads([value])[0]


def from_payload(payload: Payload, kind: type[Any] | None = None) -> Any:
    """Reads a value as a worker does."""
    return converter.from_payloads([payload], [kind] if kind else None)[0]


def info_of(
    defn: type[Any],
    workflow_id: str,
    run_id: str,
    started: datetime,
    attributes: temporalio.common.TypedSearchAttributes,
) -> temporalio.workflow.Info:
    """What a run knows of itself."""
    return temporalio.workflow.Info(
        attempt=1,
        continued_run_id=None,
        cron_schedule=None,
        execution_timeout=None,
        first_execution_run_id=run_id,
        headers={},
        namespace=NAMESPACE,
        original_execution_run_id=run_id,
        parent=None,
        root=None,
        raw_memo={},
        retry_policy=None,
        run_id=run_id,
        run_timeout=None,
        search_attributes={},
        start_time=started,
        workflow_start_time=started,
        task_queue=TASK_QUEUE,
        task_timeout=timedelta(seconds=10),
        typed_search_attributes=attributes,
        workflow_id=workflow_id,
        workflow_type=name_of(defn),
        priority=temporalio.common.Priority.default,
    )


def name_of(defn: type[Any]) -> str:
    """The type of a workflow, as it is called on the wire."""
    name = temporalio.workflow._Definition.must_from_class(defn).name
    assert name is not None
    return name


def argument_of(defn: type[Any]) -> type[Any] | None:
    """What a workflow is started with."""
    types = temporalio.workflow._Definition.must_from_class(defn).arg_types
    return types[0] if types else None


class Instance:
    """One run as it lies in a worker's cache."""

    def __init__(self, defn: type[Any], info: temporalio.workflow.Info) -> None:
        details = private.WorkflowInstanceDetails(
            payload_converter_factory=strict_data_converter._new_payload_converter,
            failure_converter_class=strict_data_converter.failure_converter_class,
            interceptor_classes=[],
            defn=temporalio.workflow._Definition.must_from_class(defn),
            info=info,
            randomness_seed=SEED,
            extern_functions={},
            disable_eager_activity_execution=False,
            worker_level_failure_exception_types=[],
            patch_activation_callback=None,
            last_completion_result=temporalio.api.common.v1.Payloads(),
            last_failure=None,
        )
        self._run_id = info.run_id
        self._queries = 0
        self._inner: Any = _in_a_loop(details)

    def activate(
        self, jobs: Iterable[Job], at: datetime, *, replaying: bool = False, length: int = 0, flags: Sequence[int] = ()
    ) -> "tuple[list[Command], list[int]]":
        """Hands over jobs; gives the commands that the workflow answers with, and the SDK's flags that it used.

        Raises:
            WorkflowTaskFailed: the workflow's code has a bug.
        """
        act = activation.WorkflowActivation(
            run_id=self._run_id, is_replaying=replaying, history_length=length, available_internal_flags=flags
        )
        act.timestamp.FromDatetime(at)
        act.jobs.extend(jobs)
        completion = self._inner.activate(act)
        if completion.HasField("failed"):
            raise WorkflowTaskFailed(completion.failed.failure.message + "\n" + completion.failed.failure.stack_trace)
        return list(completion.successful.commands), list(completion.successful.used_internal_flags)

    def query(self, name: str, kind: type[Any], at: datetime) -> Any:
        """Asks the workflow, as a client does."""
        self._queries += 1
        job = Job(query_workflow=activation.QueryWorkflow(query_id=str(self._queries), query_type=name))
        (answer,), _ = self.activate([job], at)
        if answer.respond_to_query.HasField("failed"):
            raise WorkflowTaskFailed(answer.respond_to_query.failed.message)
        return from_payload(answer.respond_to_query.succeeded.response, kind)

    @property
    def workflow(self) -> Any:
        """The object of the workflow's class, to be looked at and not touched."""
        return self._inner._object

    def unended(self) -> list[str]:
        """Tasks, conditions and handlers that have not ended."""
        inner = self._inner
        # A child is meant to outlive its parent, and is asked to end by the server.
        tasks = [name for task in inner._tasks if not task.done() and not (name := task.get_name()).startswith("child")]
        handlers = [*inner._in_progress_signals.values(), *inner._in_progress_updates.values()]
        conditions = [future for _, future in inner._conditions if not future.done()]
        return [
            *(f"task {name}" for name in sorted(tasks)),
            *(f"handler {each.name}" for each in handlers),
            *("a condition" for _ in conditions),
        ]

    def evict(self) -> None:
        """Throws the run out of the cache: its tasks are torn down."""
        self.activate([Job(remove_from_cache=activation.RemoveFromCache())], datetime.fromtimestamp(0))


_loop = asyncio.new_event_loop()


def _in_a_loop(details: Any) -> Any:
    """The SDK makes an instance inside of its worker's loop, and runs it outside of it."""

    async def make() -> Any:
        return private.UnsandboxedWorkflowRunner().create_instance(details)

    return _loop.run_until_complete(make())


# Jobs, as the core makes them of a history.


def start_job(defn: type[Any], workflow_id: str, argument: Any, started: datetime) -> Job:
    """The run begins."""
    init = activation.InitializeWorkflow(
        workflow_type=name_of(defn), workflow_id=workflow_id, arguments=[to_payload(argument)], attempt=1
    )
    init.start_time.FromDatetime(started)
    return Job(initialize_workflow=init)


def signal_job(name: str, arguments: Sequence[Any]) -> Job:
    """A signal has come."""
    payloads = [to_payload(each) for each in arguments]
    return Job(signal_workflow=activation.SignalWorkflow(signal_name=name, input=payloads, identity="people"))


def update_job(id: str, name: str, argument: Any) -> Job:
    """An update has come, and is to be validated."""
    return Job(
        do_update=activation.DoUpdate(
            id=id, protocol_instance_id=id, name=name, input=[to_payload(argument)], run_validator=True
        )
    )


def cancel_job(reason: str) -> Job:
    """Somebody cancels the workflow."""
    return Job(cancel_workflow=activation.CancelWorkflow(reason=reason))


def timer_job(seq: int) -> Job:
    """A timer has fired."""
    return Job(fire_timer=activation.FireTimer(seq=seq))


def patch_job(id: str) -> Job:
    """The history holds this patch."""
    return Job(notify_has_patch=activation.NotifyHasPatch(patch_id=id))


def completed_job(seq: int, result: Any) -> Job:
    """An activity has answered."""
    job = Job(resolve_activity=activation.ResolveActivity(seq=seq))
    job.resolve_activity.result.completed.result.CopyFrom(to_payload(result))
    return job


def failed_job(seq: int, error: BaseException, *, cancelled: bool = False) -> Job:
    """An activity has failed for good, or was cancelled."""
    job = Job(resolve_activity=activation.ResolveActivity(seq=seq))
    result = job.resolve_activity.result
    failures.to_failure(error, converter, (result.cancelled if cancelled else result.failed).failure)
    return job


def child_started_job(seq: int, run_id: str) -> Job:
    """A child has begun."""
    job = Job(resolve_child_workflow_execution_start=activation.ResolveChildWorkflowExecutionStart(seq=seq))
    job.resolve_child_workflow_execution_start.succeeded.run_id = run_id
    return job


def child_ended_job(seq: int, result: Any) -> Job:
    """A child has answered."""
    job = Job(resolve_child_workflow_execution=activation.ResolveChildWorkflowExecution(seq=seq))
    job.resolve_child_workflow_execution.result.completed.result.CopyFrom(to_payload(result))
    return job


def child_cancelled_job(seq: int, error: BaseException, *, started: bool) -> Job:
    """A child is not waited for any more."""
    if started:
        job = Job(resolve_child_workflow_execution=activation.ResolveChildWorkflowExecution(seq=seq))
        failure = job.resolve_child_workflow_execution.result.cancelled.failure
    else:
        job = Job(resolve_child_workflow_execution_start=activation.ResolveChildWorkflowExecutionStart(seq=seq))
        failure = job.resolve_child_workflow_execution_start.cancelled.failure
    failures.to_failure(error, converter, failure)
    return job


def signalled_job(seq: int, error: BaseException | None = None) -> Job:
    """A signal to another workflow has been delivered, or could not be."""
    job = Job(resolve_signal_external_workflow=activation.ResolveSignalExternalWorkflow(seq=seq))
    if error is not None:
        failures.to_failure(error, converter, job.resolve_signal_external_workflow.failure)
    return job

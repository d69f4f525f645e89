"""`deploy` where another deployment may be under way: into the queue, to its turn, and then to its end.

Whoever waits may leave and come back with the ticket; what is queued stays queued.
"""

import asyncio
import time
import uuid
from datetime import datetime, timedelta
from typing import Any

from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError, RPCStatusCode

from cli.client.connection import ANSWER_WITHIN, Server
from cli.client.follow import DetachedError, follow, leaving, unless
from cli.client.in_queue import InQueue, Subject
from cli.client.starting import refused
from cli.exits import CommandError
from cli.invocation import program
from cli.render.markdown import append_summary
from cli.render.summary import ending
from cli.render.terminal import clean, say, show_document
from cli.render.viewers import conclude, document, make_viewer
from models.messages import DeploymentRequest
from models.names import queue_id, workflow_id
from models.outcome import EXIT_CODES, FailureType, Outcome, classify
from models.preflight.conflicts import Conflict
from models.preflight.queueing import Entry, ExitKind, Left, QueueState, Waiting
from models.report import DeploymentReport, Phase
from models.spec import StrategyKind
from workflows.wire_names import ENQUEUE, QUEUE_WORKFLOW, SERVICE_KEY, TARGET_KEY, TASK_QUEUE

EVERY = 0.5
# A server that has just come back may not know for a moment what it has in its database.
KNOWN_WITHIN = 30.0
STRANGER_KNOWN_WITHIN = 3.0


async def deploy_in_turn(
    client: Client,
    server: Server,
    request: DeploymentRequest,
    *,
    wait: timedelta | None,
    no_wait: bool,
    json_wanted: bool,
    summary: str | None = None,
) -> int:
    """Enqueues a deployment and follows it to its end; returns the exit code.

    `summary` is the file to which a summary in Markdown is appended; None where none is wanted.
    """
    subject = (request.spec.service, request.spec.target)
    ticket = await enqueue(client, request)
    if not no_wait:
        mine = InQueue(client, subject, ticket, patience=KNOWN_WITHIN)
        return await _follow(client, server, mine, wait=wait, json_wanted=json_wanted, summary=summary)
    say(f"queued with the ticket {ticket}; `{program()} watch {'/'.join(subject)} --ticket {ticket}` follows it")
    if json_wanted:
        waiting = Waiting(
            ticket=ticket, version=request.spec.release.version, by=request.by, asked=datetime.now().astimezone()
        )
        report = report_of_waiting(subject, waiting).model_copy(update={"strategy": request.spec.strategy.kind})
        show_document(document(report, 0, ticket=ticket))
    return 0


async def enqueue(client: Client, request: DeploymentRequest) -> str:
    """Puts a deployment into its target's queue, which is started when there is none; returns its ticket.

    A signal: it counts as soon as Temporal has it, also while no worker is there.

    Raises:
        CommandError: Temporal refused, and nothing was queued; or it did not answer, and nobody knows.
    """
    service, target = request.spec.service, request.spec.target
    entry = Entry(
        ticket=uuid.uuid4().hex[:12],
        request=request.model_dump(mode="json"),
        supersede=request.spec.conflict is Conflict.SUPERSEDE,
    )
    try:
        await client.start_workflow(
            QUEUE_WORKFLOW,
            QueueState(service=service, target=target),
            id=queue_id(service, target),
            task_queue=TASK_QUEUE,
            static_summary=f"who waits for {service} → {target}",
            search_attributes=TypedSearchAttributes(
                [SearchAttributePair(SERVICE_KEY, service), SearchAttributePair(TARGET_KEY, target)]
            ),
            start_signal=ENQUEUE,
            start_signal_args=[entry],
            rpc_timeout=2 * ANSWER_WITHIN,
        )
    except RPCError as error:
        if error.status not in (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED, RPCStatusCode.UNAVAILABLE):
            raise CommandError(refused(error)) from None
        again = f"`{program()} watch {service}/{target} --ticket {entry.ticket}`"
        raise CommandError(f"{refused(error)}; it may be in the queue all the same: {again} says it", 1) from None
    return entry.ticket


async def follow_ticket(
    client: Client, server: Server, subject: Subject, ticket: str, *, wait: timedelta | None, json_wanted: bool
) -> int:
    """Follows one that waits to its turn, and then to its end; returns the exit code.

    Raises:
        CommandError: nothing was started, and nothing will be; or the ticket is not known.
    """
    waits = InQueue(client, subject, ticket, patience=STRANGER_KNOWN_WITHIN)
    return await _follow(client, server, waits, wait=wait, json_wanted=json_wanted)


async def _follow(
    client: Client,
    server: Server,
    follower: InQueue,
    *,
    wait: timedelta | None,
    json_wanted: bool,
    summary: str | None = None,
) -> int:
    subject = follower.subject
    until = None if wait is None else time.monotonic() + wait.total_seconds()
    with leaving() as left:
        try:
            while (found := await unless(left, follower.step())) is None:
                if until is not None and time.monotonic() >= until:
                    return _still_queued(subject, follower, EXIT_CODES[Outcome.QUEUED], json_wanted, summary)
                await unless(left, asyncio.sleep(EVERY))
        except DetachedError:
            return _still_queued(subject, follower, left.code, json_wanted, summary, over=False)
    if found.how is not ExitKind.STARTED:
        return _never_started(subject, found, json_wanted, summary)
    handle = client.get_workflow_handle(workflow_id(*subject), run_id=found.run_id, result_type=DeploymentReport)
    rest = None if until is None else timedelta(seconds=max(0.0, until - time.monotonic()))
    with make_viewer() as viewer:
        ended = await follow(client, handle, viewer, wait=rest)
    unanswered = _report(subject, found, Outcome.RUNNING)
    return conclude(ended, server, json_wanted=json_wanted, unanswered=unanswered, summary=summary)


def report_of_waiting(subject: Subject, one: Waiting) -> DeploymentReport:
    """The document of a deployment that waits for its turn."""
    return _report(subject, one, Outcome.QUEUED)


def _report(subject: Subject, one: Waiting | Left, outcome: Outcome) -> DeploymentReport:
    started = one.asked if isinstance(one, Waiting) else one.at
    strategy = StrategyKind(one.strategy) if one.strategy in set(StrategyKind) else StrategyKind.ROLLING
    return DeploymentReport(
        outcome=outcome,
        workflow_id=workflow_id(*subject),
        run_id=one.run_id if isinstance(one, Left) else "",
        service=subject[0],
        target=subject[1],
        version=one.version,
        strategy=strategy,
        by=one.by,
        started=started,
        doing="waits for its turn" if outcome is Outcome.QUEUED else "",
    )


def _never_started(subject: Subject, found: Left, json_wanted: bool, summary: str | None) -> int:
    """Says why; a person's decision is a rejection.

    Raises:
        CommandError: it was refused, or something needs a person before anything can be started.
    """
    if found.how is ExitKind.REFUSED:
        raise CommandError(f"nothing was started: {clean(found.reason)}", ticket=found.ticket)
    if found.how is ExitKind.STOPPED:
        outcome = Outcome.ROLLBACK_FAILED
        raise CommandError(clean(found.reason), EXIT_CODES[outcome], outcome=outcome, ticket=found.ticket)
    failure = classify(FailureType.REJECTED, None, found.reason)
    changes = {"failure": failure, "phase": Phase.FINISHED, "ended": found.at}
    report = _report(subject, found, Outcome.REJECTED).model_copy(update=changes)
    say(ending(report))
    append_summary(summary, report)
    if json_wanted:
        show_document(document(report, ticket=found.ticket))
    return EXIT_CODES[report.outcome]


def _still_queued(
    subject: Subject, follower: InQueue, code: int, json_wanted: bool, summary: str | None, *, over: bool = True
) -> int:
    name, command, ticket = "/".join(subject), program(), follower.ticket
    say(
        f"{'--wait is over' if over else 'detached'}: it stays in the queue of {name}; "
        f"`{command} watch {name} --ticket {ticket}` attaches again; "
        f"`{command} withdraw {name} {ticket} --as NAME` takes it out"
    )
    known = follower.seen
    append_summary(summary, report_of_waiting(subject, known) if known else None)
    if json_wanted:
        whole: dict[str, Any] = {"outcome": Outcome.QUEUED, "exit_code": code, "ticket": ticket}
        show_document(document(report_of_waiting(subject, known), code, ticket=ticket) if known else whole)
    return code

"""`approve`, `reject`, `hold`, `resume`, `resolve`: what people tell a running deployment, and the answer they get.

These are updates: the deployment says yes, with what it noted, or no, with the reason. They wait for its worker for a
short while only; somebody who decides must know whether it was heard.
"""

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from cli import options
from cli.client.connection import Server, connect, find_server, rpc_sentence, run_async
from cli.exits import CommandError
from cli.invocation import program
from cli.render.terminal import clean, say, show_document

if TYPE_CHECKING:
    from models.base import WireModel

HEARD_WITHIN = timedelta(seconds=15)
_required_as = click.option("--as", "by", type=options.PersonName(), required=True, help="Who decides.")
_reason = click.option("--reason", type=options.Reason(), default="", help="Why, for the report.")
_plan = click.option("--plan", default="", metavar="ID", help="Only for this plan; default: the one that waits.")


@click.command()
@options.subject_argument
@_required_as
@_reason
@_plan
@options.json_option
def approve(subject: tuple[str, str], by: str, reason: str, plan: str, json_wanted: bool) -> None:
    r"""Let a deployment go on where it waits for an approval.

    \b
    Example:
      deployment-specialist approve shop/production --as ann --reason "load test was fine"
    """
    from models.messages import Approval
    from workflows.wire_names import APPROVE

    _tell(subject, APPROVE, Approval(by=by, reason=reason, plan=plan), json_wanted)


@click.command()
@options.subject_argument
@_required_as
@_reason
@_plan
@options.json_option
def reject(subject: tuple[str, str], by: str, reason: str, plan: str, json_wanted: bool) -> None:
    r"""Refuse the approval that a deployment waits for; it ends as rejected.

    \b
    Example:
      deployment-specialist reject shop/production --as ann --reason "not before the sale"
    """
    from models.messages import Approval
    from workflows.wire_names import REJECT

    _tell(subject, REJECT, Approval(by=by, reason=reason, plan=plan), json_wanted)


@click.command()
@options.subject_argument
@options.as_option
@_reason
@options.json_option
def hold(subject: tuple[str, str], by: str, reason: str, json_wanted: bool) -> None:
    r"""Stop before the next move; the candidate keeps its weight and is watched on.

    \b
    Example:
      deployment-specialist hold shop/staging --reason "looking at a log"
    """
    from models.messages import Request
    from workflows.wire_names import HOLD

    _tell(subject, HOLD, Request(by=by, reason=reason), json_wanted)


@click.command()
@options.subject_argument
@options.as_option
@_reason
@options.json_option
def resume(subject: tuple[str, str], by: str, reason: str, json_wanted: bool) -> None:
    r"""Go on after a hold, whether a person or an inconclusive watch asked for it.

    \b
    Example:
      deployment-specialist resume shop/staging
    """
    from models.messages import Request
    from workflows.wire_names import RESUME

    _tell(subject, RESUME, Request(by=by, reason=reason), json_wanted)


@click.command()
@options.subject_argument
@click.argument("way", type=click.Choice(["retry", "skip", "take-over"]))
@options.as_option
@_reason
@options.json_option
def resolve(subject: tuple[str, str], way: str, by: str, reason: str, json_wanted: bool) -> None:
    r"""Decide how a rollback that failed goes on.

    retry: the failed undo once more. skip: leave this undo out (needs --reason) and go on with the others.
    take-over: a person does the rest by hand.

    \b
    Example:
      deployment-specialist resolve shop/staging retry --as ann
    """
    from models.messages import Resolution, Way
    from workflows.wire_names import RESOLVE

    if way == "skip" and not reason:
        raise click.UsageError('to skip an undo needs a reason: --reason "..."')
    _tell(subject, RESOLVE, Resolution(way=Way(way), by=by, reason=reason), json_wanted)


@click.command()
@options.subject_argument
@click.argument("ticket", metavar="TICKET")
@_required_as
@_reason
@options.json_option
def withdraw(subject: tuple[str, str], ticket: str, by: str, reason: str, json_wanted: bool) -> None:
    r"""Take a deployment out of the queue; `status` shows the tickets of those that wait.

    \b
    Example:
      deployment-specialist withdraw shop/staging 3f0c9a1b2d4e --as ann --reason "a newer one is ready"
    """
    from models.names import queue_id
    from models.preflight.queueing import Withdrawal
    from workflows.wire_names import WITHDRAW

    message = Withdrawal(ticket=ticket, by=by, reason=reason)
    run_async(_tell_workflow(find_server(), subject, WITHDRAW, message, json_wanted, queue_id(*subject)))


def _tell(subject: tuple[str, str], update: str, message: "WireModel", json_wanted: bool) -> None:
    run_async(_tell_workflow(find_server(), subject, update, message, json_wanted))


async def _tell_workflow(
    server: Server, subject: tuple[str, str], update: str, message: "WireModel", json_wanted: bool, whom: str = ""
) -> None:
    from temporalio.client import WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
    from temporalio.exceptions import ApplicationError
    from temporalio.service import RPCError, RPCStatusCode

    from models.messages import Decision
    from models.names import workflow_id

    client = await connect(server)
    name = "/".join(subject)
    handle = client.get_workflow_handle(whom or workflow_id(*subject))
    try:
        decision: Decision = await handle.execute_update(
            update, message, result_type=Decision, rpc_timeout=HEARD_WITHIN
        )
    except WorkflowUpdateFailedError as error:
        said = error.cause.message if isinstance(error.cause, ApplicationError) else str(error.cause)
        raise CommandError(f"{name}: {clean(said)}") from None
    except WorkflowUpdateRPCTimeoutOrCancelledError:
        raise CommandError(_not_heard(name), 1) from None
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            none = "waits" if whom else "is under way"
            raise CommandError(
                f"no deployment of {name} {none}; `{program()} status {name}` says how it stands"
            ) from None
        if error.status in (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED):
            raise CommandError(_not_heard(name), 1) from None
        raise CommandError(rpc_sentence(error), 1) from None
    say(f"{name}: noted at {decision.at.astimezone():%H:%M:%S}: {clean(decision.by)}: {clean(decision.what)}")
    if json_wanted:
        show_document({"exit_code": 0, "service": subject[0], "target": subject[1], **decision.model_dump(mode="json")})


def _not_heard(name: str) -> str:
    return (
        f"the worker of {name} did not answer within {HEARD_WITHIN.total_seconds():.0f} seconds; it may still "
        f"hear this when it is back; `{program()} status {name}` shows what was noted"
    )

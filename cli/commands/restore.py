"""`restore`: what people reach for when data is gone. It lists what there is, and never writes over anything.

The backup is restored on the worker, beside what is there, by a workflow that goes on when this command is gone.
"""

import os
import sys
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli.client.connection import ANSWER_WITHIN, Server, connect, find_server, rpc_sentence, run_async, uses_embedded
from cli.commands.rollback import request_of
from cli.exits import CommandError
from cli.invocation import program
from cli.render.terminal import clean, say, show, show_document

if TYPE_CHECKING:
    from temporalio.client import Client

    from models.preflight.backup import BackupList, Restored, RestoreRequest
    from models.spec import DeploymentSpec

_LIST_WITHIN = timedelta(seconds=30)
_LOOK_BACK = 100


@click.command()
@options.subject_argument
@click.option("--backup", metavar="ID", help="Which one; without it the backups are listed.")
@click.option("--into", metavar="REFERENCE", help="Into the empty database of this secret, like env:DB.")
@click.option("--replace", is_flag=True, help="Take the name of the database; what it holds now is kept under another.")
@click.option("--yes", is_flag=True, help="Do not ask before --replace.")
@click.option("--no-owner", is_flag=True, help="Leave owners and rights out, for a server without those roles.")
@click.option(
    "--spec", "spec_file", metavar="SPEC", type=click.Path(), help="Where the backups are; default: as deployed last."
)
@click.option("--as", "by", type=options.PersonName(), help="Who asks; required with --backup.")
@click.option("--reason", type=options.Reason(), default="", help="Why; required with --backup.")
@options.json_option
def restore(
    subject: tuple[str, str],
    backup: str | None,
    into: str | None,
    replace: bool,
    yes: bool,
    no_owner: bool,
    spec_file: str | None,
    by: str | None,
    reason: str,
    json_wanted: bool,
) -> None:
    r"""List the backups of a database, or bring one back: verified, into a new database, compared.

    Nothing is written over. With --replace the new database takes the name of the old one, which is kept under
    another name; sessions of both are ended for a moment. Ctrl-C detaches; the restore goes on.

    \b
    Example:
      deployment-specialist restore shop/production
      deployment-specialist restore shop/production --backup 20261124T223000Z-0a1b2c --as ann --reason "orders are gone"
    """
    if backup is None and (into or replace or no_owner):
        raise click.UsageError("--into, --replace and --no-owner need --backup")
    if into and replace:
        raise click.UsageError("--into and --replace exclude each other")
    if backup is not None and not (by and reason):
        raise click.UsageError("to restore needs --as NAME and --reason TEXT")
    spec = _read_spec(spec_file, subject) if spec_file else None
    _check(backup, into)
    server = find_server(start=bool(spec_file))
    _hand_over(server, spec, into)
    run_async(_restore(server, subject, spec, backup, into, replace, yes, not no_owner, by or "", reason, json_wanted))


def _read_spec(path: str, subject: tuple[str, str]) -> "DeploymentSpec":
    from cli.spec.reader import read_spec

    spec = read_spec(path, on_this_machine=False)
    if (spec.service, spec.target) != subject:
        raise CommandError(f"{clean(path)} is the spec of {spec.service}/{spec.target}, not of {'/'.join(subject)}")
    return spec


def _check(backup: str | None, into: str | None) -> None:
    from pydantic import TypeAdapter, ValidationError

    from models.preflight.backup import BackupId
    from models.secrets import SecretReference

    kinds: tuple[tuple[str | None, Any], ...] = ((backup, BackupId), (into, SecretReference))
    for value, kind in kinds:
        if value is not None:
            try:
                TypeAdapter(kind).validate_python(value)
            except ValidationError as error:
                raise CommandError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from None
    if into is not None and uses_embedded() and into.startswith("env:") and not os.environ.get(into[4:]):
        raise CommandError(f"the secret {into} is missing: set the environment variable {into[4:]}")


def _hand_over(server: Server, spec: "DeploymentSpec | None", into: str | None) -> None:
    if not server.embedded:
        return
    if spec is not None:
        from cli.spec.secret_references import check_secrets, hand_over_secrets

        check_secrets(spec)
        hand_over_secrets(spec)
    if into is not None and into.startswith("env:"):
        from home.paths import Home
        from home.secret_store import SecretStore

        SecretStore(Home.from_environment()).put(into[4:], os.environ[into[4:]])


async def _restore(
    server: Server,
    subject: tuple[str, str],
    spec: "DeploymentSpec | None",
    backup: str | None,
    into: str | None,
    replace: bool,
    yes: bool,
    own: bool,
    by: str,
    reason: str,
    json_wanted: bool,
) -> None:
    from models.preflight.backup import RestoreRequest

    client = await connect(server)
    known = spec or await _last_spec(client, subject)
    plan = known.preflight.backup
    if plan is None:
        raise CommandError(f"the spec of {'/'.join(subject)} makes no backups (preflight.backup)")
    service, target = subject
    there = await _list(client, service, target, plan)
    if backup is None:
        _show_list(there, json_wanted)
        return
    _refuse_unusable(there, backup)
    if replace and not yes:
        _confirm(subject)
    request = RestoreRequest(
        service=service,
        target=target,
        spec=plan,
        backup=backup,
        into=into,
        replace=replace,
        own=own,
        by=by,
        reason=reason,
    )
    _show_restored(await _run(client, request), json_wanted)


async def _last_spec(client: "Client", subject: tuple[str, str]) -> "DeploymentSpec":
    """The spec of the newest deployment that made backups."""
    from models.names import workflow_id

    name = "/".join(subject)
    # The parts of the id were checked as names: there is no quote in them.
    query = f"WorkflowId = '{workflow_id(*subject)}'"
    async for run in client.list_workflows(query, limit=_LOOK_BACK, rpc_timeout=2 * ANSWER_WITHIN):
        request = await request_of(client, run)
        if request is not None and request.spec.preflight.backup is not None:
            return request.spec  # type: ignore[no-any-return]
    raise CommandError(
        f"no deployment of {name} that Temporal remembers makes backups; --spec FILE says where they are"
    )


async def _list(client: "Client", service: str, target: str, plan: Any) -> "BackupList":
    from models.preflight.backup import BackupList, BackupsQuestion
    from workflows.wire_names import BACKUPS_WORKFLOW, TASK_QUEUE

    found: BackupList = await _ended(
        client.execute_workflow(
            BACKUPS_WORKFLOW,
            BackupsQuestion(service=service, target=target, spec=plan),
            id=f"backups/{service}/{target}/{uuid.uuid4().hex[:8]}",
            task_queue=TASK_QUEUE,
            result_type=BackupList,
            execution_timeout=_LIST_WITHIN,
            rpc_timeout=_LIST_WITHIN,
        )
    )
    return found


async def _run(client: "Client", request: "RestoreRequest") -> "Restored":
    from temporalio.exceptions import WorkflowAlreadyStartedError

    from models.names import restore_id
    from models.preflight.backup import Restored
    from workflows.wire_names import RESTORE_WORKFLOW, TASK_QUEUE

    name = f"{request.service}/{request.target}"
    try:
        handle = await client.start_workflow(
            RESTORE_WORKFLOW,
            request,
            id=restore_id(request.service, request.target),
            task_queue=TASK_QUEUE,
            result_type=Restored,
            static_summary=f"restore {request.backup} of {name}",
            rpc_timeout=2 * ANSWER_WITHIN,
        )
    except WorkflowAlreadyStartedError:
        raise CommandError(f"a restore of {name} is under way already; nothing was started") from None
    say(f"restoring {request.backup} of {name}; Ctrl-C detaches, it goes on as {handle.id}")
    found: Restored = await _ended(handle.result())
    return found


async def _ended(work: Any) -> Any:
    from temporalio.client import WorkflowFailureError
    from temporalio.exceptions import FailureError
    from temporalio.service import RPCError

    from workflows.failures import describe

    try:
        return await work
    except WorkflowFailureError as error:
        cause = error.cause
        said = describe(cause) if isinstance(cause, FailureError) else str(cause)
        raise CommandError(clean(said.partition(": ")[2] or said), 1) from None
    except RPCError as error:
        raise CommandError(rpc_sentence(error), 1) from None


def _refuse_unusable(there: "BackupList", backup: str) -> None:
    found = next((line for line in there.backups if line.id == backup), None)
    if found is None:
        known = ", ".join(line.id for line in there.backups[:5]) or "none"
        raise CommandError(f"there is no backup {backup} in {clean(there.directory)}; there are: {known}")
    if found.wrong:
        raise CommandError(f"{backup} cannot be used: {clean(found.wrong)}")


def _confirm(subject: tuple[str, str]) -> None:
    name = "/".join(subject)
    if not sys.stdin.isatty():
        raise CommandError("--replace needs --yes where nobody can be asked; nothing was started")
    say("the database that serves gets another name; what was written since the backup is only there")
    if click.prompt(f"type {name} to go on", err=True, default="", show_default=False) != name:
        raise CommandError("nothing was started")


def _show_list(there: "BackupList", json_wanted: bool) -> None:
    if json_wanted:
        show_document(there.model_dump(mode="json"))
        return
    if not there.backups:
        show(f"no backups in {clean(there.directory)}")
        return
    for line in there.backups:
        made = f"{line.made.astimezone():%Y-%m-%d %H:%M:%S}" if line.made else "unknown"
        sealed = f", {line.encrypted}" if line.encrypted else ""
        state = f"CANNOT BE USED: {clean(line.wrong)}" if line.wrong else f"{line.rows} rows in {line.tables} tables"
        show(f"{line.id}  {made}  {line.bytes / 2**20:9.1f} MiB{sealed}  {state}")
    show(f"in {clean(there.directory)}; `{program()} restore … --backup ID` brings one back, into a new database")


def _show_restored(done: "Restored", json_wanted: bool) -> None:
    if json_wanted:
        show_document({"exit_code": 0, **done.model_dump(mode="json")})
        return
    show(f"{done.backup} is back in {clean(done.database)}: {done.rows} rows in {done.tables} tables, compared")
    for sentence in done.switch:
        show(f"  {clean(sentence, 1000)}")

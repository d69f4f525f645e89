"""`deploy`, `plan` and `schema`: what a spec file is good for.

Everything that can be wrong with the call is found before anything is started.
"""

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli.client.connection import Server, connect, find_server, run_async, uses_embedded
from cli.exits import CommandError
from cli.render.terminal import clean, show, show_document

if TYPE_CHECKING:
    from cli.client.tracking import Wanted
    from models.messages import DeploymentRequest
    from models.plan import Plan
    from models.spec import DeploymentSpec


class _Summary(click.Path):
    """A file that can be written to; it need not be there."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, writable=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        file = str(super().convert(value, param, ctx))
        if not os.path.isdir(os.path.dirname(file) or "."):
            self.fail(f"there is no folder {clean(os.path.dirname(file))}", param, ctx)
        return file


_spec_argument = click.argument("spec", metavar="SPEC", type=click.Path(allow_dash=True))
_version_option = click.option("--version", metavar="V", help="Deploy this version; overrides release.version.")
_set_option = click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override a value, like platform.instances=3."
)


@click.command()
@click.argument("spec", metavar="SPEC", type=click.Path(allow_dash=True), required=False)
@_version_option
@_set_option
@options.wait_option
@options.no_wait_option
@options.as_option
@click.option("--reason", type=options.Reason(), default="", help="Why, for the report.")
@click.option("--queue", is_flag=True, help="When another one is under way: wait for your turn.")
@click.option("--supersede", is_flag=True, help="When another one is under way: have it rolled back first.")
@click.option("--break-glass", type=options.Reason(), metavar="REASON", help="Deploy in a freeze; another approves it.")
@click.option("--task", metavar="ID", envvar="TASK_ID", help="The task in Beads that this is for; default: $TASK_ID.")
@click.option("--finish-tracking", is_flag=True, help="Deploy nothing: tell Beads how the task's deployment ended.")
@click.option("--summary", type=_Summary(), metavar="FILE", help="Append how it ended to FILE, as Markdown.")
@options.json_option
def deploy(
    spec: str | None,
    version: str | None,
    overrides: tuple[str, ...],
    wait: timedelta | None,
    no_wait: bool,
    by: str,
    reason: str,
    queue: bool,
    supersede: bool,
    break_glass: str | None,
    task: str | None,
    finish_tracking: bool,
    summary: str | None,
    json_wanted: bool,
) -> int:
    r"""Deploy SPEC, and follow it to its end. `-` reads SPEC from standard input.

    With --task the task's metadata decide, and SPEC may be a folder: the spec of its target is taken.

    Ctrl-C detaches and never cancels. Starts the embedded stack of this home when no other Temporal is
    configured and it does not run.

    \b
    Example:
      deployment-specialist deploy deployment.yaml --version 1.1.0 --wait 45m
    """
    if no_wait and wait is not None:
        raise click.UsageError("--wait and --no-wait exclude each other")
    if queue and supersede:
        raise click.UsageError("--queue and --supersede exclude each other")
    if no_wait and summary is not None:
        raise click.UsageError("--summary says how it ended, and --no-wait does not wait for that")
    if finish_tracking and not task:
        raise click.UsageError("--finish-tracking needs --task")
    if spec is None and not task:
        raise click.UsageError("Missing argument 'SPEC'.")
    from cli.spec.freezing import check_glass
    from cli.spec.reader import read_spec
    from cli.spec.secret_references import hand_over_environment, hand_over_secrets
    from models.messages import DeploymentRequest
    from models.preflight.conflicts import Conflict

    wanted = None
    if task:
        from cli.client import tracking

        wanted = tracking.read_task(task)
        spec = tracking.choose_spec(spec or ".", wanted)
        version = version or wanted.version
    assert spec is not None  # noqa: S101  without a task it is required
    here = uses_embedded()
    whole = read_spec(spec, overrides=overrides, version=version, on_this_machine=here, with_secrets=here)
    if wanted is not None:
        from cli.client import tracking

        tracking.check_target(wanted, spec, whole)
        if finish_tracking:
            return run_async(tracking.finish_later(find_server(), wanted, whole))
        tracking.check_open(wanted)
    if queue or supersede:
        chosen = Conflict.QUEUE if queue else Conflict.SUPERSEDE
        whole = whole.model_copy(update={"conflict": chosen})
    if break_glass is not None:
        check_glass(whole, by, break_glass)
    server = find_server(start=True)
    if server.embedded:
        hand_over_environment(whole)
        hand_over_secrets(whole)
    request = DeploymentRequest(spec=whole, by=by, reason=reason, break_glass=break_glass or "")
    if wanted is not None:
        request = request.model_copy(update={"task": wanted.task.id, "required_gates": wanted.gates})
    return run_async(_deploy(server, request, wait, no_wait, json_wanted, wanted, summary))


async def _deploy(
    server: Server,
    request: "DeploymentRequest",
    wait: timedelta | None,
    no_wait: bool,
    json_wanted: bool,
    wanted: "Wanted | None",
    summary: str | None,
) -> int:
    from cli.client.follow import follow
    from cli.client.queueing import deploy_in_turn
    from cli.client.starting import first_report, say_started, start
    from cli.render.viewers import conclude, make_viewer
    from models.preflight.conflicts import Conflict

    client = await connect(server)
    if wanted is not None and request.spec.conflict is not Conflict.REJECT:
        raise CommandError("a deployment with --task neither queues nor supersedes: deploy it when its turn has come")
    if request.spec.conflict is not Conflict.REJECT:
        return await deploy_in_turn(
            client, server, request, wait=wait, no_wait=no_wait, json_wanted=json_wanted, summary=summary
        )
    handle = await start(client, request)
    if wanted is not None:
        from cli.client import tracking

        await tracking.claim(wanted)
        await tracking.say_rules(wanted)
    if no_wait:
        say_started(handle, server, request, json_wanted=json_wanted)
        return 0
    with make_viewer() as viewer:
        ended = await follow(client, handle, viewer, wait=wait)
    if wanted is not None:
        from cli.client import tracking

        await tracking.finish(wanted, ended.report)
    first = first_report(handle, request)
    return conclude(ended, server, json_wanted=json_wanted, unanswered=first, summary=summary)


@click.command()
@_spec_argument
@_version_option
@_set_option
@options.as_option
@click.option("--offline", is_flag=True, help="Ask nobody: neither what serves now nor the checks.")
@click.option(
    "--traffic",
    type=click.FloatRange(min=0, max=1_000_000, min_open=True),
    metavar="N",
    help="Requests per second of the service: say what each step can see.",
)
@click.option(
    "--errors",
    type=click.FloatRange(min=0.001, max=50),
    default=1.0,
    show_default=True,
    metavar="PERCENT",
    help="Share of its answers that are errors anyway; with --traffic.",
)
@click.option("--markdown", is_flag=True, help="As a comment on a change: what would be different, and what stops it.")
@options.json_option
def plan(
    spec: str,
    version: str | None,
    overrides: tuple[str, ...],
    by: str,
    offline: bool,
    traffic: float | None,
    errors: float,
    markdown: bool,
    json_wanted: bool,
) -> None:
    r"""Say what a deploy of SPEC would do: steps, times, gates, who may approve, what is exact and what is not.

    Starts nothing and changes nothing. When the stack runs, what serves now and the preflight checks are asked;
    otherwise, and with --offline, the plan says that it is not known.

    \b
    Example:
      deployment-specialist plan deployment.yaml --version 1.1.0
    """
    if markdown and json_wanted:
        raise click.UsageError("--markdown and --json exclude each other")
    from cli.render.check_lines import closed
    from cli.render.plan import plan_offline, print_plan
    from cli.spec.reader import read_spec
    from cli.spec.secret_references import hand_over_environment, hand_over_secrets, missing_secrets
    from models.judges.outlook import look_ahead
    from models.verdict import combine

    whole = read_spec(spec, overrides=overrides, version=version, on_this_machine=uses_embedded())
    missing = missing_secrets(whole) if uses_embedded() else []
    real = None
    unknown = "nobody was asked (--offline)" if offline else ""
    try:
        if not offline:
            server = find_server()
            if server.embedded:
                hand_over_environment(whole)
            if server.embedded and not missing:
                hand_over_secrets(whole, replace=False)
            real = run_async(_ask_plan(server, whole, by))
    except CommandError as stop:
        unknown = str(stop)
    made = real or plan_offline(whole)
    judge = whole.strategy.judge
    seen = look_ahead(made.steps, judge, traffic, errors / 100) if traffic is not None and not made.first else ()
    if json_wanted:
        document = made.model_dump(mode="json") | {"known": real is not None, "missing_secrets": missing}
        if seen:
            document["can_see"] = [each.model_dump(mode="json") for each in seen]
        if made.checks:
            stopping = closed(made.checks)
            verdict = combine(check.verdict for check in made.checks)
            document["preflight"] = {"verdict": verdict, "closed_by": stopping}
        show_document(document | {"watched_seconds": made.watched().total_seconds()})
    elif markdown:
        from cli.render.markdown import plan_comment

        show(plan_comment(made, whole, why_unknown=unknown, missing=missing, seen=seen).rstrip(), as_it_is=True)
    else:
        print_plan(made, whole, why_unknown=unknown, missing=missing, seen=seen)


async def _ask_plan(server: Server, spec: "DeploymentSpec", by: str) -> "Plan":
    from cli.render.plan import ask_plan

    return await ask_plan(await connect(server), spec, by)


@click.command()
def schema() -> None:
    r"""Print the JSON Schema of SPEC, for editors and linters.

    \b
    Example:
      deployment-specialist schema > deployment.schema.json
    """
    show_document(spec_schema())


def spec_schema() -> dict[str, Any]:
    """The JSON Schema of the spec file."""
    from models.spec import DeploymentSpec

    document = DeploymentSpec.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "SPEC", **document}

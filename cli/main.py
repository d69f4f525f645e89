"""The command line: what there is, and what happens when something goes wrong.

Commands are imported when they are called, and heavy libraries inside them, so that `--help` answers at once.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

import click

from cli.exits import DEFECT, INTERRUPTED, USAGE_ERROR, CommandError
from cli.invocation import INSTALLED, program_name
from cli.render.terminal import clean, say, show, show_document
from models.errors import DeploymentSpecialistError, SpecError

_COMMANDS = {
    "up": ("cli.commands.stack", "Start the embedded stack: Temporal, worker, router, supervisor."),
    "down": ("cli.commands.stack", "Stop the control plane; --all: the deployed services too."),
    "doctor": ("cli.commands.stack", "Say what runs, what is missing and how to get it."),
    "init": ("cli.commands.init", "Write a first SPEC from a Compose file, a Deployment or a command."),
    "plan": ("cli.commands.deploy", "Say what a deploy would do, without doing it."),
    "deploy": ("cli.commands.deploy", "Deploy SPEC, and follow it to its end."),
    "schema": ("cli.commands.deploy", "Print the JSON Schema of SPEC."),
    "status": ("cli.commands.progress", "Say what happens, or how it ended."),
    "watch": ("cli.commands.progress", "Follow a running deployment."),
    "history": ("cli.commands.history", "List what happened to a target."),
    "logs": ("cli.commands.logs", "Print what the instances of a target print."),
    "report": ("cli.commands.progress", "Print the report of the last deployment."),
    "approve": ("cli.commands.decisions", "Let a deployment go on where it waits for an approval."),
    "withdraw": ("cli.commands.decisions", "Take a deployment out of the queue."),
    "reject": ("cli.commands.decisions", "Refuse the approval that a deployment waits for."),
    "hold": ("cli.commands.decisions", "Stop before the next move."),
    "resume": ("cli.commands.decisions", "Go on after a hold."),
    "resolve": ("cli.commands.decisions", "Decide how a failed rollback goes on."),
    "rollback": ("cli.commands.rollback", "Emergency: back to the release before, at once."),
    "ci-report": ("cli.commands.ci", "Hand a deployment's result on to GitHub Actions or GitLab CI."),
    "completion": ("cli.commands.completion", "Print what lets a shell complete commands."),
    "restore": ("cli.commands.restore", "List the backups of a database, or bring one back."),
}
EXIT_CODES = """\b
Exit codes:
  0    deployed; or the question was answered
  1    a defect of this program, or doctor found something missing
  2    usage or spec error, nothing was started
  10   rolled-back: the old release serves and is verified
  11   rollback-failed: a human is needed
  12   awaiting-approval when --wait ran out
  13   rejected; or frozen: nothing has changed
  14   preflight-failed: nothing has changed
  15   held: a watch was inconclusive
  124  running, or queued, when --wait ran out; the deployment goes on
  130  detached by Ctrl-C; the deployment goes on (143: by SIGTERM)
"""


class Commands(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(_COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        command.epilog = f"{command.epilog or ''}\n\n{EXIT_CODES}".strip()
        command.help = _kept_as_written(command.help)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS:
            import difflib

            close = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(_COMMANDS)}"
            raise click.UsageError(f"there is no command {clean(args[0], 40)!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, (_, sentence) in _COMMANDS.items()])


def _kept_as_written(text: str | None) -> str:
    """Keeps the lines of examples, and says in them how this program was called: they are there to be pasted.

    Click's mark for it is a control character, which no docstring here contains.
    """
    return (text or "").replace("\\b\n", "\b\n").replace(f"  {INSTALLED} ", f"  {program_name()} ")


def _say_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from cli.version import own_version

        show(f"{INSTALLED} {own_version()}")
        ctx.exit()


@click.group(cls=Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_say_version, help="Print it.")
@click.option("--debug", is_flag=True, help="Show tracebacks; also DEPLOYMENT_SPECIALIST_DEBUG=1.")
def commands(debug: bool) -> None:
    r"""Deploy a service so that it ends fully new, fully old, or loudly in a human's hands.

    \b
    Example:
      deployment-specialist deploy deployment.yaml --version 1.1.0
    """
    if debug:
        os.environ["DEPLOYMENT_SPECIALIST_DEBUG"] = "1"


commands.help = _kept_as_written(commands.help)


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns the process's exit code; errors become one sentence each."""
    json_wanted = "--json" in arguments
    try:
        result = commands.main(args=list(arguments), prog_name=program_name(), standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        return _stopped(_usage_sentence(error), USAGE_ERROR, json_wanted)
    except SpecError as error:
        return _stopped(str(error), USAGE_ERROR, json_wanted)
    except CommandError as stop:
        return _stopped(str(stop), stop.code, json_wanted, **stop.more)
    except (click.Abort, KeyboardInterrupt):
        return _stopped("stopped by Ctrl-C", INTERRUPTED, json_wanted)
    except DeploymentSpecialistError as error:
        _trace()
        return _stopped(str(error), DEFECT, json_wanted)
    except Exception as error:
        _trace()
        sentence = f"{type(error).__name__}: {clean(str(error), 500)} (DEPLOYMENT_SPECIALIST_DEBUG=1 shows where)"
        return _stopped(sentence, DEFECT, json_wanted)


def _usage_sentence(error: click.ClickException) -> str:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error.format_message()
    text = clean(error.format_message())
    context = getattr(error, "ctx", None)
    if context is None:
        return text
    return f"{text} ({context.command_path} --help says more)"


def _stopped(sentence: str, code: int, json_wanted: bool, **more: object) -> int:
    say(sentence)
    if json_wanted:
        show_document({"outcome": None, "exit_code": code, "error": sentence, **more})
    return code


def _trace() -> None:
    if os.environ.get("DEPLOYMENT_SPECIALIST_DEBUG", "") not in ("", "0"):
        traceback.print_exc(file=sys.stderr)

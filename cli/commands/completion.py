"""`completion`: what a shell needs to complete commands and options with the tab key."""

import click

from cli.invocation import INSTALLED
from cli.render.terminal import show

_SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_DEPLOYMENT_SPECIALIST_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS), metavar="SHELL")
def completion(shell: str) -> None:
    r"""Print the script that lets SHELL (bash, zsh or fish) complete commands and options of the installed program.

    \b
    Example:
      deployment-specialist completion bash > ~/.local/share/bash-completion/completions/deployment-specialist
    """
    from click.shell_completion import get_completion_class

    from cli.main import commands

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101  click knows all three
    show(kind(commands, {}, INSTALLED, _VARIABLE).source())

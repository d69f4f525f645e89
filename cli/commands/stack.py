"""`up`, `down`, `doctor`: the embedded stack of this home, and what is wrong with it."""

import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli.client.connection import home_path
from cli.invocation import program
from cli.render.terminal import clean, say, show, show_document

if TYPE_CHECKING:
    from embedded.stack import Stack

_DISK_WANTED = 512 << 20


def _stack() -> "Stack":
    from embedded.stack import Stack
    from home.paths import Home

    return Stack(Home.from_environment())


@click.command()
def up() -> None:
    r"""Start the embedded stack of this home; what runs already stays as it is.

    \b
    Example:
      deployment-specialist up
    """
    stack = _stack()
    stack.up(say)
    show(f"Temporal   {stack.temporal_address}")
    show(f"UI         {stack.ui_url}")
    show(f"home       {home_path()}")


@click.command()
@click.option("--all", "everything", is_flag=True, help="The deployed services and their front proxies too.")
def down(everything: bool) -> None:
    r"""Stop the control plane; deployed services serve on, unless --all.

    \b
    Example:
      deployment-specialist down --all
    """
    if not home_path().is_dir():
        say(f"nothing runs: there is no home at {home_path()}")
        return
    _stack().down(everything, say)


@click.command()
@options.json_option
def doctor(json_wanted: bool) -> int:
    r"""Say what runs, what is missing and how to get it. Exit code 0 when all is well, 1 when not.

    \b
    Example:
      deployment-specialist doctor --json
    """
    missing = [*_machine(), *_programs()]
    components: list[dict[str, Any]] = []
    running, ui = False, ""
    if home_path().is_dir():
        stack = _stack()
        running = stack.running()
        ui = stack.ui_url if running else ""
        components = [
            {"name": c.name, "pid": c.pid, "address": c.address, "healthy": c.healthy, "detail": c.detail}
            for c in stack.components()
        ]
    if not running:
        missing.append(f"the stack does not run; start it with `{program()} up`")
    missing += [f"{c['name']} is not healthy: {clean(str(c['detail']))}" for c in components if not c["healthy"]]
    if json_wanted:
        about = {"home": str(home_path()), "running": running, "ui": ui}
        show_document({**about, "components": components, "missing": missing})
    else:
        _print(running, components, missing)
        if ui:
            show(f"\nTemporal UI: {ui}")
    return 0 if running and not missing else 1


def _print(running: bool, components: list[dict[str, Any]], missing: list[str]) -> None:
    show(f"home {home_path()}: {'running' if running else 'not running'}")
    rows = [("component", "pid", "state", "address")]
    rows += [
        (c["name"], str(c["pid"] or "-"), "healthy" if c["healthy"] else "NOT HEALTHY", _short(c["address"]) or "-")
        for c in components
    ]
    names, pids, states = (max(len(row[column]) for row in rows) for column in range(3))
    for row in rows if components else ():
        show(f"{row[0]:{names}}  {row[1]:>{pids}}  {row[2]:{states}}  {row[3]}")
    if missing:
        show("\nwhat is missing:")
    for sentence in missing:
        show(f"  {sentence}")


def _short(address: str) -> str:
    """A socket in the home is called by its name: the home is in the first line."""
    return address.replace(f"unix:{home_path()}/", "")


def _machine() -> list[str]:
    """What the machine and the user lack."""
    found = []
    if sys.version_info < (3, 11):  # noqa: UP036  whoever runs this from a checkout may have another Python
        found.append(f"Python 3.11 or newer; this is {sys.version.split()[0]}")
    place = home_path()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        found.append(f"a folder for the home: {place} is a file; set DEPLOYMENT_SPECIALIST_HOME")
        return found
    if not os.access(place, os.W_OK | os.X_OK):
        found.append(f"write access to {place}; set DEPLOYMENT_SPECIALIST_HOME to a folder of yours")
    free = shutil.disk_usage(place).free
    if free < _DISK_WANTED:
        found.append(f"disk space at {place}: {free >> 20} MiB are free, {_DISK_WANTED >> 20} MiB are wanted")
    return found


def _programs() -> list[str]:
    """Which servers cannot be found, and how to get them."""
    from embedded.binaries import PACKAGES, find
    from models.errors import StackError

    missing = []
    for name in PACKAGES:
        try:
            find(name)
        except StackError as error:
            missing.append(str(error))
    return missing

"""`logs`: what the instances of a target print.

It is read here and not by the worker: what a service prints does not belong into Temporal. So it needs what
`docker logs` or `kubectl logs` would need, and of the local platform the machine that the service runs on.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import options
from cli.client.connection import ANSWER_WITHIN, connect, find_server, home_path, run_async, uses_embedded
from cli.exits import CommandError
from cli.render.terminal import clean, clean_lines, say, show

if TYPE_CHECKING:
    from models.release import Logs
    from models.spec import DeploymentSpec

EVERY = 1.0
_LOOK_BACK = 20


@click.command()
@options.subject_argument
@click.option("--candidate", is_flag=True, help="Of the version that is being brought in, not of the one that serves.")
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Of each instance.")
@click.option("--spec", metavar="SPEC", type=click.Path(), help="Where it runs; default: as deployed last.")
def logs(subject: tuple[str, str], candidate: bool, follow: bool, lines: int, spec: str | None) -> None:
    r"""Print what the instances of SERVICE/TARGET printed last, each line after the name of its instance.

    Read from here, with your own access to Docker or to the cluster.

    \b
    Example:
      deployment-specialist logs shop/staging --candidate -f
    """
    run_async(_logs(subject, _read_spec(spec, subject) if spec else None, candidate, follow, lines))


def _read_spec(path: str, subject: tuple[str, str]) -> "DeploymentSpec":
    from cli.spec.reader import read_spec

    spec = read_spec(path, on_this_machine=False)
    if (spec.service, spec.target) != subject:
        raise CommandError(f"{clean(path)} is the spec of {spec.service}/{spec.target}, not of {'/'.join(subject)}")
    return spec


async def _logs(
    subject: tuple[str, str], spec: "DeploymentSpec | None", candidate: bool, follow: bool, lines: int
) -> None:
    known = spec or await _last_spec(subject)
    with ExitStack() as stack:
        home = _home(known, stack)
        async for found in _pieces(known, home, candidate, follow, lines):
            for line in log_lines(found):
                show(line, as_it_is=True)


def _home(spec: "DeploymentSpec", stack: ExitStack) -> Path:
    """The home of this machine, or one that is gone afterwards: only local services need it to be a real one."""
    if home_path().is_dir():
        return home_path()
    if spec.platform.kind == "local":
        raise CommandError("its processes are on the worker's machine, and so is what they print, in logs/ of its home")
    return Path(stack.enter_context(tempfile.TemporaryDirectory()))


async def _pieces(
    spec: "DeploymentSpec", home: Path, candidate: bool, follow: bool, lines: int
) -> "AsyncIterator[Logs]":
    from activities.platforms.registry import Platforms
    from home.paths import Home
    from models.errors import DeploymentSpecialistError
    from models.release import Fence, Order

    # The fence of a reader orders nothing.
    order = Order(
        service=spec.service,
        target=spec.target,
        platform=spec.platform,
        fence=Fence(epoch=0, sequence=0),
        endpoints=spec.verify.endpoints,
        health=spec.verify.rule,
    )
    platform = Platforms(Home(home))[spec.platform.kind]
    since: dict[str, str] = {}
    revision, away = "", ""
    try:
        while True:
            try:
                found = await platform.logs(order, candidate=candidate, lines=lines, since=since)
            except DeploymentSpecialistError as error:
                # A candidate may come, and a server may be away for a while.
                if not follow:
                    raise CommandError(f"{spec.service}/{spec.target}: {clean(error.sentence)}", 1) from None
                if str(error) != away:
                    say(clean(error.sentence))
                away = str(error)
            else:
                away = ""
                if found.revision != revision:
                    say(f"{found.revision}, {len(found.printed)} instances")
                    revision = found.revision
                yield found
                since |= {each.instance: each.cursor for each in found.printed if each.cursor}
            if not follow:
                return
            await asyncio.sleep(EVERY)
    finally:
        await platform.aclose()


def log_lines(found: "Logs") -> list[str]:
    """Each line after the name of its instance, as short as it tells them apart; with one instance the lines alone."""
    names = [each.instance for each in found.printed]
    begin = len(_common_beginning(names))
    return [
        f"{f'[{each.instance[begin:]}] ' if len(names) > 1 else ''}{clean_lines(line)}"
        for each in found.printed
        for line in each.lines
    ]


def _common_beginning(names: list[str]) -> str:
    """What all begin with, up to a mark between words."""
    first, last = min(names, default=""), max(names, default="")
    same = next((n for n, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    return first[: max(first.rfind(mark, 0, same) for mark in "-.") + 1]


async def _last_spec(subject: tuple[str, str]) -> "DeploymentSpec":
    """The spec of the newest deployment."""
    from cli.commands.rollback import request_of
    from models.names import workflow_id

    if not uses_embedded() or home_path().is_dir():
        client = await connect(find_server())
        # The parts of the id were checked as names: there is no quote in them.
        query = f"WorkflowId = '{workflow_id(*subject)}'"
        async for run in client.list_workflows(query, limit=_LOOK_BACK, rpc_timeout=2 * ANSWER_WITHIN):
            request = await request_of(client, run)
            if request is not None:
                return request.spec  # type: ignore[no-any-return]
    raise CommandError(f"Temporal remembers no deployment of {'/'.join(subject)}; --spec FILE says where it runs")

"""Which Temporal is spoken to: the configured one, or the embedded stack of this home.

Nothing here makes a home or starts anything unless it is told to: asking for a status must leave no trace.
"""

import asyncio
import os
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from cli.exits import CommandError
from cli.invocation import program
from cli.render.terminal import clean, say
from models.errors import StackError, UnavailableError

if TYPE_CHECKING:
    from temporalio.client import Client

    from embedded.stack import Stack

T = TypeVar("T")
CONNECT_WITHIN = 8.0
ANSWER_WITHIN = timedelta(seconds=5)


@dataclass(frozen=True)
class Server:
    """A Temporal server that commands speak to.

    Attributes:
        options: keyword arguments for `Client.connect`.
        where: how a sentence names it.
        ui_url: the UI's base address; empty where it is not known.
        embedded: it belongs to this home.
    """

    options: dict[str, Any]
    where: str
    ui_url: str
    embedded: bool

    def link(self, workflow_id: str, run_id: str) -> str:
        """Where the Temporal UI shows a run like a log, a line for each activity; empty where it is not known."""
        if not self.ui_url:
            return ""
        namespace = quote(self.options.get("namespace", "default"), safe="")
        run = f"{quote(workflow_id, safe='')}/{run_id}"
        return f"{self.ui_url.rstrip('/')}/namespaces/{namespace}/workflows/{run}/timeline"


def uses_embedded() -> bool:
    """Says whether no Temporal is configured, so that this home's own stack is meant."""
    return not (os.environ.get("TEMPORAL_ADDRESS") or os.environ.get("TEMPORAL_PROFILE"))


def home_path() -> Path:
    """Says where the home is, without making it."""
    given = os.environ.get("DEPLOYMENT_SPECIALIST_HOME")
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(given or Path(state) / "deployment-specialist").expanduser()


def find_server(*, start: bool = False) -> Server:
    """Finds the server; with `start`, this home's stack is started when it does not run, and stderr says so.

    Raises:
        CommandError: there is none, or the configuration is wrong.
    """
    if not uses_embedded():
        return _configured()
    try:
        stack = _embedded(start=start)
        return Server({"target_host": stack.temporal_address}, f"this home ({home_path()})", stack.ui_url, True)
    except (StackError, UnavailableError) as error:
        raise CommandError(f"the embedded stack cannot be used: {error} Start it with `{program()} up`") from None


def _embedded(*, start: bool) -> "Stack":
    not_running = f"the stack of this home is not running; start it with `{program()} up` ({home_path()})"
    if not start and not home_path().is_dir():
        raise CommandError(not_running)
    from embedded.stack import Stack
    from home.paths import Home

    stack = Stack(Home.from_environment())
    if start:
        if not stack.running():
            say(f"starting the embedded stack ({home_path()})")
            stack.up(say)
        elif stack.worker_is_outdated():
            # It could refuse what is new in a spec, or pass it over. Deployments under way go on with the new one.
            say(f"the worker of this home runs other code than this command: it is replaced ({home_path()})")
            stack.up(say)
    # One dead part is no dead stack: it is being restarted, and an emergency cannot wait for the others.
    elif not any(component.pid for component in stack.components()):
        raise CommandError(not_running)
    return stack


def _configured() -> Server:
    from temporalio.envconfig import ClientConfig

    try:
        options: dict[str, Any] = dict(ClientConfig.load_client_connect_config())
    except Exception as error:  # the SDK raises whatever its TOML and TLS readers raise
        raise CommandError(f"the Temporal configuration cannot be read: {clean(str(error), 300)}") from None
    options.setdefault("target_host", "localhost:7233")
    named = "TEMPORAL_ADDRESS" if os.environ.get("TEMPORAL_ADDRESS") else "TEMPORAL_PROFILE"
    where = f"{options['target_host']} ({named})"
    return Server(options, where, os.environ.get("TEMPORAL_UI_URL", ""), False)


async def connect(server: Server) -> "Client":
    """Connects, or says within seconds that nobody answers.

    Raises:
        CommandError: Temporal does not answer there.
    """
    from temporalio.client import Client
    from temporalio.runtime import Runtime, TelemetryConfig

    from workflows.converter import strict_data_converter

    # The SDK's core writes its warnings to stdout, in the middle of a JSON document; what they say is said here anyway.
    runtime = Runtime(telemetry=TelemetryConfig(logging=None))
    last = f"within {CONNECT_WITHIN:.0f} seconds"
    try:
        async with asyncio.timeout(CONNECT_WITHIN):
            while True:
                try:
                    return await Client.connect(**server.options, data_converter=strict_data_converter, runtime=runtime)
                except RuntimeError as error:
                    last = f"({clean(str(error), 160)})"
                    if not server.embedded:
                        raise
                await asyncio.sleep(0.3)  # it is being restarted
    except (TimeoutError, RuntimeError):
        raise CommandError(f"Temporal does not answer at {server.where} {last}") from None
    except (ValueError, TypeError) as error:
        raise CommandError(f"Temporal cannot be reached at {server.where}: {clean(str(error), 200)}") from None


def rpc_sentence(error: Exception) -> str:
    """Says what Temporal answered, in one line."""
    status = getattr(getattr(error, "status", None), "name", "")
    text = clean(str(error) or type(error).__name__, 300)
    if status in ("DEADLINE_EXCEEDED", "CANCELLED"):
        return "Temporal did not answer in time"
    if status == "UNAVAILABLE":
        return "Temporal is not reachable"
    return f"Temporal refused: {text}"


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Runs a command's asynchronous part; what Temporal refuses ends it with a sentence."""
    from temporalio.service import RPCError

    try:
        return asyncio.run(work)
    except RPCError as error:
        raise CommandError(rpc_sentence(error), 1) from None

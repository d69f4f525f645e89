"""Shows the whole thing in a minute: a service goes live, a good release comes in by canary, a bad one is caught.

Users send requests all the while. The exit code is 0 only when everything that is promised came true: the good release
serves, the bad one was rolled back, and the only requests that failed are those that the bad release answered itself.

State lives under `build/demo`, a world of its own. What it started goes on running afterwards, to be looked at.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from examples.load import Load, LoadResult  # noqa: E402

HOME = Path(os.environ.get("DEMO_HOME") or ROOT / "build" / "demo")
SPEC = ROOT / "examples" / "shop" / "deployment.yaml"
RATE = 100.0
GOOD, BAD = "1.1.0", "1.2.0"
LONGEST_DEPLOY_S = 120
console = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Deployed:
    """How one deployment ended."""

    document: dict[str, Any]
    exit_code: int

    @property
    def outcome(self) -> str:
        """As the contract names it."""
        return str(self.document.get("outcome"))


def command(*arguments: str, json_out: bool = False) -> subprocess.CompletedProcess[str]:
    """Runs the command line as a user would; its progress goes to this terminal."""
    return subprocess.run(
        [sys.executable, str(ROOT / "starter.py"), *arguments],
        env={**os.environ, "DEPLOYMENT_SPECIALIST_HOME": str(HOME)},
        stdout=subprocess.PIPE if json_out else sys.stderr,
        text=True,
        check=False,
        timeout=LONGEST_DEPLOY_S,
    )


def deploy(listen: str, version: str, *settings: str) -> Deployed:
    """Deploys one version of the shop."""
    console.rule(f"[bold]deploy {version}")
    values = [f"platform.listen={listen}", *settings]
    chosen = [part for value in values for part in ("--set", value)]
    run = command("deploy", str(SPEC), "--version", version, *chosen, "--json", json_out=True)
    return Deployed(json.loads(run.stdout or "{}"), run.returncode)


def free_address() -> str:
    """8080 when nobody has it, else whatever is free."""
    for port in (8080, 0):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return f"127.0.0.1:{listener.getsockname()[1]}"
    raise SystemExit("no port is free on 127.0.0.1")


def summarize(good: Deployed, bad: Deployed, load: LoadResult) -> list[tuple[str, str, bool]]:
    """What was promised, what was seen, and whether that is the same."""
    lost = [record for record in load.failures if record.version != BAD]
    own = load.failed - len(lost)
    measured = bad.document.get("measured") or {}
    to_stable = measured.get("verdict_to_stable")
    watched = _watched_until_verdict(bad.document)
    return [
        (f"{GOOD} comes in by canary", f"{good.outcome}, exit code {good.exit_code}", good.exit_code == 0),
        (f"{BAD} fails a tenth of its requests", f"{bad.outcome}, exit code {bad.exit_code}", bad.exit_code == 10),
        ("time to verdict", f"{watched:.1f} s" if watched else "never", watched is not None),
        ("verdict to 100 % stable", f"{to_stable:.3f} s" if to_stable is not None else "never", to_stable is not None),
        ("requests sent by users", str(load.sent), load.sent > 0),
        (f"failed, answered badly by {BAD} itself", str(own), own > 0),
        ("failed, lost by a deployment", str(len(lost)), not lost),
    ]


def _watched_until_verdict(document: dict[str, Any]) -> float | None:
    for stage in document.get("stages", []):
        for check in stage["checks"]:
            if check["verdict"] == "fail" and "seconds" in check["evidence"]:
                return float(check["evidence"]["seconds"])
    return None


def main() -> int:
    """Runs the demo; 0 when all of it came true."""
    began = time.monotonic()
    HOME.mkdir(parents=True, exist_ok=True)
    if command("down", "--all").returncode:
        return 1
    shutil.rmtree(HOME)
    listen = free_address()
    first = deploy(listen, "1.0.0")
    if first.exit_code:
        return 1
    with Load(f"http://{listen}/products", RATE) as load:
        good = deploy(listen, GOOD)
        bad = deploy(listen, BAD, "platform.environment.ERROR_SHARE=0.1")
        result = load.stop()
    rows = summarize(good, bad, result)
    table = Table(title=f"in {time.monotonic() - began:.0f} seconds", title_style="bold", show_header=False, box=None)
    for what, seen, holds in rows:
        table.add_row("[green]✓[/]" if holds else "[red]✗[/]", what, f"[bold]{seen}[/]")
    console.rule("[bold]what happened")
    console.print(table)
    console.print(f"Temporal UI  {ui_address()}", soft_wrap=True)
    console.print(f"report       {bad.document.get('report') or '-'}", soft_wrap=True)
    console.print(f"users        http://{listen}/products", soft_wrap=True)
    stop = f"DEPLOYMENT_SPECIALIST_HOME={HOME} {sys.executable} {ROOT / 'starter.py'} down --all"
    console.print(f"It goes on running, to be looked at. Stop all of it:\n  {stop}", soft_wrap=True)
    return 0 if all(holds for _, _, holds in rows) else 1


def ui_address() -> str:
    """Where the Temporal UI of this world answers."""
    run = command("doctor", "--json", json_out=True)
    return str(json.loads(run.stdout or "{}").get("ui", "see `starter.py doctor`"))


if __name__ == "__main__":
    sys.exit(main())

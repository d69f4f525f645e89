"""Starts supervisord, and writes the configuration it reads.

Paths of a home may hold anything, and supervisord's configuration file cannot: `%`, quotes, ` #` and ` ;` mean
something there. So the file holds no path at all: supervisord runs in the home, everything is named relative to it,
and what cannot be comes through the environment, which is not parsed.
"""

import json
import math
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from embedded.supervision.client import Client
from embedded.supervision.launch import identity, read
from embedded.supervision.processes import Identity, signal_group, wait_for_end
from embedded.supervision.processes import alive as is_alive
from embedded.supervision.programs import HOME_MARK, NAME_MARK, Definitions, Program
from home.paths import Home
from models.errors import StackError, UnavailableError

GUARDIAN = "guardian"
STARTS_WITHIN = 10.0
QUICK_ENDS = 5

_MAIN = """\
[supervisord]
nodaemon=true
silent=true
logfile=logs/supervisord.log
logfile_maxbytes=1MB
logfile_backups=1
loglevel=warn
pidfile=supervisor/supervisord.pid
nocleanup=true
strip_ansi=false
minfds=256
minprocs=16

[unix_http_server]
file=%(ENV_DEPLOYMENT_SPECIALIST_SOCKET)s
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""

# Pauses grow by a second with each quick end. After QUICK_ENDS of them supervisord gives up and the guardian lets it
# begin anew, so that no pause is longer than that many seconds.
_PROGRAM = """
[program:{name}]
command=%(ENV_DEPLOYMENT_SPECIALIST_LAUNCH)s programs/{name}/launch.json
autostart=true
autorestart=true
startsecs=1
startretries={retries}
stopsignal=TERM
stopwaitsecs={stop_seconds}
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile=logs/{name}.log
stdout_logfile_maxbytes=0
stdout_logfile_backups=0
"""


def alive(home: Home, timeout: float = 2.0) -> bool:
    """Whether the home's supervisord answers and is not on its way down."""
    try:
        return int(Client(home.supervisor_socket, timeout).call("getState")["statecode"]) == 1
    except UnavailableError:
        return False


def write_configuration(home: Home) -> None:
    """Writes the configuration from the programs that are defined. The caller holds the lock `supervisor`."""
    programs = Definitions(home)
    text = _MAIN
    for name in programs.names():
        program = programs.load(name)
        if program is not None:
            text += _PROGRAM.format(
                name=name,
                # One second more than ours, so that it is us who decide, to the fraction of a second.
                stop_seconds=math.ceil(program.stop_seconds) + 1,
                retries=1_000_000 if name == GUARDIAN else QUICK_ENDS,
            )
    home.write(home.path / "supervisord.conf", text)


def guardian_program(home: Home) -> Program:
    """The program that watches supervisord, and that supervisord watches."""
    here = Path(__file__).with_name("watchdog.py")
    return Program(GUARDIAN, (sys.executable, "-IS", str(here), str(home.path)), home.path, {}, 3.0)


def ensure(home: Home) -> None:
    """Starts supervisord when it does not run, and replaces one that hangs; what it watched runs on.

    Raises:
        StackError: it does not start; the text has the end of its log.
        UnavailableError: another process has been starting it for too long.
    """
    if alive(home):
        return
    with home.lock("supervisor"):
        process = process_of(home)
        if process is not None and not _answers(home, process):
            # It hangs. Nothing that it started goes down with it.
            signal_group(process, signal.SIGKILL)
            wait_for_end(process, STARTS_WITHIN)
        if not alive(home):
            _start(home)


def replace_outdated(home: Home) -> None:
    """Replaces a supervisord that another installation started; what it watched runs on.

    Raises:
        StackError: ours does not start.
        UnavailableError: another process has been starting it for too long.
    """
    with home.lock("supervisor"):
        process = process_of(home)
        started_by = read(str(_folder(home) / "launch.json")).get("environment")
        if process is not None and started_by != json.loads(_description(home))["environment"]:
            signal_group(process, signal.SIGKILL)
            wait_for_end(process, STARTS_WITHIN)
            _start(home)


def stop(home: Home) -> None:
    """Ends supervisord and waits for its end; one that does not run is no error. Its programs are stopped by then."""
    process = process_of(home)
    if process is not None:
        _end(home, process)
    # One that was killed leaves it, and it may lie outside the home.
    home.supervisor_socket.unlink(missing_ok=True)


def _end(home: Home, process: Identity) -> None:
    try:
        Client(home.supervisor_socket).call("shutdown")
    except UnavailableError:
        signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + STARTS_WITHIN
    while not wait_for_end(process, 0.02) and time.monotonic() < deadline:
        alive(home)  # Being asked wakes it: it would think of its own end only once a second.
    if not wait_for_end(process, 0):
        signal_group(process, signal.SIGKILL)
        wait_for_end(process, STARTS_WITHIN)


def process_of(home: Home) -> Identity | None:
    """The process of the home's supervisord, if it runs."""
    found = identity(read(str(_folder(home) / "process.json")))
    return found if is_alive(found) else None


def _folder(home: Home) -> Path:
    folder = home.path / "supervisor"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _answers(home: Home, process: Identity) -> bool:
    deadline = time.monotonic() + STARTS_WITHIN
    while is_alive(process) and time.monotonic() < deadline:
        if alive(home):
            return True
        wait_for_end(process, 0.02)
    return not is_alive(process)


def _launcher() -> list[str]:
    return [sys.executable, "-IS", str(Path(__file__).with_name("launch.py"))]


def _marks(home: Home) -> dict[str, str]:
    return {HOME_MARK: str(home.path), NAME_MARK: "supervisor"}


def _description(home: Home) -> str:
    environment = {
        **_marks(home),
        "DEPLOYMENT_SPECIALIST_SOCKET": str(home.supervisor_socket),
        "DEPLOYMENT_SPECIALIST_LAUNCH": shlex.join(_launcher()),
    }
    return json.dumps(
        {
            "name": "supervisor",
            "argv": [sys.executable, "-I", "-m", "supervisor.supervisord", "-c", "supervisord.conf"],
            "directory": str(home.path),
            "environment": environment,
            "stop_seconds": STARTS_WITHIN,
            "log": str(home.logs / "supervisor.log"),
            "process": str(_folder(home) / "process.json"),
        },
        indent=1,
    )


def _start(home: Home) -> None:
    programs = Definitions(home)
    if programs.load(GUARDIAN) is None:
        programs.save(guardian_program(home))
    write_configuration(home)
    description = _folder(home) / "launch.json"
    home.write(description, _description(home))
    subprocess.run(
        [*_launcher(), "--detach", str(description)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_marks(home),  # from its first moment on, it can be found
        cwd=home.path,
        timeout=STARTS_WITHIN,
        check=True,
    )
    deadline = time.monotonic() + STARTS_WITHIN
    seen = False
    while time.monotonic() < deadline:
        if alive(home):
            return
        running = process_of(home) is not None
        if seen and not running:
            break
        seen = seen or running
        time.sleep(0.01)
    raise StackError(f"The supervisor does not start. The end of its log: {_log_tail(home)}")


def _log_tail(home: Home) -> str:
    try:
        text = (home.logs / "supervisor.log").read_text(errors="replace")
    except FileNotFoundError:
        return "(it wrote none)"
    return text[-2000:].strip()

"""What a supervised program is, and what is known of it on disk.

Each program has a folder: `launch.json` says how it is started (its environment may hold secrets: only the owner can
read it), `process.json` which process it is, and how often it was started. What runs is known from these files alone,
also while no supervisor answers.
"""

import glob
import json
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from embedded.supervision.launch import fingerprint, identity, read
from embedded.supervision.processes import Identity, alive
from home.paths import Home
from models.errors import StackError

_NAME = re.compile(r"[A-Za-z0-9_@-][A-Za-z0-9._@-]{0,199}", re.ASCII)
# What a program inherits from us besides its own environment: by these its processes are found wherever they went.
HOME_MARK = "DEPLOYMENT_SPECIALIST_SUPERVISED"
NAME_MARK = "DEPLOYMENT_SPECIALIST_PROGRAM"


@dataclass(frozen=True)
class Program:
    """A program that is kept running.

    Attributes:
        argv: what is started; never a place for secrets.
        environment: all of it: nothing is inherited.
        stop_seconds: from SIGTERM to SIGKILL.
    """

    name: str
    argv: tuple[str, ...]
    directory: Path
    environment: dict[str, str]
    stop_seconds: float = 10.0


@dataclass(frozen=True)
class ProgramState:
    """A program as it is now.

    Attributes:
        pid: the program's own process, also when a supervisor that was started later adopted it.
        starts: how often it was started since it was put here; 1 means it was never restarted.
        detail: why it does not run.
    """

    name: str
    pid: int | None
    running: bool
    starts: int
    started_at: datetime | None
    detail: str


class Definitions:
    """The programs' folders."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def names(self, prefix: str = "") -> list[str]:
        """All programs that are defined and whose names begin like this."""
        found = self._home.programs.glob(f"{glob.escape(prefix)}*/launch.json")
        return sorted(path.parent.name for path in found)

    def folder(self, name: str) -> Path:
        """The program's folder.

        Raises:
            StackError: the name cannot be used.
        """
        if not _NAME.fullmatch(name):
            raise StackError(f"{name!r} cannot name a program: letters, digits and . _ @ - are allowed.")
        return self._home.programs / name

    def log(self, name: str) -> Path:
        """Where the program's output goes."""
        return self._home.logs / f"{self.folder(name).name}.log"

    def log_marks(self, name: str) -> list[int]:
        """How long the log was when the program was last started, and the time before; the newest is the last."""
        marks = self._record(name).get("log_marks")
        return [mark for mark in marks if isinstance(mark, int)] if isinstance(marks, list) else []

    def text(self, program: Program) -> str:
        """The launch description of a program."""
        folder = self.folder(program.name)
        if not program.argv or not Path(program.argv[0]).name:
            raise StackError(f"The program {program.name} has nothing to run.")
        marks = {HOME_MARK: str(self._home.path), NAME_MARK: program.name}
        return json.dumps(
            {
                "name": program.name,
                "argv": list(program.argv),
                "directory": str(program.directory),
                "environment": {**program.environment, **marks},
                "stop_seconds": program.stop_seconds,
                "log": str(self.log(program.name)),
                "process": str(folder / "process.json"),
            },
            indent=1,
            sort_keys=True,
        )

    def save(self, program: Program) -> None:
        """Writes the program's description, and forgets how often an earlier definition was started."""
        folder = self.folder(program.name)
        text = self.text(program)
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "process.json").unlink(missing_ok=True)
        self._home.write(folder / "launch.json", text)

    def load(self, name: str) -> Program | None:
        """The program as it was defined; None when it is not."""
        found = read(str(self.folder(name) / "launch.json"))
        if not found:
            return None
        environment = {k: v for k, v in found["environment"].items() if k not in (HOME_MARK, NAME_MARK)}
        return Program(name, tuple(found["argv"]), Path(found["directory"]), environment, found["stop_seconds"])

    def forget(self, name: str) -> None:
        """Removes what is known of a program; its log is kept."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self.folder(name))

    def process(self, name: str) -> Identity | None:
        """The program's process, if it runs."""
        found = identity(self._record(name))
        return found if alive(found) else None

    def current(self, program: Program) -> bool:
        """Whether exactly this is defined, and what runs was started by this definition."""
        text = self.text(program)
        try:
            defined = (self.folder(program.name) / "launch.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            return False
        return defined == text and self._record(program.name).get("of", self._of(text)) == self._of(text)

    def state(self, name: str, detail: str = "") -> ProgramState:
        """What is known of a program; `detail` is said only of one that does not run."""
        record = self._record(name)
        process = identity(record)
        running = alive(process)
        return ProgramState(
            name=name,
            pid=process.pid if running and process else None,
            running=running,
            starts=int(record.get("starts", 0)),
            started_at=datetime.fromtimestamp(record["at"], UTC) if "at" in record else None,
            detail="" if running else detail,
        )

    def _record(self, name: str) -> dict[str, Any]:
        return read(str(self.folder(name) / "process.json"))

    def _of(self, text: str) -> int:
        return fingerprint(text.encode())

"""Files that another program reads and we write: each is ours by its first line, or left alone.

The first line also holds the fence of the deployment that wrote it, so that a late write of an older one is refused.
What was there before a deployment's first write is kept beside it, for the way back.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from activities.observability.alert_rules import OWNER
from models.errors import PreconditionError
from models.release import Fence

_MARK = f"# {OWNER} "


class OwnedFile:
    """One file of a target in somebody's folder.

    Args:
        folder: that the other program reads `*.yml` from.
        service: whose it is.
        target: whose it is.
    """

    def __init__(self, folder: str, service: str, target: str) -> None:
        self.path = Path(folder) / f"{OWNER}.{service}.{target}.yml"
        # Neither ends like what is read.
        self._before = self.path.with_name(f".{self.path.name}.before")
        self._lock = self.path.with_name(f".{self.path.name}.lock")
        self._about = {"service": service, "target": target}

    def write(self, content: Any, fence: Fence) -> bool:
        """Writes it as YAML, unless it says so already; keeps what was there before this deployment.

        Returns: whether it is another one now.

        Raises:
            FencedOutError: a newer deployment has written it.
            PreconditionError: somebody else's file is there, or the folder cannot be written.
        """
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
        with self._locked():
            there = self._read()
            self._check(there, fence)
            if self._kept_by() != fence.epoch:
                self._replace(self._before, json.dumps({"epoch": fence.epoch, "text": there}))
            fresh = f"{_MARK}{json.dumps({**self._about, **fence.model_dump()})}\n{text}"
            if there != fresh:
                self._replace(self.path, fresh)
            return there is None or there.partition("\n")[2] != text

    def put_back(self, fence: Fence) -> bool:
        """Makes it what it was before this deployment's first write; nothing where there was none.

        Returns: whether it is another one now.

        Raises:
            FencedOutError: a newer deployment has written it.
        """
        with self._locked():
            if self._kept_by() != fence.epoch:
                return False
            there = self._read()
            self._check(there, fence)
            before = json.loads(self._before.read_text())["text"]
            if before is None:
                self.path.unlink(missing_ok=True)
            elif before != there:
                self._replace(self.path, before)
            self._before.unlink(missing_ok=True)
            return bool(before != there)

    def _read(self) -> str | None:
        try:
            return self.path.read_text()
        except FileNotFoundError:
            return None

    def _check(self, there: str | None, fence: Fence) -> None:
        if there is None:
            return
        first = there.partition("\n")[0]
        try:
            if not first.startswith(_MARK):
                raise ValueError
            said = json.loads(first.removeprefix(_MARK))
            seen = Fence(epoch=said["epoch"], sequence=said["sequence"])
        except (ValueError, KeyError, TypeError):
            raise PreconditionError(f"{self.path} was not written by {OWNER}: it is left alone; move it away") from None
        if seen.epoch > fence.epoch:
            fence.check_not_overtaken(seen, str(self.path))

    def _kept_by(self) -> int | None:
        try:
            epoch = json.loads(self._before.read_text())["epoch"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return int(epoch)

    def _replace(self, path: Path, text: str) -> None:
        # Whoever watches the folder never sees half of it.
        fresh = path.with_name(f".{path.name}.new")
        with fresh.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.chmod(0o644)
        fresh.replace(path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with self._lock.open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise PreconditionError(f"{self.path} cannot be written: {error.strerror or error}") from None

"""A release is run by programs that are not part of it: which ones, and what is known of them, is said in the plan.

`python3` is whatever the PATH leads to on that day; a script names its interpreter in its first line; an editable
installation leads Python back into the folder that everybody writes to. What can be measured of it is measured and
compared like the release itself. What leads out of the copy although it could lie in it is refused.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from activities.check_result import quote
from activities.system.directory_digest import TreeEntry, is_excluded
from activities.system.safe_open import NotRegularError, open_regular
from activities.system.scripts import first_line
from models.platforms import LocalPlatformSpec

PROGRAM = "program:"
LONGEST_PTH = 64 << 10
MOST_SAID = 5
_EDITABLE = "import __editable__"


@dataclass
class ReleasePrograms:
    """What a release is run by, beside what is in its folder.

    Attributes:
        digests: `program:` and a path → its sha256.
        told: what is run and is not copied, in words.
        wrong: what would run something else than what was measured.
    """

    digests: dict[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def find_programs(platform: LocalPlatformSpec, program: str, entries: Sequence[TreeEntry]) -> ReleasePrograms:
    """Looks at everything that starts with the service.

    Args:
        platform: says how it is run.
        program: where its program was found.
        entries: what of its directory is copied.
    """
    found = _Looking(platform, entries)
    found.see_program(program)
    found.see_arguments()
    found.see_environments(program)
    return found.programs


class _Looking:
    def __init__(self, platform: LocalPlatformSpec, entries: Sequence[TreeEntry]) -> None:
        self.programs = ReleasePrograms()
        self._platform = platform
        self._root = Path(platform.directory)
        self._entries = entries
        self._interpreter = ""

    def see_program(self, program: str) -> None:
        name = self._platform.run[0]
        if os.path.isabs(name) and self._is_here(name):
            self.programs.wrong.append(
                f"the program {quote(name)} is named by an absolute path into {self._root}, which is not the copy that "
                f"is run: write {quote(os.path.relpath(name, self._root))}"
            )
        elif not os.path.isabs(name) and ("/" in name or self._is_here(program)) and not self._is_copied(name):
            self.programs.wrong.append(
                f"the program {quote(name)} leads out of {self._root} or is excluded: it is not in the copy that is run"
            )
        elif "/" not in name and self._is_here(program) and program != str(self._root / name):
            self.programs.wrong.append(
                f"the PATH leads {quote(name)} into {self._root}, which is not the copy that is run: write "
                f"{quote(os.path.relpath(program, self._root))}"
            )
        elif not self._is_here(program):
            self._measure(name, program)
        self._see_first_line(program)

    def _see_first_line(self, program: str) -> None:
        words = first_line(Path(program))
        if not words:
            return
        interpreter = words[0]
        if PurePosixPath(interpreter).name == "env" and len(words) > 1:
            named = next((word for word in words[1:] if not word.startswith("-") and "=" not in word), "")
            path = self._platform.environment.get("PATH")
            interpreter = shutil.which(named, path=path if isinstance(path, str) else None) or ""
            if not interpreter:
                self.programs.wrong.append(f"{quote(program)} is run by {quote(named)}, which is not on the PATH")
                return
        self._interpreter = interpreter
        if self._is_here(interpreter) and not self._is_copied(os.path.relpath(interpreter, self._root)):
            self.programs.wrong.append(f"{quote(interpreter)}, which runs {quote(program)}, is excluded from the copy")
        elif not self._is_here(interpreter):
            self._measure(f"{os.path.basename(program)}'s first line", interpreter)

    def see_arguments(self) -> None:
        for argument in self._platform.run[1:]:
            if os.path.isabs(argument):
                self._see_path(argument)
            elif os.path.normpath(argument).split("/")[0] == ".." and (self._root / argument).exists():
                self.programs.wrong.append(
                    f"the argument {quote(argument)} leads out of {self._root}: from the copy that is run it leads "
                    "somewhere else. Write an absolute path, or put what it names into the directory"
                )

    def _see_path(self, path: str) -> None:
        if self._is_here(path) and self._is_copied(os.path.relpath(path, self._root)):
            self.programs.told.append(f"{quote(path)} is the folder's own, not the copy's: not measured")
        elif os.path.isfile(path):
            self._measure("an argument", path)
        elif os.path.isdir(path):
            self.programs.told.append(f"{quote(path)} is neither copied nor measured")

    def see_environments(self, program: str) -> None:
        """Virtual environments in the folder: the one that the program is of must lead to nothing else."""
        for entry in self._entries:
            if entry.kind == "interpreter":
                path = str(self._root / entry.path)
                self._say(f"{entry.path} is {os.path.realpath(path)}", os.path.realpath(path))
        for entry in self._entries:
            name = PurePosixPath(entry.path)
            if name.suffix == ".pth" and name.parent.name in ("site-packages", "dist-packages"):
                self._see_pth(name, program)
            elif name.name == "pyvenv.cfg" and _sees_the_system(self._root / entry.path):
                self.programs.told.append(f"{name.parent} also uses the packages of its interpreter: not measured")

    def _see_pth(self, name: PurePosixPath, program: str) -> None:
        leads = list(self._led_out(name))
        if not leads:
            return
        sentence = f"{quote(str(name))} leads Python out of the copy that is run, to {quote(leads[0])}"
        environment = self._environment_of(name)
        used = any(self._relative(each).is_relative_to(environment) for each in (program, self._interpreter) if each)
        if used:
            self.programs.wrong.append(
                f"{sentence}: install it without --editable (-e; uv sync --no-editable), so that it is measured"
            )
        else:
            self.programs.told.append(f"{sentence}: not measured")

    def _led_out(self, name: PurePosixPath) -> Iterator[str]:
        folder = self._root / name.parent
        try:
            with open_regular(self._root / name) as file:
                lines = file.read(LONGEST_PTH).decode(errors="replace").splitlines()
        except OSError:
            return
        for line in lines:
            if line.startswith(_EDITABLE):
                yield "where it was installed from"
            elif line.strip() and not line.startswith(("#", "import ", "import\t")):
                path = os.path.normpath(folder / line.strip())
                outside = os.path.isabs(line.strip()) or not self._is_here(path)
                if outside and os.path.exists(path):
                    yield path

    def _environment_of(self, name: PurePosixPath) -> PurePosixPath:
        return next(
            (each for each in name.parents if (self._root / each / "pyvenv.cfg").is_file()), PurePosixPath("/nowhere")
        )

    def _relative(self, path: str) -> PurePosixPath:
        return PurePosixPath(os.path.relpath(path, self._root))

    def _is_here(self, path: str) -> bool:
        return Path(os.path.normpath(path)).is_relative_to(self._root)

    def _is_copied(self, relative: str) -> bool:
        parts = PurePosixPath(os.path.normpath(relative))
        if parts.parts[:1] == ("..",):
            return False
        exclude = self._platform.exclude
        return not any(is_excluded(str(each), exclude) for each in (parts, *parts.parents) if each.name)

    def _measure(self, what: str, path: str) -> None:
        real = os.path.realpath(path)
        self._say(f"{quote(what)} is {quote(real)}" if real != what else quote(real), real)

    def _say(self, what: str, path: str) -> None:
        try:
            with open_regular(Path(path)) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except NotRegularError:
            self.programs.told.append(f"{what}: no regular file, and not measured")
            return
        except OSError as error:
            # What may be run need not be readable.
            self.programs.told.append(f"{what}: not measured, {error.strerror}")
            return
        self.programs.digests[PROGRAM + path] = digest
        self.programs.told.append(f"{what} (sha256 {digest[:12]}…)")


def _sees_the_system(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            text = file.read(LONGEST_PTH).decode(errors="replace")
    except OSError:
        return False
    return re.search(r"(?mi)^\s*include-system-site-packages\s*=\s*true\s*$", text) is not None

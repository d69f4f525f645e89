"""SPEC → `DeploymentSpec`, or everything that is wrong with it at once, each with its line.

Whoever repairs a file wants one round, not one per mistake; whoever runs a pipeline wants to know before anything has
started. So all is read, all is checked, and only then does anybody hear of it.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path as FilePath

from pydantic import ValidationError

from cli import overrides as options
from cli.problems import explain
from cli.yaml_source import LARGEST, Document, Path, Unreadable, decode, parse
from models.errors import SpecError
from models.preflight.freezing import FreezeWindow
from models.spec import DeploymentSpec

STDIN = "-"


def read_spec(
    source: str, *, overrides: Sequence[str] = (), version: str | None = None, on_this_machine: bool = True
) -> DeploymentSpec:
    """Reads a spec file, or standard input for `-`; paths in it become absolute.

    Args:
        source: the file's path.
        overrides: `KEY=VALUE` each, with dotted keys.
        version: overrides `release.version`.
        on_this_machine: the worker runs here, so the directory that is deployed must be here too.

    Raises:
        SpecError: its text has one line per problem: `file:line: path.to.key: sentence`.
    """
    name = "standard input" if source == STDIN else source
    if not name.isprintable():
        name = ascii(name)
    try:
        document = parse(decode(_read(source)))
    except Unreadable as error:
        raise SpecError(f"{name}:{error.line}: {error}" if error.line else f"{name}: {error}") from None
    if not isinstance(document.data, dict):
        raise SpecError(f'{name}:1: a spec is a mapping that begins with "service: NAME"')
    origins, problems = options.apply(document, overrides, version)
    problems += [f"{name}:{line}: {_dotted(path)}: {sentence}" for line, path, sentence in document.problems]
    try:
        spec = DeploymentSpec.model_validate(document.data)
    except ValidationError as error:
        found = list(explain(error, document, DeploymentSpec))
        # What YAML itself already complained about is no second problem.
        told = {path for _, path, _ in document.problems}
        found = [(path, sentence) for path, sentence in found if path not in told]
        found.sort(key=lambda problem: _line(document, problem[0]))
        problems += [f"{_where(name, document, origins, path)}: {_dotted(path)}: {s}" for path, s in found]
        raise SpecError("\n".join(dict.fromkeys(problems))) from None
    if problems:
        raise SpecError("\n".join(problems))
    spec = _absolute(spec, FilePath.cwd() if source == STDIN else FilePath(source).absolute().parent)
    for number, window in enumerate(spec.freeze):
        _check_freeze(window, _where(name, document, origins, ("freeze", number)), number)
    _check_counted(spec, _where(name, document, origins, ("strategy", "judge", "min_requests")))
    if on_this_machine:
        _check_directory(spec, _where(name, document, origins, ("platform", "directory")))
    return spec


def _read(source: str) -> bytes:
    try:
        if source == STDIN:
            return sys.stdin.buffer.read(LARGEST + 1)
        with open(source, "rb") as file:
            return file.read(LARGEST + 1)
    except IsADirectoryError:
        raise Unreadable("this is a directory; name the spec file in it") from None
    except FileNotFoundError:
        raise Unreadable("there is no such file") from None
    except OSError as error:
        raise Unreadable(f"the file cannot be read: {os.strerror(error.errno or 0)}") from None
    except ValueError:  # a NUL in the path
        raise Unreadable("this is no path of a file") from None


def _absolute(spec: DeploymentSpec, base: FilePath) -> DeploymentSpec:
    def resolved(path: str) -> str:
        return os.path.abspath(base / os.path.expanduser(path))

    artifacts = tuple(artifact.located(resolved) for artifact in spec.release.artifacts)
    platform = spec.platform.located(resolved)
    release = spec.release.model_copy(update={"artifacts": artifacts})
    preflight = spec.preflight.located(resolved)
    return spec.model_copy(update={"platform": platform, "release": release, "preflight": preflight})


def _check_freeze(window: FreezeWindow, where: str, number: int) -> None:
    from activities.preflight.freezing import NoSuchTime, check_window

    try:
        check_window(window)
    except NoSuchTime as error:
        raise SpecError(f"{where}: freeze.{number}: {error}") from None


def _check_counted(spec: DeploymentSpec, where: str) -> None:
    if spec.strategy.judge.min_requests and not spec.platform.counts_requests:
        raise SpecError(
            f"{where}: strategy.judge.min_requests: nothing counts requests without platform.counters, so that no "
            "watch could ever pass: give those, or leave this one away"
        )


def _check_directory(spec: DeploymentSpec, where: str) -> None:
    directory = spec.platform.directory
    shown = directory if directory.isprintable() else ascii(directory)
    problem = None
    if not os.path.exists(directory):
        problem = f"the directory {shown} does not exist"
    elif not os.path.isdir(directory):
        problem = f"{shown} is not a directory"
    elif not os.access(directory, os.R_OK | os.X_OK):
        problem = f"the directory {shown} cannot be read by this user"
    if problem:
        raise SpecError(f"{where}: platform.directory: {problem}")


def _line(document: Document, path: Path) -> int:
    while path and path not in document.lines:
        path = path[:-1]
    return document.lines.get(path, 1)


def _where(name: str, document: Document, origins: dict[Path, str], path: Path) -> str:
    for end in range(len(path), 0, -1):
        if path[:end] in origins:
            return origins[path[:end]]
    return f"{name}:{_line(document, path)}"


def _dotted(path: Path) -> str:
    text = ".".join(str(part) for part in path) or "the spec"
    return text if text.isprintable() and len(text) <= 300 else ascii(text[:300])

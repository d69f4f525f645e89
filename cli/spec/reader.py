"""SPEC → `DeploymentSpec`, or everything that is wrong with it at once, each with its line.

Whoever repairs a file wants one round, not one per mistake; whoever runs a pipeline wants to know before anything has
started. So all is read, all is checked, and only then does anybody hear of it.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path as FilePath

from pydantic import ValidationError

from cli.spec import overrides as options
from cli.spec.checks import problems_of
from cli.spec.copied import without_own_files
from cli.spec.secret_references import missing_secrets
from cli.spec.sizes import too_large
from cli.spec.validation_errors import explain
from cli.spec.yaml_source import LARGEST, Document, Path, UnreadableSpecError, decode, parse
from models.errors import SpecError
from models.spec import DeploymentSpec

STDIN = "-"


def read_spec(
    source: str,
    *,
    overrides: Sequence[str] = (),
    version: str | None = None,
    on_this_machine: bool = True,
    with_secrets: bool = False,
) -> DeploymentSpec:
    """Reads a spec file, or standard input for `-`; paths in it become absolute.

    Args:
        source: the file's path.
        overrides: `KEY=VALUE` each, with dotted keys.
        version: overrides `release.version`.
        on_this_machine: the worker runs here, so the directory that is deployed must be here too.
        with_secrets: the secrets that it refers to must be there as well.

    Raises:
        SpecError: its text has one line per problem: `file:line: path.to.key: sentence`.
    """
    name = "standard input" if source == STDIN else source
    if not name.isprintable():
        name = ascii(name)
    try:
        document = parse(decode(_read(source)))
    except UnreadableSpecError as error:
        raise SpecError(f"{name}:{error.line}: {error}" if error.line else f"{name}: {error}") from None
    if not isinstance(document.data, dict):
        raise SpecError(f'{name}:1: a spec is a mapping that begins with "service: NAME"')
    origins, problems = options.apply(document, overrides, version)
    problems += [f"{name}:{line}: {_dotted(path)}: {sentence}" for line, path, sentence in document.problems]
    own = None if source == STDIN else FilePath(os.path.abspath(source))
    base = own.parent if own else FilePath.cwd()
    try:
        spec = DeploymentSpec.model_validate(document.data)
    except ValidationError as error:
        found, mended = explain(error, document, DeploymentSpec)
        if mended is not None:
            found += problems_of(_absolute(mended, base, own), on_this_machine=on_this_machine)
        # What YAML itself already complained about is no second problem.
        told = {path for _, path, _ in document.problems}
        found = [(path, sentence) for path, sentence in found if path not in told]
        found.sort(key=lambda problem: _line(document, problem[0]))
        problems += [f"{_where(name, document, origins, path)}: {_dotted(path)}: {s}" for path, s in found]
        raise SpecError("\n".join(dict.fromkeys(problems))) from None
    spec = _absolute(spec, base, own)
    for path, sentence in problems_of(spec, on_this_machine=on_this_machine):
        problems.append(f"{_where(name, document, origins, path)}: {_dotted(path)}: {sentence}")
    if too := too_large(spec):
        problems.append(f"{name}: {too}")
    problems += missing_secrets(spec) if with_secrets else []
    if problems:
        raise SpecError("\n".join(problems))
    return spec


def _read(source: str) -> bytes:
    try:
        if source == STDIN:
            return sys.stdin.buffer.read(LARGEST + 1)
        with open(source, "rb") as file:
            return file.read(LARGEST + 1)
    except IsADirectoryError:
        raise UnreadableSpecError("this is a directory; name the spec file in it") from None
    except FileNotFoundError:
        raise UnreadableSpecError("there is no such file") from None
    except OSError as error:
        raise UnreadableSpecError(f"the file cannot be read: {os.strerror(error.errno or 0)}") from None
    except ValueError:  # a NUL in the path
        raise UnreadableSpecError("this is no path of a file") from None


def _absolute(spec: DeploymentSpec, base: FilePath, own: FilePath | None) -> DeploymentSpec:
    def resolved(path: str) -> str:
        return os.path.abspath(base / os.path.expanduser(path))

    artifacts = tuple(artifact.located(resolved) for artifact in spec.release.artifacts)
    platform = spec.platform.located(resolved)
    release = spec.release.model_copy(update={"artifacts": artifacts})
    preflight = spec.preflight.located(resolved)
    located = {"platform": platform, "release": release, "preflight": preflight}
    spec = spec.model_copy(update={**located, "observe": spec.observe.located(resolved)})
    return without_own_files(spec, own)


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

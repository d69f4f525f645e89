"""What a spec's model cannot know, because it asks the clock, the disk or the environment: all of it, at once."""

import os
from collections.abc import Iterator, Sequence

from cli.spec.yaml_source import Path
from models.arguments import not_filled_in
from models.platforms import LocalPlatformSpec
from models.platforms.local import FILLED_IN
from models.preflight.ci import CommandCi
from models.spec import DeploymentSpec

_SMOKE = ("BASE_URL", "VERSION", "SERVICE", "TARGET")
_CI = ("REVISION", "VERSION", "SERVICE", "TARGET")


def problems_of(spec: DeploymentSpec, *, on_this_machine: bool) -> Iterator[tuple[Path, str]]:
    """Yields for each problem the path it is at, in the file, and a sentence.

    Args:
        spec: with absolute paths.
        on_this_machine: the worker runs here, so the directory that is deployed must be here too.
    """
    yield from _freezes(spec)
    yield from _arguments(spec)
    if spec.strategy.judge.min_requests and not spec.platform.counts_requests:
        yield (
            ("strategy", "judge", "min_requests"),
            "nothing counts requests without platform.counters, so that no watch could ever pass: give those, or "
            "leave this one out",
        )
    if on_this_machine and (problem := _wrong_with_directory(spec.platform.directory)):
        yield ("platform", "directory"), problem


def _freezes(spec: DeploymentSpec) -> Iterator[tuple[Path, str]]:
    from activities.preflight.freezing import NoSuchTimeError, check_window

    for number, window in enumerate(spec.freeze):
        try:
            check_window(window)
        except NoSuchTimeError as error:
            yield ("freeze", number), str(error)


def _arguments(spec: DeploymentSpec) -> Iterator[tuple[Path, str]]:
    lists: list[tuple[Path, Sequence[str], Sequence[str]]] = []
    if isinstance(spec.platform, LocalPlatformSpec):
        lists.append((("platform", "run"), spec.platform.run, FILLED_IN))
    for number, test in enumerate(spec.verify.smoke):
        lists.append((("verify", "smoke", number, "command"), test.command or (), _SMOKE))
    if isinstance(spec.preflight.ci, CommandCi):
        lists.append((("preflight", "ci", "run"), spec.preflight.ci.run, _CI))
    for place, arguments, names in lists:
        for number, name in not_filled_in(arguments, names):
            known = ", ".join(f"${each}" for each in names)
            yield (
                (*place, number),
                f"${name} would be passed as it stands, because no shell runs this; filled in are {known}. Let the "
                f"program read its environment, or write [sh, -c, ...]",
            )


def _wrong_with_directory(directory: str) -> str:
    shown = directory if directory.isprintable() else ascii(directory)
    if not os.path.exists(directory):
        return f"the directory {shown} does not exist"
    if not os.path.isdir(directory):
        return f"{shown} is not a directory"
    if not os.access(directory, os.R_OK | os.X_OK):
        return f"the directory {shown} cannot be read by this user"
    return ""

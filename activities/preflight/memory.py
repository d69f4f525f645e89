"""A worker in a container sees the memory of the whole machine and is killed at its container's limit.

So the limits of the worker's own control group, and of each group above it, are read as the kernel keeps them
(https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/memory.html): what
is left below each of them counts, and the least of it decides.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil

from activities.check_result import Finding
from activities.preflight.machine import where
from models.spec import DeploymentSpec
from models.units import readable
from models.verdict import CheckResult

_PROC = Path("/proc")
# What version 1 writes where there is no limit: the largest number of bytes in whole pages.
_NO_LIMIT = 1 << 62


@dataclass(frozen=True)
class Limit:
    """A control group's limit, in bytes, and what is left below it."""

    group: str
    limit: int
    available: int


def check_memory(spec: DeploymentSpec, proc: Path = _PROC) -> CheckResult:
    """Compares what programs can still take without swapping with `preflight.memory_available`.

    Args:
        spec: says how much is wanted.
        proc: where the kernel describes this process.
    """
    finding = Finding("memory")
    wanted, available = spec.preflight.memory_available, psutil.virtual_memory().available
    evidence = {**where(spec), "available_bytes": available, "wanted_bytes": wanted}
    limits = list(read_limits(proc))
    narrowest = min(limits, key=lambda limit: limit.available, default=None)
    of = ""
    if narrowest is not None and narrowest.available < available:
        available, of = narrowest.available, f", below the limit of {readable(narrowest.limit)} of {narrowest.group}"
        evidence |= {"limit_bytes": narrowest.limit, "available_below_limit_bytes": available}
    said = f"{readable(available)} of memory are available on {evidence['machine']}{of}"
    if available < wanted:
        return finding.failed(f"{said}; preflight.memory_available wants {readable(wanted)}", **evidence)
    return finding.passed(said, **evidence)


def read_limits(proc: Path = _PROC) -> Iterator[Limit]:
    """Yields the memory limits that this process lives below, of both versions of control groups."""
    mounts = _mounts(proc)
    for line in _lines(proc / "self" / "cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        version = "cgroup2" if number == "0" and not controllers else "memory" if "memory" in controllers else ""
        for root, mount in mounts.get(version, ()):
            yield from _limits_above(version, _below(path, root), mount)


def _mounts(proc: Path) -> dict[str, list[tuple[str, Path]]]:
    """Where the hierarchies that can limit memory are seen: kind → (the group that is mounted there, the folder)."""
    found: dict[str, list[tuple[str, Path]]] = {}
    for line in _lines(proc / "self" / "mountinfo"):
        before, _, after = line.partition(" - ")
        place, what = before.split(), after.split()
        if len(place) < 5 or len(what) < 3:
            continue
        kind = {"cgroup2": "cgroup2", "cgroup": "memory"}.get(what[0], "")
        if kind == "cgroup2" or (kind == "memory" and "memory" in what[2].split(",")):
            found.setdefault(kind, []).append((place[3], Path(place[4])))
    return found


def _below(path: str, root: str) -> PurePosixPath:
    """The group's place below what is mounted: in a container only a part of the hierarchy is."""
    group = PurePosixPath(path)
    return group.relative_to(root) if group.is_relative_to(root) else PurePosixPath()


def _limits_above(version: str, group: PurePosixPath, mount: Path) -> Iterator[Limit]:
    for folder in (group, *group.parents):
        limit = _limit(version, mount / folder)
        if limit is not None:
            yield limit


def _limit(version: str, folder: Path) -> Limit | None:
    names = ("memory.max", "memory.current", "inactive_file")
    if version == "memory":
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    limit, used = _number(folder / names[0]), _number(folder / names[1])
    if limit is None or used is None or limit >= _NO_LIMIT:
        return None
    # Pages of files that nobody has looked at for a while are given back before anybody is killed.
    given_back = next(
        (int(line.split()[1]) for line in _lines(folder / "memory.stat") if line.split()[0] == names[2]), 0
    )
    return Limit(str(folder), limit, max(0, limit - max(0, used - given_back)))


def _number(path: Path) -> int | None:
    """None where there is no limit (`max`), or no such file: the root has none."""
    text = next(iter(_lines(path)), "")
    return int(text) if text.isdecimal() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []

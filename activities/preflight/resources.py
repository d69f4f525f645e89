"""A disk that fills up, a drowning machine or a missing descriptor in the middle of a deployment hurts the old version
as well. Memory is looked at in `activities.preflight.memory`.
"""

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from activities.check_result import Finding
from activities.preflight.machine import where
from home.paths import Home
from models.spec import DeploymentSpec
from models.units import format_share, readable
from models.verdict import CheckResult

_FILE_NR = Path("/proc/sys/fs/file-nr")


def check_disk(spec: DeploymentSpec, home: Home) -> CheckResult:
    """Compares each file system that the release uses with `preflight.disk_free` and `preflight.disk_free_bytes`.

    Free is what an ordinary user may still write, as `df` counts it; the share also holds for inodes, where the file
    system has a fixed number of them. What does not exist yet is looked at where it would be made.
    """
    finding = Finding("disk")
    wrong: list[str] = []
    evidence: dict[str, Any] = {}
    seen: set[int] = set()
    for what, path in _places(spec, home):
        try:
            device = path.stat().st_dev
            if device in seen:
                continue
            seen.add(device)
            found = os.statvfs(path)
        except OSError as error:
            return finding.not_asked(f"the file system of the {what} cannot be asked: {error.strerror}", **evidence)
        wrong += [f"the file system of the {what} {text}" for text in _too_full(spec, found)]
        evidence[what] = {
            "free_bytes": found.f_bavail * found.f_frsize,
            "free_share": round(_free_share(found), 4),
            "free_inodes_share": round(_free_inodes(found), 4),
        }
    free = min(part["free_bytes"] for part in evidence.values())
    evidence |= where(spec)
    if wrong:
        return finding.failed(f"on {evidence['machine']}: {'; '.join(wrong)}", **evidence)
    return finding.passed(f"{readable(free)} are free on {evidence['machine']}", **evidence)


def check_load(spec: DeploymentSpec) -> CheckResult:
    """Compares the load average of five minutes, for each core that is there, with `preflight.load_per_core`."""
    finding = Finding("load")
    most, cores = spec.preflight.load_per_core, psutil.cpu_count() or 1
    try:
        loads = os.getloadavg()
    except OSError as error:
        return finding.not_asked(f"the load cannot be asked: {error.strerror}")
    evidence = {**where(spec), "load": [round(each, 2) for each in loads], "cores": cores, "most_per_core": most}
    said = f"{loads[1] / cores:.3g} per core in five minutes ({loads[1]:.3g} on {cores}) on {evidence['machine']}"
    if loads[1] / cores > most:
        return finding.failed(f"the load was {said}; preflight.load_per_core allows {most:g}", **evidence)
    return finding.passed(f"the load was {said}", **evidence)


def check_descriptors(spec: DeploymentSpec, file_nr: Path = _FILE_NR) -> CheckResult:
    """Compares how many files and sockets the worker and the whole machine can still open with what is wanted.

    The worker's limit is its soft one, which what it starts inherits.
    """
    finding = Finding("descriptors")
    wanted, limit = spec.preflight.descriptors_free, resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    evidence: dict[str, Any] = {**where(spec), "wanted": wanted}
    left: dict[str, int] = {}
    if limit != resource.RLIM_INFINITY:
        used = psutil.Process().num_fds()
        evidence |= {"process_open": used, "process_limit": limit}
        left["the worker's process"] = limit - used
    machine = _machine_wide(file_nr)
    if machine is not None:
        evidence |= {"machine_open": machine[0], "machine_limit": machine[1]}
        left["the whole machine"] = machine[1] - machine[0]
    said = ", ".join(f"{number:,} more files for {who}" for who, number in left.items()) or "there is no limit"
    said = f"on {evidence['machine']}: {said}"
    if any(number < wanted for number in left.values()):
        return finding.failed(f"{said}; preflight.descriptors_free wants {wanted:,}", **evidence)
    return finding.passed(said, **evidence)


def _machine_wide(file_nr: Path) -> tuple[int, int] | None:
    """Open files, and the most that there can be; None where the kernel does not say."""
    try:
        numbers = [int(each) for each in file_nr.read_text().split()]
        return numbers[0] - numbers[1], numbers[2]
    except (OSError, ValueError, IndexError):
        return None


def _places(spec: DeploymentSpec, home: Home) -> Iterator[tuple[str, Path]]:
    yield "home", home.path
    # Of a worker in a cluster only people see it.
    yield "directory", _nearest(Path(spec.platform.directory))
    for artifact in spec.release.artifacts:
        if artifact.path is not None:
            yield f"artifact {artifact.path}", _nearest(Path(artifact.path))
    if spec.preflight.backup is not None and spec.preflight.backup.directory is not None:
        yield "backups", _nearest(Path(spec.preflight.backup.directory))
    for path in (*spec.platform.data_roots, *spec.preflight.disk_paths):
        yield f"path {path}", _nearest(Path(path))


def _nearest(path: Path) -> Path:
    """What does not exist yet will be made there."""
    return next((each for each in (path, *path.parents) if os.path.exists(each)), path)


def _too_full(spec: DeploymentSpec, found: os.statvfs_result) -> list[str]:
    share, size = spec.preflight.disk_free, spec.preflight.disk_free_bytes
    wrong = []
    if _free_share(found) < share:
        wrong.append(f"is {_free_share(found):.1%} free, preflight.disk_free wants {format_share(share)}")
    if found.f_bavail * found.f_frsize < size:
        free = readable(found.f_bavail * found.f_frsize)
        wrong.append(f"has {free} free, preflight.disk_free_bytes wants {readable(size)}")
    if _free_inodes(found) < share:
        wrong.append(
            f"has {_free_inodes(found):.1%} of its inodes free, preflight.disk_free wants {format_share(share)}"
        )
    return wrong


def _free_share(found: os.statvfs_result) -> float:
    usable = found.f_blocks - found.f_bfree + found.f_bavail
    return found.f_bavail / usable if usable else 0.0


def _free_inodes(found: os.statvfs_result) -> float:
    usable = found.f_files - found.f_ffree + found.f_favail
    return found.f_favail / usable if found.f_files and usable else 1.0

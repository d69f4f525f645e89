"""A disk that fills up or memory that runs out in the middle of a deployment takes the old version down as well."""

import os
from pathlib import Path

import psutil

from activities.finding import Finding
from embedded.paths import Home
from models.spec import DeploymentSpec
from models.units import format_share
from models.verdict import CheckResult


def check_disk(spec: DeploymentSpec, home: Home) -> CheckResult:
    """Compares the file systems of the home and of the service's directory with `preflight.disk_free`.

    Free is what an ordinary user may still write, as `df` counts it; the share also holds for inodes, where the file
    system has a fixed number of them.
    """
    finding = Finding("disk")
    wrong: list[str] = []
    evidence: dict[str, dict[str, float]] = {}
    seen: set[int] = set()
    for what, path in (("home", home.path), ("directory", Path(spec.platform.directory))):
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
    if wrong:
        return finding.failed("; ".join(wrong), **evidence)
    free = min(part["free_bytes"] for part in evidence.values())
    return finding.passed(f"{_readable(free)} are free", **evidence)


def check_memory(spec: DeploymentSpec) -> CheckResult:
    """Compares what programs can still take without swapping with `preflight.memory_available`."""
    finding = Finding("memory")
    wanted, available = spec.preflight.memory_available, psutil.virtual_memory().available
    evidence = {"available_bytes": available, "wanted_bytes": wanted}
    if available < wanted:
        return finding.failed(
            f"{_readable(available)} of memory are available, preflight.memory_available wants {_readable(wanted)}",
            **evidence,
        )
    return finding.passed(f"{_readable(available)} of memory are available", **evidence)


def _too_full(spec: DeploymentSpec, found: os.statvfs_result) -> list[str]:
    share, size = spec.preflight.disk_free, spec.preflight.disk_free_bytes
    wrong = []
    if _free_share(found) < share:
        wrong.append(f"is {_free_share(found):.1%} free, preflight.disk_free wants {format_share(share)}")
    if found.f_bavail * found.f_frsize < size:
        free = _readable(found.f_bavail * found.f_frsize)
        wrong.append(f"has {free} free, preflight.disk_free_bytes wants {_readable(size)}")
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


def _readable(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"

"""A machine that is too full, too busy or too narrow is found before anything changes, with the number that says so."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from activities.preflight.memory import check_memory, read_limits
from activities.preflight.resources import check_descriptors, check_disk, check_load
from home.paths import Home
from models.spec import DeploymentSpec
from models.verdict import Verdict

MIB = 1 << 20
SHM = "/dev/shm"  # noqa: S108  only asked about, never written


def make_spec(directory: Path, release: dict[str, Any] | None = None, **preflight: Any) -> DeploymentSpec:
    platform = {"kind": "local", "run": ["python3", "app.py"], "directory": str(directory), "listen": "127.0.0.1:8080"}
    spec = {"service": "shop", "target": "staging", "release": {"version": "1"} | (release or {}), "platform": platform}
    return DeploymentSpec.model_validate(spec | {"preflight": preflight})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


class TestDisk:
    def test_enough_passes_with_numbers_and_the_machine(self, home: Home, tmp_path: Path) -> None:
        found = check_disk(make_spec(tmp_path, disk_free="0%", disk_free_bytes="1KiB"), home)

        assert found.verdict is Verdict.PASS
        assert found.evidence["home"]["free_bytes"] > 1024
        assert os.uname().nodename in found.reason
        assert found.evidence["machine"].endswith("(the worker and the service)")

    def test_too_little_fails_with_what_is_wanted(self, home: Home, tmp_path: Path) -> None:
        found = check_disk(make_spec(tmp_path, disk_free="100%", disk_free_bytes="90000TiB"), home)

        assert found.verdict is Verdict.FAIL
        assert "preflight.disk_free wants 100%" in found.reason
        assert "preflight.disk_free_bytes wants 9e+04 TiB" in found.reason

    def test_a_directory_that_the_worker_does_not_have_is_none_that_could_fill_up(
        self, home: Home, tmp_path: Path
    ) -> None:
        found = check_disk(make_spec(tmp_path / "nowhere"), home)
        assert found.verdict is Verdict.PASS, found.reason

    # The one that every Linux has and that needs no root to write to; macOS has none.
    @pytest.mark.skipif(not Path(SHM).is_dir(), reason="needs a second file system")
    @pytest.mark.parametrize("by", ["artifact", "disk_paths"])
    def test_each_further_file_system_is_looked_at_once(self, home: Home, tmp_path: Path, by: str) -> None:
        other = f"{SHM}/not-there-yet/release.tar"
        release = {"version": "1", "artifacts": [{"path": other}, {"path": f"{SHM}/second"}]}
        spec = make_spec(tmp_path, release) if by == "artifact" else make_spec(tmp_path, disk_paths=[other])

        found = check_disk(spec, home)

        kind = "artifact" if by == "artifact" else "path"
        assert set(found.evidence) == {"home", f"{kind} {other}", "machine"}


class TestLoad:
    def test_the_load_is_told_per_core(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "getloadavg", lambda: (1.0, 3.0 * (psutil.cpu_count() or 1), 1.0))

        allowed = check_load(make_spec(tmp_path, load_per_core=3))
        too_much = check_load(make_spec(tmp_path, load_per_core=2.5))

        assert allowed.verdict is Verdict.PASS and "3 per core in five minutes" in allowed.reason
        assert too_much.verdict is Verdict.FAIL and "load_per_core allows 2.5" in too_much.reason
        assert too_much.evidence["cores"] == psutil.cpu_count()


class TestDescriptors:
    @pytest.fixture
    def limit(self) -> Iterator[int]:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        low = psutil.Process().num_fds() + 100
        resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
        yield low
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_the_soft_limit_of_the_process_counts(self, tmp_path: Path, limit: int) -> None:
        enough = check_descriptors(make_spec(tmp_path, descriptors_free=50))
        too_few = check_descriptors(make_spec(tmp_path, descriptors_free=150))

        assert enough.verdict is Verdict.PASS
        assert enough.evidence["process_limit"] == limit
        assert too_few.verdict is Verdict.FAIL
        assert "more files for the worker's process" in too_few.reason
        assert "preflight.descriptors_free wants 150" in too_few.reason

    def test_the_limit_of_the_whole_machine_counts(self, tmp_path: Path) -> None:
        file_nr = tmp_path / "file-nr"
        file_nr.write_text("1500\t100\t1600\n")

        found = check_descriptors(make_spec(tmp_path, descriptors_free=201), file_nr)

        assert found.verdict is Verdict.FAIL
        assert "200 more files for the whole machine" in found.reason
        assert (found.evidence["machine_open"], found.evidence["machine_limit"]) == (1400, 1600)

    def test_a_machine_without_such_a_number_is_judged_by_the_process(self, tmp_path: Path) -> None:
        found = check_descriptors(make_spec(tmp_path, descriptors_free=0), tmp_path / "nothing")

        assert found.verdict is Verdict.PASS and "machine_limit" not in found.evidence


class TestMemory:
    def test_it_is_compared(self, tmp_path: Path) -> None:
        enough = check_memory(make_spec(tmp_path, memory_available="1MiB"))
        too_little = check_memory(make_spec(tmp_path, memory_available="900TiB"))

        assert enough.verdict is Verdict.PASS
        assert too_little.verdict is Verdict.FAIL
        assert "wants 900 TiB" in too_little.reason

    @pytest.mark.parametrize("version", ["v1", "v2"])
    def test_the_narrowest_limit_above_the_worker_decides(self, tmp_path: Path, version: str) -> None:
        proc = a_machine(tmp_path, version, {"": None, "pod": (300, 290, 10), "pod/worker": (200, 50, 0)})

        found = check_memory(make_spec(tmp_path, memory_available="64MiB"), proc)

        assert found.verdict is Verdict.FAIL
        assert "20 MiB of memory are available" in found.reason and "the limit of 300 MiB" in found.reason
        assert found.evidence["available_below_limit_bytes"] == 20 * MIB
        assert check_memory(make_spec(tmp_path, memory_available="16MiB"), proc).verdict is Verdict.PASS

    @pytest.mark.parametrize("version", ["v1", "v2"])
    def test_without_limits_the_machine_decides(self, tmp_path: Path, version: str) -> None:
        proc = a_machine(tmp_path, version, {"": None, "pod": None, "pod/worker": None})

        assert list(read_limits(proc)) == []

    def test_in_a_container_only_a_part_of_the_hierarchy_is_mounted(self, tmp_path: Path) -> None:
        proc = a_machine(tmp_path, "v1", {"": (100, 40, 0)}, root="/docker/4711", path="/docker/4711")

        assert [limit.available for limit in read_limits(proc)] == [60 * MIB]

    def test_a_kernel_that_says_nothing_is_no_limit(self, tmp_path: Path) -> None:
        assert list(read_limits(tmp_path)) == []

    def test_a_real_group_with_a_limit_is_seen_by_a_process_in_it(self, tmp_path: Path) -> None:
        group = a_real_group()
        try:
            code = (
                "import os, sys; open(sys.argv[1] + '/cgroup.procs', 'w').write(str(os.getpid()));"
                "from activities.preflight.memory import read_limits;"
                "print([(limit.group, limit.limit) for limit in read_limits()])"
            )
            command = [sys.executable, "-c", code, str(group)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        finally:
            group.rmdir()
        assert f"({str(group)!r}, {900 * MIB})" in done.stdout


def a_real_group() -> Path:
    for parent, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        group = parent / f"deployment-specialist-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(900 * MIB))
        except OSError:
            group.rmdir()
            continue
        return group
    # The kernel's own files, which only root can write; what is read from them is tested with copies above as well.
    pytest.skip("no control group with a memory limit can be made here")


def a_machine(
    folder: Path,
    version: str,
    groups: dict[str, tuple[int, int, int] | None],
    root: str = "/",
    path: str = "/pod/worker",
) -> Path:
    """A kernel's description of a process in groups of (limit, usage, given back) in MiB each, None without a limit.

    The lines are those that Linux 6.1 wrote, with both versions of control groups.
    """
    proc, mount = folder / "proc", folder / "cgroup"
    (proc / "self").mkdir(parents=True)
    old = version == "v1"
    (proc / "self" / "cgroup").write_text(f"9:name=systemd:/\n4:memory:{path}\n0::/\n" if old else f"0::{path}\n")
    kind = "cgroup cgroup rw,memory" if old else "cgroup2 cgroup2 rw"
    (proc / "self" / "mountinfo").write_text(
        f"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n35 31 0:32 {root} {mount} rw - {kind}\n"
    )
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    names = names if old else ("memory.max", "memory.current", "inactive_file")
    for group, numbers in groups.items():
        place = mount / group
        place.mkdir(parents=True, exist_ok=True)
        if numbers is None and not old and group == "":
            continue  # the root of version 2 has no such files
        limit, usage, given_back = numbers or (0, 10, 5)
        unlimited = "9223372036854771712" if old else "max"
        (place / names[0]).write_text(f"{limit * MIB if numbers else unlimited}\n")
        (place / names[1]).write_text(f"{usage * MIB}\n")
        (place / "memory.stat").write_text(f"cache 1\n{names[2]} {given_back * MIB}\n")
    return proc

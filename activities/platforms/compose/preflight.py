"""What can go wrong on a Docker host is found before anything changes, and the plan says what will change there.

Each question is a check of its own with a sentence. The host is asked by its API; what only a process on it can know,
like its free memory, is asked in the target's router where the host is another machine.
"""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil

from activities.check_result import Finding, quote
from activities.platforms.compose import adoption, build_context, dependencies, diff, images, ingress
from activities.platforms.compose.cli import inside, version
from activities.platforms.compose.project import FILE_CHANGED, Project, read_project
from activities.platforms.compose.state import FRONT_PROXY, STATE, ComposeStore
from activities.platforms.traefik.config import announced
from models.checks import Examination, PreflightCheck
from models.errors import PlatformError, PreconditionError, UnavailableError
from models.platforms import ComposePlatformSpec, of_kind
from models.spec import DeploymentSpec
from models.units import format_share, format_size, readable
from models.verdict import CheckResult

_NOT_ASKED = "not asked: the Compose file cannot be used"


@dataclass
class _Found:
    checks: list[CheckResult] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)

    def done(self) -> Examination:
        return Examination(checks=tuple(self.checks), digests=self.digests, changes=tuple(self.changes))


async def examine(store: ComposeStore, check: PreflightCheck) -> Examination:
    """Everything about the host, the file and the image; reads and changes nothing."""
    return await asyncio.to_thread(_examine, store, check)


def unreachable(error: PlatformError) -> Examination:
    """The one answer of a host that gives none."""
    return Examination(checks=(Finding("docker").not_asked(str(error)),))


def _examine(store: ComposeStore, check: PreflightCheck) -> Examination:
    spec, found = check.spec, _Found()
    platform = of_kind(spec.platform, ComposePlatformSpec)
    found.checks.append(_docker(store))
    try:
        said = version(store.engine)
    except (PreconditionError, UnavailableError) as error:
        found.checks.append(Finding("compose").failed(str(error)))
        return found.done()
    found.checks.append(Finding("compose").passed(f"docker compose {said}", version=said))
    about = {"VERSION": spec.release.version, "SERVICE": spec.service, "TARGET": spec.target, "REVISION": "planned"}
    try:
        project = read_project(store.engine, platform, about)
        port = project.port
    except PreconditionError as error:
        found.checks.append(Finding("compose_file").failed(str(error)))
        return found.done()
    found.checks += [_file(project, check, found), _image(store, project, check, found), *_mounts(project)]
    found.changes += [*diff.changes(store, project), *announced(platform.listen, platform.trusts)]
    found.checks += [_shared(store, project, found), _published(store, project, found, port)]
    found.checks += [_disk(store, spec), _memory(store, spec)]
    return found.done()


def _docker(store: ComposeStore) -> CheckResult:
    with store.engine.asking():
        about = store.engine.docker.version()
    where = "this machine" if store.engine.is_here() else "another machine"
    said = f"Docker {about.get('Version')} answers at {store.engine.named}, {where}"
    return Finding("docker").passed(said, version=str(about.get("Version")), host=store.engine.named)


def _file(project: Project, check: PreflightCheck, found: _Found) -> CheckResult:
    finding, digest = Finding("compose_file"), project.digest()
    found.digests[images.FILE] = digest
    files = ", ".join(project.platform.files)
    if check.expected.get(images.FILE, digest) != digest:
        return finding.failed(FILE_CHANGED.format(files=files))
    return finding.passed(f"docker compose accepts {files}", project=project.name)


def _image(store: ComposeStore, project: Project, check: PreflightCheck, found: _Found) -> CheckResult:
    finding = Finding("image")
    name = images.wanted(project, check.spec.release.version)
    try:
        if name is None:
            digest = build_context.context_digest(project)
            key, said = images.CONTEXT, f"is built from {project.released['build']['context']}"
            found.changes.append(f"the image of {project.platform.service} is built on the Docker host")
            elsewhere = build_context.taken_from_elsewhere(project)
            said += f"; not measured: {', '.join(quote(what) for what in elsewhere)}" if elsewhere else ""
        else:
            looked = images.look(store.engine, name)
            digest, key, said = looked.sha256, images.IMAGE, f"{name} is {looked.where}"
    except PreconditionError as error:
        return finding.failed(str(error))
    found.digests[key] = digest
    if check.expected.get(key, digest) != digest:
        return finding.failed(f"{said}, and is not what was planned: sha256 {digest[:12]}…")
    return finding.passed(f"{said}: sha256 {digest[:12]}…", sha256=digest)


def _mounts(project: Project) -> Iterator[CheckResult]:
    if project.mounted:
        paths = ", ".join(quote(path) for path in project.mounted)
        yield Finding("mounts").passed(
            f"not copied and not measured, read where they are on the Docker host: {paths}", paths=project.mounted
        )


def _shared(store: ComposeStore, project: Project, found: _Found) -> CheckResult:
    finding = Finding("shared_services")
    try:
        gone = dependencies.missing(store.engine, project)
    except PreconditionError as error:
        return finding.failed(str(error))
    found.changes += [f"the shared service {name} does not run and is started" for name in gone.services]
    found.changes += [f"the network {real} is made" for real in gone.networks.values()]
    found.changes += [f"the volume {real} is made" for real in gone.volumes.values()]
    running = [name for name in project.shared if name not in gone.services]
    if not project.shared:
        return finding.passed("the service shares nothing with others")
    told = [f"already up, and left as they are: {', '.join(running)}"] if running else []
    told += [f"to be started: {', '.join(gone.services)}"] if gone.services else []
    ids = {name: str(dependencies.running(store.engine, project.name, name)[0].id)[:12] for name in running}
    return finding.passed("; ".join(told), **ids)


def _published(store: ComposeStore, project: Project, found: _Found, port: int) -> CheckResult:
    finding, platform = Finding("published_address"), project.platform
    state = store.read()
    if platform.listen in state.doors:
        program = state.doors[platform.listen].program
        if any(each.name == program and ingress.is_outdated(each, platform) for each in store.containers(FRONT_PROXY)):
            found.changes.append(
                f"the router, the container {program}, is made anew with other settings: requests under way are given "
                "two seconds, and new connections are refused for a few seconds"
            )
        return finding.passed(f"{platform.listen} is this target's own router's")
    holder = ingress.holder_of(store, platform)
    if holder:
        return finding.failed(f"{platform.listen} belongs to {holder}", listen=platform.listen)
    name = platform.proxy.name or f"{store.service}-{store.target}-proxy"
    found.changes.append(
        f"a router, the container {name}, is made; it publishes {platform.listen} and passes requests to port {port} "
        f"of {platform.service}, whose ports are published no more"
    )
    adopted = adoption.find(store.engine, platform, project.name) if state.stable is None else []
    if not adopted:
        return finding.passed(f"{platform.listen} is free", listen=platform.listen)
    names = ", ".join(str(each.name) for each in adopted)
    found.changes += [
        f"{names} served before: a copy of it, behind the router, becomes the stable revision; the original is "
        "stopped, not removed",
        f"{platform.listen} passes from {names} to the router: new connections are refused for about half a second, "
        "and requests that are under way then are cut off; the report has the measured time",
    ]
    return finding.passed(f"{platform.listen} is handed over by {names}", listen=platform.listen)


def _disk(store: ComposeStore, spec: DeploymentSpec) -> CheckResult:
    finding = Finding("docker_disk")
    with store.engine.asking():
        root = str(store.engine.docker.info().get("DockerRootDir"))
    room = _room_here(root) if store.engine.is_here() else _room_inside(store)
    if room is None:
        return finding.skipped("the Docker host is another machine, and no router of this target runs there yet")
    free, size = room
    share, wanted = spec.preflight.disk_free, spec.preflight.disk_free_bytes
    if free < share * size or free < wanted:
        return finding.failed(
            f"the disk of the Docker host has {readable(free)} free ({free / max(1, size):.1%}), "
            f"preflight.disk_free wants {format_share(share)} and {format_size(wanted)}",
            free_bytes=free,
        )
    return finding.passed(f"{readable(free)} are free on the Docker host", free_bytes=free)


def _room_here(root: str) -> tuple[int, int] | None:
    try:
        found = os.statvfs(root)
    except OSError:
        # Its folder is root's: what can be seen of it is the file system that it lies in.
        return None
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def _room_inside(store: ComposeStore) -> tuple[int, int] | None:
    words = next(_asked(store, "df", "-kP", STATE), "").split("\n")[-1].split()
    return (int(words[3]) << 10, int(words[1]) << 10) if len(words) > 4 else None


def _memory(store: ComposeStore, spec: DeploymentSpec) -> CheckResult:
    finding, wanted = Finding("docker_memory"), spec.preflight.memory_available
    if store.engine.is_here():
        available: int | None = psutil.virtual_memory().available
    else:
        lines = next(_asked(store, "cat", "/proc/meminfo"), "").split("\n")
        available = next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)
    if available is None:
        return finding.skipped("the Docker host is another machine, and no router of this target runs there yet")
    said = f"{readable(available)} of memory are available on the Docker host"
    if available < wanted:
        return finding.failed(f"{said}, preflight.memory_available wants {format_size(wanted)}")
    return finding.passed(said, available_bytes=available)


def _asked(store: ComposeStore, *command: str) -> Iterator[str]:
    """What a program prints in a router that runs."""
    for proxy in store.containers(FRONT_PROXY):
        if proxy.status == "running":
            code, output, _ = inside(store.engine, proxy, "busybox", *command)
            if code == 0:
                yield output.decode(errors="replace").strip()

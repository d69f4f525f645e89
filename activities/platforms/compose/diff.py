"""A Compose file changes between two releases: what of it reaches users is said in the plan, before it does.

The stable revision keeps what it was made from, and that is compared with what the file says now. Values of the
environment are compared and never shown.
"""

from collections.abc import Mapping
from typing import Any

from activities.platforms.compose.project import Project
from activities.platforms.compose.revision_files import GIVEN, kept_environment
from activities.platforms.compose.state import ComposeStore
from models.errors import PreconditionError
from models.identity import NAMES
from models.platforms import ComposePlatformSpec, of_kind


def changes(store: ComposeStore, project: Project) -> list[str]:
    """What is different from the stable revision; nothing where there is none, or it was adopted."""
    state = store.read()
    if state.stable is None:
        return []
    try:
        before = store.template(state.stable)
    except PreconditionError:
        return []
    if before.adopted:
        return []
    now = project.template(before.image, project.platform.stop.total_seconds())
    parts: dict[str, tuple[object, object]] = {
        "networks": (before.networks, now.networks),
        "names": (before.names, now.names),
    }
    parts |= {"named volumes": (before.volumes, now.volumes), "port": (before.port, now.port)}
    different = _different(before.service, now.service) + [name for name, (old, new) in parts.items() if old != new]
    stable = of_kind(state.kept(state.stable).revision.platform, ComposePlatformSpec)
    environment = _environment(project, stable, kept_environment(store, state.stable))
    service, told = project.platform.service, []
    if different:
        told.append(f"what the Compose file says of {service} changes: {', '.join(different)}")
    if environment:
        told.append(f"the environment that the Compose file gives {service} changes: {', '.join(environment)}")
    return told


def _different(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def _environment(project: Project, stable: ComposePlatformSpec, before: Mapping[str, str] | None) -> list[str]:
    if before is None:
        return []
    # What the spec and we ourselves give is not the file's.
    others = {*GIVEN, *project.platform.environment, *stable.environment, *(set(NAMES) - project.environment.keys())}
    now = {name: value for name, value in project.environment.items() if name not in others}
    then = {name: value for name, value in before.items() if name not in others}
    words = {name: f"{name} (new)" for name in now.keys() - then.keys()}
    words |= {name: f"{name} (gone)" for name in then.keys() - now.keys()}
    words |= {name: name for name in now.keys() & then.keys() if now[name] != then[name]}
    return [words[name] for name in sorted(words)]

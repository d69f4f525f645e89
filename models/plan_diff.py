"""Compares what a spec asks for with the revision that serves: what a reviewer reads before it is merged."""

import json
from collections.abc import Mapping
from typing import Any

from models.plan import config_hash
from models.platforms.base import Environment, PlatformSpec
from models.release import Revision
from models.secrets import Secret
from models.spec import DeploymentSpec

MOST_LINES = 200
LONGEST_LINE = 300
NOT_SHOWN = "(value not shown)"


def compare_with_stable(spec: DeploymentSpec, stable: Revision | None) -> tuple[str, ...]:
    """Returns the differences as lines of a diff, `- key: value` and `+ key: value`, by the keys of the spec file.

    Values of the environment are never shown: of a revision that serves they are not known here, only its names and the
    references to secrets. That something changed which is not shown is said in a line with neither sign.

    Args:
        spec: what is asked for.
        stable: what serves, as it travels (abridged); None where nothing does.
    """
    if stable is None:
        return ()
    before = _whole(stable.release.version, stable.platform, stable.endpoints.model_dump(mode="json"))
    after = _whole(spec.release.version, spec.platform, spec.verify.endpoints.model_dump(mode="json"))
    lines: list[str] = []
    for key in sorted(before.keys() | after.keys()):
        was, now = before.get(key), after.get(key)
        if was != now:
            lines += [f"- {key}: {was}"] if was is not None else []
            lines += [f"+ {key}: {now}"] if now is not None else []
    changed = stable.release.config_hash and stable.release.config_hash != config_hash(spec)
    if changed and all(line[2:].startswith("release.version:") for line in lines):
        lines.append("  the configuration changes in values that are not shown, like arguments or the environment's")
    cut = [line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 1]}…" for line in lines]
    more = [f"  and {len(cut) - MOST_LINES} lines more"] if len(cut) > MOST_LINES else []
    return (*cut[:MOST_LINES], *more)


def _whole(version: str, platform: PlatformSpec, endpoints: Mapping[str, Any]) -> dict[str, str]:
    values = dict(_flat("platform", platform.outline().model_dump(mode="json", exclude={"environment"})))
    values |= {f"verify.endpoints.{name}": json.dumps(path) for name, path in endpoints.items()}
    return values | _environment(platform.environment) | {"release.version": json.dumps(version)}


def _environment(environment: Environment) -> dict[str, str]:
    return {
        f"platform.environment.{name}": f"secret {value.secret}" if isinstance(value, Secret) else NOT_SHOWN
        for name, value in environment.items()
    }


def _flat(key: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [pair for name, inner in value.items() for pair in _flat(f"{key}.{name}", inner)]
    return [(key, json.dumps(value, ensure_ascii=False))]

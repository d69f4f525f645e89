"""What is copied for a revision: said in the plan, and careful by default.

A service may serve its whole directory, as `python3 -m http.server` does; what describes a deployment, and what its
secrets are read from, must not be among the files that its users can fetch.
"""

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from models.platforms import LocalPlatformSpec
from models.secrets import references
from models.spec import DeploymentSpec
from models.units import readable

_LARGEST_SPEC = 1 << 20
_MOST_NAMED = 8
# A spec file says these three at its beginning of a line, whatever it is called.
_SPEC_KEYS = [re.compile(rb"^['\"]?%b['\"]?\s*:" % key, re.MULTILINE) for key in (b"service", b"target", b"platform")]


def without_own_files(spec: DeploymentSpec, own: Path | None) -> DeploymentSpec:
    """Leaves spec files and files of secrets out of what is copied, unless the spec says itself what is left out.

    Args:
        spec: with absolute paths.
        own: the spec file; None for standard input.
    """
    platform = spec.platform
    if not isinstance(platform, LocalPlatformSpec) or "exclude" in platform.model_fields_set:
        return spec
    root = Path(platform.directory)
    secrets = (Path(reference.removeprefix("file:")) for reference in references(spec) if reference.startswith("file:"))
    found = {
        path.relative_to(root) for path in (own, *_spec_files(root), *secrets) if path and path.is_relative_to(root)
    }
    # The leading slash binds a name to the directory itself.
    more = tuple(sorted(f"/{glob.escape(path.as_posix())}" for path in found))
    changed = platform.model_copy(update={"exclude": (*platform.exclude, *more)})
    return spec.model_copy(update={"platform": changed})


def _spec_files(root: Path) -> Iterator[Path]:
    for pattern in ("*.yaml", "*.yml"):
        for path in root.glob(pattern):
            try:
                if path.is_file() and path.stat().st_size <= _LARGEST_SPEC:
                    text = path.read_bytes()
                    if all(key.search(text) for key in _SPEC_KEYS):
                        yield path
            except OSError:
                continue  # what cannot be read here is told where it is copied


def copied_lines(platform: LocalPlatformSpec) -> list[str]:
    """Says how much is copied from where, and what of it is not."""
    from activities.system.directory_digest import is_excluded, is_state_directory, list_tree
    from models.errors import PreconditionError

    root = Path(platform.directory)
    if not root.is_dir():
        return [f"{root}, which is not on this machine"]
    try:
        entries = list_tree(root, platform.exclude)
        names = sorted(os.listdir(root))
    except (PreconditionError, OSError) as error:
        return [f"nothing: {error}"]
    files = [entry for entry in entries if entry.kind != "directory"]
    size = readable(sum(entry.size for entry in files))
    left = [name for name in names if is_excluded(name, platform.exclude)]
    state = [f"{name} (state of this program)" for name in names if is_state_directory(root / name)]
    lines = [f"{len(files):,} {'file' if len(files) == 1 else 'files'}, {size}, from {root}"]
    if left or state:
        more = f" and {len(left) - _MOST_NAMED} more" if len(left) > _MOST_NAMED else ""
        lines.append(f"not copied (platform.exclude): {', '.join([*left[:_MOST_NAMED], *state])}{more}")
    return lines

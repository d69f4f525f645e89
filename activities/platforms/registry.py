"""Which platform does what a spec's `platform.kind` asks for. A new platform is added here."""

from activities.platforms.base import Platform
from activities.platforms.local import LocalPlatform
from embedded.paths import Home


def make_platforms(home: Home) -> dict[str, Platform]:
    """All platforms of a worker, by their kind."""
    return {"local": LocalPlatform(home)}

"""A limit that is said holds: what one workflow task carries is bounded by what a spec may be.

Temporal ends a workflow whose next commands together are more than 4 MiB, and whatever it was asked to do. So each
question carries the part of the spec that it is about, and no more: of everything that can be large at most three
copies travel at once.
"""

from models.notifications import NotifySpec
from models.observability import ObserveSpec
from models.spec import ApprovalsSpec, DeploymentSpec

# As it travels: compact JSON in UTF-8, every default written out. Temporal's own limits are 2 MiB for one payload, and
# 4 MiB for all that a workflow task says.
LARGEST_SPEC = 1 << 20


def about_target(spec: DeploymentSpec) -> DeploymentSpec:
    """Which release goes to which target, and how that is reached."""
    return spec.model_copy(
        update={
            "release": spec.release.model_copy(update={"artifacts": ()}),
            "platform": spec.platform.outline(),
            "preflight": spec.preflight.model_copy(
                update={"environment": (), "ci": None, "backup": None, "migrations": None, "disk_paths": ()}
            ),
            "approvals": ApprovalsSpec(),
            "verify": spec.verify.model_copy(update={"smoke": ()}),
            "observe": ObserveSpec(),
            "notify": NotifySpec(),
            "freeze": (),
        }
    )


def about_release(spec: DeploymentSpec) -> DeploymentSpec:
    """What is deployed, and by which program it is run."""
    return about_target(spec).model_copy(update={"release": spec.release, "platform": spec.platform.as_files()})


def about_platform(spec: DeploymentSpec) -> DeploymentSpec:
    """What the platform is going to make of it."""
    return about_target(spec).model_copy(update={"platform": spec.platform})


def about_values(spec: DeploymentSpec) -> DeploymentSpec:
    """Everything that may refer to a secret."""
    return spec.model_copy(update={"verify": spec.verify.model_copy(update={"smoke": ()}), "freeze": ()})


def about_disks(spec: DeploymentSpec) -> DeploymentSpec:
    """Where the release takes up room."""
    return _with_preflight(spec, "disk_paths")


def about_backup(spec: DeploymentSpec) -> DeploymentSpec:
    """What of its database is kept, and where."""
    return _with_preflight(spec, "backup", "migrations")


def about_migrations(spec: DeploymentSpec) -> DeploymentSpec:
    """What is run on its database."""
    return _with_preflight(spec, "backup", "migrations")


def _with_preflight(spec: DeploymentSpec, *names: str) -> DeploymentSpec:
    narrow = about_target(spec)
    kept = narrow.preflight.model_copy(update={name: getattr(spec.preflight, name) for name in names})
    return narrow.model_copy(update={"preflight": kept})

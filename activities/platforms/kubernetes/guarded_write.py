"""An object of a user's cluster has many hands on it; what we change of it is a part, and only while it is ours.

Every write is made for the version that was read, so that it cannot undo what somebody wrote in between. The object
carries the fence of the effect that wrote last: a late one finds a higher one and has lost. It also carries what we
wrote: when that is not there any more, somebody else has changed it, and is named instead of being overwritten.
"""

import copy
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from activities.platforms.kubernetes.api import MANAGER, Json
from activities.platforms.kubernetes.cluster import Cluster
from activities.platforms.kubernetes.names import FENCE, WRITTEN
from models.errors import DriftError, PreconditionError, UnavailableError, WriteConflictError
from models.platforms.kubernetes import Drift
from models.release import Fence

MOST_CONFLICTS = 20
LATELY = timedelta(seconds=10)
_log = logging.getLogger(__name__)


class OwnedField:
    """The part of an object that is ours.

    Args:
        what: the object and its part, for people.
        owned: takes the part out of the object, comparable and as JSON.
        fields: where the part stands in the object.
    """

    def __init__(self, what: str, owned: Callable[[Json], Any], *fields: str) -> None:
        self.what, self.owned, self.fields = what, owned, fields


async def write(
    cluster: Cluster,
    path: str,
    part: OwnedField,
    change: Callable[[Json], None],
    fence: Fence,
    drift: Drift,
    there: Json | None = None,
) -> tuple[Json, bool]:
    """Change an object, whatever else happens to it meanwhile; everything that is not ours stays as it is.

    Returns the object as it is now, and whether our part of it is another one than before. Whoever has just read it
    gives it as `there`.

    Raises:
        FencedOutError: a higher fence has been here.
        DriftError: somebody else has changed what we wrote, and the spec does not say to take it back.
        PreconditionError: there is no such object.
    """
    for _ in range(MOST_CONFLICTS):
        there = there or await cluster.api.get(path)
        if there is None:
            raise PreconditionError(f"there is no {part.what} in the namespace {cluster.namespace}")
        check_fence(there, fence, part.what)
        wanted = copy.deepcopy(there)
        change(wanted)
        # Between deployments an object is its owner's to change: what counts is what was written in this one.
        if fence_of(there).epoch == fence.epoch:
            _check_drift(there, wanted, part, drift)
        note(wanted, {FENCE: fence.model_dump_json(), WRITTEN: digest(part.owned(wanted))})
        if wanted == there:
            return there, False
        try:
            return await cluster.api.replace(path, wanted), part.owned(wanted) != part.owned(there)
        except WriteConflictError:
            there = None
    raise UnavailableError(f"{part.what} is being changed by somebody else all the time")


def note(thing: Json, annotations: Mapping[str, str | None]) -> None:
    """Put annotations onto an object; None takes one away."""
    there = {**(thing["metadata"].get("annotations") or {}), **annotations}
    thing["metadata"]["annotations"] = {key: value for key, value in there.items() if value is not None}


def check_fence(thing: Json, fence: Fence, what: str) -> None:
    """See that no newer effect has written the object.

    Raises:
        FencedOutError: one has.
    """
    fence.check_not_overtaken(fence_of(thing), what)


def fence_of(thing: Json) -> Fence:
    """The fence of the effect that wrote the object last."""
    try:
        return Fence.model_validate_json(annotation(thing, FENCE))
    except ValidationError:
        return Fence(epoch=0, sequence=0)


def annotation(thing: Json, name: str) -> str:
    """An annotation of an object; empty when it has none."""
    return str((thing["metadata"].get("annotations") or {}).get(name) or "")


def has_drifted(thing: Json, part: OwnedField) -> bool:
    """Whether somebody else has changed what we wrote last."""
    written = annotation(thing, WRITTEN)
    return bool(written) and written != digest(part.owned(thing))


def digest(value: Any) -> str:
    """What tells two values apart, in a few characters."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def other_field_managers(thing: Json, *fields: str) -> list[str]:
    """Who else has written this part of the object, and when; the latest last."""
    found = [
        (str(each.get("time") or ""), str(each.get("manager")))
        for each in thing["metadata"].get("managedFields") or ()
        if each.get("manager") != MANAGER and _reaches(each.get("fieldsV1") or {}, fields)
    ]
    return [f"{manager} at {time}" for time, manager in sorted(found)]


def written_lately(thing: Json) -> bool:
    """Whether we have written the object within the last seconds."""
    times = [
        str(each.get("time") or "")
        for each in thing["metadata"].get("managedFields") or ()
        if each.get("manager") == MANAGER
    ]
    latest = max((datetime.fromisoformat(time) for time in times if time), default=None)
    return latest is not None and datetime.now(UTC) - latest < LATELY


def _reaches(tree: Json, fields: tuple[str, ...]) -> bool:
    for name in fields:
        if not isinstance(tree, dict) or f"f:{name}" not in tree:
            return False
        tree = tree[f"f:{name}"]
    return True


def _check_drift(there: Json, wanted: Json, part: OwnedField, drift: Drift) -> None:
    # What is already as it is wanted is nobody's loss, whoever made it so.
    if not has_drifted(there, part) or part.owned(there) == part.owned(wanted):
        return
    others = other_field_managers(there, *part.fields)
    who = f"by {others[-1]}" if others else "by somebody else"
    said = f"{part.what} was changed {who}: it is {json.dumps(part.owned(there))[:600]} now"
    if drift is Drift.STOP:
        raise DriftError(f"{said}. It is not overwritten; platform.drift: take-back would do that")
    _log.warning("%s; it is taken back", said)

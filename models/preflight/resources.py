"""How much of the machine must be free before anything changes: a deployment runs two versions side by side for a
while, and what runs out in the middle of it takes the old version down as well.
"""

from typing import Annotated

from pydantic import BeforeValidator, Field, StrictInt

from models.base import SpecModel
from models.platforms.base import PathText, as_tuple
from models.units import Share, Size

# A load also counts what waits for disks, and the cure of an overload is often a deployment: only a machine that is
# plainly drowning stops one.
LOAD_PER_CORE = 16.0


class ResourcesSpec(SpecModel):
    """What must be free on the worker's machine; a platform elsewhere reports its own figures.

    Attributes:
        disk_free: the free share of each file system, also of its inodes.
        disk_paths: further file systems that the release uses, by a path on them.
        memory_available: what programs can still take without swapping, within the worker's own limits.
        load_per_core: the load average of five minutes, for each core.
        descriptors_free: files and sockets that the worker, and the whole machine, can still open.
    """

    disk_free: Share = 0.10
    disk_free_bytes: Size = 512 << 20
    disk_paths: Annotated[tuple[PathText, ...], BeforeValidator(as_tuple), Field(max_length=50)] = ()
    memory_available: Size = 256 << 20
    load_per_core: Annotated[float, Field(gt=0, le=1000)] = LOAD_PER_CORE
    descriptors_free: Annotated[StrictInt, Field(ge=0, le=1_000_000)] = 256
